//! Files as memory: their pages are read when they are touched, shared by all who map them, and given up under pressure.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

/// A file's bytes, mapped. The file must not be written in place while this lives: replace it by renaming another over
/// it, as this project does. What a shortened file's missing pages cost is the process.
#[derive(Debug)]
pub struct Mapped(Option<Mmap>);

impl Mapped {
    /// Maps the file at `path`; an empty one maps to nothing.
    ///
    /// # Errors
    /// The system's, where the file is not there, may not be read, or is none that can be mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the bytes are only read, and only as bytes; that nobody writes the file is what the type's
        // documentation asks for, as every map of a file must.
        unsafe { Mmap::map(&file) }.map(|map| Self(Some(map)))
    }

    /// Gives up the pages of these bytes: they are read from the file again when they are touched again. It is advice, for
    /// whoever has converted a large file part by part; where the system does not know it, nothing happens.
    pub fn release(&self, bytes: Range<usize>) {
        let Some(map) = &self.0 else { return };
        let bytes = bytes.start.min(map.len())..bytes.end.min(map.len());
        if bytes.is_empty() {
            return;
        }
        #[cfg(unix)]
        // SAFETY: the map is of a file that nobody writes and is never written itself, so that its pages, given up, come back
        // with the bytes that they had.
        unsafe {
            let _ = map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len());
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_holds_the_files_bytes_even_when_another_is_renamed_over_it() {
        let folder = std::env::temp_dir().join(format!("imagen-mapped-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, other) = (folder.join("a"), folder.join("b"));
        std::fs::write(&path, [7; 9000]).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        std::fs::write(&other, []).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(*mapped, [7; 9000]);
        for part in [0..9000, 4000..8500, 5..5, 8000..20_000] {
            mapped.release(part);
            assert_eq!(*mapped, [7; 9000]);
        }
        assert_eq!(*Mapped::open(&path).unwrap(), []);
        assert_eq!(Mapped::open(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
