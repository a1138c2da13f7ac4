//! The cascade: text encoder, base model, super-resolution models, and how a picture passes through them (section 2, A6).
//!
//! [`Imagen::sample`] returns an iterator of events that the caller pulls: progress bars, previews and cancellation are
//! ordinary adapters, and dropping the iterator cancels. A picture is a function of (weights, prompt, seed, options) alone.

mod checkpoint;
mod config;
pub mod deepfloyd;
pub mod imagen_pytorch;
mod preset;
mod sampling;
mod stage;
mod state_dict;
mod upsample;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use tracing::info_span;

pub use checkpoint::{ModelFiles, PartialLoad, Record, StageFile, Status, Training, random_stage, write_stage};
pub use config::{Enlargement, NullText, SamplingDefaults, StageConfig, StageName};
pub use preset::Preset;
pub use sampling::{Event, Sampling, to_pictures, trajectory};
pub use stage::{Conditions, Stage};
pub use state_dict::from_state_dict;
pub use upsample::upsample;

use crate::diffusion::{AugLevel, Sampler, Thresholding};
use crate::error::{Error, Result};
use crate::text::{self, TextEncoder, TextOptions};

/// What to draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// One picture per prompt and count.
    pub prompts: Vec<String>,
    /// Picture k of a prompt is drawn from seed + k.
    pub seed: u64,
    /// Pictures per prompt.
    pub count: usize,
    /// Departures from the stages' own suggestions.
    pub options: BTreeMap<StageName, StageOptions>,
    /// The last stage to run; [`Imagen::default_until`] where absent.
    pub until: Option<StageName>,
    /// Pictures that are drawn together; changes speed and memory, not pictures.
    pub batch: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self { prompts: Vec::new(), seed: 0, count: 1, options: BTreeMap::new(), until: None, batch: 4 }
    }
}

/// Departures from a stage's [`SamplingDefaults`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageOptions {
    /// Evaluations of the network per picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Guidance weight; 1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// What happens to x̂ beyond [-1, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholding: Option<Thresholding>,
    /// Noise conditioning augmentation of the low-resolution picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aug_level: Option<AugLevel>,
}

impl StageOptions {
    /// The defaults, with these departures.
    ///
    /// # Errors
    /// `Usage` where a value is out of range.
    pub fn over(&self, defaults: &SamplingDefaults) -> Result<SamplingDefaults> {
        let resolved = SamplingDefaults {
            steps: self.steps.unwrap_or(defaults.steps),
            guidance: self.guidance.unwrap_or(defaults.guidance),
            sampler: self.sampler.unwrap_or(defaults.sampler),
            thresholding: self.thresholding.unwrap_or(defaults.thresholding),
            aug_level: self.aug_level.unwrap_or(defaults.aug_level),
        };
        if resolved.steps == 0 {
            return Err(Error::usage("steps = 0: a picture takes at least one step"));
        }
        if !resolved.guidance.is_finite() {
            return Err(Error::usage(format!("guidance = {}: expected a finite number; 1 is none", resolved.guidance)));
        }
        Ok(resolved)
    }
}

/// What a model has of a stage.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// Its description.
    pub config: StageConfig,
    /// Optimizer steps that it was trained for.
    pub step: u64,
    /// Bytes of its file.
    pub bytes: usize,
}

/// A model: a text encoder and the stages of a cascade. Networks are built when first used.
pub struct Imagen {
    label: String,
    device: Device,
    encoder: Box<dyn TextEncoder>,
    stages: Vec<(StageFile, OnceCell<Stage>)>,
}

impl Imagen {
    /// Opens a model on a device.
    ///
    /// # Errors
    /// `Model` where the base is missing, a stage is untrained or damaged, or a stage was trained with another encoder.
    pub fn open(files: &ModelFiles, device: &Device) -> Result<Self> {
        let _span = info_span!("open model").entered();
        let label = files.label();
        if let ModelFiles::Folder(folder) = files
            && !folder.is_dir()
        {
            return Err(Error::model(format!("there is no model at {label}: expected a folder with base.safetensors")));
        }
        let mut stages = Vec::new();
        for name in StageName::ALL {
            let Some(file) = files.stage(name)? else { break };
            if file.config.stage != name {
                let found = file.config.stage;
                return Err(Error::model(format!("{label}: {name}.safetensors holds the stage {found}, not {name}")));
            }
            stages.push((file, OnceCell::new()));
        }
        if stages.is_empty() {
            return Err(missing(StageName::Base, &label));
        }
        let channels = |(file, _): &(StageFile, OnceCell<Stage>)| file.config.unet.image_channels;
        if let Some(other) = stages.iter().find(|stage| channels(stage) != channels(&stages[0])) {
            return Err(Error::model(format!(
                "{label}: the base draws pictures of {} channels, and stage {} enlarges those of {}; train one of them anew",
                channels(&stages[0]),
                other.0.config.stage,
                channels(other)
            )));
        }
        let encoder = text::load(files.text_encoder()?, &TextOptions::default(), device)?;
        for (file, _) in &stages {
            let name = file.config.stage;
            if file.text_encoder != encoder.identity() {
                return Err(Error::model(format!(
                    "{label}: stage {name} was trained with the text encoder {}, but text/ holds {}; put the encoder \
                     that it was trained with there",
                    file.text_encoder,
                    encoder.identity()
                )));
            }
        }
        Ok(Self { label, device: device.clone(), encoder, stages })
    }

    /// The stages that there are, in the order in which they run.
    pub fn stages(&self) -> Vec<StageInfo> {
        let info =
            |file: &StageFile| StageInfo { config: file.config.clone(), step: file.record.step, bytes: file.bytes() };
        self.stages.iter().map(|(file, _)| info(file)).collect()
    }

    /// The last stage that runs where a request names none: those before the first that runs on request only.
    pub fn default_until(&self) -> StageName {
        let always = self.stages.iter().map(|(file, _)| &file.config).take_while(|config| !config.on_request);
        always.last().map_or(StageName::Base, |config| config.stage)
    }

    /// The text encoder.
    pub fn encoder(&self) -> &dyn TextEncoder {
        self.encoder.as_ref()
    }

    /// The stages that a request runs, each with its resolved options.
    ///
    /// # Errors
    /// `Model` where a stage is missing or untrained; `Usage` where an option is out of range or speaks of a stage that does
    /// not run.
    pub fn resolve(&self, request: &Request) -> Result<Vec<(StageName, SamplingDefaults)>> {
        let last = self.stages.last().expect("open() refuses a model without stages").0.config.stage;
        let until = request.until.unwrap_or_else(|| self.default_until());
        if until > last {
            let next = StageName::ALL.into_iter().find(|name| *name > last).unwrap_or(until);
            return Err(missing(next, &self.label));
        }
        if let Some(name) = request.options.keys().find(|name| **name > until) {
            return Err(Error::usage(format!("there are options for stage {name}, but only stages up to {until} run")));
        }
        let mut resolved = Vec::new();
        for (file, _) in self.stages.iter().filter(|(file, _)| file.config.stage <= until) {
            let name = file.config.stage;
            if file.record.step == 0 {
                return Err(Error::model(format!(
                    "{}: stage {name} is untrained; train it with `imagen train RECIPE --run RUN`, then put it there with \
                     `imagen export RUN --model {}`",
                    self.label, self.label
                )));
            }
            let defaults = &file.config.sampling;
            let options = request.options.get(&name).map_or(Ok(*defaults), |o| o.over(defaults))?;
            file.config.check_aug_level(options.aug_level)?;
            resolved.push((name, options));
        }
        Ok(resolved)
    }

    /// Draws. Nothing runs until the iterator is pulled.
    ///
    /// # Errors
    /// Those of [`Self::resolve`]; `Usage` without prompts.
    pub fn sample(&self, request: &Request) -> Result<Sampling<'_>> {
        Sampling::new(self, request, self.resolve(request)?)
    }

    /// The network of a stage, built on first use.
    fn stage(&self, name: StageName) -> Result<&Stage> {
        let (file, cell) =
            self.stages.iter().find(|(file, _)| file.config.stage == name).ok_or_else(|| missing(name, &self.label))?;
        if let Some(stage) = cell.get() {
            return Ok(stage);
        }
        let stage = info_span!("build network", stage = %name).in_scope(|| file.build(&self.device))?;
        Ok(cell.get_or_init(|| stage))
    }
}

fn missing(name: StageName, label: &str) -> Error {
    Error::model(format!(
        "{label} has no stage {name}: train one with `imagen train RECIPE --run RUN` and put it there with \
         `imagen export RUN --model {label}`, or stop earlier with --until"
    ))
}

impl std::fmt::Debug for Imagen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imagen").field("label", &self.label).finish_non_exhaustive()
    }
}
