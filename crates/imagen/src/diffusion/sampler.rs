//! From noise to a picture: the samplers' update rules and the [`Trajectory`] that applies them (Imagen, appendix A).
//!
//! Every rule here is linear in what it combines, so a sampler is a table of [`Coefficients`], computed in f64 from
//! the log-SNRs of the two times: z_s = a z_t + b x̂ + c x̂' + d ε, where x̂' is the previous step's. ε̂ never appears: it
//! is (z_t − α_t x̂)/σ_t, of the guided and thresholded x̂ and not of the network's output. To add a sampler, add a
//! variant, its name and its coefficients.
//!
//! Predicting, guiding and thresholding are the closure's; the picture is the last step's x̂.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{LogSnr, NoiseSchedule, Time, check_finite, names, noise};
use crate::error::{Context, Error, Result};
use crate::rng::Rng;

/// The rule from z_t and x̂ to z_s, s < t. Written `ddpm`, `ddpm:0.3`, `ddim`, `ddim:0.5` or `dpm++2m`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sampler {
    /// The ancestral sampler (Imagen, eq. 6).
    Ddpm {
        /// The noise's variance, interpolated in the logarithm: 0 is the posterior's σ̃²_{s|t}, right for one known
        /// picture; 1 is the forward process' σ²_{t|s}, right for unit normal data. In [0, 1].
        gamma: f64,
    },
    /// DDIM (Imagen, eq. 5; Song et al., arXiv 2010.02502, eq. 12).
    Ddim {
        /// The noise's standard deviation relative to the posterior's: 0 is deterministic, 1 equals `Ddpm` at γ = 0.
        /// In [0, 1].
        eta: f64,
    },
    /// DPM-Solver++(2M): a second-order multistep solver of the same equation as deterministic DDIM
    /// (Lu et al., arXiv 2211.01095, algorithm 2).
    DpmSolverPlusPlus2M,
}

const DDPM_GAMMA: f64 = 0.0;
const DDIM_ETA: f64 = 0.0;

impl Default for Sampler {
    fn default() -> Self {
        Self::Ddpm { gamma: DDPM_GAMMA }
    }
}

/// z_s = `z` · z_t + `x_hat` · x̂ + `previous` · x̂' + `noise` · ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Of z_t.
    pub z: f64,
    /// Of this step's x̂.
    pub x_hat: f64,
    /// Of the previous step's x̂; 0 when there was none.
    pub previous: f64,
    /// Of fresh normal noise; 0 for a deterministic rule.
    pub noise: f64,
}

impl Sampler {
    /// Every sampler, with default settings.
    pub const ALL: [Self; 3] =
        [Self::Ddpm { gamma: DDPM_GAMMA }, Self::Ddim { eta: DDIM_ETA }, Self::DpmSolverPlusPlus2M];

    /// The update from level t to the cleaner level s; `previous` is the level of the step before, if there was one.
    pub fn coefficients(self, previous: Option<LogSnr>, t: LogSnr, s: LogSnr) -> Coefficients {
        let none = Coefficients { z: 0.0, x_hat: 0.0, previous: 0.0, noise: 0.0 };
        // 1 − e^(λ_t − λ_s): which part of σ_t² the step from s to t has added.
        let added = -(t.get() - s.get()).exp_m1();
        match self {
            Self::Ddpm { gamma } => {
                let small = added * s.sigma_squared();
                let large = added * t.sigma_squared();
                Coefficients {
                    // e^(λ_t − λ_s) α_s/α_t, written so that a small α_t divides nothing.
                    z: (t.alpha() * s.sigma_squared()) / (s.alpha() * t.sigma_squared()),
                    x_hat: added * s.alpha(),
                    noise: (small.powf(1.0 - gamma) * large.powf(gamma)).sqrt(),
                    ..none
                }
            }
            Self::Ddim { eta } => {
                // σ_s² splits into fresh noise and the ε̂ that is kept.
                let kept = s.sigma() * (1.0 - eta * eta * added).sqrt();
                Coefficients {
                    z: kept / t.sigma(),
                    x_hat: s.alpha() - kept * t.alpha() / t.sigma(),
                    noise: eta * s.sigma() * added.sqrt(),
                    ..none
                }
            }
            Self::DpmSolverPlusPlus2M => {
                // The solver's own λ is log(α/σ), half of ours. Steps in it: h now, and the one before.
                let h = (s.get() - t.get()) / 2.0;
                // x̂ at the middle of the step, on the line through the last two: x̂ + (x̂ − x̂') h / (2 h_before). The
                // first step has no line. From t = 1 on h_before is large, so that the line is nearly flat.
                let slope = previous.map_or(0.0, |before| h / (t.get() - before.get()));
                let weight = -s.alpha() * (-h).exp_m1();
                Coefficients {
                    z: s.sigma() / t.sigma(),
                    x_hat: weight * (1.0 + slope),
                    previous: -weight * slope,
                    ..none
                }
            }
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ddpm { gamma } => names::write(f, "ddpm", gamma, DDPM_GAMMA),
            Self::Ddim { eta } => names::write(f, "ddim", eta, DDIM_ETA),
            Self::DpmSolverPlusPlus2M => f.pad("dpm++2m"),
        }
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        match (names::find("sampler", &Self::ALL, name)?, setting) {
            (sampler, None) => Ok(sampler),
            (Self::Ddpm { .. }, Some(gamma)) => {
                Ok(Self::Ddpm { gamma: names::number("gamma of ddpm", gamma, 0.0..=1.0)? })
            }
            (Self::Ddim { .. }, Some(eta)) => Ok(Self::Ddim { eta: names::number("eta of ddim", eta, 0.0..=1.0)? }),
            (sampler, Some(setting)) => Err(names::no_setting(sampler, setting)),
        }
    }
}

impl TryFrom<String> for Sampler {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Sampler> for String {
    fn from(sampler: Sampler) -> Self {
        sampler.to_string()
    }
}

/// One step of a [`Trajectory`].
#[derive(Clone, Debug)]
pub struct StepEvent {
    /// The step's number, from 0.
    pub index: usize,
    /// How many steps there are; after step `of - 1` the picture is done.
    pub of: usize,
    /// The noise level at which x̂ was predicted.
    pub level: LogSnr,
    /// The denoiser's prediction `[n, h, w, c]`: a preview, and at the last step the picture.
    pub x_hat: Tensor<4>,
}

/// Sampling as an iterator: each `next` calls the denoiser once and yields its prediction.
///
/// The times are evenly spaced, t = 1, 1 − 1/N, …, 1/N, as in the paper: N steps call the denoiser N times, and the x̂
/// of t = 1/N is the picture, without noise. Nothing runs before the first `next`; dropping the trajectory cancels the
/// rest; after an error there are no more steps.
pub struct Trajectory<F> {
    sampler: Sampler,
    schedule: NoiseSchedule,
    index: usize,
    of: usize,
    z: Tensor<4>,
    keys: Vec<Rng>,
    previous: Option<(LogSnr, Tensor<4>)>,
    denoise: F,
}

impl<F: FnMut(Tensor<4>, LogSnr) -> Result<Tensor<4>>> Trajectory<F> {
    /// The trajectory of `steps` steps from `z` `[n, h, w, c]`, which is noise of mean 0 and variance 1.
    ///
    /// Picture i draws the noise of step k from `keys[i].fold(k + 1)`; `keys[i].fold(0)` is left for z itself.
    /// `denoise` gives x̂ `[n, h, w, c]`, guided and thresholded, for z at a level.
    ///
    /// # Errors
    /// [`Usage`](crate::error::ErrorKind::Usage) when there are no steps, or not one key per picture.
    pub fn new(
        sampler: Sampler,
        schedule: NoiseSchedule,
        steps: usize,
        z: Tensor<4>,
        keys: Vec<Rng>,
        denoise: F,
    ) -> Result<Self> {
        if steps == 0 {
            return Err(Error::usage("sampling takes 0 steps, expected at least 1"));
        }
        if keys.len() != z.dims()[0] {
            let message = format!("{} pictures have {} random keys, expected one each", z.dims()[0], keys.len());
            return Err(Error::usage(message));
        }
        Ok(Self { sampler, schedule, index: 0, of: steps, z, keys, previous: None, denoise })
    }

    /// The level before step `index`: t = 1 − index/N.
    fn level(&self, index: usize) -> LogSnr {
        let t = (self.of - index) as f64 / self.of as f64;
        self.schedule.log_snr(Time::new(t).expect("in [0, 1]"))
    }

    fn step(&mut self) -> Result<StepEvent> {
        let (index, level) = (self.index, self.level(self.index));
        let x_hat = (self.denoise)(self.z.clone(), level)
            .and_then(|x_hat| check_finite(&x_hat, "x_hat").map(|()| x_hat))
            .context(|| format!("sampling step {} of {}", index + 1, self.of))?;
        self.index += 1;
        if self.index < self.of {
            self.advance(level, x_hat.clone());
        }
        Ok(StepEvent { index, of: self.of, level, x_hat })
    }

    /// z_t becomes z_s.
    fn advance(&mut self, level: LogSnr, x_hat: Tensor<4>) {
        let _span = tracing::debug_span!("update z").entered();
        let before = self.previous.as_ref().map(|(level, _)| *level);
        let by = self.sampler.coefficients(before, level, self.level(self.index));
        let mut z = self.z.clone().mul_scalar(by.z) + x_hat.clone().mul_scalar(by.x_hat);
        if let Some((_, previous)) = self.previous.take()
            && by.previous != 0.0
        {
            z = z + previous.mul_scalar(by.previous);
        }
        if by.noise != 0.0 {
            let keys: Vec<Rng> = self.keys.iter().map(|key| key.fold(self.index as u64)).collect();
            let eps = noise(&keys, z.dims(), &z.device());
            z = z + eps.mul_scalar(by.noise);
        }
        self.z = z;
        self.previous = Some((level, x_hat));
    }
}

impl<F: FnMut(Tensor<4>, LogSnr) -> Result<Tensor<4>>> Iterator for Trajectory<F> {
    type Item = Result<StepEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.of {
            return None;
        }
        let event = self.step();
        if event.is_err() {
            self.index = self.of;
        }
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.of - self.index))
    }
}
