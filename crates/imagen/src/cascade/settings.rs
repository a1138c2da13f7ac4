//! How a stage is run: what it suggests itself, and what a request says instead.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diffusion::{AugLevel, Guidance, Interval, Sampler, Spacing, Thresholding, Timesteps};
use crate::error::{Error, Result};
use crate::nn::Precision;

/// How a stage is run; in a stage's description, how it likes to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageSettings {
    /// Steps of sampling, each an evaluation of the network; two of `heun`, but for the last.
    pub steps: usize,
    /// Which steps of a process that is a table, as DeepFloyd IF's is; of other stages, and so of recipes, it is never given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<Timesteps>,
    /// Guidance weight; 1 is none.
    pub guidance: f64,
    /// The levels of noise σ/α at which it is guided, such as `0.3-5`; all of them where nothing is said (Kynkäänniemi et al.,
    /// arXiv 2404.07724).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<Interval>,
    /// How far a guided prediction is brought back to the spread of the one with text, from 0 to 1.
    #[serde(skip_serializing_if = "is_default")]
    pub guidance_rescale: f64,
    /// The sampler.
    pub sampler: Sampler,
    /// How far the steps are apart.
    #[serde(skip_serializing_if = "is_default")]
    pub spacing: Spacing,
    /// What happens to x̂ beyond [-1, 1].
    pub thresholding: Thresholding,
    /// Noise conditioning augmentation of the low-resolution picture (super-resolution stages).
    pub aug_level: AugLevel,
    /// What the network's convolutions and linear layers multiply.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

impl StageSettings {
    /// Steps beyond which a number is a mistake and not a wish.
    pub const MAX_STEPS: usize = 10_000;

    /// # Errors
    /// `Usage` where a value is out of range.
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=Self::MAX_STEPS).contains(&self.steps) {
            return Err(Error::usage(format!("steps = {}: expected 1 to {}", self.steps, Self::MAX_STEPS)));
        }
        if !(0.0..=1.0).contains(&self.guidance_rescale) {
            let found = self.guidance_rescale;
            return Err(Error::usage(format!("guidance rescale {found}: expected a number from 0 to 1")));
        }
        Guidance::new(self.guidance).map(drop)
    }
}

/// In a few words: `50 steps, dpm++2m, guidance 5`.
impl fmt::Display for StageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps, {}, guidance {}", self.steps, self.sampler, self.guidance)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for StageSettings {
    /// 50 DPM-Solver++ steps, guidance 5, dynamic thresholding at 0.995, augmentation 0.1.
    fn default() -> Self {
        Self {
            steps: 50,
            timesteps: None,
            guidance: 5.0,
            guidance_interval: None,
            guidance_rescale: 0.0,
            spacing: Spacing::default(),
            sampler: Sampler::DpmSolverPlusPlus2M,
            thresholding: Thresholding::default(),
            aug_level: AugLevel::new(0.1).expect("0.1 is an augmentation level"),
            precision: Precision::F32,
        }
    }
}

/// Departures from a stage's [`StageSettings`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageOptions {
    /// Evaluations of the network per picture.
    pub steps: Option<usize>,
    /// Which steps of a process that is a table (DeepFloyd IF).
    pub timesteps: Option<Timesteps>,
    /// Guidance weight; 1 is none.
    pub guidance: Option<f64>,
    /// The levels of noise at which it is guided.
    pub guidance_interval: Option<Interval>,
    /// How far a guided prediction is brought back to the spread of the one with text.
    pub guidance_rescale: Option<f64>,
    /// How far the steps are apart.
    pub spacing: Option<Spacing>,
    /// The sampler.
    pub sampler: Option<Sampler>,
    /// What happens to x̂ beyond [-1, 1].
    pub thresholding: Option<Thresholding>,
    /// Noise conditioning augmentation of the low-resolution picture.
    pub aug_level: Option<AugLevel>,
    /// What the network's convolutions and linear layers multiply.
    pub precision: Option<Precision>,
}

impl StageOptions {
    /// The suggested settings, with these departures.
    ///
    /// # Errors
    /// `Usage` where a value is out of range, or two of them contradict each other.
    pub fn over(&self, suggested: &StageSettings) -> Result<StageSettings> {
        if self.steps.is_some() && self.timesteps.is_some() {
            return Err(Error::usage(
                "a number of steps and a list of timesteps both say which steps are run: give one",
            ));
        }
        let resolved = StageSettings {
            steps: self.steps.unwrap_or(suggested.steps),
            timesteps: self.timesteps.or(suggested.timesteps.filter(|_| self.steps.is_none())),
            guidance: self.guidance.unwrap_or(suggested.guidance),
            guidance_interval: self.guidance_interval.or(suggested.guidance_interval),
            guidance_rescale: self.guidance_rescale.unwrap_or(suggested.guidance_rescale),
            spacing: self.spacing.unwrap_or(suggested.spacing),
            sampler: self.sampler.unwrap_or(suggested.sampler),
            thresholding: self.thresholding.unwrap_or(suggested.thresholding),
            aug_level: self.aug_level.unwrap_or(suggested.aug_level),
            precision: self.precision.unwrap_or(suggested.precision),
        };
        resolved.check()?;
        Ok(resolved)
    }
}

impl From<StageSettings> for StageOptions {
    /// Every setting, spelt out.
    fn from(settings: StageSettings) -> Self {
        Self {
            steps: settings.timesteps.is_none().then_some(settings.steps),
            timesteps: settings.timesteps,
            guidance: Some(settings.guidance),
            guidance_interval: settings.guidance_interval,
            guidance_rescale: Some(settings.guidance_rescale),
            spacing: Some(settings.spacing),
            sampler: Some(settings.sampler),
            thresholding: Some(settings.thresholding),
            aug_level: Some(settings.aug_level),
            precision: Some(settings.precision),
        }
    }
}
