//! Enlargement of the low-resolution condition, before it is noised (A6; the paper does not name the filter).
//!
//! Two small matrix products, so that it runs on every device and training and sampling cannot differ.

use burn::tensor::{Tensor, TensorData};

use super::config::Enlargement;

/// `[n, h, w, c]` → `[n, side·h/w.., side, c]`: both sides grow by `side / w`.
pub fn upsample(x: Tensor<4>, side: usize, enlargement: Enlargement) -> Tensor<4> {
    let [_, h, w, _] = x.dims();
    upsample_to(x, [h * side / w, side], enlargement)
}

/// `[n, h, w, c]` → `[n, height, width, c]`.
pub(super) fn upsample_to(x: Tensor<4>, [height, width]: [usize; 2], enlargement: Enlargement) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let device = x.device();
    let matrix = |from: usize, to: usize| {
        let values = match enlargement {
            Enlargement::Bilinear => interpolation(from, to),
            Enlargement::Nearest => weights(from, to, |i| (i * from / to) as f64),
        };
        Tensor::<2>::from_data(TensorData::new(values, [to, from]), &device).unsqueeze::<3>()
    };
    let y = matrix(h, height).matmul(x.reshape([n, h, w * c])); // [n, height, w*c]
    let y = matrix(w, width).matmul(y.reshape([n * height, w, c])); // [n*height, width, c]
    y.reshape([n, height, width, c])
}

/// `[n, h, w, c]` → `[n, height, width, c]` with the corner pixels on each other (`align_corners`), as DeepFloyd IF has it.
pub(super) fn upsample_aligned(x: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let device = x.device();
    let matrix = |from: usize, to: usize| {
        let position = move |i: usize| if to > 1 { (i * (from - 1)) as f64 / (to - 1) as f64 } else { 0.0 };
        Tensor::<2>::from_data(TensorData::new(weights(from, to, position), [to, from]), &device).unsqueeze::<3>()
    };
    let y = matrix(h, height).matmul(x.reshape([n, h, w * c])); // [n, height, w*c]
    let y = matrix(w, width).matmul(y.reshape([n * height, w, c])); // [n*height, width, c]
    y.reshape([n, height, width, c])
}

/// The weights `[to, from]` of linear interpolation, pixel centres at half-integers.
fn interpolation(from: usize, to: usize) -> Vec<f32> {
    weights(from, to, |i| ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64))
}

/// The weights for pixels that lie at `position`, within 0 and `from - 1`.
fn weights(from: usize, to: usize, position: impl Fn(usize) -> f64) -> Vec<f32> {
    let mut values = vec![0.0; to * from];
    for i in 0..to {
        let position = position(i);
        let left = position as usize;
        let part = (position - left as f64) as f32;
        values[i * from + left] += 1.0 - part;
        values[i * from + (left + 1).min(from - 1)] += part;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_ramp_stays_a_ramp_between_its_held_edges() {
        let ramp: Vec<f32> = (0..4).flat_map(|_| [0.0, 1.0, 2.0, 3.0]).collect();
        let x = Tensor::<4>::from_data(TensorData::new(ramp, [1, 4, 4, 1]), &Device::flex());
        let y: Vec<f32> = upsample(x, 8, Enlargement::Bilinear).into_data().try_to_vec().unwrap();
        let expected = [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0];
        for row in y.chunks(8) {
            for (got, want) in row.iter().zip(expected) {
                assert!((got - want).abs() < 1e-6, "{row:?}");
            }
        }
    }

    #[test]
    fn every_pixel_becomes_a_square() {
        let x = Tensor::<4>::from_data(TensorData::new(vec![0.0f32, 1.0, 2.0, 3.0], [1, 2, 2, 1]), &Device::flex());
        let y: Vec<f32> = upsample(x, 4, Enlargement::Nearest).into_data().try_to_vec().unwrap();
        assert_eq!(
            y,
            [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0], [2.0, 2.0, 3.0, 3.0]].concat()
        );
    }

    #[test]
    fn aligned_corners_stay_where_they_are_and_a_ramp_is_cut_evenly() {
        let ramp = vec![0.0f32, 1.0, 2.0, 10.0, 11.0, 12.0];
        let x = Tensor::<4>::from_data(TensorData::new(ramp, [1, 2, 3, 1]), &Device::flex());
        let y: Vec<f32> = upsample_aligned(x, 3, 5).into_data().try_to_vec().unwrap();
        for (i, value) in y.into_iter().enumerate() {
            let expected = 5.0 * (i / 5) as f32 + 0.5 * (i % 5) as f32;
            assert!((value - expected).abs() < 1e-6, "pixel {i}: {value}, expected {expected}");
        }
    }
}
