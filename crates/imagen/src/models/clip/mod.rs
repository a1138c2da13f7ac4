//! CLIP (Radford et al. 2021): a tower for text and a tower for pictures, whose projections are compared.
//!
//! [`ClipText`] gives a diffusion model the states of tokens, and an embedding of the whole text; [`ClipImage`] an embedding
//! of a picture; [`similarity`] compares the two. Both towers are pre-norm transformers (`tower`), frozen, with their
//! matrices as stored. All sizes come from the model's own `config.json`.
//!
//! Deliberately not here: tokens from text (`text::clip`), pixels from pictures (`eval`), training.

mod config;
mod image;
mod text;
mod tower;

use burn::tensor::Tensor;

use super::weights::Weights;
use crate::error::{Error, Result};

pub use config::{Activation, ClipConfig, ClipImageConfig, ClipTextConfig};
pub use image::ClipImage;
pub use text::{ClipText, ClipTextStates};

/// The factor of the cosines that training ended with: `exp(logit_scale)`.
///
/// # Errors
/// `Model` when the file has none.
pub fn logit_scale(weights: &Weights) -> Result<f32> {
    let name = "logit_scale";
    let shape = weights.shape(name).unwrap_or_default().to_vec();
    if !(shape.is_empty() || shape == [1]) {
        return Err(Error::model(format!("`{name}` has shape {shape:?} (expected one number)")));
    }
    Ok(weights.tensor_f32(name, &shape)?.first().copied().unwrap_or_default().exp())
}

/// Cosines of embeddings `[n, p]` and `[m, p]`, `[n, m]`.
pub fn similarity(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let unit = |x: Tensor<2>| {
        let length = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
        x / length
    };
    unit(a).matmul(unit(b).transpose())
}
