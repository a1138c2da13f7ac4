//! Linear layers, which are also 1x1 convolutions: `y = (x w + bias + residual) * scale` and its gradients.

use crate::gemm::{Gemm, pack, pack_transposed, packed_len};
use crate::isa::Isa;
use crate::pool::{Shared, for_each};
use crate::rows::{Epilogue, FinishRow, Outer, column_sums};
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

impl Linear {
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
        expect_len("x", x, rows * c);
        expect_len("w", w, c * k);
        expect_len("y", y, rows * k);
        let epilogue = Epilogue { bias, residual, scale };
        epilogue.check(rows, k);
        let isa = Isa::current();
        let mut packed = scratch::take(packed_len(isa, c, k));
        pack(isa, w, c, k, &mut packed);
        product(isa, x, rows, c, k, &packed, epilogue, y);
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

/// `y = epilogue(x packed)` for x `[rows, c]`, y `[rows, k]`.
fn product(
    isa: Isa,
    x: &[f32],
    rows: usize,
    c: usize,
    k: usize,
    packed: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    const BLOCK: usize = 84;
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
