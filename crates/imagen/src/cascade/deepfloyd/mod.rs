//! DeepFloyd IF: the published two-stage cascade in diffusers' folders, drawn with this library's kernels.
//!
//! Its process is a table of 1000 steps, its networks choose variances, its texts have no mask: a foreign layout, kept
//! together here. What is general stands where it belongs: the network in `models::if_unet`, thresholding and guidance in
//! `diffusion`, enlarging in `upsample`. [`DeepFloyd::sample`] is an iterator as [`super::Imagen::sample`] is. One network
//! is in memory at a time: all pictures pass the first stage before the second is read.

mod caption;
mod ddpm;
mod folder;
mod needs;
mod safety;
mod sampling;
mod stage;
mod text_cache;
mod texts;
mod timesteps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;

pub use caption::{clean as clean_caption, plain as plain_caption};
pub use ddpm::{Clipping, Ddpm, Stepped};
pub use folder::StageFolder;
pub use needs::IfNeed;
pub use safety::{SafetyChecker, Verdict};
pub use sampling::{IfEvent, IfSampling};
pub use stage::{Draw, IfOptions, IfStage, IfStep, IfSteps, IfTexts, Noise, Start};
pub use text_cache::TextCache;
pub use texts::{Embeddings, TOKENS, open_encoder};
pub use timesteps::{NAMED, Timesteps};

use self::safety::CheckerFiles;
use super::StageName;
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::models::weights::Storage;

/// The model: one or both stages.
#[derive(Debug)]
pub struct DeepFloyd {
    device: Device,
    first: Option<StageFolder>,
    second: Option<StageFolder>,
    storage: Storage,
    text_storage: Storage,
    text_cache: Option<TextCache>,
    /// Its files, where a folder ships one, and the network once a picture was judged.
    checker: Option<(CheckerFiles, OnceLock<SafetyChecker>)>,
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct IfRequest {
    /// One picture per prompt and count.
    pub prompts: Vec<String>,
    /// Embeddings in place of the prompts', one each, in their order.
    pub embeddings: Option<Embeddings>,
    /// Whether captions are cleaned as the networks' were.
    pub clean: bool,
    /// Picture k of a prompt is drawn from seed + k.
    pub seed: u64,
    /// Pictures per prompt.
    pub count: usize,
    /// Pictures that are drawn together.
    pub batch: usize,
    /// How each stage is run; [`IfOptions::suggested`] where absent.
    pub options: BTreeMap<StageName, IfOptions>,
    /// The last stage to run; the model's last where absent.
    pub until: Option<StageName>,
    /// A picture to start from, or, where the model has only the second stage, to enlarge.
    pub start: Option<Picture>,
    /// White where the starting picture is drawn anew.
    pub mask: Option<Picture>,
    /// How much of the starting picture is drawn over, in (0, 1]; as the variants suggest where absent.
    pub strength: Option<f64>,
}

impl Default for IfRequest {
    fn default() -> Self {
        Self {
            prompts: Vec::new(),
            embeddings: None,
            clean: true,
            seed: 0,
            count: 1,
            batch: 1,
            options: BTreeMap::new(),
            until: None,
            start: None,
            mask: None,
            strength: None,
        }
    }
}

/// What a request starts from, which decides what is suggested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfKind {
    /// Noise.
    Text,
    /// A picture.
    Picture,
    /// A picture outside a mask.
    Mask,
}

impl IfOptions {
    /// How the pipelines of diffusers run a stage.
    pub fn suggested(stage: StageName, kind: IfKind) -> Self {
        let (steps, guidance, noise_level) = match (stage, kind) {
            (StageName::Base, IfKind::Text) => (100, 7.0, 0),
            (StageName::Base, IfKind::Picture) => (80, 10.0, 0),
            (StageName::Base, IfKind::Mask) => (50, 7.0, 0),
            (_, IfKind::Text | IfKind::Picture) => (50, 4.0, 250),
            (_, IfKind::Mask) => (100, 4.0, 0),
        };
        Self { timesteps: Timesteps::Leading(steps), guidance, noise_level }
    }
}

impl IfRequest {
    /// What it starts from.
    pub fn kind(&self) -> IfKind {
        match (&self.start, &self.mask) {
            (None, _) => IfKind::Text,
            (Some(_), None) => IfKind::Picture,
            (Some(_), Some(_)) => IfKind::Mask,
        }
    }

    fn strength(&self, stage: StageName) -> f64 {
        let suggested = match (stage, self.kind()) {
            (StageName::Base, IfKind::Mask) => 1.0,
            (StageName::Base, _) => 0.7,
            _ => 0.8,
        };
        self.strength.unwrap_or(suggested)
    }
}

impl DeepFloyd {
    /// Whether a folder is one of diffusers'.
    pub fn is_folder(folder: &Path) -> bool {
        folder.join(folder::INDEX).is_file()
    }

    /// Opens a folder of either stage. `second` is the second stage's; where absent it is looked for among the subfolders.
    ///
    /// # Errors
    /// `Model` where a folder holds another pipeline or its configuration is not known, a stage is of the other kind, or a file
    /// of the safety checker that it ships is missing.
    pub fn open(folder: &Path, second: Option<&Path>, device: &Device) -> Result<Self> {
        let one = StageFolder::open(folder)?;
        let device = device.clone();
        if one.second {
            if let Some(second) = second {
                let (one, two) = (folder.display(), second.display());
                return Err(Error::usage(format!("{one} is a second stage already; {two} cannot follow it")));
            }
            return Self::checked(Self { second: Some(one), ..Self::empty(device) });
        }
        let found = match second {
            Some(path) => Some(path.to_owned()),
            None => folder::second_within(folder)?,
        };
        let second = found.map(|path| StageFolder::open(&path)).transpose()?;
        if let Some(wrong) = second.as_ref().filter(|stage| !stage.second) {
            return Err(Error::usage(format!("{} is no second stage: it enlarges nothing", wrong.path.display())));
        }
        if let Some(second) = &second
            && second.config.picture_channels() != one.config.picture_channels()
        {
            return Err(Error::model(format!(
                "{}: its pictures have other channels than the first stage's",
                second.path.display()
            )));
        }
        Self::checked(Self { first: Some(one), second, ..Self::empty(device) })
    }

    fn empty(device: Device) -> Self {
        let (storage, text_storage) = Default::default();
        Self { device, first: None, second: None, storage, text_storage, text_cache: None, checker: None }
    }

    /// The same with matrices and convolutions kept as `networks` and `text` say: those of the networks, and of the text encoder.
    pub fn with_storage(self, networks: Storage, text: Storage) -> Self {
        Self { storage: networks, text_storage: text, ..self }
    }

    /// The same with texts' states kept in a cache.
    pub fn with_text_cache(self, cache: TextCache) -> Self {
        Self { text_cache: Some(cache), ..self }
    }

    /// The same with the safety checker of the first folder that ships one.
    fn checked(mut self) -> Result<Self> {
        let files =
            self.folders().map(|(_, folder)| CheckerFiles::of(folder)).find_map(Result::transpose).transpose()?;
        self.checker = files.map(|files| (files, OnceLock::new()));
        Ok(self)
    }

    /// Whether pictures are judged before they are handed out.
    pub fn has_checker(&self) -> bool {
        self.checker.is_some()
    }

    /// Judges a picture where the model ships a safety checker; what must be withheld comes back black.
    ///
    /// # Errors
    /// `Model` where the checker's weights are damaged; [`SafetyChecker::check`]'s.
    pub fn check(&self, picture: Picture) -> Result<(Picture, Option<Verdict>)> {
        let Some((files, built)) = &self.checker else { return Ok((picture, None)) };
        if built.get().is_none() {
            // two threads at once would both build it, and one be kept
            let _ = built.set(SafetyChecker::build(files, &self.device)?);
        }
        let checker = built.get().expect("just built");
        checker.check(picture).map(|(picture, verdict)| (picture, Some(verdict)))
    }

    /// The stages that there are, in the order in which they run.
    pub fn stages(&self) -> Vec<StageName> {
        self.folders().map(|(name, _)| name).collect()
    }

    /// The folder of a stage.
    pub fn folder(&self, stage: StageName) -> Option<&StageFolder> {
        self.folders().find(|(name, _)| *name == stage).map(|(_, folder)| folder)
    }

    fn folders(&self) -> impl Iterator<Item = (StageName, &StageFolder)> {
        let first = self.first.iter().map(|folder| (StageName::Base, folder));
        first.chain(self.second.iter().map(|folder| (StageName::Sr256, folder)))
    }

    /// The stages that a request runs, each with its options.
    ///
    /// # Errors
    /// `Usage` where the request contradicts itself or the model has not what it asks for.
    pub fn resolve(&self, request: &IfRequest) -> Result<Vec<(StageName, IfOptions)>> {
        let all = self.stages();
        let until = request.until.unwrap_or(*all.last().expect("a model has a stage"));
        if !all.contains(&until) {
            return Err(Error::usage(format!("there is no stage {until}; this model has {}", needs::list(&all))));
        }
        let alone = self.first.is_none();
        if alone && (request.start.is_none() || request.mask.is_some() || request.strength.is_some()) {
            return Err(Error::usage(
                "this model has only the second stage: give a picture to enlarge, without mask and strength",
            ));
        }
        if request.start.is_none() && (request.mask.is_some() || request.strength.is_some()) {
            return Err(Error::usage("a mask and a strength are for a starting picture, and there is none"));
        }
        let kind = if alone { IfKind::Text } else { request.kind() };
        let option = |stage: StageName| {
            let given = request.options.get(&stage).cloned();
            (stage, given.unwrap_or_else(|| IfOptions::suggested(stage, kind)))
        };
        let resolved: Vec<_> = all.into_iter().filter(|stage| *stage <= until).map(option).collect();
        for (stage, options) in &resolved {
            let folder = self.folder(*stage).expect("a stage of this model");
            folder.process("scheduler")?.timesteps(&options.timesteps)?;
            crate::diffusion::Guidance::new(options.guidance)?;
            if folder.second {
                let steps = folder.process("image_noising_scheduler")?.len();
                if options.noise_level >= steps {
                    let level = options.noise_level;
                    return Err(Error::usage(format!("noise level {level}: expected 0 to {}", steps - 1)));
                }
            }
        }
        Ok(resolved)
    }

    /// Draws. Nothing runs until the iterator is pulled.
    ///
    /// # Errors
    /// Those of [`Self::resolve`]; `Usage` without prompts, or with embeddings of another number.
    pub fn sample(&self, request: IfRequest) -> Result<IfSampling<'_>> {
        let stages = self.resolve(&request)?;
        IfSampling::new(self, request, stages)
    }
}
