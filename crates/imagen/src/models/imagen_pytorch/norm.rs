//! The norm of imagen-pytorch.

use burn::tensor::Tensor;

use crate::nn::ops;

/// Vectors of length √c in the direction of x, times γ, over the last axis.
pub(super) fn rms_norm<const D: usize>(x: Tensor<D>, gamma: &Tensor<1>) -> Tensor<D> {
    /// What is added to a mean of squares: the package divides by a norm of at least 1e-12.
    const EPSILON: f32 = 1e-26;
    ops::rms_norm(x, gamma.clone(), EPSILON)
}
