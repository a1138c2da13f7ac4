//! Bilinear enlargement of the low-resolution condition, before it is noised (A6; the paper does not name the filter).
//!
//! Two small matrix products, so that it runs on every device and training and sampling cannot differ.

use burn::tensor::{Tensor, TensorData};

/// `[n, h, w, c]` → `[n, side·h/w.., side, c]`: both sides grow by `side / w`, pixel centres at half-integers, edges held.
pub fn upsample(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let device = x.device();
    let to = |length: usize| length * side / w;
    let matrix = |length: usize| {
        let values = interpolation(length, to(length));
        Tensor::<2>::from_data(TensorData::new(values, [to(length), length]), &device).unsqueeze::<3>()
    };
    let y = matrix(h).matmul(x.reshape([n, h, w * c])); // [n, h', w*c]
    let y = matrix(w).matmul(y.reshape([n * to(h), w, c])); // [n*h', w', c]
    y.reshape([n, to(h), to(w), c])
}

/// The weights `[to, from]` of linear interpolation.
fn interpolation(from: usize, to: usize) -> Vec<f32> {
    let mut values = vec![0.0; to * from];
    for i in 0..to {
        let position = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
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
        let y: Vec<f32> = upsample(x, 8).into_data().try_to_vec().unwrap();
        let expected = [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0];
        for row in y.chunks(8) {
            for (got, want) in row.iter().zip(expected) {
                assert!((got - want).abs() < 1e-6, "{row:?}");
            }
        }
    }
}
