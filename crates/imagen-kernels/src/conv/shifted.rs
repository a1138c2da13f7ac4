//! Convolution with few outputs (a picture's three channels): the taps become columns of one matrix product,
//! `t[pixel, (tap, k)] = x[pixel] w[tap]`, and an output is the sum of nine shifted results. Stride 1.
//!
//! The other way round (neighbourhoods as rows) would fill a tenth of each vector.

use super::Conv3x3;
use super::patches::{self, Neighbourhood};
use crate::gemm::{self, Gemm};
use crate::isa::Isa;
use crate::pool::{Shared, for_each};
use crate::rows::Epilogue;
use crate::scratch;

/// Output rows of one unit of work; one more is computed on either side.
const BAND: usize = 8;

/// Packs `w[tap, c, k]` as a matrix c x (tap, k).
pub(super) fn prepare(isa: Isa, w: &[f32], c: usize, k: usize, to: &mut [f32]) {
    let mut matrix = scratch::take(c * 9 * k);
    for (i, row) in w.chunks_exact(k.max(1)).enumerate() {
        let (tap, channel) = (i / c, i % c);
        matrix[(channel * 9 + tap) * k..][..k].copy_from_slice(row);
    }
    gemm::pack(isa, &matrix, c, 9 * k, to);
}

pub(super) fn forward(isa: Isa, conv: &Conv3x3, x: &[f32], weights: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
    let Conv3x3 { n, h, w, c, k, .. } = *conv;
    let bands = h.div_ceil(BAND);
    let width = 9 * k;
    let to = Shared::new(y);
    for_each(n * bands, |i| {
        let (picture, top) = (i / bands, i % bands * BAND);
        let bottom = (top + BAND).min(h);
        // Rows of the picture that the band sees.
        let (above, below) = (top.saturating_sub(1), (bottom + 1).min(h));
        let mut taps = scratch::take((BAND + 2) * w * width);
        // SAFETY: rows above..below of the picture; the scratch has room for them.
        unsafe {
            Gemm {
                m: (below - above) * w,
                k: c,
                n: width,
                a: x.as_ptr().add((picture * h + above) * w * c),
                a_row: c,
                a_col: 1,
                b: weights.as_ptr(),
                b_panel: c * isa.panel(),
                c: taps.as_mut_ptr(),
                c_row: width,
                accumulate: false,
            }
            .run_deep(isa);
        }
        for row in top..bottom {
            // SAFETY: row `row` of the picture in y; rows do not overlap.
            let out = unsafe { std::slice::from_raw_parts_mut(to.get().add((picture * h + row) * w * k), w * k) };
            match epilogue.bias {
                Some(bias) => out.chunks_exact_mut(k).for_each(|pixel| pixel.copy_from_slice(bias)),
                None => out.fill(0.0),
            }
            for tap in 0..9 {
                let (r, s) = (tap / 3, tap % 3);
                let Some(from) = (row + r).checked_sub(1).filter(|&from| from < h) else { continue };
                let from = &taps[(from - above) * w * width..][..w * width];
                // Output column j sees input column j + s - 1.
                let columns = 1usize.saturating_sub(s)..w.min((w + 1).saturating_sub(s));
                for j in columns {
                    let from = &from[(j + s - 1) * width + tap * k..][..k];
                    for (y, t) in out[j * k..][..k].iter_mut().zip(from) {
                        *y += t;
                    }
                }
            }
            if let Some(residual) = epilogue.residual {
                let residual = &residual[(picture * h + row) * w * k..][..w * k];
                out.iter_mut().zip(residual).for_each(|(y, x)| *y += x);
            }
            if epilogue.scale != 1.0 {
                out.iter_mut().for_each(|y| *y *= epilogue.scale);
            }
            debug_assert!(epilogue.least == f32::NEG_INFINITY, "rectified results have another algorithm");
        }
    });
}

/// The gradient of the weights: the neighbourhoods of gy, in which tap (r, s) is at (2 - r, 2 - s), transposed, times x.
pub(super) fn grad_weight(isa: Isa, conv: &Conv3x3, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let Conv3x3 { h, w, c, k, .. } = *conv;
    let near = Neighbourhood::of_input(&Conv3x3 { c: k, ..*conv }, (h, w));
    let mut sums = scratch::take(near.len() * c);
    patches::products(isa, near, gy, x, c, &mut sums);
    for (i, row) in gw.chunks_exact_mut(k.max(1)).enumerate() {
        let (tap, channel) = (i / c, i % c);
        for (output, to) in row.iter_mut().enumerate() {
            *to = sums[((8 - tap) * k + output) * c + channel];
        }
    }
}
