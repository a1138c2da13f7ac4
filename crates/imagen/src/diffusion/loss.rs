//! The training objective (Imagen, eq. 1 and 4): E w_t ‖prediction − target‖² over time, noise and data.
//!
//! The network is called between two halves of a step:
//!
//! ```text
//! let noised = objective.q_sample(x, key, 0..n, n);     // draws t and ε, builds z = α x + σ ε
//! let output = network(noised.z(), noised.levels());
//! let loss = noised.loss(output);                       // loss.mean goes backward, loss.per_picture into the log
//! ```
//!
//! The error is the plain squared one in the parameterization's own space, averaged over a picture's numbers; weights
//! are relative to that. It neither calls the network nor goes backward.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use burn::tensor::Tensor;

use super::forward::column;
use super::{LogSnr, NoiseSchedule, Parameterization, Time, diffuse, noise};
use crate::error::{Error, Result};
use crate::names;
use crate::rng::Rng;

/// How the levels are weighted against each other. Written `uniform`, `paper`, `min-snr` or `min-snr:5`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LossWeight {
    /// Weight 1 on the squared error of the parameterization's own target: for ε the paper's loss.
    #[default]
    Uniform,
    /// Weight SNR on the squared error of x̂, which is weight 1 on that of ε: the paper's loss (appendix A, eq. 4) whatever
    /// the network predicts. It has no bound as the noise goes to 0: for a network that predicts x, the factor is SNR itself,
    /// and `min-snr` is the bounded choice (for v it is α², for ε 1).
    Paper,
    /// Weight min(SNR, γ) on the squared error of x̂ (Hang et al., arXiv 2303.09556, section 3.4), the same objective
    /// for every parameterization.
    MinSnr {
        /// The largest weight; the authors use 5.
        gamma: f64,
    },
}

const MIN_SNR_GAMMA: f64 = 5.0;

impl LossWeight {
    /// Every weighting, with default settings.
    pub const ALL: [Self; 3] = [Self::Uniform, Self::Paper, Self::MinSnr { gamma: MIN_SNR_GAMMA }];

    /// The factor on the squared error in the parameterization's own space.
    ///
    /// At a fixed z the error of ε is that of x̂ times α/σ, and the error of v is that of x̂ times 1/σ.
    pub fn factor(self, parameterization: Parameterization, level: LogSnr) -> f64 {
        match (self, parameterization) {
            (Self::Uniform, _) | (Self::Paper, Parameterization::Eps) => 1.0,
            // SNR · σ²
            (Self::Paper, Parameterization::V) => level.alpha_squared(),
            (Self::Paper, Parameterization::X) => level.snr(),
            // min(SNR, γ) / SNR
            (Self::MinSnr { gamma }, Parameterization::Eps) => (gamma / level.snr()).min(1.0),
            // min(SNR, γ) · σ²
            (Self::MinSnr { gamma }, Parameterization::V) => level.alpha_squared().min(gamma * level.sigma_squared()),
            (Self::MinSnr { gamma }, Parameterization::X) => level.snr().min(gamma),
        }
    }
}

/// How the times of a batch are drawn; each is uniform in [0, 1) by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeSampling {
    /// Independently.
    #[default]
    Uniform,
    /// Evenly spread over the batch behind one common random offset (Kingma et al., arXiv 2107.00630, appendix I.1):
    /// less variance from step to step.
    LowDiscrepancy,
}

names::named!(TimeSampling, "time sampling", Uniform = "uniform", LowDiscrepancy = "low-discrepancy");

impl TimeSampling {
    /// The times of the pictures `slots` in a batch of `batch` pictures. Micro-batches of the same step pass the same
    /// key and get what the whole batch would.
    pub fn times(self, key: Rng, slots: Range<usize>, batch: usize) -> Vec<Time> {
        let time = |slot: usize| match self {
            Self::Uniform => key.fold(slot as u64).unit(),
            Self::LowDiscrepancy => (key.unit() + slot as f64 / batch as f64).fract(),
        };
        slots.map(|slot| Time::new(time(slot)).expect("in [0, 1)")).collect()
    }
}

/// The whole choice of a training objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective {
    /// How much noise at which time.
    pub schedule: NoiseSchedule,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// How the levels are weighted.
    pub weight: LossWeight,
    /// How the times are drawn.
    pub times: TimeSampling,
}

/// What a step's key is folded with for its two draws.
const TIME_DRAW: u64 = 0;
const NOISE_DRAW: u64 = 1;

impl Objective {
    /// Draws a time and noise for each picture x `[n, h, w, c]` and mixes them.
    ///
    /// `slots` are the pictures' places in the step's whole batch of `batch` pictures, `key` is the step's: a picture's
    /// time and noise depend on these alone, not on how the batch is split into micro-batches.
    ///
    /// # Panics
    /// If `slots` is not as long as x has pictures.
    pub fn q_sample(&self, x: Tensor<4>, key: Rng, slots: Range<usize>, batch: usize) -> Noised {
        let times = self.times.times(key.fold(TIME_DRAW), slots.clone(), batch);
        let levels: Vec<LogSnr> = times.iter().map(|time| self.schedule.log_snr(*time)).collect();
        let keys: Vec<Rng> = slots.map(|slot| key.fold(NOISE_DRAW).fold(slot as u64)).collect();
        let eps = noise(&keys, x.dims(), &x.device());
        Noised {
            z: diffuse(x.clone(), eps.clone(), &levels),
            target: self.parameterization.target(x, eps, &levels),
            weights: levels.iter().map(|level| self.weight.factor(self.parameterization, *level)).collect(),
            times,
            levels,
        }
    }
}

/// Pictures under noise, with what the network ought to say about them.
#[derive(Clone, Debug)]
pub struct Noised {
    z: Tensor<4>,
    times: Vec<Time>,
    levels: Vec<LogSnr>,
    target: Tensor<4>,
    weights: Vec<f64>,
}

impl Noised {
    /// z `[n, h, w, c]`, the network's input.
    pub fn z(&self) -> Tensor<4> {
        self.z.clone()
    }

    /// The time of each picture.
    pub fn times(&self) -> &[Time] {
        &self.times
    }

    /// The noise level of each picture.
    pub fn levels(&self) -> &[LogSnr] {
        &self.levels
    }

    /// The loss of the network's output `[n, h, w, c]`.
    pub fn loss(self, output: Tensor<4>) -> Loss {
        weighted_loss(output, self.target, &self.weights)
    }
}

/// The loss of a batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The mean over the pictures `[1]`; goes backward.
    pub mean: Tensor<1>,
    /// Each picture's loss `[n]`, weighted, cut off from the gradient; their mean is `mean`.
    pub per_picture: Tensor<1>,
}

/// Mean squared error per picture, times the picture's weight.
///
/// # Panics
/// If the shapes differ or there is not one weight per picture.
pub fn weighted_loss(output: Tensor<4>, target: Tensor<4>, weights: &[f64]) -> Loss {
    assert_eq!(output.dims(), target.dims(), "output and target differ in shape");
    let [n, h, w, c] = output.dims();
    assert_eq!(n, weights.len(), "one weight per picture");
    let error = (output - target).square().reshape([n, h * w * c]).mean_dim(1).reshape([n]);
    let per_picture = error.clone() * column(weights.iter().copied(), &error.device());
    Loss { mean: per_picture.clone().mean(), per_picture: per_picture.detach() }
}

impl fmt::Display for LossWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Uniform => f.pad("uniform"),
            Self::Paper => f.pad("paper"),
            Self::MinSnr { gamma } => names::write(f, "min-snr", gamma, MIN_SNR_GAMMA),
        }
    }
}

impl FromStr for LossWeight {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        match (names::find("loss weight", &Self::ALL, name)?, setting) {
            (weight, None) => Ok(weight),
            (Self::MinSnr { .. }, Some(gamma)) => {
                Ok(Self::MinSnr { gamma: names::number("gamma of min-snr", gamma, 1e-3..=1e6)? })
            }
            (weight, Some(setting)) => Err(names::no_setting(weight, setting)),
        }
    }
}

names::by_text!(LossWeight);

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn x(n: usize, device: &Device) -> Tensor<4> {
        noise(&[Rng::new(5)], [1, 4, 4, 3], device).mul_scalar(0.3).repeat_dim(0, n)
    }

    #[test]
    fn micro_batches_get_what_the_whole_batch_would() {
        let (device, key) = (Device::flex(), Rng::new(1).fold(17));
        for times in TimeSampling::ALL {
            let objective = Objective { times, ..Objective::default() };
            let whole = objective.q_sample(x(6, &device), key, 0..6, 6);
            for slots in [0..1, 1..4, 4..6] {
                let part = objective.q_sample(x(slots.len(), &device), key, slots.clone(), 6);
                assert_eq!(part.levels, whole.levels[slots.clone()]);
                assert_eq!(part.z.into_data(), whole.z.clone().narrow(0, slots.start, slots.len()).into_data());
            }
        }
    }

    #[test]
    fn each_time_is_uniform_by_itself() {
        for sampling in TimeSampling::ALL {
            let batches = (0..4_000).map(|batch| sampling.times(Rng::new(3).fold(batch), 2..3, 8)[0].get());
            let mut bins = [0; 4];
            batches.for_each(|time| bins[(time * 4.0) as usize] += 1);
            assert!(bins.iter().all(|count| (860..1_140).contains(count)), "{sampling}: {bins:?}");
        }
    }

    #[test]
    fn low_discrepancy_times_divide_the_interval_evenly() {
        let mut times = TimeSampling::LowDiscrepancy.times(Rng::new(3), 0..8, 8);
        times.sort_by(|a, b| a.get().total_cmp(&b.get()));
        assert!(times.windows(2).all(|pair| (pair[1].get() - pair[0].get() - 0.125).abs() < 1e-12), "{times:?}");
    }

    #[test]
    fn the_loss_is_the_mean_of_the_weighted_errors_of_the_pictures() {
        let device = Device::flex();
        let output = Tensor::<4>::from_data([[[[1.0], [2.0]]], [[[3.0], [-1.0]]]], &device);
        let loss = weighted_loss(output, Tensor::zeros([2, 1, 2, 1], &device), &[2.0, 0.5]);
        assert_eq!(values(loss.per_picture), [5.0, 2.5]);
        assert_eq!(values(loss.mean), [3.75]);
    }

    #[test]
    fn the_gradient_is_that_of_the_weighted_mean() {
        let device = Device::flex().autodiff();
        let objective = Objective { weight: LossWeight::MinSnr { gamma: 5.0 }, ..Objective::default() };
        let noised = objective.q_sample(x(3, &device), Rng::new(2), 0..3, 3);
        let output = noised.z().mul_scalar(0.5).require_grad();
        let error = output.clone().inner() - noised.target.clone().inner();
        let factors = noised.weights.iter().map(|weight| weight * 2.0 / (3.0 * 4.0 * 4.0 * 3.0));
        let expected = values(error * column(factors, &Device::flex()));
        let loss = noised.loss(output.clone());
        let gradient = values(output.grad(&loss.mean.backward()).unwrap());
        assert!(gradient.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-7));
    }

    #[test]
    fn weights_on_x_hat_are_the_same_objective_for_every_parameterization() {
        let device = Device::flex();
        let (x, eps) = (x(1, &device), noise(&[Rng::new(6)], [1, 4, 4, 3], &device));
        for lambda in [-6.0, -2.0, 0.0, 1.6, 1.7, 4.0] {
            let level = LogSnr::new(lambda);
            let z = diffuse(x.clone(), eps.clone(), &[level]);
            // One and the same wrong guess of x, in each parameterization's words.
            let x_hat = x.clone().mul_scalar(0.8).add_scalar(0.05);
            let eps_hat = Parameterization::X.eps(x_hat.clone(), z, &[level]);
            let error = values((x_hat.clone() - x.clone()).square().mean())[0];
            for parameterization in Parameterization::ALL {
                let output = parameterization.target(x_hat.clone(), eps_hat.clone(), &[level]);
                let target = parameterization.target(x.clone(), eps.clone(), &[level]);
                let snr = level.snr();
                for (weight, expected) in [(LossWeight::MinSnr { gamma: 5.0 }, snr.min(5.0)), (LossWeight::Paper, snr)]
                {
                    let factor = weight.factor(parameterization, level);
                    let loss = values(weighted_loss(output.clone(), target.clone(), &[factor]).mean)[0];
                    let expected = expected as f32 * error;
                    let what = format!("{weight}, {parameterization} at {lambda}: {loss}, {expected}");
                    assert!((loss / expected - 1.0).abs() < 1e-3, "{what}");
                }
            }
        }
    }

    #[test]
    fn a_perfect_prediction_costs_nothing() {
        for parameterization in Parameterization::ALL {
            let objective = Objective { parameterization, ..Objective::default() };
            let noised = objective.q_sample(x(2, &Device::flex()), Rng::new(2), 0..2, 2);
            let perfect = noised.target.clone();
            assert_eq!(values(noised.loss(perfect).mean), [0.0]);
        }
    }
}
