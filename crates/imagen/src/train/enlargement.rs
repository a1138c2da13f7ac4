//! How faithful a super-resolution stage is: PSNR of what it draws over levels of noise conditioning augmentation.
//!
//! Held-out pictures are reduced and enlarged again, each in a window of the size that the stage was trained on. Two
//! numbers, both in dB, say how well: the result against the true picture, and the result reduced again against the
//! low-resolution input, which a stage that invents instead of enlarging misses. Plain bicubic enlargement stands beside
//! them; it is hard to beat in PSNR, because a sharp guess that is slightly off costs more than a blurred one.
//!
//! Deliberately not here: FID, and anything about the stages before (the inputs are real pictures).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::batch_loss::pictures;
use super::held_out;
use super::recipe::Recipe;
use super::texts::encode;
use crate::cascade::{Stage, StageFile, StageName, StageSettings, trajectory};
use crate::data::{Pixels, Source};
use crate::diffusion::AugLevel;
use crate::error::{Context, Error, Result};
use crate::files::write_whole;
use crate::image::{Filter, FloatPicture, psnr};
use crate::input;
use crate::models::unet::Text;
use crate::rng::Rng;
use crate::text::{self, EncoderFiles, TextEncoder, TextOptions};

/// The augmentation levels that are looked at.
pub const AUG_LEVELS: [f64; 6] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
/// Pictures that are drawn together.
const BATCH: usize = 4;
/// The measurement's own seed, for windows.
const SEED: u64 = 0x5e;

/// How faithful enlarged pictures are: means over pictures, in dB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// PSNR of the result against the true picture.
    pub psnr_truth: f64,
    /// PSNR of the result, reduced by the mean of each block, against the low-resolution input.
    pub psnr_input: f64,
}

/// What was measured of a super-resolution stage; `enlargement.json` in a run's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnlargementReport {
    /// The stage.
    pub stage: StageName,
    /// Steps that it was trained for.
    pub step: u64,
    /// Pictures looked at.
    pub pictures: usize,
    /// Side of each window, in pixels.
    pub side: usize,
    /// Side of its low-resolution input.
    pub low_side: usize,
    /// How it was sampled; the augmentation level is that of each row.
    pub sampling: StageSettings,
    /// Bicubic enlargement.
    pub bicubic: Fidelity,
    /// The stage, by augmentation level.
    pub levels: Vec<LevelFidelity>,
}

/// The stage at one augmentation level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelFidelity {
    /// The level.
    pub aug_level: AugLevel,
    /// How faithful it is.
    #[serde(flatten)]
    pub fidelity: Fidelity,
}

/// A pair of the same window.
struct Pair {
    caption: String,
    high: FloatPicture,
    low: FloatPicture,
}

/// The file in a run's folder.
pub fn enlargement_path(folder: &Path) -> PathBuf {
    folder.join("enlargement.json")
}

/// What was measured of a run's stage, if it was.
///
/// # Errors
/// `Io`; `Data` where the file is none of ours.
pub fn read_enlargement(folder: &Path) -> Result<Option<EnlargementReport>> {
    let path = enlargement_path(folder);
    let Some(bytes) = input::read_if_there(&path, input::MOST_TEXT)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::data("expected what `imagen report --sr` wrote; remove it to measure anew").with_source(e))
        .context(|| path.display().to_string())
}

/// Measures the stage that a run has written, with its averaged weights, and writes `enlargement.json` into its folder.
/// `observe` hears how many of how many steps are done and may break; then there is no report.
///
/// # Errors
/// `Usage` where the run trains a base, which enlarges nothing, or `count` is 0; those of the run's recipe, weights,
/// pictures and text encoder.
pub fn measure_enlargement(
    folder: &Path,
    count: usize,
    text: EncoderFiles,
    device: &Device,
    observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<EnlargementReport>> {
    let recipe = Recipe::read(&folder.join("recipe.toml"))?;
    if recipe.stage.low_size.is_none() {
        return Err(Error::usage(format!(
            "{} trains the {} stage, which enlarges nothing; name a run of a super-resolution stage",
            folder.display(),
            recipe.stage.stage
        )));
    }
    let file = StageFile::open(&folder.join(format!("{}.safetensors", recipe.stage.stage)))?;
    let (stage, step) = (file.build(device)?, file.record.step);
    let encoder = text::load(text, &TextOptions::default(), device)?;
    let source = Source::open_allowing(&recipe.data.folder, recipe.data.max_bad)?;
    measure(folder, &recipe, &stage, step, count, encoder.as_ref(), &source, observe)
}

/// [`measure_enlargement`] of a stage that is at hand.
pub(super) fn measure(
    folder: &Path,
    recipe: &Recipe,
    stage: &Stage,
    step: u64,
    count: usize,
    encoder: &dyn TextEncoder,
    source: &Source,
    observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Option<EnlargementReport>> {
    if count == 0 {
        return Err(Error::usage("a measurement needs at least one picture"));
    }
    let pairs = pairs(recipe, source, count)?;
    let (side, low_side, channels) = (pairs[0].high.width(), pairs[0].low.width(), pairs[0].high.channels());
    // the network is run on windows: its stage is one of that size
    let mut config = stage.config.clone();
    (config.size, config.low_size) = (side, Some(low_side));
    let stage = Stage::new(config, stage.unet()?.clone());
    let sampling = stage.config.sampling;
    let steps_each = sampling.steps as u64;
    let known = AUG_LEVELS.iter().map(|level| AugLevel::new(*level)).collect::<Result<Vec<_>>>()?;
    let known: Vec<AugLevel> = known.into_iter().filter(|level| *level <= stage.config.max_aug_level).collect();
    let of = (known.len() * pairs.len().div_ceil(BATCH)) as u64 * steps_each;
    let batches: Vec<(&[Pair], Option<Text>)> = pairs
        .chunks(BATCH)
        .map(|batch| {
            let captions: Vec<&str> = batch.iter().map(|pair| pair.caption.as_str()).collect();
            Ok((batch, encode(&stage, encoder, &captions)?))
        })
        .collect::<Result<_>>()?;
    let (mut levels, mut done) = (Vec::new(), 0);
    for aug_level in known {
        let mut sum = Fidelity::default();
        for (number, (batch, text)) in batches.iter().enumerate() {
            let options = StageSettings { aug_level, ..sampling };
            let first = (number * BATCH) as u64;
            let seeds: Vec<u64> = (first..first + batch.len() as u64).collect();
            let lows = Pixels {
                values: batch.iter().flat_map(|pair| pair.low.values()).copied().collect(),
                shape: [batch.len(), low_side, low_side, channels],
            };
            let lows: Tensor<4> = pictures(&lows, &(0..batch.len()), &stage.device());
            let mut last = None;
            for step in trajectory(&stage, &options, &seeds, text.clone(), Some(lows))? {
                last = Some(step?.x_hat);
                done += 1;
                if observe(done, of).is_break() {
                    return Ok(None);
                }
            }
            let last = last.ok_or_else(|| Error::usage("stage.sampling.steps must be at least 1"))?;
            let values: Vec<f32> = last.into_data().iter::<f32>().collect();
            for (pair, values) in batch.iter().zip(values.chunks_exact(side * side * channels)) {
                sum = plus(sum, pair.fidelity(values.to_vec())?);
            }
        }
        levels.push(LevelFidelity { aug_level, fidelity: over(sum, pairs.len()) });
    }
    let mut bicubic = Fidelity::default();
    for pair in &pairs {
        let enlarged = pair.low.resize(side, side, Filter::Bicubic)?;
        bicubic = plus(bicubic, pair.fidelity(enlarged.into_values())?);
    }
    let report = EnlargementReport {
        stage: stage.config.stage,
        step,
        pictures: pairs.len(),
        side,
        low_side,
        sampling,
        bicubic: over(bicubic, pairs.len()),
        levels,
    };
    let path = enlargement_path(folder);
    write_whole(&path, |file| Ok(serde_json::to_writer_pretty(file, &report)?))
        .map_err(|e| Error::io("write", &path, e))?;
    Ok(Some(report))
}

/// Windows of held-out pictures at both resolutions, as training cuts them.
fn pairs(recipe: &Recipe, pictures: &Source, count: usize) -> Result<Vec<Pair>> {
    let source = held_out::source(pictures)?;
    let transform = recipe.transform();
    let mut pairs = Vec::new();
    for (example, picture) in held_out::examples(&source, &transform).take(count) {
        let sample = transform.sample(&picture, Rng::new(SEED).fold(pairs.len() as u64))?;
        let low = sample.low_res.ok_or_else(|| Error::usage("a base stage enlarges nothing"))?;
        let caption = example.captions.first().map_or("", |caption| &source.captions()[*caption]).to_owned();
        pairs.push(Pair { caption, high: sample.picture, low });
    }
    if pairs.is_empty() {
        return Err(held_out::unreadable(&source));
    }
    Ok(pairs)
}

impl Pair {
    /// How faithful an enlargement is, `[side, side, channels]`; what lies beyond [-1, 1] is clipped.
    fn fidelity(&self, mut values: Vec<f32>) -> Result<Fidelity> {
        values.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
        let result = FloatPicture::new(self.high.width(), self.high.height(), self.high.channels(), values)?;
        let reduced = result.resize(self.low.width(), self.low.height(), Filter::Area)?;
        Ok(Fidelity {
            psnr_truth: psnr(result.values(), self.high.values()),
            psnr_input: psnr(reduced.values(), self.low.values()),
        })
    }
}

fn plus(a: Fidelity, b: Fidelity) -> Fidelity {
    Fidelity { psnr_truth: a.psnr_truth + b.psnr_truth, psnr_input: a.psnr_input + b.psnr_input }
}

fn over(sum: Fidelity, count: usize) -> Fidelity {
    let n = count as f64;
    Fidelity { psnr_truth: sum.psnr_truth / n, psnr_input: sum.psnr_input / n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::MAX_PSNR;

    #[test]
    fn a_result_is_held_against_the_truth_and_reduced_against_its_input() {
        let high = FloatPicture::new(2, 2, 3, [0.4, 0.0, 0.2, 0.2].map(|x| [x; 3]).concat()).unwrap();
        let low = high.resize(1, 1, Filter::Area).unwrap();
        let pair = Pair { caption: String::new(), high: high.clone(), low };
        let perfect = pair.fidelity(high.values().to_vec()).unwrap();
        assert_eq!(perfect, Fidelity { psnr_truth: MAX_PSNR, psnr_input: MAX_PSNR });
        // flat, with the right mean: it respects its input and misses the truth
        let flat = pair.fidelity(vec![0.2; 12]).unwrap();
        assert!(flat.psnr_input > 90.0, "{flat:?}");
        assert!((flat.psnr_truth - 10.0 * (4.0f64 / 0.02).log10()).abs() < 1e-4, "{flat:?}");
        // beyond the range is clipped before it is judged
        let loud = pair.fidelity(vec![7.0; 12]).unwrap();
        let edge = pair.fidelity(vec![1.0; 12]).unwrap();
        assert_eq!(loud, edge);
    }
}
