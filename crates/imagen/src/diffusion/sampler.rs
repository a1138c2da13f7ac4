//! From noise to a picture: the samplers' update rules (Imagen, appendix A). [`Trajectory`](super::Trajectory) applies them.
//!
//! Every rule here is linear in what it combines, so a sampler is a table of [`Coefficients`], computed in f64 from
//! the log-SNRs of the two times: z_s = a z_t + b x̂ + c x̂' + d ε, where x̂' is the previous step's. ε̂ never appears: it
//! is (z_t − α_t x̂)/σ_t, of the guided and thresholded x̂ and not of the network's output. To add a sampler, add a
//! variant, its name and its coefficients.

use std::fmt;
use std::str::FromStr;

use super::LogSnr;
use crate::error::{Error, Result};
use crate::names;

/// The rule from z_t and x̂ to z_s, s < t. Written `ddpm`, `ddpm:0.3`, `ddim`, `ddim:0.5`, `dpm++2m`, `heun`, `euler`
/// or `learned`.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// (Lu et al., arXiv 2211.01095, algorithm 2). Under dynamic thresholding each x̂ was divided by a scale of its own, and
    /// the rule extrapolates from the two as they are, as diffusers does.
    DpmSolverPlusPlus2M,
    /// EDM's rule of second order without fresh noise (Karras et al., arXiv 2206.00364, algorithm 1): a step as deterministic DDIM
    /// takes it, then the denoiser is asked where it leads, and the step is taken with the mean of both slopes. Two
    /// evaluations a step, one for the last.
    Heun,
    /// EDM's rule of first order without fresh noise, which is deterministic DDIM under another name.
    Euler,
    /// `Ddpm` with a γ that the network chooses for each number: γ = (1 + v)/2 of its second output v (Nichol & Dhariwal,
    /// arXiv 2102.09672, eq. 15). Only for networks that have one, as DeepFloyd IF's do.
    Learned,
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
    /// Every sampler that serves any network, with default settings.
    pub const ALL: [Self; 5] = [
        Self::Ddpm { gamma: DDPM_GAMMA },
        Self::Ddim { eta: DDIM_ETA },
        Self::DpmSolverPlusPlus2M,
        Self::Heun,
        Self::Euler,
    ];

    /// The update from level t to the cleaner level s; `previous` is the level of the step before, if there was one.
    pub fn coefficients(self, previous: Option<LogSnr>, t: LogSnr, s: LogSnr) -> Coefficients {
        let none = Coefficients { z: 0.0, x_hat: 0.0, previous: 0.0, noise: 0.0 };
        // 1 − e^(λ_t − λ_s): which part of σ_t² the step from s to t has added.
        let added = -(t.get() - s.get()).exp_m1();
        match self {
            Self::Ddpm { .. } | Self::Learned => {
                let gamma = if let Self::Ddpm { gamma } = self { gamma } else { DDPM_GAMMA };
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
            Self::Ddim { .. } | Self::Heun | Self::Euler => {
                let eta = if let Self::Ddim { eta } = self { eta } else { DDIM_ETA };
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

impl Sampler {
    /// What [`Self::Heun`] adds at level s, reached from t by the slope at t alone. With σ' = σ/α and the slopes
    /// (z/α − x̂)/σ', the mean of both differs from the first by (x̂_t − x̂_s)/(2σ'_s), over the way σ'_s − σ'_t.
    pub(super) fn correction(self, t: LogSnr, s: LogSnr) -> Coefficients {
        let part = (1.0 - t.noise_ratio() / s.noise_ratio()) / 2.0 * s.alpha();
        Coefficients { z: 1.0, x_hat: -part, previous: part, noise: 0.0 }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ddpm { gamma } => names::write(f, "ddpm", gamma, DDPM_GAMMA),
            Self::Ddim { eta } => names::write(f, "ddim", eta, DDIM_ETA),
            Self::DpmSolverPlusPlus2M => f.pad("dpm++2m"),
            Self::Heun => f.pad("heun"),
            Self::Euler => f.pad("euler"),
            Self::Learned => f.pad("learned"),
        }
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        let all = [&Self::ALL[..], &[Self::Learned]].concat();
        match (names::find("sampler", &all, name)?, setting) {
            (sampler, None) => Ok(sampler),
            (Self::Ddpm { .. }, Some(gamma)) => {
                Ok(Self::Ddpm { gamma: names::number("gamma of ddpm", gamma, 0.0..=1.0)? })
            }
            (Self::Ddim { .. }, Some(eta)) => Ok(Self::Ddim { eta: names::number("eta of ddim", eta, 0.0..=1.0)? }),
            (sampler, Some(setting)) => Err(names::no_setting(sampler, setting)),
        }
    }
}

names::by_text!(Sampler);
