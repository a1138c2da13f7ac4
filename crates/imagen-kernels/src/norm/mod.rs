//! Normalization layers with hand-written gradients.
//!
//! [`GroupNorm`] folds its affine part, FiLM conditioning and an [`Activation`] into one pass over the activations;
//! nothing but a few numbers per channel is kept for the backward pass.

mod group;
mod layer;
mod rms;

pub use group::{GroupNorm, GroupStats};
pub use layer::LayerNorm;
pub use rms::RmsNorm;

/// What follows a normalization in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The exact GELU, `x Phi(x)`.
    Gelu,
}
