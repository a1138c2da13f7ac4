//! A model of any family: what there is, what a request resolves to, and the parts that the loop in `draw` puts together.
//!
//! Families differ in how a text is encoded, in what a stage's network is, and in whether all networks may be in memory at
//! once. Everything else is one way.

use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use tracing::info_span;

use super::checkpoint::{ModelFiles, StageFile};
use super::config::StageName;
use super::deepfloyd::{DeepFloyd, IfStage, IfTexts, Verdict};
use super::info::StageInfo;
use super::lora::Lora;
use super::own::{OwnModel, missing};
use super::request::Request;
use super::settings::StageSettings;
use super::stage::{self, Stage, Steps};
use super::start::{self, Start, StartPicture};
use super::texts::Texts;
use crate::diffusion::Noise;
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::text::{TextEncoder, WeightedText};

/// Pictures that are drawn together where nothing is said.
const BATCH: usize = 4;

/// A model: a text encoder and the stages of a cascade.
pub struct Imagen {
    label: String,
    device: Device,
    family: Family,
}

enum Family {
    /// This project's own format, and imagen-pytorch's once it is converted.
    Own(OwnModel),
    DeepFloyd(Box<DeepFloyd>),
}

/// A stage's network, ready to draw.
pub(super) enum Denoiser {
    Own(Rc<Stage>),
    DeepFloyd(Rc<IfStage>),
}

impl Denoiser {
    /// The steps of a batch, of which there is one picture of `size` (height, width) for each text.
    pub(super) fn steps(
        &self,
        settings: &StageSettings,
        texts: &Texts,
        size: [usize; 2],
        low: Option<Tensor<4>>,
        start: Option<Start>,
        noise: Noise,
    ) -> Result<Steps> {
        let precision = settings.precision;
        let mut steps: Steps = match (self, texts) {
            (Self::Own(stage), Texts::Own(text)) => {
                let shape = [text.prompts.sequence.dims()[0], size[0], size[1]];
                Box::new(stage::steps(stage.clone(), settings, shape, Some(text.clone()), low, start, noise)?)
            }
            (Self::DeepFloyd(stage), Texts::DeepFloyd(embeddings, places)) => {
                let texts = IfTexts::of(embeddings, places);
                Box::new(stage.clone().steps(settings, &texts, size, low, start, noise)?)
            }
            _ => unreachable!("texts and network are of one model"),
        };
        Ok(Box::new(std::iter::from_fn(move || precision.during(|| steps.next()))))
    }
}

impl Imagen {
    /// Opens a model on a device: a folder of this project's own format or of DeepFloyd IF, or what is built in.
    ///
    /// # Errors
    /// `Model` where the base is missing, a stage is untrained or damaged, or a stage was trained with another encoder.
    pub fn open(files: &ModelFiles, device: &Device) -> Result<Self> {
        Self::open_with(files, None, device)
    }

    /// Opens a model on a device; a folder without a text encoder of its own, such as a run's, takes that of `spare`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(files: &ModelFiles, spare: Option<&ModelFiles>, device: &Device) -> Result<Self> {
        let _span = info_span!("open model").entered();
        let label = files.label();
        if let ModelFiles::Folder(folder) = files {
            if !folder.is_dir() {
                let message = format!("there is no model at {label}: expected a folder with base.safetensors");
                return Err(Error::model(message));
            }
            if DeepFloyd::is_folder(folder) {
                return Ok(DeepFloyd::open(folder, None, device)?.into());
            }
        }
        Ok(Self { family: Family::Own(OwnModel::open(files, spare, device)?), label, device: device.clone() })
    }

    /// The model with low-rank adapters folded into the weights of a stage, times a strength: 1 as they were trained, 0 not at
    /// all. Several add up.
    ///
    /// # Errors
    /// `Model` where they are of another network or text encoder; `Usage` where the model is not of this project's own format or
    /// the strength is not finite.
    pub fn with_lora(mut self, lora: Lora, strength: f64) -> Result<Self> {
        if !strength.is_finite() {
            return Err(Error::usage(format!(
                "{}: a strength of {strength}; expected a number, 1 as trained",
                lora.label()
            )));
        }
        match &mut self.family {
            Family::Own(model) => model.adapt(lora, strength)?,
            Family::DeepFloyd(_) => {
                return Err(Error::usage(format!(
                    "{}: adapters are for models of this program's own format, and {} is DeepFloyd IF",
                    lora.label(),
                    self.label
                )));
            }
        }
        Ok(self)
    }

    /// What names it in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The stages that there are, in the order in which they run.
    pub fn stages(&self) -> Vec<StageInfo> {
        match &self.family {
            Family::Own(model) => model.stages(),
            Family::DeepFloyd(model) => model.infos(),
        }
    }

    /// The last stage that runs where a request names none: the one before the first that runs on request only.
    pub fn default_until(&self) -> StageName {
        let stages = self.stages();
        let always = stages.iter().take_while(|info| !info.on_request).last();
        always.unwrap_or(&stages[0]).stage
    }

    /// Pictures that are drawn together where a request does not say how many.
    pub fn default_batch(&self) -> usize {
        if self.one_network_at_a_time() { 1 } else { BATCH }
    }

    /// The text encoder, where it is in memory all the time.
    pub fn encoder(&self) -> Option<&dyn TextEncoder> {
        match &self.family {
            Family::Own(model) => Some(model.encoder.as_ref()),
            Family::DeepFloyd(_) => None,
        }
    }

    /// The folders of DeepFloyd IF, where it is such a model.
    pub fn deepfloyd(&self) -> Option<&DeepFloyd> {
        match &self.family {
            Family::Own(_) => None,
            Family::DeepFloyd(model) => Some(model),
        }
    }

    /// The text encoder of its own format, and its stages' files.
    pub(super) fn own(&self) -> Option<(u64, Vec<&StageFile>)> {
        match &self.family {
            Family::Own(model) => Some((model.encoder_bytes, model.files().collect())),
            Family::DeepFloyd(_) => None,
        }
    }

    /// The stages that a request runs, each with its settings.
    ///
    /// # Errors
    /// `Model` where a stage is missing or untrained; `Usage` where a setting is out of range or speaks of a stage that does
    /// not run, or the request contradicts itself.
    pub fn resolve(&self, request: &Request) -> Result<Vec<(StageName, StageSettings)>> {
        let stages = self.stages();
        let last = stages.last().expect("a model has a stage").stage;
        let until = request.until.unwrap_or_else(|| self.default_until());
        if !stages.iter().any(|info| info.stage == until) {
            let next = StageName::ALL.into_iter().find(|name| *name > last).unwrap_or(until);
            return Err(match &self.family {
                Family::Own(_) => missing(next, &self.label),
                Family::DeepFloyd(_) => {
                    let names: Vec<&str> = stages.iter().map(|info| info.stage.name()).collect();
                    Error::usage(format!("there is no stage {until}; this model has {}", names.join(", ")))
                }
            });
        }
        let first = stages[0].stage;
        let from = request.from.unwrap_or(first);
        if from > until || !stages.iter().any(|info| info.stage == from) {
            let names: Vec<&str> = stages.iter().map(|info| info.stage.name()).collect();
            return Err(Error::usage(format!(
                "nothing is drawn from {from} up to {until}: this model's stages are {}, in this order",
                names.join(", ")
            )));
        }
        self.check_start(request, from)?;
        let runs = |stage: StageName| (from..=until).contains(&stage);
        let named = request.options.keys().map(|name| ("options", name));
        let mut named = named.chain(request.stage_prompts.keys().map(|name| ("a prompt", name)));
        if let Some((what, name)) = named.find(|(_, name)| !runs(**name)) {
            let there = if what == "options" { "there are options" } else { "there is a prompt" };
            return Err(Error::usage(format!(
                "{there} for stage {name}, but only stages {}up to {until} run",
                if from > first { format!("from {from} ") } else { String::new() }
            )));
        }
        match &self.family {
            Family::Own(_) if request.embeddings.is_some() => {
                return Err(Error::usage("embeddings are for folders of DeepFloyd IF"));
            }
            Family::DeepFloyd(_) if request.weighted => {
                return Err(Error::usage("weights of words are not known for folders of DeepFloyd IF"));
            }
            _ if request.weighted => request.texts().iter().try_for_each(|text| WeightedText::read(text).map(drop))?,
            _ => {}
        }
        let resolve = |info: &StageInfo| {
            let suggested = match &self.family {
                Family::Own(_) => info.settings,
                Family::DeepFloyd(model) => model.suggested(info.stage, request)?,
            };
            let settings =
                request.options.get(&info.stage).map_or(Ok(suggested), |options| options.over(&suggested))?;
            let settings = match &self.family {
                Family::Own(model) => model.check(info.stage, &settings).map(|()| settings)?,
                Family::DeepFloyd(model) => model.check_settings(info.stage, settings)?,
            };
            Ok((info.stage, settings))
        };
        stages.iter().filter(|info| runs(info.stage)).map(resolve).collect()
    }

    /// # Errors
    /// `Usage` where a picture is missing, or this model cannot begin with it in the way that is asked for.
    fn check_start(&self, request: &Request, from: StageName) -> Result<()> {
        let enlarges = from != StageName::Base;
        match &request.start {
            None if enlarges => Err(Error::usage(format!(
                "stage {from} enlarges: give a picture to enlarge (--image), without mask and strength"
            ))),
            None => Ok(()),
            Some(start) if enlarges && (start.mask.is_some() || start.strength.is_some()) => Err(Error::usage(
                format!("stage {from} enlarges: give a picture to enlarge (--image), without mask and strength"),
            )),
            Some(start) => {
                start.check()?;
                match &self.family {
                    Family::Own(model) => model.size(from, request, self.first_low_size(request)?).map(drop),
                    Family::DeepFloyd(_) => Ok(()),
                }
            }
        }
    }

    /// The first stage that a request runs.
    fn first_stage(&self, request: &Request) -> StageName {
        request.from.unwrap_or_else(|| self.stages()[0].stage)
    }

    /// Height and width of what the first stage enlarges, where it does.
    fn first_low_size(&self, request: &Request) -> Result<Option<[usize; 2]>> {
        let first = self.first_stage(request);
        match (&request.start, &self.family) {
            (Some(start), Family::Own(model)) if first != StageName::Base => {
                model.low_size(first, &start.picture).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Height and width of the pictures of each stage that a request runs.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn sizes_of(&self, request: &Request) -> Result<Vec<(StageName, [usize; 2])>> {
        let stages: Vec<StageName> = self.resolve(request)?.into_iter().map(|(stage, _)| stage).collect();
        let sizes = self.sizes(request, &stages)?;
        Ok(stages.into_iter().zip(sizes).collect())
    }

    /// Height and width of the pictures of these stages, which a request runs.
    pub(super) fn sizes(&self, request: &Request, stages: &[StageName]) -> Result<Vec<[usize; 2]>> {
        let mut low = self.first_low_size(request)?;
        stages
            .iter()
            .map(|stage| {
                let size = match &self.family {
                    Family::Own(model) => model.size(*stage, request, low)?,
                    Family::DeepFloyd(model) => model.size(*stage, request, low),
                };
                low = Some(size);
                Ok(size)
            })
            .collect()
    }

    /// Evaluations of a stage's network for one batch: of its steps those that run, each as often as it is taken.
    pub(super) fn evaluations(&self, name: StageName, request: &Request, settings: &StageSettings) -> usize {
        let (sampler, steps) = (settings.sampler, settings.steps);
        let begins = self.first_stage(request) == StageName::Base;
        let Some(start) = request.start.as_ref().filter(|_| begins) else { return sampler.evaluations(steps) };
        let strength = start.strength.unwrap_or_else(|| self.strength(name, start));
        let run = sampler.evaluations(start::steps_of(steps, strength));
        let again = start.mask.as_ref().and(start.resample).unwrap_or(1);
        run.saturating_sub(1) * again + run.min(1)
    }

    /// Judges a picture where the model ships a safety checker; what must be withheld comes back black.
    ///
    /// # Errors
    /// `Model` where the checker's weights are damaged.
    pub fn judge(&self, picture: Picture) -> Result<(Picture, Option<Verdict>)> {
        match &self.family {
            Family::Own(_) => Ok((picture, None)),
            Family::DeepFloyd(model) => model.check(picture),
        }
    }

    /// Whether all pictures pass a stage before the next one is read.
    pub fn one_network_at_a_time(&self) -> bool {
        matches!(self.family, Family::DeepFloyd(_))
    }

    /// Pictures that a request draws together.
    pub fn batch(&self, request: &Request) -> usize {
        request.batch.unwrap_or_else(|| self.default_batch()).max(1)
    }

    /// The network of a stage.
    pub(super) fn network(&self, name: StageName) -> Result<Denoiser> {
        match &self.family {
            Family::Own(model) => model.network(name, &self.device).map(Denoiser::Own),
            Family::DeepFloyd(model) => model.build(name).map(|stage| Denoiser::DeepFloyd(Rc::new(stage))),
        }
    }

    /// The network of a stage of this project's own format, or one that was converted to it.
    pub(super) fn own_network(&self, name: StageName) -> Result<Option<Rc<Stage>>> {
        match &self.family {
            Family::Own(model) => model.network(name, &self.device).map(Some),
            Family::DeepFloyd(_) => Ok(None),
        }
    }

    /// The network of a stage, built anew so that x̂ can be differentiated by z; its weights have no gradients.
    pub(super) fn differentiable(&self, name: StageName) -> Result<Stage> {
        match &self.family {
            Family::Own(model) => model.differentiable(name, &self.device),
            Family::DeepFloyd(_) => Err(Error::usage("networks of DeepFloyd IF are not differentiated")),
        }
    }

    /// The texts of these pictures of a request at each of these stages.
    pub(super) fn encode(&self, request: &Request, stages: &[StageName], pictures: Range<usize>) -> Result<Vec<Texts>> {
        match &self.family {
            Family::Own(model) => Texts::encode(model.encoder.as_ref(), request, stages, pictures),
            Family::DeepFloyd(model) => {
                let embeddings = match &request.embeddings {
                    Some(embeddings) => embeddings.clone(),
                    None => info_span!("encode text").in_scope(|| model.embed(request))?,
                };
                Ok(Texts::places(&embeddings, request, stages, pictures))
            }
        }
    }

    /// The picture that the first stage enlarges, where it does, `[1, h, w, c]`.
    pub(super) fn first_low(&self, request: &Request) -> Result<Option<Tensor<4>>> {
        let first = self.first_stage(request);
        let Some(start) = request.start.as_ref().filter(|_| first != StageName::Base) else { return Ok(None) };
        match &self.family {
            Family::Own(model) => model.first_low(first, &start.picture, &self.device).map(Some),
            Family::DeepFloyd(model) => model.first_low(&start.picture).map(Some),
        }
    }

    /// Height and width of the pictures of a stage.
    pub(super) fn size(&self, name: StageName, request: &Request, low: Option<&Tensor<4>>) -> Result<[usize; 2]> {
        let low = low.map(|low| [low.dims()[1], low.dims()[2]]);
        match &self.family {
            Family::Own(model) => model.size(name, request, low),
            Family::DeepFloyd(model) => Ok(model.size(name, request, low)),
        }
    }

    /// Where a batch of `n` pictures starts, if not from noise.
    pub(super) fn start(
        &self,
        name: StageName,
        request: &Request,
        size: [usize; 2],
        n: usize,
    ) -> Result<Option<Start>> {
        let Some(start) = request.start.as_ref().filter(|_| self.first_stage(request) == StageName::Base) else {
            return Ok(None);
        };
        let channels = match &self.family {
            Family::Own(model) => model.image_channels(),
            Family::DeepFloyd(model) => model.channels(),
        };
        start.at(size, channels, n, self.strength(name, start), &self.device).map(Some)
    }

    /// How much of a picture a stage draws over where nothing is said.
    fn strength(&self, name: StageName, start: &StartPicture) -> f64 {
        match (&self.family, name, &start.mask) {
            // within a mask everything is new, as in RePaint and imagen-pytorch
            (Family::Own(_), _, Some(_)) | (_, StageName::Base, Some(_)) => 1.0,
            (_, StageName::Base, None) => 0.7,
            _ => 0.8,
        }
    }
}

impl From<DeepFloyd> for Imagen {
    fn from(model: DeepFloyd) -> Self {
        Self { label: model.label(), device: model.device().clone(), family: Family::DeepFloyd(Box::new(model)) }
    }
}

impl std::fmt::Debug for Imagen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imagen").field("label", &self.label).finish_non_exhaustive()
    }
}
