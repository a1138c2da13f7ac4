//! Work on matrices of rows that several kernels share: column sums, the epilogue `(y + bias + residual) * scale`,
//! and products that sum over rows (weight gradients).

use crate::gemm::{Ahead, DEPTH, Gemm, LayColumns, PackPanel, Region, packed_len};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::precision::{Arithmetic, Precision};
use crate::scratch;
use crate::simd::Simd;
use std::ptr;

/// What is done to a result before it is stored: `(y + bias + residual) * scale`, and nothing below `least`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) scale: f32,
    /// 0 for a rectified result.
    pub(crate) least: f32,
}

impl<'a> Epilogue<'a> {
    /// Leaves the result as it is.
    pub(crate) const NONE: Epilogue<'static> = Epilogue::new(None, None, 1.0);

    /// `(y + bias + residual) * scale`.
    pub(crate) const fn new(bias: Option<&'a [f32]>, residual: Option<&'a [f32]>, scale: f32) -> Self {
        Self { bias, residual, scale, least: f32::NEG_INFINITY }
    }

    /// What is done once everything is added up; what is not a number stays so.
    #[inline(always)]
    pub(crate) fn end<V: Simd>(&self, y: V) -> V {
        // SAFETY: V is of the instruction set that the caller runs on.
        unsafe { V::splat(self.least).max(y * V::splat(self.scale)) }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && self.scale == 1.0 && self.least == f32::NEG_INFINITY
    }

    /// Checks lengths against `rows` rows of `k` columns.
    #[track_caller]
    pub(crate) fn check(&self, rows: usize, k: usize) {
        if let Some(bias) = self.bias {
            crate::expect_len("bias", bias, k);
        }
        if let Some(residual) = self.residual {
            crate::expect_len("residual", residual, rows * k);
        }
    }
}

/// Copies one row of `k` numbers from `from` to row `row` of the output, through the epilogue. `from` may be the
/// output row itself.
///
/// Contract: `from` and `to` valid for k numbers; the epilogue was checked against the output.
pub(crate) struct FinishRow<'a> {
    pub(crate) from: *const f32,
    pub(crate) to: *mut f32,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

impl Kernel for FinishRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.k {
            let n = self.k - q;
            // SAFETY: q.. is inside every row; partial vectors touch n numbers only.
            unsafe {
                let mut y = V::load_up_to(self.from.add(q), n);
                if let Some(bias) = self.epilogue.bias {
                    y = y + V::load_up_to(bias.as_ptr().add(q), n);
                }
                if let Some(residual) = self.epilogue.residual {
                    y = y + V::load_up_to(residual.as_ptr().add(self.row * self.k + q), n);
                }
                self.epilogue.end(y).store_up_to(self.to.add(q), n);
            }
            q += V::LANES;
        }
    }
}

/// The epilogue on columns `column..column + n` of some rows of y, k numbers each, from row `first` on.
///
/// Contract: `y` is valid for the rows; the epilogue was checked against them.
pub(crate) struct FinishRows<'a> {
    pub(crate) y: *mut f32,
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) column: usize,
    pub(crate) n: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

impl Kernel for FinishRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Self { k, column, n, epilogue, .. } = self;
        for row in self.first..self.first + self.rows {
            let residual = epilogue.residual.map(|x| &x[row * k + column..][..n]);
            let bias = epilogue.bias.map(|bias| &bias[column..][..n]);
            // SAFETY: n numbers of a row.
            unsafe {
                let y = self.y.add(row * k + column);
                FinishRow { from: y, to: y, row: 0, k: n, epilogue: Epilogue { bias, residual, ..epilogue } }
                    .run::<V>();
            }
        }
    }
}

/// Adds up the rows of X (rows x k, `row` apart) into `sums` (k numbers), on top of what is there if `accumulate`.
///
/// Contract: x and `sums` are valid as stated.
pub(crate) struct SumRows {
    pub(crate) x: *const f32,
    pub(crate) rows: usize,
    pub(crate) row: usize,
    pub(crate) k: usize,
    pub(crate) sums: *mut f32,
    pub(crate) accumulate: bool,
}

impl Kernel for SumRows {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.k {
            let n = self.k - q;
            // SAFETY: column q.. of every row; partial vectors touch n numbers only.
            unsafe {
                let to = self.sums.add(q);
                let mut sum = if self.accumulate { V::load_up_to(to, n) } else { V::splat(0.0) };
                for r in 0..self.rows {
                    sum = sum + V::load_up_to(self.x.add(r * self.row + q), n);
                }
                sum.store_up_to(to, n);
            }
            q += V::LANES;
        }
    }
}

/// `sums[j] = sum over rows of x[row][j]`, in a fixed order.
pub(crate) fn column_sums(isa: Isa, x: &[f32], rows: usize, k: usize, sums: &mut [f32]) {
    assert!(x.len() == rows * k && sums.len() == k, "operands of column_sums");
    let chunk = rows.div_ceil(64).max(64);
    let chunks = rows.div_ceil(chunk);
    let mut parts = scratch::take(chunks * k);
    let to = Shared::new(&mut parts);
    for_each(chunks, |i| {
        let first = i * chunk;
        // SAFETY: rows of this chunk; each chunk has its own part.
        unsafe {
            let rows = chunk.min(rows - first);
            isa.run(SumRows {
                x: x.as_ptr().add(first * k),
                rows,
                row: k,
                k,
                sums: to.get().add(i * k),
                accumulate: false,
            });
        }
    });
    for (j, sum) in sums.iter_mut().enumerate() {
        *sum = (0..chunks).map(|i| f64::from(parts[i * k + j])).sum::<f64>() as f32;
    }
}

/// `sum[j] = sum over parts of parts[part][j]`, in order; parts are `row` apart.
pub(crate) fn add_parts(isa: Isa, parts: &[f32], row: usize, count: usize, sum: &mut [f32]) {
    const CHUNK: usize = 8192;
    let len = sum.len();
    assert!(count > 0 && parts.len() >= (count - 1) * row + len, "operands of add_parts");
    let to = Shared::new(sum);
    for_each(len.div_ceil(CHUNK), |i| {
        let first = i * CHUNK;
        // SAFETY: columns first.. of every part; chunks do not overlap.
        unsafe {
            let (x, k) = (parts.as_ptr().add(first), CHUNK.min(len - first));
            isa.run(SumRows { x, rows: count, row, k, sums: to.get().add(first), accumulate: false });
        }
    });
}

/// `to (m x n) = A^T B` for so few columns that parts of the rows can have sums of their own, which are added in order.
///
/// `left(first, count, room)` gives A's rows `first..first + count`, next to each other: where they lie, or in `room` for
/// at most [`DEPTH`] of them; `following(first, count)` says what it will read for them. The sums of B's columns go to `sums`.
pub(crate) fn outer_in_parts(
    on: Arithmetic,
    [rows, m, n]: [usize; 3],
    b: &[f32],
    to: &mut [f32],
    left: impl Fn(usize, usize, &mut [f32]) -> *const f32 + Sync,
    following: impl Fn(usize, usize) -> Region + Sync,
    sums: Option<&mut [f32]>,
) {
    /// Most numbers of all sums.
    const MOST: usize = 1 << 19;
    /// Columns of a unit of work: some panels on every instruction set.
    const SPAN: usize = 128;
    assert!(b.len() >= rows * n && to.len() >= m * n, "operands of outer_in_parts");
    if rows == 0 {
        sums.into_iter().for_each(|sums| sums.fill(0.0));
        return to[..m * n].fill(0.0);
    }
    let Arithmetic { isa, precision } = on;
    let panel = on.panel();
    let most = (MOST / (m * n).max(1)).clamp(1, 16);
    let part = rows.div_ceil((rows / 512).clamp(1, most)).next_multiple_of(DEPTH);
    let parts = rows.div_ceil(part);
    let spans = n.div_ceil(SPAN);
    // Each part's product, then its sums of columns.
    let size = m * n + n;
    let mut all = scratch::take(parts * size);
    let to_part = Shared::new(&mut all);
    for_each(parts * spans, |i| {
        let (i, column) = (i / spans, i % spans * SPAN);
        let width = SPAN.min(n - column);
        let mut room = scratch::take(DEPTH * m);
        let mut packed = scratch::take(packed_len(on, DEPTH, width));
        let laid_row = m.next_multiple_of(LANES);
        let mut laid = scratch::take(if precision == Precision::Bf16 { on.depth(DEPTH) * laid_row } else { 0 });
        for first in (i * part..rows.min((i + 1) * part)).step_by(DEPTH) {
            let k = DEPTH.min(rows - first);
            let rows_of_a = left(first, k, &mut room);
            // SAFETY: rows first..first + k of both, room for a packed block; each part has its own sums, each unit columns.
            unsafe {
                let units = on.depth(k);
                for j in (0..width).step_by(panel) {
                    let (b, to) = (b.as_ptr().add(first * n), packed.as_mut_ptr().add(j * units));
                    on.run(PackPanel { b, row: n, k, n: column + width, column: column + j, to });
                }
                let (a, a_col) = match precision {
                    Precision::F32 => (rows_of_a, m),
                    Precision::Bf16 => {
                        let (x, to) = (rows_of_a, laid.as_mut_ptr());
                        on.run(LayColumns { x, rows: k, row: m, n: m, to, to_row: laid_row });
                        (laid.as_ptr(), laid_row)
                    }
                };
                let (next, ahead) = (first + k, DEPTH.min(rows - first - k));
                let next_b = Region::rows(b.as_ptr().wrapping_add(next * n + column), n, ahead, width);
                let ahead = Ahead::read([following(next, ahead), next_b]);
                let c = to_part.get().add(i * size + column);
                let accumulate = first > i * part;
                match precision {
                    Precision::F32 => {
                        for j in (0..width).step_by(panel) {
                            let (x, count, k) = (packed.as_ptr().add(j * k), k, panel.min(width - j));
                            isa.run(SumRows { x, rows: count, row: panel, k, sums: c.add(m * n + j), accumulate });
                        }
                    }
                    Precision::Bf16 => {
                        let x = b.as_ptr().add(first * n + column);
                        isa.run(SumRows { x, rows: k, row: n, k: width, sums: c.add(m * n), accumulate });
                    }
                }
                let (b, b_panel, k) = (packed.as_ptr(), units * panel, units);
                let product = Gemm { m, k, n: width, a, a_row: 1, a_col, b, b_panel, c, c_row: n, accumulate };
                product.run_onto(on, ptr::null(), ahead);
            }
        }
    });
    add_parts(isa, &all, size, parts, &mut to[..m * n]);
    if let Some(sums) = sums {
        add_parts(isa, &all[m * n..], size, parts, sums);
    }
}

/// Most lanes of a vector.
const LANES: usize = 16;

/// Units of B that one pass of [`Outer`] packs, unless its depth would fall below [`DEPTH`].
const OUTER_PACKED: usize = 1 << 16;

/// Rows of C of one unit of work of [`Outer`].
const OUTER_BLOCK: usize = 24;

/// Most rows that one pass of [`Outer`] packs.
const OUTER_ROWS: usize = 2048;

/// `c (m x n) = A^T B`, summed over `rows` rows of A (m columns) and B (n columns), and the sums of B's columns.
pub(crate) struct Outer<'a> {
    pub(crate) rows: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
}

impl Outer<'_> {
    pub(crate) fn run(self, on: Arithmetic, c: &mut [f32], sums: Option<&mut [f32]>) {
        let Self { rows, m, n, .. } = self;
        assert!(self.a.len() >= rows * m && self.b.len() >= rows * n && c.len() >= m * n, "operands of Outer");
        /// Most numbers of C of which every part of many rows may have its own.
        const FEW: usize = 1 << 17;
        if rows == 0 || (m * n <= FEW && rows >= 1024) {
            // SAFETY: row `first` of A; its columns lie next to each other.
            let left = |first: usize, _: usize, _: &mut [f32]| unsafe { self.a.as_ptr().add(first * m) };
            let following =
                |first: usize, count: usize| Region::stretch(self.a.as_ptr().wrapping_add(first * m), count * m);
            return outer_in_parts(on, [rows, m, n], self.b, c, left, following, sums);
        }
        if let Some(sums) = sums {
            column_sums(on.isa, self.b, rows, n, sums);
        }
        let (panel, step) = (on.panel(), on.step());
        let panels = n.div_ceil(panel);
        // What is packed at a time stays in the second-level cache.
        let most = (OUTER_PACKED / (panels * panel).max(1) / DEPTH * DEPTH).clamp(DEPTH, OUTER_ROWS) * step;
        let most = most.min(rows);
        let mut packed = scratch::take(panels * panel * on.depth(most));
        // Blocks of rows of C, by shape alone.
        let blocks = m.div_ceil(OUTER_BLOCK);
        let mut first = 0;
        while first < rows {
            let rows = most.min(rows - first);
            let to = Shared::new(&mut packed);
            let parts = rows.div_ceil(128);
            for_each(panels * parts, |i| {
                let (j, part) = (i / parts, i % parts);
                let (p, k) = (part * 128, 128.min(rows - part * 128));
                // SAFETY: rows p..p + k of panel j; parts do not overlap.
                unsafe {
                    let b = self.b.as_ptr().add((first + p) * n);
                    let to = to.get().add((j * on.depth(rows) + on.depth(p)) * panel);
                    on.run(PackPanel { b, row: n, k, n, column: j * panel, to });
                }
            });
            let c = Shared::new(c);
            for_each(blocks, |i| {
                let r = i * OUTER_BLOCK;
                let m = OUTER_BLOCK.min(m - r);
                // Some columns of A, a piece of the depth at a time, next to each other: as they lie, a step of depth
                // is a cache line away, or a power of two.
                let to_row = OUTER_BLOCK.next_multiple_of(LANES);
                let mut columns = scratch::take(DEPTH * to_row);
                for p in (0..rows).step_by(DEPTH * step) {
                    let k = (DEPTH * step).min(rows - p);
                    // SAFETY: rows p..p + k and columns r..r + m of A; blocks of C do not overlap.
                    unsafe {
                        let x = self.a.as_ptr().add((first + p) * self.m + r);
                        on.run(LayColumns { x, rows: k, row: self.m, n: m, to: columns.as_mut_ptr(), to_row });
                        let product = Gemm {
                            m,
                            k: on.depth(k),
                            n,
                            a: columns.as_ptr(),
                            a_row: 1,
                            a_col: to_row,
                            b: packed.as_ptr().add(on.depth(p) * panel),
                            b_panel: on.depth(rows) * panel,
                            c: c.get().add(r * n),
                            c_row: n,
                            accumulate: first + p > 0,
                        };
                        product.run(on);
                    }
                }
            });
            first += rows;
        }
    }
}
