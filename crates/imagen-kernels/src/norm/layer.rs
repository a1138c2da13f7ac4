//! Layer normalization (Ba et al. 2016) over the last axis of `[rows, c]`.
//!
//! Nothing is kept for the backward pass: a row's mean and variance are recomputed.

use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};

/// Rows in one chunk of work.
const CHUNK: usize = 64;

/// A layer normalization over `[rows, c]`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Rows (tokens, pixels).
    pub rows: usize,
    /// Features.
    pub c: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// `y = (x - mean) / sqrt(variance + eps) * gamma + beta`; gamma and beta `[c]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32], y: &mut [f32]) {
        let Self { rows, c, eps } = *self;
        expect_len("x", x, rows * c);
        expect_len("gamma", gamma, c);
        expect_len("beta", beta, c);
        expect_len("y", y, rows * c);
        let isa = Isa::current();
        let to = Shared::new(y);
        for_each(rows.div_ceil(CHUNK), |i| {
            let first = i * CHUNK;
            let x = &x[first * c..][..CHUNK.min(rows - first) * c];
            // SAFETY: rows of this chunk; chunks do not overlap.
            unsafe { isa.run(Forward { x, gamma, beta, eps, c, y: to.get().add(first * c) }) };
        });
    }

    /// The gradients; `dy_to_dx` holds that of y and is replaced by that of x. `ggamma` and `gbeta` are `[c]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn backward(&self, x: &[f32], gamma: &[f32], dy_to_dx: &mut [f32], ggamma: &mut [f32], gbeta: &mut [f32]) {
        let Self { rows, c, eps } = *self;
        expect_len("x", x, rows * c);
        expect_len("gamma", gamma, c);
        expect_len("dy_to_dx", dy_to_dx, rows * c);
        expect_len("ggamma", ggamma, c);
        expect_len("gbeta", gbeta, c);
        let isa = Isa::current();
        // Each chunk sums the gradients of its rows; the chunks are added in order.
        let chunk = rows.div_ceil(64).max(16);
        let chunks = rows.div_ceil(chunk);
        let mut parts = scratch::take(chunks * 2 * c);
        let (grad, sums) = (Shared::new(dy_to_dx), Shared::new(&mut parts));
        for_each(chunks, |i| {
            let first = i * chunk;
            let x = &x[first * c..][..chunk.min(rows - first) * c];
            // SAFETY: rows of this chunk; chunks do not overlap, and each has its own part.
            unsafe {
                let (dy, sums) = (grad.get().add(first * c), sums.get().add(i * 2 * c));
                isa.run(Backward { x, gamma, eps, c, dy, sums });
            }
        });
        for q in 0..c {
            let sum = |which: usize| (0..chunks).map(|i| f64::from(parts[(i * 2 + which) * c + q])).sum::<f64>();
            (gbeta[q], ggamma[q]) = (sum(0) as f32, sum(1) as f32);
        }
    }
}

/// Mean and reciprocal standard deviation of a row.
///
/// # Safety
/// The instruction set of `V` must be available.
#[inline(always)]
unsafe fn moments<V: Simd>(row: &[f32], eps: f32) -> (f32, f32) {
    let c = row.len();
    let mut q = 0;
    // SAFETY: q.. is inside the row; lanes beyond it are masked.
    unsafe {
        let mut sum = V::splat(0.0);
        while q < c {
            sum = sum + V::load_up_to(row.as_ptr().add(q), c - q);
            q += V::LANES;
        }
        let mean = sum.sum() / c as f32;
        let centre = V::splat(mean);
        let mut squares = V::splat(0.0);
        q = 0;
        while q + V::LANES <= c {
            let x = V::load(row.as_ptr().add(q)) - centre;
            squares = x.mul_add(x, squares);
            q += V::LANES;
        }
        let mut squares = squares.sum();
        for x in &row[q..] {
            squares += (x - mean) * (x - mean);
        }
        (mean, 1.0 / (squares / c as f32 + eps).sqrt())
    }
}

/// Contract: `y` is writable for as many numbers as `x` has; gamma and beta hold `c`.
struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    c: usize,
    y: *mut f32,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (r, row) in self.x.chunks_exact(self.c.max(1)).enumerate() {
            // SAFETY: q.. is inside every row.
            unsafe {
                let (mean, rstd) = moments::<V>(row, self.eps);
                let (mean, rstd) = (V::splat(mean), V::splat(rstd));
                let mut q = 0;
                while q < self.c {
                    let n = self.c - q;
                    let x = (V::load_up_to(row.as_ptr().add(q), n) - mean) * rstd;
                    let gamma = V::load_up_to(self.gamma.as_ptr().add(q), n);
                    let beta = V::load_up_to(self.beta.as_ptr().add(q), n);
                    x.mul_add(gamma, beta).store_up_to(self.y.add(r * self.c + q), n);
                    q += V::LANES;
                }
            }
        }
    }
}

/// dx in place of dy; `sums[2][c]` get the gradients of beta and gamma over these rows.
///
/// Contract: as [`Forward`]; `sums` is writable for 2c numbers.
struct Backward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    c: usize,
    dy: *mut f32,
    sums: *mut f32,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.c;
        // SAFETY: `sums` holds 2c numbers; q.. is inside every row.
        unsafe {
            self.sums.write_bytes(0, 2 * c);
            for (r, row) in self.x.chunks_exact(c.max(1)).enumerate() {
                let dy = self.dy.add(r * c);
                let (mean, rstd) = moments::<V>(row, self.eps);
                let (mean, rstd) = (V::splat(mean), V::splat(rstd));
                let (mut m1, mut m2) = (V::splat(0.0), V::splat(0.0));
                let mut q = 0;
                while q < c {
                    let n = c - q;
                    let x = (V::load_up_to(row.as_ptr().add(q), n) - mean) * rstd;
                    let d = V::load_up_to(dy.add(q), n);
                    let dz = d * V::load_up_to(self.gamma.as_ptr().add(q), n);
                    m1 = m1 + dz;
                    m2 = dz.mul_add(x, m2);
                    let (gbeta, ggamma) = (self.sums.add(q), self.sums.add(c + q));
                    (V::load_up_to(gbeta, n) + d).store_up_to(gbeta, n);
                    d.mul_add(x, V::load_up_to(ggamma, n)).store_up_to(ggamma, n);
                    q += V::LANES;
                }
                let (m1, m2) = (V::splat(m1.sum() / c as f32), V::splat(m2.sum() / c as f32));
                q = 0;
                while q < c {
                    let n = c - q;
                    let x = (V::load_up_to(row.as_ptr().add(q), n) - mean) * rstd;
                    let dz = V::load_up_to(dy.add(q), n) * V::load_up_to(self.gamma.as_ptr().add(q), n);
                    (x.neg_mul_add(m2, dz - m1) * rstd).store_up_to(dy.add(q), n);
                    q += V::LANES;
                }
            }
        }
    }
}
