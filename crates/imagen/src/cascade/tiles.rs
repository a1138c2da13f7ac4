//! Pictures larger than a super-resolution network was trained with, window by window: at every step each window is predicted
//! by itself, and where windows overlap the predictions are mixed, so that no seam is left and memory is that of one window
//! (MultiDiffusion, Bar-Tal et al., arXiv 2302.08113).

use burn::tensor::{Tensor, TensorData};

use crate::error::Result;

/// The part of a window that it shares with the next, at least.
const SHARED: usize = 4;

/// Where windows of `side` pixels begin that cover `length`, at multiples of `unit`; both lengths are such multiples.
fn begins(length: usize, side: usize, unit: usize) -> Vec<usize> {
    if length <= side {
        return vec![0];
    }
    let count = (length - side).div_ceil((side - side / SHARED).max(unit)) + 1;
    (0..count).map(|k| k * (length - side) / (count - 1) / unit * unit).collect()
}

/// How many windows cover a picture.
pub(super) fn count([h, w]: [usize; 2], side: usize, unit: usize) -> usize {
    begins(h, side, unit).len() * begins(w, side, unit).len()
}

/// `predict` of every window of `z [n, h, w, c]` and of what lies beside it, mixed where windows overlap. A picture that fits
/// is predicted whole.
pub(super) fn windows(
    z: Tensor<4>,
    beside: Option<Tensor<4>>,
    [side, unit]: [usize; 2],
    mut predict: impl FnMut(Tensor<4>, Option<Tensor<4>>) -> Result<Tensor<4>>,
) -> Result<Tensor<4>> {
    let [n, h, w, c] = z.dims();
    if h <= side && w <= side {
        return predict(z, beside);
    }
    let device = z.device();
    let (mut sum, mut weights) = (Tensor::<4>::zeros([n, h, w, c], &device), Tensor::<4>::zeros([1, h, w, 1], &device));
    for y in begins(h, side, unit) {
        for x in begins(w, side, unit) {
            let (rows, columns) = (y..(y + side).min(h), x..(x + side).min(w));
            let part =
                |of: &Tensor<4>| of.clone().narrow(1, rows.start, rows.len()).narrow(2, columns.start, columns.len());
            let predicted = predict(part(&z), beside.as_ref().map(part))?;
            let weight = slopes(rows.len(), columns.len(), side / SHARED, &device);
            let added = part(&sum) + predicted * weight.clone();
            sum = sum.slice_assign([0..n, rows.clone(), columns.clone(), 0..c], added);
            let added = part(&weights) + weight;
            weights = weights.slice_assign([0..1, rows.clone(), columns.clone(), 0..1], added);
        }
    }
    Ok(sum / weights)
}

/// Weights `[1, h, w, 1]` that fall to the edges over `slope` pixels.
fn slopes(h: usize, w: usize, slope: usize, device: &burn::tensor::Device) -> Tensor<4> {
    let along = |length: usize| -> Vec<f32> {
        let slope = slope.max(1);
        (0..length).map(|i| (i + 1).min(length - i).min(slope) as f32 / slope as f32).collect()
    };
    let (rows, columns) = (along(h), along(w));
    let values: Vec<f32> = rows.iter().flat_map(|a| columns.iter().map(move |b| a * b)).collect();
    Tensor::from_data(TensorData::new(values, [1, h, w, 1]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::diffusion::noise;
    use crate::rng::Rng;

    #[test]
    fn windows_cover_every_pixel_and_overlap() {
        for (length, side, unit) in [(64, 64, 8), (72, 64, 8), (256, 64, 16), (1024, 256, 16), (264, 256, 8)] {
            let begins = begins(length, side, unit);
            assert_eq!((begins[0], begins[begins.len() - 1]), (0, length - side.min(length)), "{length}");
            for pair in begins.windows(2) {
                let shared = pair[0] + side - pair[1];
                assert!(pair[1] > pair[0] && shared + unit > side / SHARED, "{length}: {begins:?}");
            }
        }
        assert_eq!(count([256, 512], 256, 16), 3);
    }

    #[test]
    fn what_is_said_of_each_pixel_alone_is_said_of_the_whole() {
        let device = Device::flex();
        let z = noise(&[Rng::new(1), Rng::new(2)], [2, 24, 56, 3], &device);
        let low = noise(&[Rng::new(3), Rng::new(4)], [2, 24, 56, 3], &device);
        let of = |z: Tensor<4>, low: Option<Tensor<4>>| Ok(z.clone() * z - low.unwrap().mul_scalar(0.5));
        let whole = of(z.clone(), Some(low.clone())).unwrap();
        let mut calls = 0;
        let tiled = windows(z.clone(), Some(low.clone()), [16, 8], |z, low| {
            calls += 1;
            assert_eq!(z.dims(), [2, 16, 16, 3]);
            of(z, low)
        });
        assert_eq!(calls, count([24, 56], 16, 8));
        let far: f32 = (tiled.unwrap() - whole.clone()).abs().max().into_scalar();
        assert!(far < 1e-5, "{far}");
        let fits = windows(z, Some(low), [56, 8], of).unwrap();
        assert_eq!(fits.into_data(), whole.into_data(), "a picture that fits is whole");
    }
}
