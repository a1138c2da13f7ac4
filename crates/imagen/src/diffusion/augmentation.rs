//! Noise conditioning augmentation of the low-resolution picture (Imagen, section 2.4 and figure A.32).
//!
//! The picture that conditions a super-resolution stage is corrupted like in the forward process, and the stage is told
//! how strongly. In training each picture gets a level of its own; in sampling the level is the user's and the noise
//! is added once, not at each step. The paper does not say which schedule maps the level to α and σ: unless a stage says
//! otherwise it is the cosine schedule at t = level, whatever the stage's own schedule. Resizing the picture is not done here.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{LogSnr, NoiseSchedule, Time, diffuse, noise};
use crate::error::{Error, Result};
use crate::names;
use crate::rng::Rng;

/// The strength of the augmentation: 0 leaves the picture as it is (σ = 4.5e-5), 1 leaves only noise.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct AugLevel(f64);

impl AugLevel {
    /// The level in [0, 1].
    ///
    /// # Errors
    /// [`Usage`](crate::error::ErrorKind::Usage) outside of [0, 1].
    pub fn new(level: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&level) {
            return Ok(Self(level));
        }
        Err(Error::usage(format!("augmentation level is {level}, expected a number from 0 (none) to 1 (only noise)")))
    }

    /// The strongest: only noise.
    pub const MAX: Self = Self(1.0);

    /// A level uniform in [0, `max`), for training.
    pub fn draw(key: Rng, max: Self) -> Self {
        Self(key.unit() * max.0)
    }

    /// The number in [0, 1].
    pub fn get(self) -> f64 {
        self.0
    }

    /// The noise level: the schedule at t = level.
    pub fn log_snr(self, schedule: NoiseSchedule) -> LogSnr {
        schedule.log_snr(Time::new(self.0).expect("both lie in [0, 1]"))
    }
}

/// The low-resolution pictures `[n, h, w, c]` under noise of these levels, one per picture or one for all; the noise of each
/// is that of its key.
///
/// # Panics
/// If there is not one key per picture, or if there are neither one nor n levels.
pub fn augment(x: Tensor<4>, levels: &[LogSnr], keys: &[Rng]) -> Tensor<4> {
    let eps = noise(keys, x.dims(), &x.device());
    diffuse(x, eps, levels)
}

impl TryFrom<f64> for AugLevel {
    type Error = Error;

    fn try_from(level: f64) -> Result<Self> {
        Self::new(level)
    }
}

impl From<AugLevel> for f64 {
    fn from(level: AugLevel) -> Self {
        level.0
    }
}

impl fmt::Display for AugLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AugLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        names::number("augmentation level", text, 0.0..=1.0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn augmented(level: f64) -> Vec<f32> {
        let keys = [Rng::new(1).fold(0), Rng::new(1).fold(1)];
        let x = Tensor::full([2, 16, 16, 3], 0.5, &Device::flex());
        augment(x, &[AugLevel::new(level).unwrap().log_snr(NoiseSchedule::Cosine)], &keys)
            .into_data()
            .try_to_vec()
            .unwrap()
    }

    #[test]
    fn level_zero_is_nearly_the_identity() {
        assert!(augmented(0.0).iter().all(|x| (x - 0.5).abs() < 5e-4));
    }

    #[test]
    fn level_one_is_the_noise_of_the_key() {
        let eps = [0, 1].map(|picture| Rng::new(1).fold(picture).normal(16 * 16 * 3)).concat();
        assert!(augmented(1.0).iter().zip(eps).all(|(x, eps)| (x - eps).abs() < 5e-4));
    }

    #[test]
    fn the_levels_between_keep_the_variance() {
        let level = AugLevel::new(0.3).unwrap().log_snr(NoiseSchedule::Cosine);
        let values = augmented(0.3);
        let n = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 0.5 * level.alpha()).abs() < 0.05, "{mean}");
        assert!((variance - level.sigma_squared()).abs() < 0.03, "{variance}");
    }

    #[test]
    fn levels_outside_the_unit_interval_are_refused() {
        assert!(AugLevel::new(1.5).is_err() && AugLevel::new(f64::NAN).is_err() && "-0.1".parse::<AugLevel>().is_err());
        assert!(serde_json::from_str::<AugLevel>("2.0").is_err());
    }

    #[test]
    fn levels_are_drawn_up_to_the_strongest_allowed() {
        for max in [AugLevel::MAX, AugLevel(0.25)] {
            let drawn: Vec<f64> =
                (0..100).map(|i| AugLevel::draw(Rng::new(0).fold(i), max).get() / max.get()).collect();
            assert!(drawn.iter().any(|level| *level < 0.1) && drawn.iter().any(|level| *level > 0.9));
            assert!(drawn.iter().all(|level| (0.0..1.0).contains(level)), "{drawn:?}");
        }
    }
}
