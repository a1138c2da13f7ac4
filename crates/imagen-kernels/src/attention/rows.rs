//! What is done to rows of scores and of heads, as kernels.

use crate::kernel::Kernel;
use crate::math;
use crate::simd::Simd;

/// Stands for minus infinity, without its arithmetic.
pub(super) const IGNORED: f32 = -1e30;
/// Stands for the logarithm of the sum of a query that attends to nothing: its probabilities are then 0.
pub(super) const NOTHING: f32 = 1e30;

/// Replaces the exponents of each row by `2^(exponent + mask - largest)`, where `largest` is what it was or the greatest
/// of this row; `sums` and the rows of `o` are brought to the new `largest`, and the row is added to its sum.
/// Where every key so far is ignored, the row becomes 0.
///
/// Contract: `rows` is valid for a row of `len` numbers for each of `sums`, `row` apart; `len` is whole vectors, and as
/// many numbers has `mask`; `o`, where given, is valid for d numbers in rows `o_row` apart.
pub(super) struct Exponentials<'a> {
    pub(super) rows: *mut f32,
    pub(super) row: usize,
    pub(super) len: usize,
    pub(super) mask: Option<&'a [f32]>,
    pub(super) largest: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) o: Option<*mut f32>,
    pub(super) o_row: usize,
    pub(super) d: usize,
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.mask {
                None => self.all::<V>(|row, j| V::load(row.add(j))),
                Some(mask) => self.all::<V>(|row, j| V::load(row.add(j)) + V::load(mask.as_ptr().add(j))),
            }
        }
    }
}

impl Exponentials<'_> {
    /// With the exponents of `row` from place j on given by `exponents`.
    #[inline(always)]
    unsafe fn all<V: Simd>(self, exponents: impl Fn(*mut f32, usize) -> V) {
        let len = self.len;
        for (r, (before, sum)) in self.largest.iter_mut().zip(self.sums).enumerate() {
            // SAFETY: whole vectors inside the row; partial ones inside the row of `o`.
            unsafe {
                let row = self.rows.add(r * self.row);
                let mut largest = V::splat(*before);
                for j in (0..len).step_by(V::LANES) {
                    largest = largest.max(exponents(row, j));
                }
                let largest = largest.largest();
                if largest <= 0.5 * IGNORED {
                    row.write_bytes(0, len);
                    continue;
                }
                if largest != *before {
                    let shrink = (*before - largest).exp2();
                    *sum *= shrink;
                    *before = largest;
                    if let Some(o) = self.o {
                        let o = o.add(r * self.o_row);
                        ScaleRows { rows: o, row: 0, len: self.d, scales: &[shrink] }.run::<V>();
                    }
                }
                let largest = V::splat(largest);
                let mut total = V::splat(0.0);
                for j in (0..len).step_by(V::LANES) {
                    let e = math::exp2(exponents(row, j) - largest);
                    e.store(row.add(j));
                    total = total + e;
                }
                *sum += total.sum();
            }
        }
    }
}

/// Copies rows of `d` numbers, `row` apart, next to each other, times `scale`: as they lie, rows of all heads together
/// are often a power of two apart and fall into few cache sets.
///
/// Contract: `to` is valid for `rows * d` numbers.
pub(super) struct CopyRows<'a> {
    pub(super) x: &'a [f32],
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) d: usize,
    pub(super) scale: f32,
    pub(super) to: *mut f32,
}

impl Kernel for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for r in 0..self.rows {
            let x = &self.x[r * self.row..][..self.d];
            let mut j = 0;
            while j < self.d {
                let n = self.d - j;
                // SAFETY: j.. is inside both rows.
                unsafe {
                    let scaled = V::load_up_to(x.as_ptr().add(j), n) * V::splat(self.scale);
                    scaled.store_up_to(self.to.add(r * self.d + j), n);
                }
                j += V::LANES;
            }
        }
    }
}

/// Multiplies each row by a number of its own.
///
/// Contract: `rows` is valid for a row of `len` numbers for each scale, `row` apart.
pub(super) struct ScaleRows<'a> {
    pub(super) rows: *mut f32,
    pub(super) row: usize,
    pub(super) len: usize,
    pub(super) scales: &'a [f32],
}

impl Kernel for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (r, &scale) in self.scales.iter().enumerate() {
            let mut j = 0;
            while j < self.len {
                let n = self.len - j;
                // SAFETY: j.. is inside the row.
                unsafe {
                    let to = self.rows.add(r * self.row + j);
                    (V::load_up_to(to, n) * V::splat(scale)).store_up_to(to, n);
                }
                j += V::LANES;
            }
        }
    }
}

/// The dot product of each row of `x` with that of `y`.
pub(super) struct RowDots<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) row: usize,
    pub(super) d: usize,
    pub(super) dots: &'a mut [f32],
}

impl Kernel for RowDots<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (r, to) in self.dots.iter_mut().enumerate() {
            let (x, y) = (&self.x[r * self.row..][..self.d], &self.y[r * self.row..][..self.d]);
            // SAFETY: j.. is inside both rows.
            unsafe {
                let mut dot = V::splat(0.0);
                let mut j = 0;
                while j < self.d {
                    let n = self.d - j;
                    dot = V::load_up_to(x.as_ptr().add(j), n).mul_add(V::load_up_to(y.as_ptr().add(j), n), dot);
                    j += V::LANES;
                }
                *to = dot.sum();
            }
        }
    }
}

/// For each row, `p = 2^(p + mask - log_sum)` and `dp = p (dp - dot) scale`.
///
/// Contract: `p` and `dp` are valid for `len` numbers, which is whole vectors and as many as `mask` has, in rows `row`
/// apart; there is a row for each of `log_sums` and `dots`.
pub(super) struct SoftmaxBackward<'a> {
    pub(super) p: *mut f32,
    pub(super) dp: *mut f32,
    pub(super) row: usize,
    pub(super) len: usize,
    pub(super) mask: Option<&'a [f32]>,
    pub(super) log_sums: &'a [f32],
    pub(super) dots: &'a [f32],
    pub(super) scale: f32,
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.mask {
                None => self.all::<V>(|row, j| V::load(row.add(j))),
                Some(mask) => self.all::<V>(|row, j| V::load(row.add(j)) + V::load(mask.as_ptr().add(j))),
            }
        }
    }
}

impl SoftmaxBackward<'_> {
    /// With the exponents of `row` from place j on given by `exponents`.
    #[inline(always)]
    unsafe fn all<V: Simd>(self, exponents: impl Fn(*mut f32, usize) -> V) {
        for (r, (&log_sum, &dot)) in self.log_sums.iter().zip(self.dots).enumerate() {
            // SAFETY: whole vectors inside the rows of `p` and `dp`.
            unsafe {
                let (p, dp) = (self.p.add(r * self.row), self.dp.add(r * self.row));
                let (log_sum, dot, scale) = (V::splat(log_sum), V::splat(dot), V::splat(self.scale));
                for j in (0..self.len).step_by(V::LANES) {
                    let e = math::exp2(exponents(p, j) - log_sum);
                    e.store(p.add(j));
                    (e * scale * (V::load(dp.add(j)) - dot)).store(dp.add(j));
                }
            }
        }
    }
}
