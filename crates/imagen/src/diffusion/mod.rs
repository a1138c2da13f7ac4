//! The diffusion process as mathematics: schedules, parameterizations, the loss, guidance, thresholding, samplers and
//! noise conditioning augmentation (Imagen, arXiv 2205.11487, sections 2.1–2.4 and appendix A).
//!
//! Everything here sees tensors of pictures `[n, h, w, c]` and closures, and never a network. The order in which
//! prediction, guidance and thresholding are composed is the business of `cascade`; the loop over a data set is that
//! of `train`. Coefficients are computed in f64 and meet the tensors last. All noise comes from [`crate::rng`], one
//! key per picture.
//!
//! Every choice has a name that reads the same on the command line, in a recipe and over HTTP: `Display`, `FromStr`
//! and serde agree.

mod augmentation;
mod finite;
mod forward;
mod guidance;
pub mod inverse;
mod keep;
mod loss;
mod parameterization;
mod plan;
mod sampler;
mod schedule;
mod spacing;
mod thresholding;
mod timesteps;
mod trajectory;

pub use augmentation::{AugLevel, augment};
pub use finite::check_finite;
pub use forward::{diffuse, noise};
pub use guidance::{Guidance, between, rescale};
pub use keep::{Keep, Outside};
pub use loss::{Loss, LossWeight, Noised, Objective, TimeSampling, weighted_loss};
pub use parameterization::Parameterization;
pub use plan::{PlannedStep, Update, beginnings, repeated};
pub use sampler::{Coefficients, Sampler};
pub use schedule::{LogSnr, NoiseSchedule, Time};
pub use spacing::{Interval, Spacing};
pub use thresholding::Thresholding;
pub use timesteps::Timesteps;
pub use trajectory::{Denoised, Draw, Key, Noise, StepEvent, Trajectory, noise_of};
