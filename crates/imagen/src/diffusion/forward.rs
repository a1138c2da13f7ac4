//! The forward process q(z_t | x) = N(α x, σ² I) and the noise that drives it (Imagen, appendix A, eq. 3).
//!
//! [`diffuse`] is the one place where a picture meets noise; the loss and the augmentation of low-resolution pictures
//! both call it. [`noise`] is the one place where random numbers become a tensor, one key per picture, so that a
//! picture's noise does not depend on the batch that it is in.

use burn::tensor::{Device, Tensor, TensorData};

use super::LogSnr;
use crate::rng::Rng;

/// z = α x + σ ε at one level per picture, or at one level for all.
///
/// # Panics
/// If there are neither one nor n levels for n pictures, or if `x` and `eps` differ in shape.
pub fn diffuse<const D: usize>(x: Tensor<D>, eps: Tensor<D>, levels: &[LogSnr]) -> Tensor<D> {
    assert_eq!(x.dims(), eps.dims(), "pictures and noise differ in shape");
    scale(x, levels, LogSnr::alpha) + scale(eps, levels, LogSnr::sigma)
}

/// Normal noise of mean 0 and variance 1, shape `dims`; picture i depends on `keys[i]` and its own shape alone.
///
/// # Panics
/// If the first dimension is not the number of keys.
pub fn noise<const D: usize>(keys: &[Rng], dims: [usize; D], device: &Device) -> Tensor<D> {
    assert_eq!(dims[0], keys.len(), "one key per picture");
    let size = dims[1..].iter().product();
    let values: Vec<f32> = keys.iter().flat_map(|key| key.normal(size)).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// `x` times `factor(level)`, one level per picture or one for all.
pub(super) fn scale<const D: usize>(x: Tensor<D>, levels: &[LogSnr], factor: impl Fn(LogSnr) -> f64) -> Tensor<D> {
    if let &[level] = levels {
        return x.mul_scalar(factor(level));
    }
    assert_eq!(x.dims()[0], levels.len(), "one noise level per picture, or one for all");
    let factors = column(levels.iter().map(|&level| factor(level)), &x.device());
    x * factors
}

/// One number per picture, shaped `[n, 1, …]` to broadcast over the picture's own dimensions.
pub(super) fn column<const D: usize>(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    let mut dims = [1; D];
    dims[0] = values.len();
    Tensor::from_data(TensorData::new(values, dims), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_is_diffused_at_its_own_level() {
        let device = Device::flex();
        let levels = [-3.0, 0.0, 20.0].map(LogSnr::new);
        let x = Tensor::<4>::full([3, 2, 2, 1], 0.5, &device);
        let eps = Tensor::<4>::full([3, 2, 2, 1], -2.0, &device);
        let z = diffuse(x, eps, &levels).into_data().try_to_vec::<f32>().unwrap();
        for (picture, level) in z.chunks(4).zip(levels) {
            let expected = 0.5 * level.alpha() - 2.0 * level.sigma();
            assert!(picture.iter().all(|z| (f64::from(*z) - expected).abs() < 1e-6), "{level:?}: {picture:?}");
        }
    }

    #[test]
    fn the_noise_of_a_picture_does_not_depend_on_the_batch_split() {
        let device = Device::flex();
        let keys: Vec<Rng> = (0..4).map(|picture| Rng::new(1).fold(picture)).collect();
        let whole = noise(&keys, [4, 3, 5, 3], &device);
        for (first, size) in [(0, 1), (1, 2), (3, 1)] {
            let part = noise(&keys[first..first + size], [size, 3, 5, 3], &device);
            assert_eq!(part.into_data(), whole.clone().narrow(0, first, size).into_data());
        }
    }
}
