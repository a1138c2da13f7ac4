//! Operands of a product as it reads them: the right-hand one in panels of two vectors, the left-hand one in units.

use super::DEPTH;
use crate::kernel::OperandKernel;
use crate::pool::{Shared, for_each};
use crate::precision::Arithmetic;
use crate::simd::{Operands, Simd};

/// Most lanes of a vector.
const LANES: usize = 16;

/// Packs one panel: columns `column..` of B (k x n, rows `row` apart) into `[units of k][NR]`, zero beyond n.
///
/// Contract: `b` readable as stated, `to` writable for the units of k times NR.
pub(crate) struct PackPanel {
    pub(crate) b: *const f32,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) column: usize,
    pub(crate) to: *mut f32,
}

impl OperandKernel for PackPanel {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        let lanes = O::V::LANES;
        let width = self.n.saturating_sub(self.column);
        let (w0, w1) = (width.min(lanes), width.saturating_sub(lanes).min(lanes));
        for p in (0..self.k).step_by(O::STEP) {
            // SAFETY: by the contract; lanes beyond n and rows beyond k are not read.
            unsafe {
                let b = self.b.add(p * self.row + self.column);
                let to = self.to.add(p / O::STEP * 2 * lanes);
                let next = if p + 1 < self.k { self.row } else { 0 };
                for (half, w) in [(0, w0), (lanes, w1)] {
                    let b = b.wrapping_add(half);
                    let first = O::V::load_up_to(b, w);
                    let second = match O::STEP {
                        1 => first,
                        _ if next > 0 => O::V::load_up_to(b.wrapping_add(next), w),
                        _ => O::V::splat(0.0),
                    };
                    O::store_units(first, second, to.add(half));
                }
            }
        }
    }
}

/// Packs one panel of B^T: rows `first..` of X (n x k, rows `row` apart) become columns of the panel.
///
/// Contract: `x` readable as stated, `to` writable for the units of k times NR.
pub(crate) struct PackTransposedPanel {
    pub(crate) x: *const f32,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) first: usize,
    pub(crate) to: *mut f32,
}

impl OperandKernel for PackTransposedPanel {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        let lanes = O::V::LANES;
        let block = lanes * O::STEP;
        for half in 0..2 {
            let first = self.first + half * lanes;
            let rows = self.n.saturating_sub(first).min(lanes);
            let mut p = 0;
            // SAFETY: whole blocks are inside X and the panel; the edges go number by number.
            unsafe {
                let to = self.to.add(half * lanes);
                if rows == lanes {
                    while p + block <= self.k {
                        let (x, to) = (self.x.add(first * self.row + p), to.add(p / O::STEP * 2 * lanes));
                        if !O::ROUNDED {
                            O::V::transpose(x, self.row, to, 2 * lanes);
                        } else {
                            let mut units = [0.0; LANES * LANES];
                            for i in 0..lanes {
                                let (x, to) = (x.add(i * self.row), units.as_mut_ptr().add(i * lanes));
                                for first in (0..block).step_by(lanes) {
                                    O::store_row(O::V::load(x.add(first)), to.add(first / O::STEP));
                                }
                            }
                            O::V::transpose(units.as_ptr(), lanes, to, 2 * lanes);
                        }
                        p += block;
                    }
                }
                while p < self.k {
                    let mut depths = [[0.0; LANES]; 2];
                    for (d, depths) in depths.iter_mut().enumerate().take(O::STEP.min(self.k - p)) {
                        for (lane, value) in depths.iter_mut().enumerate().take(rows) {
                            *value = *self.x.add((first + lane) * self.row + p + d);
                        }
                    }
                    let [one, two] = [O::V::load(depths[0].as_ptr()), O::V::load(depths[1].as_ptr())];
                    O::store_units(one, two, to.add(p / O::STEP * 2 * lanes));
                    p += O::STEP;
                }
            }
        }
    }
}

/// Rows of a left-hand operand, `n` numbers each and `row` apart, as units: depths lie next to each other in a row.
///
/// Contract: `x` readable as stated; `to` writable for rows `to_row` apart, which have room for n in whole vectors.
pub(crate) struct LayRows {
    pub(crate) x: *const f32,
    pub(crate) rows: usize,
    pub(crate) row: usize,
    pub(crate) n: usize,
    pub(crate) to: *mut f32,
    pub(crate) to_row: usize,
}

impl LayRows {
    /// A distance of units between rows of n depths: rows of a power-of-two length would fall into few cache sets.
    pub(crate) fn distance(on: Arithmetic, n: usize) -> usize {
        let units = on.depth(n.next_multiple_of(LANES));
        if units.is_multiple_of(128) { units + LANES } else { units }
    }
}

impl OperandKernel for LayRows {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        for r in 0..self.rows {
            for q in (0..self.n).step_by(O::V::LANES) {
                // SAFETY: q.. is inside both rows.
                unsafe {
                    let (x, to) = (self.x.add(r * self.row + q), self.to.add(r * self.to_row + q / O::STEP));
                    O::store_row(O::V::load_up_to(x, self.n - q), to);
                }
            }
        }
    }
}

/// A transposed left-hand operand: depths are the rows of X, `n` numbers each and `row` apart.
///
/// Contract: `x` readable as stated; `to` writable for the units of `rows`, `to_row` apart, which have room for n in whole
/// vectors.
pub(crate) struct LayColumns {
    pub(crate) x: *const f32,
    pub(crate) rows: usize,
    pub(crate) row: usize,
    pub(crate) n: usize,
    pub(crate) to: *mut f32,
    pub(crate) to_row: usize,
}

impl OperandKernel for LayColumns {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        for r in (0..self.rows).step_by(O::STEP) {
            for q in (0..self.n).step_by(O::V::LANES) {
                // SAFETY: q.. is inside the rows; a row beyond the last is not read.
                unsafe {
                    let (x, to) = (self.x.add(r * self.row + q), self.to.add(r / O::STEP * self.to_row + q));
                    let first = O::V::load_up_to(x, self.n - q);
                    let second = match O::STEP {
                        1 => first,
                        _ if r + 1 < self.rows => O::V::load_up_to(x.add(self.row), self.n - q),
                        _ => O::V::splat(0.0),
                    };
                    O::store_units(first, second, to);
                }
            }
        }
    }
}

/// Units that the packed form of a k x n operand takes.
pub(crate) fn packed_len(on: Arithmetic, k: usize, n: usize) -> usize {
    on.depth(k) * n.next_multiple_of(on.panel())
}

/// Packs B (k x n, contiguous rows) on all threads.
pub(crate) fn pack(on: Arithmetic, b: &[f32], k: usize, n: usize, to: &mut [f32]) {
    assert!(b.len() >= k * n && to.len() >= packed_len(on, k, n), "operands of pack");
    let panel = on.panel();
    let to = Shared::new(to);
    let chunks = k.div_ceil(DEPTH);
    for_each(n.div_ceil(panel) * chunks, |i| {
        let (j, first) = (i / chunks, i % chunks * DEPTH);
        // SAFETY: lengths are asserted above; rows of panels do not overlap.
        unsafe {
            let (b, to) = (b.as_ptr().add(first * n), to.get().add((j * on.depth(k) + on.depth(first)) * panel));
            on.run(PackPanel { b, row: n, k: DEPTH.min(k - first), n, column: j * panel, to });
        }
    });
}

/// Packs X^T for X (n x k, contiguous rows) on all threads.
pub(crate) fn pack_transposed(on: Arithmetic, x: &[f32], n: usize, k: usize, to: &mut [f32]) {
    assert!(x.len() >= k * n && to.len() >= packed_len(on, k, n), "operands of pack_transposed");
    let panel = on.panel();
    let to = Shared::new(to);
    for_each(n.div_ceil(panel), |j| {
        // SAFETY: lengths are asserted above; panels do not overlap.
        unsafe {
            let to = to.get().add(j * on.depth(k) * panel);
            on.run(PackTransposedPanel { x: x.as_ptr(), row: k, k, n, first: j * panel, to });
        }
    });
}
