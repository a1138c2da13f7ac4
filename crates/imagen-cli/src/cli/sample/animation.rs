//! `--animation`: all pictures of a command one after the other in an animated PNG.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagen::image::{Picture, png};

use crate::failure::{Failure, Result};
use crate::output::{check_new, write_file};
use crate::progress::Progress;

/// How long a picture is shown, in milliseconds.
const SHOWN: u16 = 120;

/// The animation that pictures are put into as they come.
pub(super) struct Animation {
    path: PathBuf,
    pictures: BTreeMap<usize, Picture>,
}

impl Animation {
    /// # Errors
    /// `Usage` where the file exists (unless `force`) or is to be of another kind, `Runtime` where its folder cannot be written to.
    pub(super) fn plan(path: PathBuf, force: bool) -> Result<Self> {
        let known = ["png", "apng"];
        if !path.extension().is_some_and(|end| known.iter().any(|known| end.eq_ignore_ascii_case(known))) {
            let message = format!("--animation {}: only animated PNG is written", path.display());
            return Err(Failure::usage(message).hint("end the name in .png or .apng"));
        }
        check_new("--animation", &path, force)?;
        Ok(Self { path, pictures: BTreeMap::new() })
    }

    pub(super) fn add(&mut self, index: usize, picture: Picture) {
        self.pictures.insert(index, picture);
    }

    /// Writes what there is, and says where.
    pub(super) fn write(self, progress: &Progress) -> Result<()> {
        let pictures: Vec<Picture> = self.pictures.into_values().collect();
        let bytes = png::encode_animation(&pictures, SHOWN)?;
        write_file(&self.path, &bytes)?;
        progress.note(format_args!("animation: {}", self.path.display()));
        Ok(())
    }
}
