//! What drawing takes, part by part, from descriptions and headers, before anything is read: so that memory is a promise.
//!
//! Stages of this project's own format stay in memory once they are built. Of DeepFloyd IF text encoder, stages and safety
//! checker are there one after the other. `bench/memory.py` holds these numbers against measured peaks.

use super::checkpoint::StageFile;
use super::config::NetworkKind;
use super::model::Imagen;
use super::need::{Need, PROGRAM_ROW};
use super::request::Request;
use super::settings::StageSettings;
use crate::error::Result;
use crate::models::unet::LevelCost;
use crate::models::weights::Storage;

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
            return model.needs(request, &resolved, batch, stored);
        }
        let (encoder, files) = self.own().expect("there are two families");
        let (mut needs, mut before, mut mapped) = (Vec::new(), 0, 0);
        for (file, (_, settings)) in files.into_iter().zip(&resolved) {
            mapped += file_bytes(file);
            needs.push(need(file, settings, batch, [before, mapped, encoder]));
            before += network_bytes(file).iter().sum::<u64>();
        }
        Ok(needs)
    }
}

/// One stage: its weights, the maps of one evaluation, and bytes of the stages `before` it, which stay, of files that are
/// mapped, and of the text encoder's files.
fn need(file: &StageFile, settings: &StageSettings, batch: u64, [before, mapped, encoder]: [u64; 3]) -> Need {
    let (config, levels) = (&file.config, file.cost());
    let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
    let most = |field: fn(&LevelCost) -> u64| levels.iter().map(field).max().unwrap_or(0);
    let guided = config.unet.text_dim > 0 && settings.guidance != 1.0;
    let at_once = batch * if guided { 2 } else { 1 };
    // residual blocks go through a batch in parts, so that what they need in between is that of one picture
    let maps = at_once * most(|level| level.drawing_bytes) + most(|level| level.largest_map_bytes) * 5 / 4;
    let waiting = (WAITING * maps).min(WAITING_LIMIT);
    let picture = 4 * (config.size * config.size * config.unet.image_channels) as u64;
    let [weights, transformed] = network_bytes(file);
    Need {
        what: config.stage.to_string(),
        stage: Some(config.stage),
        parameters: sum(|level| level.parameters),
        memory: vec![
            (Need::WEIGHTS, weights),
            ("weights, transformed", transformed),
            ("stages before", before),
            (Need::MAPS, maps + waiting),
            ("pictures", COPIES * batch * picture),
            ("files", mapped),
            // its files, and what is made of them
            ("text encoder", 2 * encoder),
            PROGRAM_ROW,
        ],
        evaluations: settings.steps as u64,
        multiply_adds: at_once * sum(|level| level.multiply_adds),
    }
}

/// Bytes of a stage's file that are mapped beside what is made of them.
fn file_bytes(file: &StageFile) -> u64 {
    // a converted stage keeps its weights as the file has them
    if file.config.network == NetworkKind::ImagenPytorch { 0 } else { file.bytes() as u64 }
}

/// Weights of a stage, and those of its convolutions once more as they are transformed (36 numbers for 9, of most). A
/// converted stage keeps its own as the file has them.
fn network_bytes(file: &StageFile) -> [u64; 2] {
    if file.config.network == NetworkKind::ImagenPytorch {
        return [file.bytes() as u64, 0];
    }
    let weights = 4 * file.cost().iter().map(|level| level.parameters).sum::<u64>();
    [weights, weights * 5 / 2]
}
