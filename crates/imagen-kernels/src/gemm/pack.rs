//! The right-hand operand of a product in panels of two vectors.

use super::DEPTH;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;

/// Packs one panel: columns `column..` of B (k x n, rows `row` apart) into `[k][NR]`, zero beyond n.
///
/// Contract: `b` readable as stated, `to` writable for `k * NR`.
pub(crate) struct PackPanel {
    pub(crate) b: *const f32,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) column: usize,
    pub(crate) to: *mut f32,
}

impl Kernel for PackPanel {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let width = self.n.saturating_sub(self.column);
        let (w0, w1) = (width.min(V::LANES), width.saturating_sub(V::LANES).min(V::LANES));
        for p in 0..self.k {
            // SAFETY: by the contract; lanes beyond n are not read.
            unsafe {
                let b = self.b.add(p * self.row + self.column);
                let to = self.to.add(p * 2 * V::LANES);
                V::load_up_to(b, w0).store(to);
                V::load_up_to(b.wrapping_add(V::LANES), w1).store(to.add(V::LANES));
            }
        }
    }
}

/// Packs one panel of B^T: rows `first..` of X (n x k, rows `row` apart) become columns of the panel.
///
/// Contract: `x` readable as stated, `to` writable for `k * NR`.
pub(crate) struct PackTransposedPanel {
    pub(crate) x: *const f32,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) first: usize,
    pub(crate) to: *mut f32,
}

impl Kernel for PackTransposedPanel {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let lanes = V::LANES;
        for half in 0..2 {
            let first = self.first + half * lanes;
            let rows = self.n.saturating_sub(first).min(lanes);
            let mut p = 0;
            // SAFETY: whole blocks are inside X and the panel; the edges go number by number.
            unsafe {
                let to = self.to.add(half * lanes);
                if rows == lanes {
                    while p + lanes <= self.k {
                        V::transpose(self.x.add(first * self.row + p), self.row, to.add(p * 2 * lanes), 2 * lanes);
                        p += lanes;
                    }
                }
                while p < self.k {
                    for lane in 0..lanes {
                        let value = if lane < rows { *self.x.add((first + lane) * self.row + p) } else { 0.0 };
                        *to.add(p * 2 * lanes + lane) = value;
                    }
                    p += 1;
                }
            }
        }
    }
}

/// Numbers that the packed form of a k x n operand takes.
pub(crate) fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    k * n.next_multiple_of(isa.panel())
}

/// Packs B (k x n, contiguous rows) on all threads.
pub(crate) fn pack(isa: Isa, b: &[f32], k: usize, n: usize, to: &mut [f32]) {
    assert!(b.len() >= k * n && to.len() >= packed_len(isa, k, n), "operands of pack");
    let panel = isa.panel();
    let to = Shared::new(to);
    let chunks = k.div_ceil(DEPTH);
    for_each(n.div_ceil(panel) * chunks, |i| {
        let (j, first) = (i / chunks, i % chunks * DEPTH);
        // SAFETY: lengths are asserted above; rows of panels do not overlap.
        unsafe {
            let (b, to) = (b.as_ptr().add(first * n), to.get().add((j * k + first) * panel));
            isa.run(PackPanel { b, row: n, k: DEPTH.min(k - first), n, column: j * panel, to });
        }
    });
}

/// Packs X^T for X (n x k, contiguous rows) on all threads.
pub(crate) fn pack_transposed(isa: Isa, x: &[f32], n: usize, k: usize, to: &mut [f32]) {
    assert!(x.len() >= k * n && to.len() >= packed_len(isa, k, n), "operands of pack_transposed");
    let panel = isa.panel();
    let to = Shared::new(to);
    for_each(n.div_ceil(panel), |j| {
        // SAFETY: lengths are asserted above; panels do not overlap.
        unsafe {
            let to = to.get().add(j * k * panel);
            isa.run(PackTransposedPanel { x: x.as_ptr(), row: k, k, n, first: j * panel, to });
        }
    });
}
