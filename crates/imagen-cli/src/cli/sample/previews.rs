//! `--previews`: the picture as it is estimated now, one file for each stage in a folder, replaced while it is drawn.
//!
//! The first and the last step of a stage are always shown, those between as often as showing them takes next to no time. A
//! file is whole at any moment, so that a viewer may watch it. Of pictures that are drawn together the first is shown.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use imagen::cascade::{StageName, to_pictures};
use imagen::image::{Picture, PngText, png};

use crate::failure::Result;
use crate::output::{make_writable, write_file};

/// The shortest time between two previews of a stage.
const EVERY: Duration = Duration::from_secs(2);
/// A preview comes again after so many times what it took.
const SHARE: u32 = 30;

/// The previews of a command.
#[derive(Debug)]
pub(super) struct Previews {
    folder: Option<PathBuf>,
    next: Instant,
}

impl Previews {
    /// Makes the folder; without one nothing is ever shown.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            make_writable(folder)?;
        }
        Ok(Self { folder: folder.map(Path::to_owned), next: Instant::now() })
    }

    /// After step `index` of `of`: shows `x_hat [n, h, w, c]` through `check`, which may withhold a picture.
    pub(super) fn step(
        &mut self,
        stage: StageName,
        (index, of): (usize, usize),
        x_hat: &Tensor<4>,
        check: impl FnOnce(Picture) -> Result<Picture, imagen::Error>,
    ) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let begun = Instant::now();
        if index > 0 && index + 1 < of && begun < self.next {
            return Ok(());
        }
        let first = to_pictures(&x_hat.clone().narrow(0, 0, 1))?.swap_remove(0);
        let path = folder.join(format!("{stage}.png"));
        let bytes = png::encode(&check(first)?, &PngText::default())?;
        write_file(&path, &bytes)?;
        self.next = begun + EVERY.max(begun.elapsed() * SHARE);
        Ok(())
    }
}
