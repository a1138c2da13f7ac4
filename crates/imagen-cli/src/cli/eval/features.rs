//! `--inception`, `--resize` and `--crop`: which features distances are over, and of what part of the pictures.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;

use imagen::eval::{Extractor, InceptionResize};
use imagen::models::weights::Weights;

use crate::cli::shared::one_of;
use crate::failure::Result;

/// What looks at pictures.
#[derive(Debug, clap::Args)]
pub(super) struct Features {
    /// Weights of Inception-v3 (.safetensors; tools/inception_weights.py makes them from pytorch-fid's). Without them the
    /// built-in layout-1 looks at pictures
    #[arg(long, value_name = "FILE", help_heading = "Features")]
    inception: Option<PathBuf>,
    /// How pictures come to Inception's 299x299: as in pytorch-fid (original) or in clean-fid (clean) [default: original]
    #[arg(long, value_name = "WAY", requires = "inception", help_heading = "Features", value_parser = one_of::<InceptionResize>())]
    resize: Option<InceptionResize>,
    /// Cut a square of this side out of the middle first, the shorter side being resized to it (Pillow's cubic); 0 takes whole
    /// pictures, however long [default: 0; of `eval coco` 256]
    #[arg(long, value_name = "PIXELS", requires = "inception", help_heading = "Features")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(0..=4096))]
    crop: Option<usize>,
}

impl Features {
    /// Whether they are Inception's.
    pub(super) fn is_inception(&self) -> bool {
        self.inception.is_some()
    }

    /// The extractor, with its weights read.
    pub(super) fn open(&self, device: &Device) -> Result<Extractor> {
        self.open_with(0, device)
    }

    /// As [`Self::open`], with the middle of this side unless another, or none (0), was asked for.
    pub(super) fn open_with(&self, crop: usize, device: &Device) -> Result<Extractor> {
        let Some(file) = &self.inception else { return Ok(Extractor::default()) };
        let weights = Weights::open(file)?;
        let extractor = Extractor::inception(&weights, self.resize.unwrap_or_default(), device)?;
        Ok(match self.crop.unwrap_or(crop) {
            0 => extractor,
            side => extractor.cropped(side),
        })
    }
}
