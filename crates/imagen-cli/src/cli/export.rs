//! `imagen export`: a run's averaged weights become a stage of a model folder.

use std::path::PathBuf;

use imagen::train::{self, Choice};

use super::shared::TextEncoder;
use crate::failure::{Result, print_line};

/// Put a trained stage into a model folder, ready for sampling
///
/// Writes the run's averaged weights in half precision, and the text encoder where the folder has none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  imagen export runs/shapes --model models/shapes\n  imagen sample \"a red circle\" --model models/shapes"
)]
pub(crate) struct Export {
    /// The run's folder
    run: PathBuf,
    /// The model folder; made where there is none, other stages in it stay
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Export the weights with the best validation (train.validate_every) instead of the last ones
    #[arg(long, conflicts_with = "ema")]
    best: bool,
    /// Export another moving average of the last checkpoint, by its number in the recipe (ema_decay or one
    /// of ema_half_lives); the first one where absent
    #[arg(long, value_name = "NUMBER")]
    ema: Option<String>,
    #[command(flatten)]
    text_encoder: TextEncoder,
}

impl Export {
    pub(crate) fn run(self) -> Result<()> {
        let choice = match (self.best, self.ema) {
            (true, _) => Choice::Best,
            (false, Some(name)) => Choice::Average(name),
            (false, None) => Choice::Last,
        };
        let path = train::export(&self.run, &self.model, &choice, &self.text_encoder.files()?)?;
        print_line(path.display())
    }
}
