//! What drawing takes, part by part, from descriptions and headers, before anything is read: so that memory is a promise.
//!
//! Stages of this project's own format stay in memory once they are built. Of DeepFloyd IF text encoder, stages and safety
//! checker are there one after the other. `bench/memory.py` holds these numbers against measured peaks.

use super::checkpoint::StageFile;
use super::config::{NetworkKind, StageName};
use super::model::Imagen;
use super::need::{Need, PROGRAM_ROW};
use super::request::Request;
use super::settings::StageSettings;
use super::tiles;
use crate::diffusion::PlannedStep;
use crate::error::Result;
use crate::models::unet::LevelCost;
use crate::models::weights::Storage;
use crate::nn::Precision;

/// Buffers that wait to be used again, for each map that exists at once, and the limit of their bytes.
const WAITING: u64 = 2;
const WAITING_LIMIT: u64 = 512 << 20;
/// Copies of the picture besides the network's maps: z, noise, x̂ and what becomes of them, the low resolution, the PNG.
const COPIES: u64 = 13;

impl Imagen {
    /// What a request takes, part by part in the order in which they run.
    ///
    /// # Errors
    /// As [`Self::resolve`]; `Model` where a file is missing or damaged.
    pub fn needs(&self, request: &Request) -> Result<Vec<Need>> {
        self.needs_stored(request, None)
    }

    /// The needs with the weights of frozen networks and of their text encoder kept in other forms than the model has them.
    ///
    /// # Errors
    /// As [`Self::needs`].
    pub fn needs_stored(&self, request: &Request, stored: Option<(Storage, Storage)>) -> Result<Vec<Need>> {
        let resolved = self.resolve(request)?;
        let batch = self.batch(request).min(request.pictures.len().max(1)) as u64;
        if let Some(model) = self.deepfloyd() {
            let of = |stage, settings: &StageSettings| self.evaluations(stage, request, settings) as u64;
            return model.needs(request, &resolved, (batch, &of), stored);
        }
        let (encoder, files) = self.own().expect("there are two families");
        let (mut needs, mut before, mut mapped) = (Vec::new(), 0, 0);
        let stages: Vec<StageName> = resolved.iter().map(|(stage, _)| *stage).collect();
        let sizes = self.sizes(request, &stages)?;
        let files = files.into_iter().filter(|file| stages.contains(&file.config.stage));
        for ((file, (stage, settings)), size) in files.zip(&resolved).zip(sizes) {
            mapped += file_bytes(file);
            let evaluations = self.evaluations(*stage, request, settings) as u64;
            let branches = branches(file, settings, request);
            let plan = settings.sampler.spaced(file.config.schedule, settings.steps, settings.spacing)?;
            let noise = first_and_last(&plan);
            let network = network_bytes(file, settings.precision);
            let need = need(file, network, size, [evaluations, batch, branches], [before, mapped, encoder]);
            needs.push(Need { noise, ..need });
            before += network.iter().sum::<u64>();
        }
        Ok(needs)
    }
}

/// Noise σ/α of the first and the last evaluation.
pub(super) fn first_and_last(plan: &[PlannedStep]) -> Option<[f64; 2]> {
    Some([plan.first()?, plan.last()?].map(|step| step.level.noise_ratio()))
}

/// How many predictions are made of one picture: with its text, with one that it is on the way to, and without.
fn branches(file: &StageFile, settings: &StageSettings, request: &Request) -> u64 {
    let texts = file.config.unet.text_dim > 0;
    let between = request.pictures.iter().any(|picture| picture.words_toward().is_some());
    1 + u64::from(texts && settings.guidance != 1.0) + u64::from(texts && between)
}

/// The maps of one evaluation of so many pictures at once, from what most of a picture's levels take: residual blocks go through
/// a batch in parts, so that what they need in between is that of one picture. What was let go of waits to be used again.
fn maps(at_once: u64, drawing: u64, largest: u64) -> u64 {
    let maps = at_once * drawing + largest * 5 / 4;
    maps + (WAITING * maps).min(WAITING_LIMIT)
}

/// What drawing with a network of these levels takes beside its weights: its convolutions transformed, and the maps of so many
/// pictures at once.
pub(crate) fn drawing_bytes(levels: &[LevelCost], at_once: u64) -> u64 {
    let most = |field: fn(&LevelCost) -> u64| levels.iter().map(field).max().unwrap_or(0);
    let parameters: u64 = levels.iter().map(|level| level.parameters).sum();
    10 * parameters + maps(at_once, most(|level| level.drawing_bytes), most(|level| level.largest_map_bytes))
}

/// One stage whose pictures are of this size: its weights, the maps of one evaluation, and bytes of the stages `before` it, which
/// stay, of files that are mapped, and of the text encoder's files.
fn need(
    file: &StageFile,
    [weights, transformed]: [u64; 2],
    [h, w]: [usize; 2],
    [evaluations, batch, branches]: [u64; 3],
    [before, mapped, encoder]: [u64; 3],
) -> Need {
    let (config, levels) = (&file.config, file.cost());
    let (side, unit) = (config.size, config.unet.granularity());
    let (windows, seen) = match config.low_size {
        Some(_) => (tiles::count([h, w], side, unit) as u64, h.min(side) * w.min(side)),
        None => (1, h * w),
    };
    // levels are described for a square of the stage's own size
    let sized = |square: u64| (square as f64 * seen as f64 / (side * side) as f64).ceil() as u64;
    let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
    let most = |field: fn(&LevelCost) -> u64| sized(levels.iter().map(field).max().unwrap_or(0));
    let at_once = batch * branches;
    let maps = maps(at_once, most(|level| level.drawing_bytes), most(|level| level.largest_map_bytes));
    let picture = 4 * (h * w * config.unet.image_channels) as u64;
    Need {
        what: config.stage.to_string(),
        stage: Some(config.stage),
        parameters: sum(|level| level.parameters),
        memory: vec![
            (Need::WEIGHTS, weights),
            ("weights, transformed", transformed),
            ("stages before", before),
            (Need::MAPS, maps),
            ("pictures", COPIES * batch * picture),
            ("files", mapped),
            // its files, and what is made of them
            ("text encoder", 2 * encoder),
            PROGRAM_ROW,
        ],
        evaluations,
        noise: None,
        multiply_adds: at_once * windows * sized(sum(|level| level.multiply_adds)),
    }
}

/// Bytes of a stage's file that are mapped beside what is made of them.
fn file_bytes(file: &StageFile) -> u64 {
    // a converted stage keeps its weights as the file has them
    if file.config.network == NetworkKind::ImagenPytorch { 0 } else { file.bytes() as u64 }
}

/// Weights of a stage, and those of its convolutions once more as they are transformed (36 numbers for 9, of most). A
/// converted stage keeps its own as the file has them.
fn network_bytes(file: &StageFile, precision: Precision) -> [u64; 2] {
    if file.config.network == NetworkKind::ImagenPytorch {
        return [file.bytes() as u64, 0];
    }
    let weights = 4 * file.cost().iter().map(|level| level.parameters).sum::<u64>();
    [weights, precision.transformed_bytes(weights * 5 / 2)]
}
