//! Linear layers, which are also 1x1 convolutions: `y = (x w + bias + residual) * scale` and its gradients.
//!
//! A product reads packed weights. Packing moves each weight three times, which many rows hide and few do not: weights
//! that stay the same can be kept packed ([`Linear::prepare`]), and for a handful of rows they are read where they lie.

use crate::gemm::{Gemm, pack, pack_transposed, packed_len};
use crate::isa::{Isa, Kernel};
use crate::pool::{Shared, for_each};
use crate::rows::{Epilogue, FinishRow, Outer, column_sums};
use crate::scratch::Aligned;
use crate::simd::Simd;
use crate::{expect_len, scratch};

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
    isa: Isa,
    c: usize,
    k: usize,
    data: Aligned,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { isa, c, k, .. } = self;
        write!(f, "Prepared {{ {isa:?}, c: {c}, k: {k} }}")
    }
}

impl Linear {
    /// Most rows for which [`Linear::forward`] reads the weights where they lie.
    pub const FEW_ROWS: usize = 8;

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
        let isa = Isa::current();
        if rows <= Self::FEW_ROWS {
            return few_rows(isa, self, x, w, epilogue, y);
        }
        let mut packed = scratch::take(packed_len(isa, c, k));
        pack(isa, w, c, k, &mut packed);
        product(isa, x, rows, c, k, &packed, epilogue, y);
    }

    /// Packs weights `[c, k]` once, for any number of products.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn prepare(&self, w: &[f32]) -> Prepared {
        let Self { c, k, .. } = *self;
        expect_len("w", w, c * k);
        let isa = Isa::current();
        let mut data = Aligned::new(packed_len(isa, c, k));
        pack(isa, w, c, k, &mut data);
        Prepared { isa, c, k, data }
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
        product(w.isa, x, rows, c, k, &w.data, epilogue, y);
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
        let Self { rows, c, k } = *self;
        expect_len("gy", gy, rows * k);
        expect_len("w", w, c * k);
        expect_len("gx", gx, rows * c);
        let isa = Isa::current();
        let mut packed = scratch::take(packed_len(isa, k, c));
        pack_transposed(isa, w, c, k, &mut packed);
        product(isa, gy, rows, k, c, &packed, Epilogue::NONE, gx);
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
        let isa = Isa::current();
        Outer { rows, m: c, n: k, a: x, a_row: c, b: gy, b_row: k, accumulate: false }.run(isa, gw);
        if let Some(gb) = gb {
            expect_len("gb", gb, k);
            column_sums(isa, gy, rows, k, gb);
        }
    }
}

/// `y = epilogue(x w)` for few rows: the weights pass once, in long stretches, as memory likes it.
fn few_rows(isa: Isa, linear: &Linear, x: &[f32], w: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
    /// Columns of one unit of work: their sums stay in the first-level cache.
    const COLUMNS: usize = 256;
    let Linear { rows, c, k } = *linear;
    let to = Shared::new(y);
    for_each(k.div_ceil(COLUMNS), |i| {
        let column = i * COLUMNS;
        let n = COLUMNS.min(k - column);
        let part = Epilogue { bias: epilogue.bias.map(|b| &b[column..column + n]), ..epilogue };
        // SAFETY: columns column..column + n of the weights and of every row of y; units of work do not overlap.
        unsafe {
            let y = to.get().add(column);
            isa.run(AddProducts { x, rows, c, w: w.as_ptr().wrapping_add(column), row: k, n, y });
            for r in 0..rows {
                let residual = part.residual.map(|x| &x[r * k + column..][..n]);
                let y = y.add(r * k);
                isa.run(FinishRow { from: y, to: y, row: 0, k: n, epilogue: Epilogue { residual, ..part } });
            }
        }
    });
}

/// `y = x w` for x `[rows, c]` and n columns of w and y, whose rows are `row` apart.
///
/// Contract: w and y are valid as stated.
struct AddProducts<'a> {
    x: &'a [f32],
    rows: usize,
    c: usize,
    w: *const f32,
    row: usize,
    n: usize,
    y: *mut f32,
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        /// Rows of w that are read side by side.
        const DEPTH: usize = 4;
        // SAFETY: by the contract; partial vectors touch what is left of the n columns only.
        unsafe {
            for r in 0..self.rows {
                std::slice::from_raw_parts_mut(self.y.add(r * self.row), self.n).fill(0.0);
            }
            for p in (0..self.c).step_by(DEPTH) {
                let depth = DEPTH.min(self.c - p);
                let w = self.w.add(p * self.row);
                for r in 0..self.rows {
                    let (x, y) = (&self.x[r * self.c + p..][..depth], self.y.add(r * self.row));
                    let factors: [V; DEPTH] = std::array::from_fn(|d| V::splat(x.get(d).copied().unwrap_or(0.0)));
                    let mut q = 0;
                    if depth == DEPTH {
                        while q + V::LANES <= self.n {
                            let mut sum = V::load(y.add(q));
                            for (d, &factor) in factors.iter().enumerate() {
                                sum = factor.mul_add(V::load(w.add(d * self.row + q)), sum);
                            }
                            sum.store(y.add(q));
                            q += V::LANES;
                        }
                    }
                    while q < self.n {
                        let n = self.n - q;
                        let mut sum = V::load_up_to(y.add(q), n);
                        for (d, &factor) in factors.iter().enumerate().take(depth) {
                            sum = factor.mul_add(V::load_up_to(w.add(d * self.row + q), n), sum);
                        }
                        sum.store_up_to(y.add(q), n);
                        q += V::LANES;
                    }
                }
            }
        }
    }
}

/// `y = epilogue(x packed)` for x `[rows, c]`, y `[rows, k]`.
pub(crate) fn product(
    isa: Isa,
    x: &[f32],
    rows: usize,
    c: usize,
    k: usize,
    packed: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    const BLOCK: usize = 48;
    let panel = isa.panel();
    let panels = k.div_ceil(panel);
    let blocks = rows.div_ceil(BLOCK);
    // Few rows: cut the columns too, so that every thread has work.
    let span = if blocks >= 8 { panels } else { panels.div_ceil(8) }.max(1);
    let spans = panels.div_ceil(span);
    let to = Shared::new(y);
    for_each(blocks * spans, |i| {
        let (first, j) = (i / spans * BLOCK, i % spans * span);
        let m = BLOCK.min(rows - first);
        let column = j * panel;
        let n = (k - column).min(span * panel);
        // SAFETY: rows first..first + m of x and y, panels j.. of the weights; blocks of y do not overlap.
        unsafe {
            let y = to.get().add(first * k + column);
            let (mut a, mut a_row) = (x.as_ptr().add(first * c), c);
            let copy;
            if c.is_multiple_of(512) {
                // Rows of a power-of-two length fall into few cache sets: copy them to rows that do not.
                a_row = c + 16;
                let mut rows = scratch::take(m * a_row);
                for r in 0..m {
                    rows[r * a_row..][..c].copy_from_slice(&x[(first + r) * c..][..c]);
                }
                copy = rows;
                a = copy.as_ptr();
            }
            Gemm {
                m,
                k: c,
                n,
                a,
                a_row,
                a_col: 1,
                b: packed.as_ptr().add(j * c * panel),
                b_panel: c * panel,
                c: y,
                c_row: k,
                accumulate: false,
            }
            .run_deep(isa);
            if !epilogue.is_none() {
                let part = Epilogue { bias: epilogue.bias.map(|b| &b[column..column + n]), ..epilogue };
                for r in 0..m {
                    let residual = part.residual.map(|x| &x[(first + r) * k + column..][..n]);
                    let y = y.add(r * k);
                    isa.run(FinishRow { from: y, to: y, row: 0, k: n, epilogue: Epilogue { residual, ..part } });
                }
            }
        }
    });
}
