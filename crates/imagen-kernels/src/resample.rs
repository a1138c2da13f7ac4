//! Doubling by repetition, by channels that become pixels, and halving by averages, forward and backward, on
//! `[n, h, w, c]`; [`Bilinear`] for any size, [`Pool3x3`] for windows that overlap.
//!
//! h and w are always those of the forward pass's input. Halving ignores an odd last row or column (its gradient
//! is zero).

mod bilinear;
mod windows;

pub use bilinear::Bilinear;
pub use windows::{Pool3x3, Pooling};

use crate::expect_len;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;

/// `y[n, 2h, 2w, c]`: every pixel of `x[n, h, w, c]` four times.
///
/// # Panics
/// If a slice does not have the length of its shape; so do all functions here.
pub fn upsample2(x: &[f32], n: usize, h: usize, w: usize, c: usize, y: &mut [f32]) {
    expect_len("x", x, n * h * w * c);
    expect_len("y", y, 4 * n * h * w * c);
    let to = Shared::new(y);
    for_each(2 * n * h, |row| {
        let from = &x[row / 2 * w * c..][..w * c];
        for j in 0..2 * w {
            // SAFETY: pixel j of output row `row`; rows do not overlap.
            unsafe {
                to.get().add((row * 2 * w + j) * c).copy_from_nonoverlapping(from.as_ptr().add(j / 2 * c), c);
            }
        }
    });
}

/// The gradient of [`upsample2`]: `gx[n, h, w, c]` is the sum of four pixels of `gy[n, 2h, 2w, c]`.
pub fn upsample2_backward(gy: &[f32], n: usize, h: usize, w: usize, c: usize, gx: &mut [f32]) {
    expect_len("gy", gy, 4 * n * h * w * c);
    expect_len("gx", gx, n * h * w * c);
    sum_fours(gy, (n, 2 * h, 2 * w, c), 1.0, gx);
}

/// `y[n, 2h, 2w, c]`: each pixel of `x[n, h, w, 4c]` becomes a block of 2x2, row by row.
pub fn pixel_shuffle(x: &[f32], n: usize, h: usize, w: usize, c: usize, y: &mut [f32]) {
    copy_pairs(x, n, h, w, c, |deep, wide| (deep, wide), y);
}

/// The gradient of [`pixel_shuffle`], which is its inverse: `gy[n, 2h, 2w, c]` to `gx[n, h, w, 4c]`.
pub fn pixel_shuffle_backward(gy: &[f32], n: usize, h: usize, w: usize, c: usize, gx: &mut [f32]) {
    copy_pairs(gy, n, h, w, c, |deep, wide| (wide, deep), gx);
}

/// Copies pairs of pixels of c: half a pixel of `[n, h, w, 4c]` (deep) is a pair in a row of `[n, 2h, 2w, c]` (wide).
/// `order` makes (from, to) of the two numbers of a pair.
fn copy_pairs(
    x: &[f32],
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    order: impl Fn(usize, usize) -> (usize, usize) + Sync,
    y: &mut [f32],
) {
    expect_len("x", x, 4 * n * h * w * c);
    expect_len("y", y, 4 * n * h * w * c);
    let to = Shared::new(y);
    for_each(n * h, |row| {
        for (j, half) in (0..w).flat_map(|j| [(j, 0), (j, 1)]) {
            let (from, pair) = order((row * w + j) * 2 + half, (row * 2 + half) * w + j);
            // SAFETY: both numbers are below 2 n h w, and each pair is written once.
            unsafe { to.get().add(pair * 2 * c).copy_from_nonoverlapping(x.as_ptr().add(from * 2 * c), 2 * c) };
        }
    });
}

/// `y[n, h/2, w/2, c]`: the average of four pixels of `x[n, h, w, c]`.
pub fn average_pool2(x: &[f32], n: usize, h: usize, w: usize, c: usize, y: &mut [f32]) {
    expect_len("x", x, n * h * w * c);
    expect_len("y", y, n * (h / 2) * (w / 2) * c);
    sum_fours(x, (n, h, w, c), 0.25, y);
}

/// The gradient of [`average_pool2`]: a quarter of `gy[n, h/2, w/2, c]` to each of four pixels of `gx[n, h, w, c]`.
pub fn average_pool2_backward(gy: &[f32], n: usize, h: usize, w: usize, c: usize, gx: &mut [f32]) {
    let (oh, ow) = (h / 2, w / 2);
    expect_len("gy", gy, n * oh * ow * c);
    expect_len("gx", gx, n * h * w * c);
    let isa = Isa::current();
    let to = Shared::new(gx);
    for_each(n * h, |row| {
        let (image, i) = (row / h, row % h);
        let from = (i / 2 < oh).then(|| &gy[(image * oh + i / 2) * ow * c..][..ow * c]);
        // SAFETY: row `row` of gx; rows do not overlap.
        unsafe { isa.run(SpreadRow { from, to: to.get().add(row * w * c), w, c }) };
    });
}

/// Row of outputs = `scale` times the sum of the 2x2 pixels above it.
fn sum_fours(x: &[f32], (n, h, w, c): (usize, usize, usize, usize), scale: f32, y: &mut [f32]) {
    let (oh, ow) = (h / 2, w / 2);
    let isa = Isa::current();
    let to = Shared::new(y);
    for_each(n * oh, |row| {
        let (image, i) = (row / oh, row % oh);
        let first = (image * h + 2 * i) * w * c;
        let (upper, lower) = (&x[first..][..w * c], &x[first + w * c..][..w * c]);
        // SAFETY: row `row` of y; rows do not overlap.
        unsafe { isa.run(SumRow { upper, lower, to: to.get().add(row * ow * c), w: ow, c, scale }) };
    });
}

/// Contract: the rows hold at least 2w pixels of c, `to` is writable for w pixels.
struct SumRow<'a> {
    upper: &'a [f32],
    lower: &'a [f32],
    to: *mut f32,
    w: usize,
    c: usize,
    scale: f32,
}

impl Kernel for SumRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.c;
        for j in 0..self.w {
            let mut q = 0;
            while q < c {
                let n = c - q;
                // SAFETY: channels q.. of pixels 2j and 2j + 1 of both rows, and of pixel j of the output.
                unsafe {
                    let mut sum = V::splat(0.0);
                    for row in [self.upper, self.lower] {
                        let p = row.as_ptr().add(2 * j * c + q);
                        sum = sum + (V::load_up_to(p, n) + V::load_up_to(p.add(c), n));
                    }
                    (sum * V::splat(self.scale)).store_up_to(self.to.add(j * c + q), n);
                }
                q += V::LANES;
            }
        }
    }
}

/// Contract: `to` is writable for w pixels; `from`, if any, holds w / 2 pixels.
struct SpreadRow<'a> {
    from: Option<&'a [f32]>,
    to: *mut f32,
    w: usize,
    c: usize,
}

impl Kernel for SpreadRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.c;
        for j in 0..self.w {
            let from = self.from.filter(|_| j / 2 < self.w / 2);
            let mut q = 0;
            while q < c {
                let n = c - q;
                // SAFETY: channels q.. of pixel j / 2 of the input and pixel j of the output.
                unsafe {
                    let value = match from {
                        Some(from) => V::load_up_to(from.as_ptr().add(j / 2 * c + q), n) * V::splat(0.25),
                        None => V::splat(0.0),
                    };
                    value.store_up_to(self.to.add(j * c + q), n);
                }
                q += V::LANES;
            }
        }
    }
}
