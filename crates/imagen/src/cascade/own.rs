//! A model of this project's own format: its text encoder, and a file for each stage (imagen-pytorch's converted ones, too).
//! Networks are built when first used, and stay.

use std::cell::OnceCell;
use std::rc::Rc;

use burn::tensor::Device;
use tracing::info_span;

use super::checkpoint::{ModelFiles, StageFile};
use super::config::StageName;
use super::info::StageInfo;
use super::settings::StageSettings;
use super::stage::Stage;
use crate::error::{Error, Result};
use crate::text::{self, TextEncoder, TextOptions};

pub(super) struct OwnModel {
    label: String,
    pub(super) encoder: Box<dyn TextEncoder>,
    /// Bytes of the text encoder's files.
    pub(super) encoder_bytes: u64,
    stages: Vec<(StageFile, OnceCell<Rc<Stage>>)>,
}

impl OwnModel {
    /// # Errors
    /// `Model` where the base is missing, a stage is damaged, or a stage was trained with another encoder.
    pub(super) fn open(files: &ModelFiles, device: &Device) -> Result<Self> {
        let label = files.label();
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
        let channels = |(file, _): &(StageFile, OnceCell<Rc<Stage>>)| file.config.unet.image_channels;
        if let Some(other) = stages.iter().find(|stage| channels(stage) != channels(&stages[0])) {
            return Err(Error::model(format!(
                "{label}: the base draws pictures of {} channels, and stage {} enlarges those of {}; train one of them anew",
                channels(&stages[0]),
                other.0.config.stage,
                channels(other)
            )));
        }
        let encoder_files = files.text_encoder()?;
        let encoder_bytes = encoder_files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let encoder = text::load(encoder_files, &TextOptions::default(), device)?;
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
        Ok(Self { label, encoder, encoder_bytes, stages })
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &StageFile> {
        self.stages.iter().map(|(file, _)| file)
    }

    pub(super) fn stages(&self) -> Vec<StageInfo> {
        let info = |file: &StageFile| StageInfo {
            stage: file.config.stage,
            size: file.config.size,
            settings: file.config.sampling,
            max_guidance: file.config.max_guidance,
            on_request: file.config.on_request,
            step: Some(file.record.step),
            config: Some(file.config.clone()),
        };
        self.files().map(info).collect()
    }

    fn find(&self, name: StageName) -> Result<&(StageFile, OnceCell<Rc<Stage>>)> {
        let found = self.stages.iter().find(|(file, _)| file.config.stage == name);
        found.ok_or_else(|| missing(name, &self.label))
    }

    /// Whether a stage can be run with these settings.
    ///
    /// # Errors
    /// `Model` where it is untrained; `Usage` where it was never trained with an augmentation as strong, or does not know what is
    /// asked for.
    pub(super) fn check(&self, name: StageName, settings: &StageSettings) -> Result<()> {
        let (file, _) = self.find(name)?;
        if file.record.step == 0 {
            return Err(Error::model(format!(
                "{}: stage {name} is untrained; train it with `imagen train RECIPE --run RUN`, then put it there with \
                 `imagen export RUN --model {}`",
                self.label, self.label
            )));
        }
        if settings.timesteps.is_some() {
            return Err(Error::usage("lists of timesteps are for folders of DeepFloyd IF; give a number of steps"));
        }
        settings.sampler.plan(file.config.schedule, 1)?;
        file.config.check_aug_level(settings.aug_level)
    }

    /// The network of a stage, built on first use.
    pub(super) fn network(&self, name: StageName, device: &Device) -> Result<Rc<Stage>> {
        let (file, cell) = self.find(name)?;
        if let Some(stage) = cell.get() {
            return Ok(stage.clone());
        }
        let stage = info_span!("build network", stage = %name).in_scope(|| file.build(device))?;
        Ok(cell.get_or_init(|| Rc::new(stage)).clone())
    }
}

pub(super) fn missing(name: StageName, label: &str) -> Error {
    Error::model(format!(
        "{label} has no stage {name}: train one with `imagen train RECIPE --run RUN` and put it there with \
         `imagen export RUN --model {label}`, or stop earlier with --until"
    ))
}
