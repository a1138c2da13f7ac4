//! The grid of pictures that a run draws now and then: the same prompts, the same seeds, the averaged weights.
//!
//! A base stage draws the recipe's prompts. A super-resolution stage enlarges real pictures, so that it can be judged
//! alone; each row shows the low resolution, the result and the original.

use std::path::PathBuf;

use burn::tensor::Tensor;

use super::Run;
use super::state::TrainState;
use crate::cascade::{Stage, to_pictures, trajectory};
use crate::data::Source;
use crate::error::{Error, Result};
use crate::image::{Picture, Filter, grid, png};
use crate::models::unet::Text;
use crate::text::TextEncoder;

/// Draws the grid of this step; the file.
pub(super) fn draw(run: &Run, state: &TrainState, encoder: &dyn TextEncoder, source: &Source) -> Result<PathBuf> {
    let stage = Stage::new(run.recipe.stage.clone(), state.averaged()?);
    let pictures = match stage.config.low_size {
        None => base(run, &stage, encoder)?,
        Some(low_size) => super_resolution(&stage, encoder, source, low_size)?,
    };
    let columns = if stage.config.low_size.is_some() { 3 } else { (pictures.len() as f64).sqrt().ceil() as usize };
    let folder = run.folder.join("samples");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let path = folder.join(format!("{:07}.png", state.step));
    png::write(&path, &grid(&pictures, columns, 2)?, &[])?;
    Ok(path)
}
