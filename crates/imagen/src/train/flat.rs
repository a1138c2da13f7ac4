//! The numbers of a run's tensors.

use burn::tensor::Tensor;

/// The numbers of a weight, an average, a moment or a gradient, all of which are f32.
pub(super) fn flat(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_to_vec().expect("state tensors are f32")
}
