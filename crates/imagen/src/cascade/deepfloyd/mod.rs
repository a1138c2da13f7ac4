//! DeepFloyd IF: the published two-stage cascade in diffusers' folders, drawn with this library's kernels.
//!
//! Its process is a table of 1000 steps, its networks choose variances, its texts have no mask: a foreign layout, kept
//! together here. What is general stands where it belongs: the network in `models::if_unet`, thresholding and guidance in
//! `diffusion`, enlarging in `upsample`, the loop in `draw`. One network is in memory at a time: all pictures pass the first
//! stage before the second is read.

mod caption;
mod folder;
mod needs;
mod process;
mod safety;
mod stage;
mod text_cache;
mod texts;

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::{Device, Tensor};

pub use caption::{clean as clean_caption, plain as plain_caption};
pub use folder::StageFolder;
pub use process::Process;
pub use safety::{SafetyChecker, Verdict};
pub use stage::{IfStage, IfTexts};
pub use text_cache::TextCache;
pub use texts::{Embeddings, TOKENS, open_encoder};

use self::safety::CheckerFiles;
use super::StageName;
use super::info::StageInfo;
use super::request::Request;
use super::settings::StageSettings;
use super::start::{self, StartPicture, sides};
use crate::diffusion::{AugLevel, Spacing, Timesteps};
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

impl DeepFloyd {
    /// Whether a folder is one of diffusers'.
    pub fn is_folder(folder: &Path) -> bool {
        folder.join(folder::INDEX).is_file()
    }

    /// Opens a folder of either stage. `second` is the second stage's; by default it is looked for among the subfolders.
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

    /// Keeps matrices and convolutions as `networks` says in the networks, and as `text` says in the text encoder.
    pub fn with_storage(self, networks: Storage, text: Storage) -> Self {
        Self { storage: networks, text_storage: text, ..self }
    }

    /// Keeps texts' states in a cache.
    pub fn with_text_cache(self, cache: TextCache) -> Self {
        Self { text_cache: Some(cache), ..self }
    }

    /// Adds the safety checker of the first folder that ships one.
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

    /// What names it in messages.
    pub(super) fn label(&self) -> String {
        self.folders().next().map(|(_, folder)| folder.path.display().to_string()).unwrap_or_default()
    }

    /// Where it computes.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// What there is to know of its stages.
    pub(super) fn infos(&self) -> Vec<StageInfo> {
        let info = |(stage, folder): (StageName, &StageFolder)| StageInfo {
            stage,
            size: folder.config.sample_size,
            settings: self.suggested(stage, &Request::default()).unwrap_or_default(),
            max_guidance: None,
            on_request: false,
            step: None,
            config: None,
        };
        self.folders().map(info).collect()
    }

    fn stage_folder(&self, stage: StageName) -> &StageFolder {
        self.folder(stage).expect("a stage of this model")
    }

    /// The folder of a stage.
    pub fn folder(&self, stage: StageName) -> Option<&StageFolder> {
        self.folders().find(|(name, _)| *name == stage).map(|(_, folder)| folder)
    }

    fn folders(&self) -> impl Iterator<Item = (StageName, &StageFolder)> {
        let first = self.first.iter().map(|folder| (StageName::Base, folder));
        first.chain(self.second.iter().map(|folder| (StageName::Sr256, folder)))
    }

    /// How the pipelines of diffusers run a stage, which depends on what a request starts from.
    ///
    /// # Errors
    /// `Model` where the folder's scheduler is missing or not known.
    pub(super) fn suggested(&self, stage: StageName, request: &Request) -> Result<StageSettings> {
        let start = request.start.as_ref().filter(|_| !self.enlarges(request));
        let masked = start.is_some_and(|start| start.mask.is_some());
        let (steps, guidance, noise_level) = match (stage, start.is_some(), masked) {
            (StageName::Base, false, _) => (100, 7.0, 0),
            (StageName::Base, true, false) => (80, 10.0, 0),
            (StageName::Base, true, true) => (50, 7.0, 0),
            (_, _, false) => (50, 4.0, 250),
            (_, _, true) => (100, 4.0, 0),
        };
        let process = self.stage_folder(stage).process("scheduler")?;
        let aug_level = AugLevel::new(f64::from(noise_level) / 1000.0).expect("a part of the process");
        let (sampler, thresholding) = (process.sampler(), process.thresholding());
        Ok(StageSettings { steps, guidance, sampler, thresholding, aug_level, ..StageSettings::default() })
    }

    /// The settings of a stage with the number of steps that they come to.
    ///
    /// # Errors
    /// `Usage` where the stage cannot be run with them.
    pub(super) fn check_settings(&self, stage: StageName, settings: StageSettings) -> Result<StageSettings> {
        let folder = self.stage_folder(stage);
        if settings.spacing != Spacing::Time {
            return Err(Error::usage(
                "a spacing is for stages whose time is continuous; of folders of DeepFloyd IF a list of timesteps says which \
                 steps are run",
            ));
        }
        let process = folder.process("scheduler")?;
        let steps = process.timesteps(&settings)?;
        process.plan(settings.sampler, &steps)?;
        if folder.second {
            folder.process("image_noising_scheduler")?;
        }
        // `leading` is the format's own spacing, which a number of steps means
        let timesteps = settings.timesteps.filter(|list| !matches!(list, Timesteps::Leading(_)));
        Ok(StageSettings { steps: steps.len(), timesteps, ..settings })
    }

    /// The prompts' embeddings; the encoder is there only while it runs.
    pub(super) fn embed(&self, request: &Request) -> Result<Embeddings> {
        let (folder, cache) = (self.encoder_folder(), self.text_cache.as_ref());
        Embeddings::of_folder(folder, self.text_storage, cache, &request.texts(), !request.raw_captions, &self.device)
    }

    /// A stage with its network, read whole.
    pub(super) fn build(&self, stage: StageName) -> Result<IfStage> {
        self.stage_folder(stage).build(self.storage, &self.device)
    }

    /// Channels of its pictures.
    pub(super) fn channels(&self) -> usize {
        self.folders().next().map_or(3, |(_, folder)| folder.config.picture_channels())
    }

    /// Whether a request begins with the second stage.
    fn enlarges(&self, request: &Request) -> bool {
        self.first.is_none() || request.from == Some(StageName::Sr256)
    }

    /// What the second stage enlarges where it is the first to run, `[1, h, w, c]`.
    pub(super) fn first_low(&self, picture: &Picture) -> Result<Tensor<4>> {
        Ok(start::tensor(&picture.to_channels(self.channels())?.to_float(), &self.device))
    }

    /// Height and width of a stage's pictures: the shape of what they start from or enlarge, else a square.
    pub(super) fn size(&self, stage: StageName, request: &Request, low: Option<[usize; 2]>) -> [usize; 2] {
        let side = self.stage_folder(stage).config.sample_size;
        match (&request.start, low) {
            (Some(StartPicture { picture, .. }), _) => sides([picture.height(), picture.width()], side, 8),
            (None, Some(low)) => sides(low, side, 8),
            (None, None) => [side; 2],
        }
    }
}
