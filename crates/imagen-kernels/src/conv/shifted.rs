//! Convolution with few outputs (a picture's three channels): the taps become columns of one matrix product,
//! `t[pixel, (tap, k)] = x[pixel] w[tap]`, and an output is the sum of nine shifted results. Stride 1.
//!
//! The other way round (neighbourhoods as rows) would fill a tenth of each vector.

use super::Conv3x3;
use super::patches::{self, Neighbourhood};
use crate::gemm::{self, Gemm};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::rows::Epilogue;
use crate::scratch;
use crate::simd::Simd;

/// Output rows of one unit of work; one more is computed on either side.
const BAND: usize = 8;

/// Packs `w[tap, c, k]` as a matrix c x (tap, k).
pub(super) fn prepare(isa: Isa, w: &[f32], c: usize, k: usize, to: &mut [f32]) {
    let mut matrix = scratch::take(c * 9 * k);
    for (i, row) in w.chunks_exact(k.max(1)).enumerate() {
        let (tap, channel) = (i / c, i % c);
        matrix[(channel * 9 + tap) * k..][..k].copy_from_slice(row);
    }
    gemm::pack(isa.into(), &matrix, c, 9 * k, to);
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
            .run_deep(isa.into());
        }
        // SAFETY: the taps of rows above..below; rows top..bottom of the picture in y, which no other unit writes.
        unsafe {
            isa.run(SumShifted {
                taps: taps.as_ptr(),
                above: (above, below),
                rows: (top, bottom),
                w,
                k,
                first: picture * h * w,
                epilogue,
                y: to.get(),
            });
        }
    });
}

/// y = epilogue of the sum of nine shifted results, for some rows of a picture.
///
/// Contract: `taps` holds w pixels of 9 k numbers for the picture's rows `above`, one more than `rows` on either side where
/// the picture has them; `y` is writable for the picture, whose first pixel is number `first`; the epilogue was checked.
struct SumShifted<'a> {
    taps: *const f32,
    above: (usize, usize),
    rows: (usize, usize),
    w: usize,
    k: usize,
    first: usize,
    epilogue: Epilogue<'a>,
    y: *mut f32,
}

impl Kernel for SumShifted<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Self { w, k, epilogue, .. } = self;
        let width = 9 * k;
        let (above, below) = self.above;
        for row in self.rows.0..self.rows.1 {
            // The taps that look into the picture: tap (r, s) of the pixel in row + r - 1, j + s - 1.
            let rows = (row == 0) as usize..3.min(below + 1 - row);
            for j in 0..w {
                let columns = (j == 0) as usize..3.min(w + 1 - j);
                let mut q = 0;
                while q < k {
                    let n = k - q;
                    // SAFETY: by the contract.
                    unsafe {
                        let mut sum = match epilogue.bias {
                            Some(bias) => V::load_up_to(bias.as_ptr().add(q), n),
                            None => V::splat(0.0),
                        };
                        for r in rows.clone() {
                            let pixels = self.taps.add(((row + r - 1 - above) * w + j) * width + r * 3 * k + q);
                            for s in columns.clone() {
                                let pixel = pixels.wrapping_add(s * (width + k)).wrapping_sub(width);
                                sum = sum + V::load_up_to(pixel, n);
                            }
                        }
                        let at = (self.first + row * w + j) * k + q;
                        if let Some(residual) = epilogue.residual {
                            sum = sum + V::load_up_to(residual.as_ptr().add(at), n);
                        }
                        epilogue.end(sum).store_up_to(self.y.add(at), n);
                    }
                    q += V::LANES;
                }
            }
        }
    }
}

/// The gradient of the weights: the neighbourhoods of gy, in which tap (r, s) is at (2 - r, 2 - s), transposed, times x.
pub(super) fn grad_weight(isa: Isa, conv: &Conv3x3, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let Conv3x3 { h, w, c, k, .. } = *conv;
    let near = Neighbourhood::of_input(&Conv3x3 { c: k, ..*conv }, (h, w));
    let mut sums = scratch::take(near.len() * c);
    patches::products(isa.into(), near, gy, x, c, &mut sums);
    for (i, row) in gw.chunks_exact_mut(k.max(1)).enumerate() {
        let (tap, channel) = (i / c, i % c);
        for (output, to) in row.iter_mut().enumerate() {
            *to = sums[((8 - tap) * k + output) * c + channel];
        }
    }
}
