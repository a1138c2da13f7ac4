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
use super::deepfloyd::{DeepFloyd, Embeddings, IfStage, IfTexts, Verdict};
use super::info::StageInfo;
use super::own::{OwnModel, missing};
use super::request::Request;
use super::settings::StageSettings;
use super::stage::{self, Stage, Steps};
use super::start::Start;
use crate::diffusion::Noise;
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::models::unet::Text;
use crate::text::TextEncoder;

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

/// The encoded texts of some pictures.
pub(super) enum Texts {
    Own(Text),
    /// The embeddings of all prompts, and the prompt of each picture.
    DeepFloyd(Embeddings, Vec<usize>),
}

impl Texts {
    /// The texts of pictures that lie together.
    pub(super) fn of(&self, pictures: Range<usize>) -> Self {
        match self {
            Self::Own(Text { sequence, mask }) => {
                let (start, length) = (pictures.start, pictures.len());
                let (sequence, mask) =
                    (sequence.clone().narrow(0, start, length), mask.clone().narrow(0, start, length));
                Self::Own(Text { sequence, mask })
            }
            Self::DeepFloyd(embeddings, prompts) => Self::DeepFloyd(embeddings.clone(), prompts[pictures].to_vec()),
        }
    }
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
        match (self, texts) {
            (Self::Own(stage), Texts::Own(text)) => {
                let n = text.sequence.dims()[0];
                Ok(Box::new(stage::steps(stage.clone(), settings, n, Some(text.clone()), low, start, noise)?))
            }
            (Self::DeepFloyd(stage), Texts::DeepFloyd(embeddings, prompts)) => {
                let (prompts, empty) = prompts.iter().map(|prompt| embeddings.pair(*prompt)).unzip();
                let texts = IfTexts { prompts: Tensor::cat(prompts, 0), empty: Tensor::cat(empty, 0) };
                Ok(Box::new(stage.clone().steps(settings, &texts, size, low, start, noise)?))
            }
            _ => unreachable!("texts and network are of one model"),
        }
    }
}

impl Imagen {
    /// Opens a model on a device: a folder of this project's own format or of DeepFloyd IF, or what is built in.
    ///
    /// # Errors
    /// `Model` where the base is missing, a stage is untrained or damaged, or a stage was trained with another encoder.
    pub fn open(files: &ModelFiles, device: &Device) -> Result<Self> {
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
        Ok(Self { family: Family::Own(OwnModel::open(files, device)?), label, device: device.clone() })
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
        if let Some(name) = request.options.keys().find(|name| **name > until) {
            return Err(Error::usage(format!("there are options for stage {name}, but only stages up to {until} run")));
        }
        match &self.family {
            Family::Own(_) if request.start.is_some() || request.embeddings.is_some() => {
                return Err(Error::usage("a picture to start from and embeddings are for folders of DeepFloyd IF"));
            }
            Family::Own(_) => {}
            Family::DeepFloyd(model) => model.check_start(request)?,
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
        stages.iter().filter(|info| info.stage <= until).map(resolve).collect()
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

    /// The texts of these pictures of a request.
    pub(super) fn encode(&self, request: &Request, pictures: Range<usize>) -> Result<Texts> {
        match &self.family {
            Family::Own(model) => Ok(Texts::Own(model.encoder.encode(&request.prompts_of(pictures))?.into())),
            Family::DeepFloyd(model) => {
                let embeddings = match &request.embeddings {
                    Some(embeddings) => embeddings.clone(),
                    None => info_span!("encode text").in_scope(|| model.embed(request))?,
                };
                Ok(Texts::DeepFloyd(embeddings, pictures.map(|picture| request.pictures[picture].prompt).collect()))
            }
        }
    }

    /// The picture that the first stage enlarges, where it does, `[1, h, w, c]`.
    pub(super) fn first_low(&self, request: &Request) -> Option<Tensor<4>> {
        match &self.family {
            Family::Own(_) => None,
            Family::DeepFloyd(model) => model.first_low(request),
        }
    }

    /// Height and width of the pictures of a stage.
    pub(super) fn size(&self, name: StageName, request: &Request, low: Option<&Tensor<4>>) -> [usize; 2] {
        match &self.family {
            Family::Own(model) => {
                [model.files().find(|file| file.config.stage == name).map_or(0, |file| file.config.size); 2]
            }
            Family::DeepFloyd(model) => model.size(name, request, low),
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
        match &self.family {
            Family::Own(_) => Ok(None),
            Family::DeepFloyd(model) => model.start(name, request, size, n),
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
