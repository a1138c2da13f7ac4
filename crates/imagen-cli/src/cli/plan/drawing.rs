//! What drawing with a model of this program's own takes, stage by stage, and what would fit where it does not. `imagen sample`
//! refuses by the same numbers; `bench/memory.py` holds them against measured peaks.

use imagen::cascade::{ModelFiles, StageFile, StageName};
use imagen::models::unet::{Layout, LevelCost};

use super::{DRAWING_SHARE, Estimate, MaxMemory};
use crate::failure::{Exit, Failure, Result};
use crate::system::{bytes, count};

/// The program itself with its code, a tokenizer's tables and the buffers of its kernels.
const PROGRAM: u64 = 160 << 20;
/// Buffers that wait to be used again, for each map that exists at once, and the limit of their bytes.
const WAITING: u64 = 2;
const WAITING_LIMIT: u64 = 512 << 20;
/// Copies of the picture besides the network's maps: z, noise, x̂ and what becomes of them, the low resolution, the PNG.
const COPIES: u64 = 13;

/// The stages that draw, opened and not built.
pub(in crate::cli) struct Drawing {
    stages: Vec<StageFile>,
    /// Bytes of the text encoder's files.
    encoder: u64,
}

impl Drawing {
    /// Opens the stages up to `until`; where that is absent, those that draw where nothing else is said.
    ///
    /// # Errors
    /// `Model` where there is none, or `until` is missing.
    pub(in crate::cli) fn open(files: &ModelFiles, until: Option<StageName>) -> Result<Self> {
        let mut stages = Vec::new();
        for name in StageName::ALL {
            let Some(file) = files.stage(name)? else { break };
            if until.map_or(file.config.on_request, |until| name > until) {
                break;
            }
            stages.push(file);
        }
        let last = stages.last().map(|file| file.config.stage);
        if let Some(missing) = last.is_none().then_some(StageName::Base).or(until.filter(|until| Some(*until) > last)) {
            return Err(Failure::new(Exit::Model, format_args!("{} has no stage {missing}", files.label())));
        }
        let encoder = files.text_encoder()?.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        Ok(Self { stages, encoder })
    }

    /// An estimate for each stage, of so many pictures at once.
    pub(super) fn estimates(&self, batch: u64, rate: f64) -> Vec<Estimate> {
        let mut built = 0;
        let estimate = |file: &StageFile| {
            let estimate = self.estimate(file, batch, built, rate);
            built += network_bytes(file).iter().sum::<u64>();
            estimate
        };
        self.stages.iter().map(estimate).collect()
    }

    fn most(&self, batch: u64) -> u64 {
        self.estimates(batch, 1.0).iter().map(|estimate| estimate.bytes).max().unwrap_or(0)
    }

    /// Refuses what does not fit, and says what would.
    pub(in crate::cli) fn check(mut self, memory: &MaxMemory, batch: u64) -> Result<()> {
        let Err(failure) = memory.check("drawing this", self.most(batch)) else { return Ok(()) };
        let limit = memory.limit().unwrap_or(u64::MAX);
        let mut until = String::new();
        loop {
            let fewer = (1..=batch).rev().find(|fewer| self.most(*fewer) <= limit);
            if let Some(fewer) = fewer {
                let batch_flag = if fewer < batch { format!(" --batch {fewer}") } else { String::new() };
                let needed = bytes(self.most(fewer));
                return Err(failure.hint(format_args!("it would fit with{until}{batch_flag}: about {needed}")));
            }
            if self.stages.len() == 1 {
                let stage = self.stages[0].config.stage;
                let least = bytes(self.most(1));
                return Err(failure.hint(format_args!(
                    "the least that this model can take is about {least}, for one picture with --until {stage}; use a \
                     smaller model"
                )));
            }
            self.stages.pop();
            until = format!(" --until {}", self.stages[self.stages.len() - 1].config.stage);
        }
    }

    /// One stage: its weights, the maps of one evaluation, and `built` bytes of the stages before it, which stay.
    fn estimate(&self, file: &StageFile, batch: u64, built: u64, rate: f64) -> Estimate {
        let (config, levels) = (&file.config, file.cost());
        let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
        let most = |field: fn(&LevelCost) -> u64| levels.iter().map(field).max().unwrap_or(0);
        let guided = config.unet.text_dim > 0 && config.sampling.guidance != 1.0;
        let at_once = batch * if guided { 2 } else { 1 };
        // residual blocks go through a batch in parts, so that what they need in between is that of one picture
        let maps = at_once * most(|level| level.drawing_bytes) + most(|level| level.largest_map_bytes) * 5 / 4;
        let waiting = (WAITING * maps).min(WAITING_LIMIT);
        let picture = 4 * (config.size * config.size * config.unet.image_channels) as u64;
        let files: u64 =
            self.stages.iter().take_while(|other| other.config.stage <= config.stage).map(file_bytes).sum();
        let [weights, transformed] = network_bytes(file);
        let memory = vec![
            ("weights".to_owned(), weights),
            ("weights, transformed".to_owned(), transformed),
            ("stages before".to_owned(), built),
            ("maps".to_owned(), maps + waiting),
            ("pictures".to_owned(), COPIES * batch * picture),
            ("files".to_owned(), files),
            // its files, and what is made of them
            ("text encoder".to_owned(), 2 * self.encoder),
            ("program".to_owned(), PROGRAM),
        ];
        let multiply_adds = at_once * sum(|level| level.multiply_adds);
        Estimate {
            title: format!(
                "drawing {batch} with {}, {} parameters",
                config.stage,
                count(sum(|level| level.parameters))
            ),
            bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
            memory,
            work: (
                "evaluations",
                config.sampling.steps as u64,
                multiply_adds,
                multiply_adds as f64 / (rate * DRAWING_SHARE),
            ),
            warnings: Vec::new(),
        }
    }
}

/// Bytes of a stage's file that are mapped beside what is made of them.
fn file_bytes(file: &StageFile) -> u64 {
    // a converted stage keeps its weights as the file has them
    if file.config.unet.layout == Layout::ImagenPytorch { 0 } else { file.bytes() as u64 }
}

/// Weights of a stage, and those of its convolutions once more as they are transformed (36 numbers for 9, of most). A
/// converted stage keeps its own as the file has them.
fn network_bytes(file: &StageFile) -> [u64; 2] {
    if file.config.unet.layout == Layout::ImagenPytorch {
        return [file.bytes() as u64, 0];
    }
    let weights = 4 * file.cost().iter().map(|level| level.parameters).sum::<u64>();
    [weights, weights * 5 / 2]
}
