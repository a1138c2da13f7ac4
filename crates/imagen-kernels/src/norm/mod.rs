//! Normalization layers with hand-written gradients.
//!
//! [`GroupNorm`] folds its affine part, FiLM conditioning and an [`Activation`] into one pass over the activations;
//! nothing but a few numbers per channel is kept for the backward pass.

mod activation;
mod group;
mod layer;
mod rms;

pub use activation::Activation;
pub use group::{GroupNorm, GroupStats};
pub use layer::LayerNorm;
pub use rms::RmsNorm;
