//! What a stage is, as data: the header of its weights file.
//!
//! Everything that must match between training and sampling stands here and travels with the weights. How a picture is
//! sampled is the caller's choice; the stage only suggests ([`StageSettings`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::StageSettings;
use crate::diffusion::{AugLevel, NoiseSchedule, Parameterization};
use crate::error::{Error, Result};
use crate::models::unet::UnetConfig;
use crate::names::named;

/// A stage of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageName {
    /// Text → 64×64.
    Base,
    /// 64×64 → 256×256.
    Sr256,
    /// 256×256 → 1024×1024.
    Sr1024,
}

named!(StageName, "stage", Base = "base", Sr256 = "sr256", Sr1024 = "sr1024");

/// What stands in for the text when it is dropped in training and in the unconditional branch of guidance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NullText {
    /// The embeddings are zeroed, the mask stays (the paper's "zeroing out", section 4.1).
    #[default]
    Zeros,
    /// Vectors that are learned with the rest (`unet.null_text` of them) take the text's place.
    Learned,
    /// The embedding of the empty text takes its place; it is kept with the weights (`unet.null_text` vectors).
    Empty,
}

/// How a low-resolution picture becomes as large as the pictures of the stage that it conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enlargement {
    /// Linear interpolation, pixel centres at half-integers, edges held.
    #[default]
    Bilinear,
    /// Every pixel becomes a square.
    Nearest,
}

/// Whose network a stage has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// This project's own, as `unet` describes it.
    #[default]
    Own,
    /// That of imagen-pytorch, with converted weights, which are drawn from and not trained; `unet` says what the two have in
    /// common.
    ImagenPytorch,
}

/// A stage, completely described; stored in its weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Which stage.
    pub stage: StageName,
    /// Side of its pictures, in pixels.
    pub size: usize,
    /// Side of the low-resolution pictures that condition it; absent for the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_size: Option<usize>,
    /// Whose network it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkKind,
    /// The network.
    pub unet: UnetConfig,
    /// Noise schedule of training and sampling.
    pub schedule: NoiseSchedule,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// What stands in for dropped text.
    #[serde(default)]
    pub null_text: NullText,
    /// The strongest noise conditioning augmentation that it is trained with: training draws levels from 0 up to this one,
    /// and sampling refuses what lies beyond. The paper's is 1 (figure A.32).
    #[serde(default = "strongest", skip_serializing_if = "is_strongest")]
    pub max_aug_level: AugLevel,
    /// The largest guidance weight whose pictures were looked at and found sound; beyond it a request is told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_guidance: Option<f64>,
    /// The schedule that says how much noise an augmentation level is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub aug_schedule: NoiseSchedule,
    /// How the low-resolution picture is enlarged before it is noised.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enlargement: Enlargement,
    /// Whether it runs only where a request names it or a later stage: a large enlargement that not everyone waits for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_request: bool,
    /// Its default settings for sampling.
    #[serde(default)]
    pub sampling: StageSettings,
}

fn strongest() -> AugLevel {
    AugLevel::MAX
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_strongest(level: &AugLevel) -> bool {
    *level == AugLevel::MAX
}

impl StageConfig {
    /// The largest side of pictures.
    pub const MAX_SIZE: usize = 1 << 14;

    /// A stage with a network of this project and the defaults of everything else: the cosine schedule, a prediction of ε, a
    /// dropped text of zeros, every augmentation level.
    pub fn new(stage: StageName, size: usize, low_size: Option<usize>, unet: UnetConfig) -> Self {
        Self {
            stage,
            size,
            low_size,
            network: NetworkKind::Own,
            unet,
            schedule: NoiseSchedule::Cosine,
            parameterization: Parameterization::Eps,
            null_text: NullText::Zeros,
            max_aug_level: AugLevel::MAX,
            max_guidance: None,
            aug_schedule: NoiseSchedule::Cosine,
            enlargement: Enlargement::Bilinear,
            on_request: false,
            sampling: StageSettings::default(),
        }
    }

    /// The description in a file's header. Older files say by the layout of `unet` whose network it is.
    pub(super) fn of_header(text: &str) -> serde_json::Result<Self> {
        let mut header: Value = serde_json::from_str(text)?;
        if let Some(layout) = header.pointer_mut("/unet/layout").filter(|layout| *layout == "imagen-pytorch") {
            let network = std::mem::replace(layout, "efficient".into());
            header["network"] = network;
        }
        serde_json::from_value(header)
    }

    /// What is wrong with this description, if anything.
    ///
    /// # Errors
    /// `Usage`, naming the field and what it must be.
    pub fn validate(&self) -> Result<()> {
        self.unet.validate()?;
        self.sampling.check()?;
        let unit = self.unet.granularity();
        if self.size > Self::MAX_SIZE {
            return Err(Error::usage(format!("size = {}: expected at most {}", self.size, Self::MAX_SIZE)));
        }
        if self.size == 0 || self.size % unit != 0 {
            return Err(Error::usage(format!("size = {}: this network needs a multiple of {unit}", self.size)));
        }
        if let Some(side) = self.unet.side().filter(|side| *side != self.size) {
            return Err(Error::usage(format!(
                "size = {}: the learned positions of unet.levels belong to pictures of {side}",
                self.size
            )));
        }
        if self.on_request && self.low_size.is_none() {
            return Err(Error::usage("on_request = true is for super-resolution: a base always draws"));
        }
        match (self.null_text, self.unet.null_text) {
            (NullText::Zeros, 0) | (NullText::Learned | NullText::Empty, 1..) => {}
            (NullText::Zeros, _) => {
                return Err(Error::usage(
                    "unet.null_text needs null_text = \"learned\" or \"empty\"; with \"zeros\" leave it out",
                ));
            }
            (NullText::Learned, 0) => {
                return Err(Error::usage(
                    "null_text = \"learned\" needs unet.null_text, the number of vectors, e.g. 1",
                ));
            }
            (NullText::Empty, 0) => {
                return Err(Error::usage(
                    "null_text = \"empty\" needs unet.null_text, the number of tokens that the text encoder makes of an \
                     empty text (2 for all-MiniLM-L6-v2)",
                ));
            }
        }
        if self.sampling.timesteps.is_some() {
            return Err(Error::usage(
                "sampling.timesteps: this stage's time is continuous; give sampling.steps, a number",
            ));
        }
        self.sampling.sampler.plan(self.schedule, 1)?;
        self.check_aug_level(self.sampling.aug_level)?;
        match (self.low_size, self.unet.low_resolution, self.stage) {
            (None, false, StageName::Base) => Ok(()),
            (Some(low), true, StageName::Sr256 | StageName::Sr1024) if low > 0 && self.size % low == 0 => Ok(()),
            _ => Err(Error::usage(
                "a base stage has no low_size and unet.low_resolution = false; a super-resolution stage has a low_size \
                 that divides size, and unet.low_resolution = true",
            )),
        }
    }

    /// Whether a super-resolution stage knows this level.
    pub(super) fn check_aug_level(&self, level: AugLevel) -> Result<()> {
        if self.low_size.is_none() || level <= self.max_aug_level {
            return Ok(());
        }
        Err(Error::usage(format!(
            "augmentation level {level}: stage {} was trained with levels from 0 to {}; choose one of these",
            self.stage, self.max_aug_level
        )))
    }
}
