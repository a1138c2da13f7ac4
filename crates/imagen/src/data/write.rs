//! Writing a captioned set: a folder with `images/*.png` and `metadata.jsonl`, as [`super::source`] reads it.
//!
//! The metadata come last and whole, after all pictures are safe on disk, so that an interrupted set is not taken for a finished
//! one. Until then a mark says that the pictures are of a set that was not finished: the next one that is written there begins
//! anew, and pictures without the mark, which are somebody else's, are never written over.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::source::Split;
use crate::error::{Error, Result};
use crate::files::{sweep_orphans, write_whole};
use crate::image::{Picture, PngText, png};

/// The mark of a set that is not finished.
const UNFINISHED: &str = ".imagen-unfinished";
/// What says of a finished set which pictures it has.
const METADATA: &str = "metadata.jsonl";
/// Pictures that are made before anybody is told.
const PORTION: usize = 64;

/// A picture of a set, its captions, the canonical one first, and its split where not its name says it.
pub(super) struct Captioned {
    pub picture: Picture,
    pub captions: Vec<String>,
    pub split: Option<Split>,
}

/// Whether a set was begun in this folder and not finished: writing it again begins anew.
pub fn is_unfinished(folder: &Path) -> bool {
    folder.join(UNFINISHED).is_file()
}

/// Writes `count` pictures, several at a time; how many of them train. `progress` is told how many are done and may break:
/// then there is no metadata, and the result is none.
///
/// # Errors
/// [`crate::ErrorKind::Io`] if the folder cannot be written; those of `example`.
pub(super) fn write_set(
    folder: &Path,
    count: usize,
    example: impl Fn(usize) -> Result<Captioned> + Sync,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<usize>> {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).map_err(|e| Error::io("make the folder", &images, e))?;
    sweep_orphans(folder);
    let mark = folder.join(UNFINISHED);
    if is_unfinished(folder) {
        // the mark goes last, so that metadata beside it are of the set that is begun anew
        remove_if_there(&folder.join(METADATA))?;
        remove_pictures(&images)?;
    } else if std::fs::read_dir(&images).map_err(|e| Error::io("read the folder", &images, e))?.next().is_some() {
        let message = format!("{} holds pictures already; delete it, or choose another folder", images.display());
        return Err(Error::usage(message));
    } else {
        write_whole(&mark, |_| Ok(())).map_err(|e| Error::io("write", &mark, e))?;
    }
    let one = |index: usize| -> Result<(String, bool)> {
        let Captioned { picture, captions, split } = example(index)?;
        let name = format!("images/{index:06}.png");
        let path = folder.join(&name);
        let bytes = png::encode(&picture, &PngText::default())?;
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(|e| Error::io("write", &path, e))?;
        let split = split.unwrap_or_else(|| Split::of_name(&name));
        let row = serde_json::json!({ "file_name": name, "text": captions[0], "texts": captions, "split": split });
        Ok((format!("{row}\n"), split == Split::Train))
    };
    let (mut metadata, mut train) = (String::new(), 0);
    for first in (0..count).step_by(PORTION) {
        let until = (first + PORTION).min(count);
        let rows: Vec<(String, bool)> = (first..until).into_par_iter().map(one).collect::<Result<_>>()?;
        for (row, trains) in rows {
            metadata.push_str(&row);
            train += usize::from(trains);
        }
        if progress(until).is_break() && until < count {
            return Ok(None);
        }
    }
    if cfg!(unix) {
        let sync = || File::open(&images)?.sync_all();
        sync().map_err(|e| Error::io("write the folder", &images, e))?;
    }
    png::write_whole(&folder.join(METADATA), metadata.as_bytes())?;
    std::fs::remove_file(&mark).map_err(|e| Error::io("remove", &mark, e))?;
    Ok(Some(train))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes the pictures of a set that was not finished.
fn remove_pictures(images: &Path) -> Result<()> {
    for entry in std::fs::read_dir(images).map_err(|e| Error::io("read the folder", images, e))? {
        let path = entry.map_err(|e| Error::io("read the folder", images, e))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let ours = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
        if ours && path.extension().is_some_and(|ending| ending == "png") {
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of `count` pictures, or as many of them as until `breaks`.
    fn write(folder: &Path, count: usize, breaks: bool) -> Result<Option<usize>> {
        let example = |index: usize| {
            let picture = Picture::filled(2, 2, [index as u8; 3]);
            Ok(Captioned { picture, captions: vec![format!("shade {index}")], split: Some(Split::Train) })
        };
        write_set(folder, count, example, &mut |_| {
            if breaks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    #[test]
    fn a_set_that_was_not_finished_is_begun_anew_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (set, images) = (folder.path(), folder.path().join("images"));
        assert_eq!(write(set, 200, true).unwrap(), None);
        assert!(!set.join("metadata.jsonl").exists() && images.read_dir().unwrap().count() == PORTION);
        std::fs::write(images.join("000001.png"), "half a pic").unwrap();
        std::fs::write(set.join(METADATA), "killed before the mark was gone").unwrap();
        assert!(is_unfinished(set));
        // fewer than were there before
        assert_eq!(write(set, 3, false).unwrap(), Some(3));
        assert_eq!(images.read_dir().unwrap().count(), 3);
        assert!(std::fs::read(images.join("000001.png")).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(set.read_dir().unwrap().count(), 2, "no mark stays");
        let error = write(set, 3, false).unwrap_err();
        assert!(error.to_string().contains("holds pictures already"), "{error}");
    }
}
