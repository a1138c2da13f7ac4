//! Root-mean-square normalization (Zhang and Sennrich 2019) over the last axis of `[rows, c]`, as T5 has it: no mean,
//! no bias; for inference.

use crate::expect_len;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;

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
