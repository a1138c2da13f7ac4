//! The bytes of a file, wherever they are.

use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use crate::nn::Mapped;

/// The bytes of a file: compiled in, mapped, or in memory. A clone or a part shares them.
#[derive(Clone, Debug)]
pub struct FileBytes {
    source: Source,
    part: Range<usize>,
}

#[derive(Clone, Debug)]
enum Source {
    Compiled(&'static [u8]),
    Mapped(Arc<Mapped>),
    Memory(Arc<Vec<u8>>),
}

impl FileBytes {
    /// Maps a file; see [`Mapped`] for what that asks of whoever writes it.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for a pipe or a device, whose end nobody knows.
    pub fn map(path: &Path) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, a socket or a device"));
        }
        Mapped::open(path).map(|map| Self { part: 0..map.len(), source: Source::Mapped(Arc::new(map)) })
    }

    /// Gives up the memory that mapped bytes of this range take; they are read again when they are touched again. Nothing
    /// happens to bytes that are not mapped.
    pub fn release(&self, range: Range<usize>) {
        if let Source::Mapped(map) = &self.source {
            let end = self.part.end.min(self.part.start.saturating_add(range.end));
            map.release(self.part.start.saturating_add(range.start)..end);
        }
    }

    /// A part of these bytes, which keeps them all.
    ///
    /// # Panics
    /// Where `range` does not lie within them.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} bytes", self.len());
        let part = self.part.start + range.start..self.part.start + range.end;
        Self { source: self.source.clone(), part }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all = match &self.source {
            Source::Compiled(bytes) => bytes,
            Source::Mapped(map) => &***map,
            Source::Memory(bytes) => bytes.as_slice(),
        };
        &all[self.part.clone()]
    }
}

impl From<&'static [u8]> for FileBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self { part: 0..bytes.len(), source: Source::Compiled(bytes) }
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { part: 0..bytes.len(), source: Source::Memory(Arc::new(bytes)) }
    }
}
