//! Root-mean-square normalization (Zhang and Sennrich 2019) over the last axis of `[rows, c]`, as T5 has it: no mean,
//! no bias.
//!
//! Nothing is kept for the backward pass: a row's mean square is computed again.

use crate::isa::{Isa, Kernel};
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};

/// Rows in one chunk of work.
const CHUNK: usize = 16;

/// A root-mean-square normalization over `[rows, c]`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// Rows (tokens).
    pub rows: usize,
    /// Features.
    pub c: usize,
    /// Added to the mean square; T5's is 1e-6.
    pub eps: f32,
}

impl RmsNorm {
    /// `y = x / sqrt(mean(x^2) + eps) * gamma`; gamma `[c]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(&self, x: &[f32], gamma: &[f32], y: &mut [f32]) {
        let Self { rows, c, eps } = *self;
        expect_len("x", x, rows * c);
        expect_len("gamma", gamma, c);
        expect_len("y", y, rows * c);
        let isa = Isa::current();
        let to = Shared::new(y);
        for_each(rows.div_ceil(CHUNK), |i| {
            let first = i * CHUNK;
            let x = &x[first * c..][..CHUNK.min(rows - first) * c];
            // SAFETY: rows of this chunk; chunks do not overlap.
            unsafe { isa.run(Forward { x, gamma, eps, y: to.get().add(first * c) }) };
        });
    }

    /// The gradients; `dy_to_dx` holds that of y and is replaced by that of x. `ggamma` is `[c]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn backward(&self, x: &[f32], gamma: &[f32], dy_to_dx: &mut [f32], ggamma: &mut [f32]) {
        let Self { rows, c, eps } = *self;
        expect_len("x", x, rows * c);
        expect_len("gamma", gamma, c);
        expect_len("dy_to_dx", dy_to_dx, rows * c);
        expect_len("ggamma", ggamma, c);
        let isa = Isa::current();
        // Each chunk sums the gradients of its rows; the chunks are added in order.
        let chunk = rows.div_ceil(64).max(16);
        let chunks = rows.div_ceil(chunk);
        let mut parts = scratch::take(chunks * c);
        let (grad, sums) = (Shared::new(dy_to_dx), Shared::new(&mut parts));
        for_each(chunks, |i| {
            let first = i * chunk;
            let x = &x[first * c..][..chunk.min(rows - first) * c];
            // SAFETY: rows of this chunk; chunks do not overlap, and each has its own part.
            unsafe {
                let (dy, ggamma) = (grad.get().add(first * c), sums.get().add(i * c));
                isa.run(Backward { x, gamma, eps, dy, ggamma });
            }
        });
        for (q, ggamma) in ggamma.iter_mut().enumerate() {
            *ggamma = (0..chunks).map(|i| f64::from(parts[i * c + q])).sum::<f64>() as f32;
        }
    }
}

/// The reciprocal root mean square of a row.
///
/// # Safety
/// The instruction set of `V` must be available.
#[inline(always)]
unsafe fn scale_of<V: Simd>(row: &[f32], eps: f32) -> f32 {
    let mut q = 0;
    // SAFETY: q.. is inside the row; lanes beyond it are zero.
    unsafe {
        let (mut even, mut odd) = (V::splat(0.0), V::splat(0.0));
        while q + 2 * V::LANES <= row.len() {
            let (x, y) = (V::load(row.as_ptr().add(q)), V::load(row.as_ptr().add(q + V::LANES)));
            even = x.mul_add(x, even);
            odd = y.mul_add(y, odd);
            q += 2 * V::LANES;
        }
        while q < row.len() {
            let x = V::load_up_to(row.as_ptr().add(q), row.len() - q);
            even = x.mul_add(x, even);
            q += V::LANES;
        }
        1.0 / ((even + odd).sum() / row.len() as f32 + eps).sqrt()
    }
}

/// Contract: `y` is writable for as many numbers as `x` has, which is rows as long as gamma.
struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    y: *mut f32,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.gamma.len();
        for (r, row) in self.x.chunks_exact(c.max(1)).enumerate() {
            // SAFETY: q.. is inside every row.
            unsafe {
                let scale = V::splat(scale_of::<V>(row, self.eps));
                let mut q = 0;
                while q < c {
                    let n = c - q;
                    let x = V::load_up_to(row.as_ptr().add(q), n) * scale;
                    let y = x * V::load_up_to(self.gamma.as_ptr().add(q), n);
                    y.store_up_to(self.y.add(r * c + q), n);
                    q += V::LANES;
                }
            }
        }
    }
}

/// dx in place of dy; `ggamma` gets the gradient of gamma over these rows.
///
/// Contract: as [`Forward`]; `ggamma` is writable for as many numbers as gamma has.
struct Backward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    dy: *mut f32,
    ggamma: *mut f32,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.gamma.len();
        // SAFETY: `ggamma` holds c numbers; q.. is inside every row.
        unsafe {
            self.ggamma.write_bytes(0, c);
            for (r, row) in self.x.chunks_exact(c.max(1)).enumerate() {
                let dy = self.dy.add(r * c);
                let scale = V::splat(scale_of::<V>(row, self.eps));
                let mut product = V::splat(0.0);
                let mut q = 0;
                while q < c {
                    let n = c - q;
                    let x = V::load_up_to(row.as_ptr().add(q), n) * scale;
                    let d = V::load_up_to(dy.add(q), n);
                    product = (d * V::load_up_to(self.gamma.as_ptr().add(q), n)).mul_add(x, product);
                    let sum = self.ggamma.add(q);
                    d.mul_add(x, V::load_up_to(sum, n)).store_up_to(sum, n);
                    q += V::LANES;
                }
                let mean = V::splat(product.sum() / c as f32);
                q = 0;
                while q < c {
                    let n = c - q;
                    let x = V::load_up_to(row.as_ptr().add(q), n) * scale;
                    let dz = V::load_up_to(dy.add(q), n) * V::load_up_to(self.gamma.as_ptr().add(q), n);
                    (x.neg_mul_add(mean, dz) * scale).store_up_to(dy.add(q), n);
                    q += V::LANES;
                }
            }
        }
    }
}
