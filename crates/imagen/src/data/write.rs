//! Writing a captioned set: a folder with `images/*.png` and `metadata.jsonl`, as [`super::source`] reads it.
//!
//! The metadata come last and whole, so that an interrupted set is not taken for a finished one.

use std::ops::ControlFlow;
use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::source::Split;
use crate::error::{Error, Result};
use crate::image::{Picture, PngText, png};

/// Pictures that are made before anybody is told.
const PORTION: usize = 64;

/// A picture of a set, its captions, the canonical one first, and its split where not its name says it.
pub(super) struct Captioned {
    pub picture: Picture,
    pub captions: Vec<String>,
    pub split: Option<Split>,
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
    if std::fs::read_dir(&images).map_err(|e| Error::io("read the folder", &images, e))?.next().is_some() {
        let message = format!("{} holds pictures already; delete it, or choose another folder", images.display());
        return Err(Error::usage(message));
    }
    let one = |index: usize| -> Result<(String, bool)> {
        let Captioned { picture, captions, split } = example(index)?;
        let name = format!("images/{index:06}.png");
        let path = folder.join(&name);
        std::fs::write(&path, png::encode(&picture, &PngText::default())?).map_err(|e| Error::io("write", &path, e))?;
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
    png::write_whole(&folder.join("metadata.jsonl"), metadata.as_bytes())?;
    Ok(Some(train))
}
