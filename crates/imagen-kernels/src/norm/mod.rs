//! Normalization layers with hand-written gradients.
//!
//! [`GroupNorm`] folds its affine part, FiLM conditioning and SiLU into one pass over the activations; nothing but
//! a few numbers per channel is kept for the backward pass.

mod group;
mod layer;
mod rms;

pub use group::{GroupNorm, GroupStats};
pub use layer::LayerNorm;
pub use rms::RmsNorm;
