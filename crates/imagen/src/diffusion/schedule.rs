//! How much noise at which time: [`Time`] → [`LogSnr`] → α, σ (Imagen, appendix A and F.1–F.3).
//!
//! A schedule is a function of continuous time to λ = log(α²/σ²), the logarithm of the signal-to-noise ratio, in f64.
//! α and σ are functions of λ alone, so that α² + σ² = 1 by construction: there is no table to index wrongly, and no
//! second place that could disagree. It knows nothing of steps; those are the sampler's.
//!
//! λ is kept within ±20 ([`LogSnr::LIMIT`]), where α or σ is 4.5e-5: both schedules start without noise (λ = ∞) and
//! the cosine schedule ends without signal (λ = −∞). Cutting λ off would make it constant near the ends and so break
//! the promise that it strictly decreases. Instead time runs over the part of the schedule within the limits: t = 0
//! and t = 1 are mapped to the first and last moment there, affinely in between. For the cosine schedule that
//! leaves out 5e-8 of time at the start and 3e-5 at the end; for the linear one 2e-8 at the start alone.
//!
//! Sines, exponentials and logarithms are the platform's: machines may differ in λ's last bit, far below f32.

use std::f64::consts::FRAC_PI_2;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::names;

/// A moment of the forward process: 0 is the picture, 1 is noise.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Time(f64);

impl Time {
    /// The picture.
    pub const ZERO: Self = Self(0.0);
    /// The noise.
    pub const ONE: Self = Self(1.0);

    /// The time `t` in [0, 1].
    ///
    /// # Errors
    /// [`Usage`](crate::error::ErrorKind::Usage) outside of [0, 1].
    pub fn new(t: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&t) {
            return Ok(Self(t));
        }
        Err(Error::usage(format!("time is {t}, expected a number from 0 (picture) to 1 (noise)")))
    }

    /// The number in [0, 1].
    pub fn get(self) -> f64 {
        self.0
    }
}

/// λ = log(α²/σ²), the natural logarithm of the signal-to-noise ratio: high is clean, low is noisy.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct LogSnr(f64);

impl LogSnr {
    /// The largest |λ| that a schedule gives.
    pub const LIMIT: f64 = 20.0;

    /// The level λ.
    ///
    /// # Panics
    /// If λ is not a number.
    pub fn new(lambda: f64) -> Self {
        assert!(!lambda.is_nan(), "log-SNR is not a number");
        Self(lambda)
    }

    /// λ itself.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The nearest level within ±[`LIMIT`](Self::LIMIT).
    pub fn clamped(self) -> Self {
        Self(self.0.clamp(-Self::LIMIT, Self::LIMIT))
    }

    /// The signal's scale α = √sigmoid(λ).
    pub fn alpha(self) -> f64 {
        self.alpha_squared().sqrt()
    }

    /// The noise's scale σ = √sigmoid(−λ).
    pub fn sigma(self) -> f64 {
        self.sigma_squared().sqrt()
    }

    /// The signal's variance α²; no cancellation for either sign of λ.
    pub fn alpha_squared(self) -> f64 {
        1.0 / (1.0 + (-self.0).exp())
    }

    /// The noise's variance σ²; no cancellation for either sign of λ.
    pub fn sigma_squared(self) -> f64 {
        1.0 / (1.0 + self.0.exp())
    }

    /// The noise's scale beside the signal's, σ/α = e^(−λ/2): the σ of EDM.
    pub fn noise_ratio(self) -> f64 {
        (-self.0 / 2.0).exp()
    }

    /// The signal-to-noise ratio α²/σ² = e^λ.
    pub fn snr(self) -> f64 {
        self.0.exp()
    }
}

/// The choice of λ(t). Written `cosine`, `linear`, `shifted-cosine`, `shifted-cosine:-2`, `crowson-cosine` or `crowson-linear`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum NoiseSchedule {
    /// α² = cos²(((t + s)/(1 + s))·π/2) with s = 0.008, divided by its value at t = 0 (Nichol & Dhariwal,
    /// arXiv 2102.09672, eq. 17): the base stage and 64→256.
    #[default]
    Cosine,
    /// β rising linearly from 1e-4 to 0.02 over 1000 steps, in the limit of infinitely many: α² = e^−B with
    /// B = ∫ 0.1 + 19.9 t dt = 0.1 t + 9.95 t² (Song et al., arXiv 2011.13456, eq. 33): the stage 256→1024.
    Linear,
    /// The cosine schedule with λ moved by a constant (Hoogeboom et al., arXiv 2301.11093, section 3.1): pictures whose
    /// neighbouring pixels say the same need more noise before their layout is open again. Not in the paper.
    ShiftedCosine {
        /// What is added to λ; 2 ln(a/b) gives pictures of side b the noise that the cosine schedule gives those of side
        /// a once both are averaged to the same size.
        shift: f64,
    },
    /// α² = cos²(((t + s)/(1 + s))·π/2) with s = 0.008, as it stands: at t = 0 there is a trace of noise (λ = 8.8). Katherine
    /// Crowson's v-diffusion and after it imagen-pytorch have it. Not in the paper.
    CrowsonCosine,
    /// α² = e^−B with B = 1e-4 + 10 t²: an approximation of `linear`, from the same place.
    CrowsonLinear,
}

/// 2 ln(32/64): a picture of 64 pixels is treated as one of 32.
const SHIFT: f64 = -2.0 * std::f64::consts::LN_2;
/// The names of the schedules that have settings.
const SHIFTED_COSINE: &str = "shifted-cosine";

/// The cosine schedule's offset s, as an angle (s/(1 + s))·π/2, and the angle that t sweeps.
const COSINE_START: f64 = 0.008 / 1.008 * FRAC_PI_2;
const COSINE_SWEEP: f64 = 1.0 / 1.008 * FRAC_PI_2;

/// B = LINEAR_START·t + LINEAR_RISE·t².
const LINEAR_START: f64 = 0.1;
const LINEAR_RISE: f64 = 9.95;
/// B = CROWSON_LINEAR_START + CROWSON_LINEAR_RISE·t².
const CROWSON_LINEAR_START: f64 = 1e-4;
const CROWSON_LINEAR_RISE: f64 = 10.0;

impl NoiseSchedule {
    /// Every schedule.
    pub const ALL: [Self; 5] =
        [Self::Cosine, Self::Linear, Self::ShiftedCosine { shift: SHIFT }, Self::CrowsonCosine, Self::CrowsonLinear];

    /// λ at time t: strictly decreasing, within ±[`LogSnr::LIMIT`].
    pub fn log_snr(self, time: Time) -> LogSnr {
        let first = self.inverse(LogSnr(LogSnr::LIMIT)).max(0.0);
        let last = self.inverse(LogSnr(-LogSnr::LIMIT)).min(1.0);
        self.unlimited(first + time.0 * (last - first)).clamped()
    }

    /// λ(t) without limits, t in (0, 1).
    fn unlimited(self, t: f64) -> LogSnr {
        LogSnr(match self {
            // With a = angle, a₀ = start: α² = cos² a / cos² a₀ and 1 − α² = sin(a − a₀) sin(a + a₀) / cos² a₀.
            // Both angles' distances to their zeros, t and 1 − t, are taken before any rounding.
            Self::Cosine => {
                let cos = ((1.0 - t) * COSINE_SWEEP).sin();
                let from_start = t * COSINE_SWEEP;
                (cos * cos / (from_start.sin() * (from_start + 2.0 * COSINE_START).sin())).ln()
            }
            // α²/σ² = e^−B / (1 − e^−B) = 1 / (e^B − 1).
            Self::Linear => -(t * (LINEAR_START + t * LINEAR_RISE)).exp_m1().ln(),
            Self::ShiftedCosine { shift } => Self::Cosine.unlimited(t).0 + shift,
            Self::CrowsonCosine => {
                let cos = ((1.0 - t) * COSINE_SWEEP).sin();
                2.0 * (cos / (t * COSINE_SWEEP + COSINE_START).sin()).ln()
            }
            Self::CrowsonLinear => -(CROWSON_LINEAR_START + CROWSON_LINEAR_RISE * t * t).exp_m1().ln(),
        })
    }

    /// The t at which `unlimited` gives λ; may lie beyond 1.
    fn inverse(self, level: LogSnr) -> f64 {
        match self {
            Self::Cosine => ((level.alpha() * COSINE_START.cos()).acos() - COSINE_START) / COSINE_SWEEP,
            Self::Linear => {
                let b = (-level.0).exp().ln_1p();
                2.0 * b / (LINEAR_START + (LINEAR_START * LINEAR_START + 4.0 * LINEAR_RISE * b).sqrt())
            }
            Self::ShiftedCosine { shift } => Self::Cosine.inverse(LogSnr(level.0 - shift)),
            Self::CrowsonCosine => ((-level.0 / 2.0).exp().atan() - COSINE_START) / COSINE_SWEEP,
            Self::CrowsonLinear => {
                let b = (-level.0).exp().ln_1p();
                ((b - CROWSON_LINEAR_START).max(0.0) / CROWSON_LINEAR_RISE).sqrt()
            }
        }
    }
}

impl fmt::Display for NoiseSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cosine => f.pad("cosine"),
            Self::Linear => f.pad("linear"),
            Self::CrowsonCosine => f.pad("crowson-cosine"),
            Self::CrowsonLinear => f.pad("crowson-linear"),
            Self::ShiftedCosine { shift } => names::write(f, SHIFTED_COSINE, shift, SHIFT),
        }
    }
}

impl FromStr for NoiseSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        match (names::find("noise schedule", &Self::ALL, name)?, setting) {
            (schedule, None) => Ok(schedule),
            (Self::ShiftedCosine { .. }, Some(shift)) => {
                Ok(Self::ShiftedCosine { shift: names::number("the shift of shifted-cosine", shift, -10.0..=10.0)? })
            }
            (schedule, Some(setting)) => Err(names::no_setting(schedule, setting)),
        }
    }
}

names::by_text!(NoiseSchedule);
