//! A model of this project's own format: its text encoder, and a file for each stage (imagen-pytorch's converted ones, too).
//! Networks are built when first used, and stay.

use std::cell::OnceCell;
use std::rc::Rc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use tracing::info_span;

use super::checkpoint::{ModelFiles, StageFile};
use super::config::{StageConfig, StageName};
use super::info::StageInfo;
use super::lora::Lora;
use super::request::Request;
use super::settings::StageSettings;
use super::stage::Stage;
use super::start::{self, sides};
use crate::error::{Error, Result};
use crate::image::{Filter, Picture};
use crate::text::{self, TextEncoder, TextOptions};

pub(super) struct OwnModel {
    label: String,
    pub(super) encoder: Box<dyn TextEncoder>,
    /// Bytes of the text encoder's files.
    pub(super) encoder_bytes: u64,
    stages: Vec<(StageFile, OnceCell<Rc<Stage>>)>,
    /// Adapters with their strengths.
    loras: Vec<(Lora, f64)>,
}

impl OwnModel {
    /// # Errors
    /// `Model` where the base is missing, a stage is damaged, or a stage was trained with another encoder.
    pub(super) fn open(files: &ModelFiles, spare: Option<&ModelFiles>, device: &Device) -> Result<Self> {
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
        let encoder_files = files.text_encoder_or(spare)?;
        let encoder_bytes = encoder_files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let encoder = text::load(encoder_files, &TextOptions::default(), device)?;
        for (file, _) in &stages {
            let name = file.config.stage;
            if file.text_encoder != encoder.identity() {
                return Err(Error::model(format!(
                    "{label}: stage {name} was trained with the text encoder {}, and the one at hand is {}; put the files of \
                     the first into {label}/text",
                    file.text_encoder,
                    encoder.identity()
                )));
            }
        }
        Ok(Self { label, encoder, encoder_bytes, stages, loras: Vec::new() })
    }

    /// Takes adapters in; networks that are built already are built anew.
    ///
    /// # Errors
    /// `Model` where they are of another network or text encoder, or there is no such stage.
    pub(super) fn adapt(&mut self, lora: Lora, strength: f64) -> Result<()> {
        let (file, cell) =
            self.stages.iter_mut().find(|(file, _)| file.config.stage == lora.stage).ok_or_else(|| {
                Error::model(format!(
                    "{}: adapters of stage {}, which {} has not",
                    lora.label(),
                    lora.stage,
                    self.label
                ))
            })?;
        if let Some(other) = lora.text_encoder.as_ref().filter(|encoder| **encoder != file.text_encoder) {
            return Err(Error::model(format!(
                "{}: these adapters were trained with the text encoder {other}, and {} has {}",
                lora.label(),
                self.label,
                file.text_encoder
            )));
        }
        file.check_lora(&lora)?;
        cell.take();
        self.loras.push((lora, strength));
        Ok(())
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
        let loras: Vec<_> = self.loras.iter().filter(|(lora, _)| lora.stage == name).collect();
        let stage = info_span!("build network", stage = %name).in_scope(|| file.build_with(&loras, device))?;
        Ok(cell.get_or_init(|| Rc::new(stage)).clone())
    }
}

impl OwnModel {
    /// The network of a stage on a device that records what is computed, without gradients of its weights.
    pub(super) fn differentiable(&self, name: StageName, device: &Device) -> Result<Stage> {
        let (file, _) = self.find(name)?;
        let loras: Vec<_> = self.loras.iter().filter(|(lora, _)| lora.stage == name).collect();
        let stage = file.build_with(&loras, &device.clone().autodiff())?;
        Ok(Stage::new(stage.config.clone(), stage.unet()?.clone().no_grad()))
    }

    /// Channels of its pictures.
    pub(super) fn image_channels(&self) -> usize {
        self.stages[0].0.config.unet.image_channels
    }

    /// The stages from one on, each with what its pictures are larger than those of the one before `from`.
    fn scales(&self, from: StageName) -> impl Iterator<Item = (&StageConfig, usize)> {
        let configs = self.files().map(|file| &file.config).filter(move |config| config.stage >= from);
        configs.scan(1, |scale, config| {
            *scale *= config.low_size.map_or(1, |low| config.size / low);
            Some((config, *scale))
        })
    }

    /// Sides of which multiples are sides of every stage's network from `from` on, once they are enlarged.
    fn unit(&self, from: StageName) -> usize {
        let fits = |unit: usize| {
            self.scales(from).all(|(config, scale)| (unit * scale).is_multiple_of(config.unet.granularity()))
        };
        (1..).find(|unit| fits(*unit)).expect("powers of two have multiples")
    }

    /// Height and width of what `from` enlarges of a picture: its own, as near as whole steps of the networks allow, and at least
    /// the side that the network was trained to enlarge.
    ///
    /// # Errors
    /// `Usage` where the enlarged picture would be larger than any is.
    pub(super) fn low_size(&self, from: StageName, picture: &Picture) -> Result<[usize; 2]> {
        let (config, scale) = self.scales(from).next().ok_or_else(|| missing(from, &self.label))?;
        let (unit, least) = (self.unit(from), config.low_size.unwrap_or(1));
        let [h, w] = [picture.height(), picture.width()];
        let [h, w] = if h.min(w) < least {
            sides([h, w], least, unit)
        } else {
            [h, w].map(|side| ((side + unit / 2) / unit).max(1) * unit)
        };
        let most = StageConfig::MAX_SIZE;
        if h.max(w) * scale > most {
            let (width, height) = (picture.width(), picture.height());
            return Err(Error::usage(format!(
                "a picture of {width}x{height} to enlarge {scale} times: expected sides of at most {} then; cut a part out of it",
                most
            )));
        }
        Ok([h, w])
    }

    /// What `from` enlarges of a picture, `[1, h, w, c]`.
    pub(super) fn first_low(&self, from: StageName, picture: &Picture, device: &Device) -> Result<Tensor<4>> {
        let [h, w] = self.low_size(from, picture)?;
        let picture = picture.to_channels(self.image_channels())?.resize(w, h, Filter::Bicubic)?;
        Ok(start::tensor(&picture.to_float(), device))
    }

    /// Height and width of a stage's pictures: so many times what it enlarges, the shape of what the base starts from, or a
    /// square.
    ///
    /// # Errors
    /// `Usage` where its network knows squares alone.
    pub(super) fn size(&self, name: StageName, request: &Request, low: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let config = &self.find(name)?.0.config;
        let size = match (low, &request.start, config.low_size) {
            (Some(low), _, Some(of)) => low.map(|side| side * config.size / of),
            (_, Some(start), None) => {
                sides([start.picture.height(), start.picture.width()], config.size, self.unit(name))
            }
            _ => [config.size; 2],
        };
        match config.unet.side() {
            Some(side) if config.low_size.is_none() && size != [side; 2] => Err(Error::usage(format!(
                "stage {name} has learned positions of {side}x{side}: start from a square picture, or extend it to one"
            ))),
            _ => Ok(size),
        }
    }
}

pub(super) fn missing(name: StageName, label: &str) -> Error {
    Error::model(format!(
        "{label} has no stage {name}: train one with `imagen train RECIPE --run RUN` and put it there with \
         `imagen export RUN --model {label}`, or stop earlier with --until"
    ))
}
