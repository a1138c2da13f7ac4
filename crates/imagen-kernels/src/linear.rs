//! Linear layers, which are also 1x1 convolutions: `y = (x w + bias + residual) * scale` and its gradients.
//!
//! A product reads packed weights. Packing moves each weight three times, which many rows hide and few do not: weights
//! that stay the same can be kept packed ([`Linear::prepare`]), and for few rows they are packed in the cache, block by block.

use crate::gemm::{
    Ahead, Gemm, LayRows, PackPanel, PackTransposedPanel, ROW, Region, pack, pack_transposed, packed_len,
};
use crate::isa::Isa;
use crate::pool::{Shared, for_each};
use crate::precision::{Arithmetic, Precision};
use crate::rows::{Epilogue, FinishRow, FinishRows, Outer};
use crate::scratch::Aligned;
use crate::{expect_len, scratch};
use std::ops::Range;
use std::ptr;

/// A linear layer: x `[rows, c]`, w `[c, k]`, y `[rows, k]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Rows (tokens, pixels).
    pub rows: usize,
    /// Input features.
    pub c: usize,
    /// Output features.
    pub k: usize,
}

/// Weights packed for [`Linear::forward_prepared`]; made by [`Linear::prepare`], for any number of rows.
pub struct Prepared {
    on: Arithmetic,
    c: usize,
    k: usize,
    data: Aligned,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { on: Arithmetic { isa, precision }, c, k, .. } = self;
        write!(f, "Prepared {{ {isa:?}, {precision:?}, c: {c}, k: {k} }}")
    }
}

impl Linear {
    /// Most rows for which [`Linear::forward`] and [`Linear::grad_input`] pack the weights block by block.
    pub const FEW_ROWS: usize = 16;

    /// `y = (x w + bias + residual) * scale`; bias `[k]`, residual `[rows, k]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        let Self { rows, c, k } = *self;
        let epilogue = self.check_forward(x, bias, residual, scale, y);
        expect_len("w", w, c * k);
        let on @ Arithmetic { isa, .. } = Arithmetic::current();
        if rows <= Self::FEW_ROWS {
            let pack = |depths: Range<usize>, column: usize, to: *mut f32| {
                let (b, k) = (w[depths.start * k..].as_ptr(), depths.len());
                // SAFETY: rows of w; a panel of the block.
                unsafe { isa.run_single(PackPanel { b, row: self.k, k, n: self.k, column, to }) };
            };
            let lies = |depths: Range<usize>, columns: Range<usize>| {
                let from = w.as_ptr().wrapping_add(depths.start * k + columns.start);
                Region::rows(from, k, depths.len(), columns.len())
            };
            return few_rows(isa, x, [rows, c, k], 256, pack, lies, epilogue, false, y);
        }
        let mut packed = scratch::take(packed_len(on, c, k));
        pack(on, w, c, k, &mut packed);
        product(on, x, [rows, c, k], 0..k, &packed, epilogue, false, y);
    }

    /// Packs weights `[c, k]` once, for any number of products.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn prepare(&self, w: &[f32]) -> Prepared {
        let Self { c, k, .. } = *self;
        expect_len("w", w, c * k);
        let on = Arithmetic::current();
        let mut data = Aligned::new(packed_len(on, c, k));
        pack(on, w, c, k, &mut data);
        Prepared { on, c, k, data }
    }

    /// [`Linear::forward`] with packed weights.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape, or the weights are of another one.
    pub fn forward_prepared(
        &self,
        x: &[f32],
        w: &Prepared,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        let Self { rows, c, k } = *self;
        let epilogue = self.check_forward(x, bias, residual, scale, y);
        assert!((w.c, w.k) == (c, k), "the weights were packed for {w:?}, the layer is {self:?}");
        product(w.on, x, [rows, c, k], 0..k, &w.data, epilogue, false, y);
    }

    #[track_caller]
    fn check_forward<'a>(
        &self,
        x: &[f32],
        bias: Option<&'a [f32]>,
        residual: Option<&'a [f32]>,
        scale: f32,
        y: &[f32],
    ) -> Epilogue<'a> {
        let Self { rows, c, k } = *self;
        expect_len("x", x, rows * c);
        expect_len("y", y, rows * k);
        let epilogue = Epilogue::new(bias, residual, scale);
        epilogue.check(rows, k);
        epilogue
    }

    /// `gx = gy w^T`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn grad_input(&self, gy: &[f32], w: &[f32], gx: &mut [f32]) {
        self.grad_input_onto(gy, w, false, gx);
    }

    /// `gx += gy w^T`: of an input that has a gradient already.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn add_grad_input(&self, gy: &[f32], w: &[f32], gx: &mut [f32]) {
        self.grad_input_onto(gy, w, true, gx);
    }

    fn grad_input_onto(&self, gy: &[f32], w: &[f32], accumulate: bool, gx: &mut [f32]) {
        let Self { rows, c, k } = *self;
        expect_len("gy", gy, rows * k);
        expect_len("w", w, c * k);
        expect_len("gx", gx, rows * c);
        let on @ Arithmetic { isa, .. } = Arithmetic::current();
        if rows <= Self::FEW_ROWS {
            let pack = |depths: Range<usize>, first: usize, to: *mut f32| {
                let (x, k) = (w[depths.start..].as_ptr(), depths.len());
                // SAFETY: columns of w; a panel of the block.
                unsafe { isa.run_single(PackTransposedPanel { x, row: self.k, k, n: c, first, to }) };
            };
            let lies = |depths: Range<usize>, columns: Range<usize>| {
                let from = w.as_ptr().wrapping_add(columns.start * k + depths.start);
                Region::rows(from, k, columns.len(), depths.len())
            };
            return few_rows(isa, gy, [rows, k, c], 64, pack, lies, Epilogue::NONE, accumulate, gx);
        }
        let mut packed = scratch::take(packed_len(on, k, c));
        pack_transposed(on, w, c, k, &mut packed);
        product(on, gy, [rows, k, c], 0..c, &packed, Epilogue::NONE, accumulate, gx);
    }

    /// `gw = x^T gy`, and the column sums of gy in `gb` `[k]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn grad_weight(&self, x: &[f32], gy: &[f32], gw: &mut [f32], gb: Option<&mut [f32]>) {
        let Self { rows, c, k } = *self;
        expect_len("x", x, rows * c);
        expect_len("gy", gy, rows * k);
        expect_len("gw", gw, c * k);
        if let Some(gb) = gb.as_deref() {
            expect_len("gb", gb, k);
        }
        Outer { rows, m: c, n: k, a: x, b: gy }.run(Arithmetic::current(), gw, gb);
    }
}

/// `y = epilogue(x B)`, or `+=` if `accumulate`, for few rows of x: a block of B (depth x width) is packed into the cache
/// right before it is used, so that B passes once. `pack` packs some depths of the panel that begins at a column, `lies` says
/// where some depths of some columns lie; a unit of work takes `wide` columns, whole panels on every instruction set.
fn few_rows(
    isa: Isa,
    x: &[f32],
    [rows, depth, width]: [usize; 3],
    wide: usize,
    pack: impl Fn(Range<usize>, usize, *mut f32) + Sync,
    lies: impl Fn(Range<usize>, Range<usize>) -> Region + Sync,
    epilogue: Epilogue<'_>,
    accumulate: bool,
    y: &mut [f32],
) {
    let panel = isa.panel();
    let to = Shared::new(y);
    for_each(width.div_ceil(wide), |i| {
        let column = i * wide;
        let n = wide.min(width - column);
        let mut packed = scratch::take(ROW * wide);
        // Rows of x and y are often a power of two apart, and would keep each other out of the cache.
        let (mut part, mut sums) = (scratch::take(rows * ROW), scratch::take(rows * wide));
        // SAFETY: columns column..column + n of every row of y; units of work do not overlap.
        let y = |r: usize| unsafe { to.get().add(r * width + column) };
        sums.fill(0.0);
        for r in (0..rows).filter(|_| accumulate) {
            // SAFETY: as above.
            unsafe { sums.as_mut_ptr().add(r * wide).copy_from_nonoverlapping(y(r), n) };
        }
        for p in (0..depth).step_by(ROW) {
            let depths = p..depth.min(p + ROW);
            for (r, row) in part.chunks_exact_mut(ROW).enumerate() {
                row[..depths.len()].copy_from_slice(&x[r * depth..][depths.clone()]);
            }
            for j in (0..n).step_by(panel) {
                pack(depths.clone(), column + j, packed[j * depths.len()..].as_mut_ptr());
            }
            let (k, a, b, c) = (depths.len(), part.as_ptr(), packed.as_ptr(), sums.as_mut_ptr());
            let (b_panel, c_row, accumulate) = (k * panel, wide, true);
            let product = Gemm { m: rows, k, n, a, a_row: ROW, a_col: 1, b, b_panel, c, c_row, accumulate };
            let ahead = Ahead::read([lies(depths.end..depth.min(depths.end + ROW), column..column + n), Region::NONE]);
            // SAFETY: the operands were made above.
            unsafe { product.run_onto(isa.into(), ptr::null(), ahead) };
        }
        for r in 0..rows {
            let bias = epilogue.bias.map(|b| &b[column..column + n]);
            let residual = epilogue.residual.map(|x| &x[r * width + column..][..n]);
            let (from, epilogue) = (&sums[r * wide], Epilogue { bias, residual, ..epilogue });
            // SAFETY: n numbers of the sums and of a row of y.
            unsafe { isa.run(FinishRow { from, to: y(r), row: 0, k: n, epilogue }) };
        }
    });
}

/// `y = epilogue(x packed)` for x `[rows, c]` and some columns of y `[rows, k]`, whose weights are packed; the product is added
/// to what y holds if `accumulate`. The columns begin with a whole panel.
pub(crate) fn product(
    on: Arithmetic,
    x: &[f32],
    [rows, c, k]: [usize; 3],
    columns: Range<usize>,
    packed: &[f32],
    epilogue: Epilogue<'_>,
    accumulate: bool,
    y: &mut [f32],
) {
    const BLOCK: usize = 48;
    let panel = on.panel();
    let depth = on.depth(c);
    let panels = columns.len().div_ceil(panel);
    let blocks = rows.div_ceil(BLOCK);
    // Few rows: cut the columns too, so that every thread has work.
    let span = if blocks >= 8 { panels } else { panels.div_ceil(8) }.max(1);
    let spans = panels.div_ceil(span);
    let y = Shared::new(y);
    for_each(blocks * spans, |i| {
        let (first, j) = (i / spans * BLOCK, i % spans * span);
        let m = BLOCK.min(rows - first);
        let column = columns.start + j * panel;
        let n = (columns.end - column).min(span * panel);
        // SAFETY: rows first..first + m of x and y, panels j.. of the weights; blocks of y do not overlap.
        unsafe {
            let (mut a, mut a_row) = (x.as_ptr().add(first * c), c);
            let mut copy;
            if on.precision == Precision::Bf16 {
                a_row = LayRows::distance(on, c);
                copy = scratch::take(m * a_row);
                on.run(LayRows { x: a, rows: m, row: c, n: c, to: copy.as_mut_ptr(), to_row: a_row });
                a = copy.as_ptr();
            } else if c.is_multiple_of(512) {
                // Rows of a power-of-two length fall into few cache sets: copy them to rows that do not.
                a_row = c + 16;
                copy = scratch::take(m * a_row);
                for r in 0..m {
                    copy[r * a_row..][..c].copy_from_slice(&x[(first + r) * c..][..c]);
                }
                a = copy.as_ptr();
            }
            let bias = epilogue.bias.filter(|_| !accumulate);
            let next = first + BLOCK;
            let ahead = match BLOCK.min(rows.saturating_sub(next)) {
                m if m > 0 && j + 1 == spans => Ahead {
                    read: [Region::stretch(x.as_ptr().wrapping_add(next * c), m * c), Region::NONE],
                    write: Region::stretch(y.get().wrapping_add(next * k), m * k),
                },
                _ => Ahead::NOTHING,
            };
            Gemm {
                m,
                k: depth,
                n,
                a,
                a_row,
                a_col: 1,
                b: packed.as_ptr().add(j * depth * panel),
                b_panel: depth * panel,
                c: y.get().add(first * k + column),
                c_row: k,
                accumulate,
            }
            .run_deep_onto(on, bias.map_or(ptr::null(), |bias| bias[column..].as_ptr()), ahead);
            let epilogue = Epilogue { bias: epilogue.bias.filter(|_| accumulate), ..epilogue };
            if !epilogue.is_none() {
                on.isa.run(FinishRows { y: y.get(), first, rows: m, k, column, n, epilogue });
            }
        }
    });
}
