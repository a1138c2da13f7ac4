//! Linear layers whose weights stay as they are stored: f32, f16, bf16, or int8 with one scale per output feature.
//!
//! The weights are laid out in panels once, in their own type, and widened to f32 on their way into the registers:
//! a product with few rows costs the reading of the stored bytes, a half or a quarter of f32's. With more rows the
//! multiply-adds cost more than that; the widening hides behind them. Sums are in f32. In bfloat16 products of more rows
//! take the weights as operands of the plain product, some columns at a time.

mod format;
mod rounded;

pub(crate) use format::{Bf16, F16, F32, Int8, Stored};
pub use format::{Format, Weights, quantize_rows};

use crate::gemm::DEPTH;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::precision::{Arithmetic, Precision};
use crate::rows::{Epilogue, FinishRow};
use crate::scratch::{self, Aligned};
use crate::simd::Simd;
use crate::{expect_count, expect_len};

/// A linear layer from c to k features, ready to be applied; for inference.
pub struct StoredLinear {
    c: usize,
    k: usize,
    isa: Isa,
    format: Format,
    /// `[k / NR][c][NR]` numbers of the format, zero beyond k.
    panels: Aligned,
    /// Of int8; else empty.
    scales: Vec<f32>,
}

impl std::fmt::Debug for StoredLinear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { c, k, isa, format, .. } = self;
        write!(f, "StoredLinear {{ {format:?}, {isa:?}, c: {c}, k: {k} }}")
    }
}

impl StoredLinear {
    /// Most rows whose product stays in f32 whatever the precision: it is bound by the reading of the weights.
    pub const FEW_ROWS: usize = 32;

    /// From weights `[c, k]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn new(c: usize, k: usize, weights: Weights<'_>) -> Self {
        Self::from_strides(c, k, (k, 1), weights)
    }

    /// From weights `[k, c]`, as PyTorch has them: one row per output feature.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_rows(c: usize, k: usize, weights: Weights<'_>) -> Self {
        Self::from_strides(c, k, (1, c), weights)
    }

    /// The taps of a 3x3 convolution, weights `[k, c, 3, 3]`, as a layer from 9 c features, tap by tap.
    pub(crate) fn from_taps(c: usize, k: usize, weights: Weights<'_>) -> Self {
        Self::from_places(9 * c, k, move |p, column| column * 9 * c + p % c * 9 + p / c, weights)
    }

    fn from_strides(c: usize, k: usize, strides: (usize, usize), weights: Weights<'_>) -> Self {
        Self::from_places(c, k, move |p, column| p * strides.0 + column * strides.1, weights)
    }

    /// `at` says where the weight of an input and an output feature is.
    fn from_places(c: usize, k: usize, at: impl Fn(usize, usize) -> usize + Sync, weights: Weights<'_>) -> Self {
        let isa = Isa::current();
        let (format, scales, panels) = match weights {
            Weights::F32(w) => (Format::F32, &[][..], panels(isa, w, c, k, at)),
            Weights::F16(w) => (Format::F16, &[][..], panels(isa, w, c, k, at)),
            Weights::Bf16(w) => (Format::Bf16, &[][..], panels(isa, w, c, k, at)),
            Weights::Int8 { integers, scales } => {
                expect_len("scales", scales, k);
                (Format::Int8, scales, panels(isa, integers, c, k, at))
            }
        };
        Self { c, k, isa, format, panels, scales: scales.to_vec() }
    }

    /// `y = (x w + bias + residual) * scale`; x `[rows, c]`, bias `[k]`, y and residual `[rows, k]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(
        &self,
        rows: usize,
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        expect_len("x", x, rows * self.c);
        expect_len("y", y, rows * self.k);
        let epilogue = Epilogue::new(bias, residual, scale);
        epilogue.check(rows, self.k);
        self.forward_in(Self::precision(rows), rows, x, epilogue, y);
    }

    /// What the product of so many rows multiplies in a call from this thread.
    pub(crate) fn precision(rows: usize) -> Precision {
        if rows > Self::FEW_ROWS { Precision::current() } else { Precision::F32 }
    }

    /// [`StoredLinear::forward`] in a precision that is given, of operands that were checked.
    pub(crate) fn forward_in(
        &self,
        precision: Precision,
        rows: usize,
        x: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        match self.format {
            Format::F32 => self.product::<F32>(precision, rows, x, epilogue, y),
            Format::F16 => self.product::<F16>(precision, rows, x, epilogue, y),
            Format::Bf16 => self.product::<Bf16>(precision, rows, x, epilogue, y),
            Format::Int8 => self.product::<Int8>(precision, rows, x, epilogue, y),
        }
    }

    /// Input and output features, `(c, k)`.
    pub fn features(&self) -> (usize, usize) {
        (self.c, self.k)
    }

    /// The instruction set that the panels are made for.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The type of the weights.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where the panels `[k / NR][c][NR]` begin.
    pub(crate) fn panels(&self) -> *const f32 {
        self.panels.as_ptr()
    }

    /// The scales of int8; else empty.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.panels) + size_of_val(self.scales.as_slice())
    }

    /// The weights `[c, k]` as the numbers that they stand for.
    pub fn widened(&self) -> Vec<f32> {
        let mut w = vec![0.0; self.c * self.k];
        match self.format {
            Format::F32 => self.widen::<F32>(&mut w),
            Format::F16 => self.widen::<F16>(&mut w),
            Format::Bf16 => self.widen::<Bf16>(&mut w),
            Format::Int8 => self.widen::<Int8>(&mut w),
        }
        if !self.scales.is_empty() {
            w.chunks_mut(self.k).for_each(|row| row.iter_mut().zip(&self.scales).for_each(|(w, s)| *w *= s));
        }
        w
    }

    fn widen<T: Stored>(&self, to: &mut [f32]) {
        let Self { c, k, isa, .. } = *self;
        let panel = isa.panel();
        for column in (0..k).step_by(panel) {
            // SAFETY: the panel of columns column.., which holds numbers of T, and the same columns of c rows.
            unsafe {
                let w = self.panels.as_ptr().cast::<T::Bits>().add(column * c);
                isa.run(Widen::<T> { c, n: panel.min(k - column), w, to: to.as_mut_ptr().add(column), to_row: k });
            }
        }
    }

    fn product<T: Stored>(&self, precision: Precision, rows: usize, x: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
        const ROWS: usize = 84;
        let Self { c, k, isa, .. } = *self;
        if precision == Precision::Bf16 {
            let on = Arithmetic { isa, precision };
            // SAFETY: the panels hold numbers of T, for c inputs and k outputs.
            return unsafe { rounded::product::<T>(on, [rows, c, k], x, &self.panels, &self.scales, epilogue, y) };
        }
        let panel = isa.panel();
        let panels = k.div_ceil(panel);
        let blocks = rows.div_ceil(ROWS);
        // Few rows: cut the columns too, so that every thread has work.
        let span = if blocks >= 8 { panels } else { panels.div_ceil(32) }.max(1);
        let spans = panels.div_ceil(span);
        let to = Shared::new(y);
        for_each(blocks * spans, |i| {
            let (first, j) = (i / spans * ROWS, i % spans * span);
            let m = ROWS.min(rows - first);
            let column = j * panel;
            let n = (k - column).min(span * panel);
            let rows = Rows::of(&x[first * c..][..m * c], c);
            // SAFETY: rows first..first + m, panels j.. of the weights, columns column..column + n of y; blocks of y
            // do not overlap, and the panels hold numbers of T.
            unsafe {
                let w = self.panels.as_ptr().cast::<T::Bits>().add(j * c * panel);
                let y = to.get().add(first * k + column);
                isa.run(Product::<T> { m, c, n, x: rows.start(), x_row: rows.distance, w, y, y_row: k });
                let part = Epilogue { bias: epilogue.bias.map(|b| &b[column..column + n]), ..epilogue };
                for r in 0..m {
                    let residual = part.residual.map(|x| &x[(first + r) * k + column..][..n]);
                    let y = y.add(r * k);
                    if !self.scales.is_empty() {
                        isa.run(MultiplyRow { y, by: &self.scales[column..column + n] });
                    }
                    if !part.is_none() {
                        isa.run(FinishRow { from: y, to: y, row: 0, k: n, epilogue: Epilogue { residual, ..part } });
                    }
                }
            }
        });
    }
}

/// Lays out weights in panels.
fn panels<T: Copy + Default + Sync>(
    isa: Isa,
    w: &[T],
    c: usize,
    k: usize,
    at: impl Fn(usize, usize) -> usize + Sync,
) -> Aligned {
    expect_count("the weights", w.len(), c * k);
    let panel = isa.panel();
    let mut panels = Aligned::new((c * k.next_multiple_of(panel) * size_of::<T>()).div_ceil(size_of::<f32>()));
    let to = Shared::new(&mut panels);
    for_each(k.div_ceil(panel), |j| {
        // SAFETY: panel j of the buffer, which has room for whole panels of T and is aligned for any T.
        let to = unsafe { std::slice::from_raw_parts_mut(to.get().cast::<T>().add(j * c * panel), c * panel) };
        let width = panel.min(k - j * panel);
        // Pieces that stay in the cache, because reading goes across writing if the weights are in rows.
        for (piece, to) in to.chunks_mut(DEPTH * panel).enumerate() {
            for lane in 0..panel {
                for (p, to) in to[lane..].iter_mut().step_by(panel).enumerate() {
                    *to = if lane < width { w[at(piece * DEPTH + p, j * panel + lane)] } else { T::default() };
                }
            }
        }
    });
    panels
}

/// A block of rows of x.
struct Rows<'a> {
    x: &'a [f32],
    /// Rows of a power-of-two length fall into few cache sets: a copy with other distances.
    copy: Option<scratch::Scratch>,
    distance: usize,
}

impl<'a> Rows<'a> {
    fn of(x: &'a [f32], c: usize) -> Self {
        if !c.is_multiple_of(512) || x.len() <= c {
            return Self { x, copy: None, distance: c };
        }
        let distance = c + 16;
        let mut copy = scratch::take(x.len() / c * distance);
        for (row, to) in x.chunks_exact(c).zip(copy.chunks_exact_mut(distance)) {
            to[..c].copy_from_slice(row);
        }
        Self { x, copy: Some(copy), distance }
    }

    fn start(&self) -> *const f32 {
        self.copy.as_ref().map_or(self.x.as_ptr(), |copy| copy.as_ptr())
    }
}

/// Rows of one block of the micro-kernel: with two vectors of columns, twelve sums in registers.
const BLOCK: usize = 6;
/// Numbers of x that may stay in the second-level cache.
const NEAR: usize = 64 << 10;

/// y (m x n) = x (m x c) w for weights in panels.
///
/// Contract: x and y are valid for m rows at their distances, w for the panels of n columns.
struct Product<T: Stored> {
    m: usize,
    c: usize,
    n: usize,
    x: *const f32,
    x_row: usize,
    w: *const T::Bits,
    y: *mut f32,
    y_row: usize,
}

/// A part of a product: rows from `row`, panel `panel`, depths `from..to`.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    panel: usize,
    from: usize,
    to: usize,
}

impl<T: Stored> Kernel for Product<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Self { m, c, n, .. } = self;
        if m == 0 {
            return;
        }
        // Rows in nearly equal blocks rather than full ones and a small rest.
        let blocks = m.div_ceil(BLOCK);
        let (short, longer) = (m / blocks, m % blocks);
        // One block reads each panel from end to end. Several share a piece of it while it is in the first-level
        // cache.
        let depth = if blocks == 1 { c.max(1) } else { DEPTH };
        let (pieces, panels) = (c.div_ceil(depth).max(1), n.div_ceil(2 * V::LANES));
        for i in 0..pieces * panels {
            // Along the panel, which is along memory; or, if x is too large for that, along x.
            let (piece, panel) = if m * c <= NEAR { (i % pieces, i / pieces) } else { (i / panels, i % panels) };
            let mut part = Part { row: 0, panel, from: piece * depth, to: c.min((piece + 1) * depth) };
            for block in 0..blocks {
                let rows = short + usize::from(block < longer);
                // SAFETY: the part is inside the product. Few rows take several steps at once, so that there are
                // about eight independent sums.
                unsafe {
                    match rows {
                        1 => self.part::<V, 1, 4>(part),
                        2 => self.part::<V, 2, 2>(part),
                        3 => self.part::<V, 3, 2>(part),
                        4 => self.part::<V, 4, 1>(part),
                        5 => self.part::<V, 5, 1>(part),
                        6 => self.part::<V, 6, 1>(part),
                        _ => unreachable!("a block has 1..={BLOCK} rows"),
                    }
                }
                part.row += rows;
            }
        }
    }
}

impl<T: Stored> Product<T> {
    /// R rows of a part, STEPS numbers of each at once; added to y unless the part is the first along the depth.
    #[inline(always)]
    unsafe fn part<V: Simd, const R: usize, const STEPS: usize>(&self, part: Part) {
        let lanes = V::LANES;
        // SAFETY: by the contract; each address is inside its operand, and partial vectors touch `width` numbers.
        unsafe {
            let mut x = self.x.add(part.row * self.x_row + part.from);
            let mut w = self.w.add((part.panel * self.c + part.from) * 2 * lanes);
            let mut sums = [[[V::splat(0.0); 2]; R]; STEPS];
            let depth = part.to - part.from;
            for _ in 0..depth / STEPS {
                for (s, sums) in sums.iter_mut().enumerate() {
                    self.step(x.wrapping_add(s), w.wrapping_add(s * 2 * lanes), sums);
                }
                x = x.wrapping_add(STEPS);
                w = w.wrapping_add(STEPS * 2 * lanes);
            }
            for s in 0..depth % STEPS {
                self.step(x.wrapping_add(s), w.wrapping_add(s * 2 * lanes), &mut sums[0]);
            }
            let width = self.n - part.panel * 2 * lanes;
            for r in 0..R {
                for half in 0..2 {
                    let mut sum = sums[0][r][half];
                    for other in &sums[1..] {
                        sum = sum + other[r][half];
                    }
                    let y = self.y.wrapping_add((part.row + r) * self.y_row + (2 * part.panel + half) * lanes);
                    let width = width.saturating_sub(half * lanes);
                    if part.from > 0 {
                        sum = sum + V::load_up_to(y, width);
                    }
                    sum.store_up_to(y, width);
                }
            }
        }
    }

    /// Adds what one number of each row contributes: that at `x` and its fellows, times the panel's row at `w`.
    #[inline(always)]
    unsafe fn step<V: Simd, const R: usize>(&self, x: *const f32, w: *const T::Bits, sums: &mut [[V; 2]; R]) {
        // SAFETY: the caller's x and w are inside the operands.
        unsafe {
            let (left, right) = (T::load::<V>(w), T::load::<V>(w.add(V::LANES)));
            // Rows by threes, whose distances fit into an address.
            let threes = [x, x.wrapping_add(3 * self.x_row)];
            for (r, [a, b]) in sums.iter_mut().enumerate() {
                let x = V::splat(*threes[r / 3].add(r % 3 * self.x_row));
                *a = x.mul_add(left, *a);
                *b = x.mul_add(right, *b);
            }
        }
    }
}

/// A panel's first n columns as numbers. Contract: `w` is valid for c rows of the panel, `to` for c rows of n numbers at
/// their distance.
struct Widen<T: Stored> {
    c: usize,
    n: usize,
    w: *const T::Bits,
    to: *mut f32,
    to_row: usize,
}

impl<T: Stored> Kernel for Widen<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (row, half) in (0..self.c).flat_map(|row| [(row, 0), (row, V::LANES)]) {
            // SAFETY: by the contract; no more than n numbers of a row are written.
            unsafe {
                let to = self.to.add(row * self.to_row).wrapping_add(half);
                T::load::<V>(self.w.add(row * 2 * V::LANES + half)).store_up_to(to, self.n.saturating_sub(half));
            }
        }
    }
}

/// Multiplies a row by another. Contract: `y` is as long as `by`.
struct MultiplyRow<'a> {
    y: *mut f32,
    by: &'a [f32],
}

impl Kernel for MultiplyRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.by.len() {
            let n = self.by.len() - q;
            // SAFETY: q.. is inside both rows.
            unsafe {
                let y = V::load_up_to(self.y.add(q), n) * V::load_up_to(self.by.as_ptr().add(q), n);
                y.store_up_to(self.y.add(q), n);
            }
            q += V::LANES;
        }
    }
}
