//! The grid of pictures that a run draws now and then: the same prompts, the same seeds, the averaged weights.
//!
//! A base stage draws the recipe's prompts. A super-resolution stage enlarges real pictures, so that it can be judged
//! alone: each row shows the low resolution, the result and the original.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};

use super::run::Run;
use super::texts::encode;
use crate::cascade::{Stage, to_pictures, trajectory};
use crate::data::Source;
use crate::error::{Error, Result};
use crate::image::{DecodeOptions, Filter, Picture, PngText, grid, png};
use crate::text::TextEncoder;

/// Real pictures that a super-resolution stage enlarges.
pub(super) const ENLARGED: usize = 4;
/// Low resolution, result and original.
const ENLARGED_COLUMNS: usize = 3;
const WHITE: [u8; 3] = [255; 3];

/// Columns of a base stage's grid of so many pictures: the grid is about as wide as it is high.
pub fn columns(pictures: usize) -> usize {
    (pictures as f64).sqrt().ceil().max(1.0) as usize
}

/// Draws the grid of this step with its stage; the file.
pub(super) fn draw(run: &Run, stage: &Stage, step: u64, encoder: &dyn TextEncoder, source: &Source) -> Result<PathBuf> {
    let prompts: Vec<&str> = run.recipe.train.sample_prompts.iter().map(String::as_str).collect();
    let (pictures, columns) = match stage.config.low_size {
        None => {
            let pictures = sample(stage, encoder, &prompts, None)?;
            let columns = columns(pictures.len());
            (pictures, columns)
        }
        Some(low_size) => (enlarge(stage, encoder, source, low_size)?, ENLARGED_COLUMNS),
    };
    let path = path(&run.folder, step);
    let folder = path.parent().expect("a folder of samples");
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    png::write(&path, &grid(&pictures, columns, 2, WHITE)?, &PngText::default())?;
    Ok(path)
}

/// Where the grid of a step stands.
pub(super) fn path(run: &Path, step: u64) -> PathBuf {
    run.join(format!("samples/{step:07}.png"))
}

/// One picture a caption, seeds 0, 1, …
fn sample(
    stage: &Stage,
    encoder: &dyn TextEncoder,
    captions: &[&str],
    low_resolution: Option<Tensor<4>>,
) -> Result<Vec<Picture>> {
    if captions.is_empty() {
        return Err(Error::data("train.sample_every is set, but train.sample_prompts is empty; give it some captions"));
    }
    let text = encode(stage, encoder, captions)?;
    let seeds: Vec<u64> = (0..captions.len() as u64).collect();
    let steps = trajectory(stage, &stage.config.sampling, &seeds, text, low_resolution)?;
    let last = steps.last().ok_or_else(|| Error::usage("stage.sampling.steps must be at least 1"))??;
    to_pictures(&last.x_hat)
}

/// Rows of (low resolution, enlarged, original).
fn enlarge(stage: &Stage, encoder: &dyn TextEncoder, source: &Source, low_size: usize) -> Result<Vec<Picture>> {
    let size = stage.config.size;
    let (mut originals, mut lows, mut captions, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let channels = stage.config.unet.image_channels;
    let options = DecodeOptions { channels, ..DecodeOptions::default() };
    let examples = source.examples();
    for place in 0..ENLARGED.min(examples.len()) {
        // as in training, the next one takes the place of a picture that cannot be read
        let later = &examples[place * examples.len() / ENLARGED..];
        let read = |example| Some((example, source.picture(example, &options).ok()?));
        let Some((example, original)) = later.iter().find_map(read) else { continue };
        let original = original.centre_square();
        let original = original.resize(size, size, Filter::Area)?;
        let low = original.resize(low_size, low_size, Filter::Area)?;
        values.extend(low.to_float().into_values());
        lows.push(low);
        originals.push(original);
        captions.push(example.captions.first().map_or("", |caption| source.captions()[*caption].as_str()));
    }
    let shape = [lows.len(), low_size, low_size, channels];
    let low_resolution = Tensor::from_data(TensorData::new(values, shape), &stage.device());
    let enlarged = sample(stage, encoder, &captions, Some(low_resolution))?;
    let rows = lows.into_iter().zip(enlarged).zip(originals);
    Ok(rows.flat_map(|((low, enlarged), original)| [low, enlarged, original]).collect())
}
