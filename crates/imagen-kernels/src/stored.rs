//! Linear layers whose weights stay as they are stored: f16, bf16, or int8 with one scale per output feature.
//!
//! The weights are laid out in panels once, in their own type, and widened to f32 on their way into the registers:
//! a product with few rows costs the reading of the stored bytes, a half or a quarter of f32's. With more rows than
//! one micro-kernel holds, a piece of a panel is widened into the first-level cache and serves all rows from there,
//! so that a product with many rows runs at the rate of f32. Sums are in f32.

use crate::gemm::{DEPTH, Gemm};
use crate::isa::{Isa, Kernel};
use crate::pool::{Shared, for_each};
use crate::rows::{Epilogue, FinishRow};
use crate::scratch::{self, Aligned};
use crate::simd::Simd;
use crate::{expect_count, expect_len};

/// Weights `[c, k]` (or, where a function says so, `[k, c]`) as a file has them.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Bits of half-precision numbers (IEEE binary16).
    F16(&'a [u16]),
    /// Bits of bfloat16 numbers.
    Bf16(&'a [u16]),
    /// Symmetric int8: a weight is its integer times the scale of its output feature.
    Int8 {
        /// The integers.
        integers: &'a [i8],
        /// One scale per output feature, `[k]`.
        scales: &'a [f32],
    },
}

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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    F16,
    Bf16,
    Int8,
}

impl std::fmt::Debug for StoredLinear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { c, k, isa, format, .. } = self;
        write!(f, "StoredLinear {{ {format:?}, {isa:?}, c: {c}, k: {k} }}")
    }
}

impl StoredLinear {
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

    fn from_strides(c: usize, k: usize, strides: (usize, usize), weights: Weights<'_>) -> Self {
        let isa = Isa::current();
        let (format, scales, panels) = match weights {
            Weights::F16(w) => (Format::F16, &[][..], panels(isa, w, c, k, strides)),
            Weights::Bf16(w) => (Format::Bf16, &[][..], panels(isa, w, c, k, strides)),
            Weights::Int8 { integers, scales } => {
                expect_len("scales", scales, k);
                (Format::Int8, scales, panels(isa, integers, c, k, strides))
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
        let epilogue = Epilogue { bias, residual, scale };
        epilogue.check(rows, self.k);
        match self.format {
            Format::F16 => self.product::<F16>(rows, x, epilogue, y),
            Format::Bf16 => self.product::<Bf16>(rows, x, epilogue, y),
            Format::Int8 => self.product::<Int8>(rows, x, epilogue, y),
        }
    }

    fn product<T: Stored>(&self, rows: usize, x: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
        const BLOCK: usize = 84;
        let Self { c, k, isa, .. } = *self;
        let panel = isa.panel();
        let panels = k.div_ceil(panel);
        let blocks = rows.div_ceil(BLOCK);
        // Few rows: cut the columns too, so that every thread has work.
        let span = if blocks >= 8 { panels } else { panels.div_ceil(32) }.max(1);
        let spans = panels.div_ceil(span);
        let to = Shared::new(y);
        for_each(blocks * spans, |i| {
            let (first, j) = (i / spans * BLOCK, i % spans * span);
            let m = BLOCK.min(rows - first);
            let column = j * panel;
            let n = (k - column).min(span * panel);
            let rows = Rows::of(&x[first * c..][..m * c], c);
            // SAFETY: rows first..first + m, panels j.. of the weights, columns column..column + n of y; blocks of y
            // do not overlap, and the panels hold numbers of T.
            unsafe {
                let w = self.panels.as_ptr().cast::<T::Bits>().add(j * c * panel);
                let y = to.get().add(first * k + column);
                let product = Product::<T> { m, c, n, x: rows.start(), x_row: rows.distance, w, y, y_row: k };
                if m <= FEW {
                    isa.run(product)
                } else {
                    product.by_pieces(isa)
                }
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

/// Integers and scales of weights in rows, `[rows, columns]`: `integer = round(w / scale)` with
/// `scale = max |w| / 127` over the row (0 for a row of zeros), so that the error of a weight is at most half a scale.
///
/// # Panics
/// If the slice does not have the length of its shape.
pub fn quantize_rows(w: &[f32], rows: usize, columns: usize) -> (Vec<i8>, Vec<f32>) {
    expect_len("w", w, rows * columns);
    let mut integers = Vec::with_capacity(w.len());
    let mut scales = Vec::with_capacity(rows);
    for row in 0..rows {
        let row = &w[row * columns..][..columns];
        let scale = row.iter().fold(0.0, |largest: f32, w| largest.max(w.abs())) / 127.0;
        scales.push(scale);
        integers.extend(row.iter().map(|w| if scale > 0.0 { (w / scale).round_ties_even() as i8 } else { 0 }));
    }
    (integers, scales)
}

/// Lays out weights, `strides` apart along c and k, in panels.
fn panels<T: Copy + Default + Sync>(isa: Isa, w: &[T], c: usize, k: usize, strides: (usize, usize)) -> Aligned {
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
                    let at = (piece * DEPTH + p) * strides.0 + (j * panel + lane) * strides.1;
                    *to = if lane < width { w[at] } else { T::default() };
                }
            }
        }
    });
    panels
}

/// A type of stored weights.
trait Stored: Copy + Sync {
    /// What the memory holds.
    type Bits: Copy;

    /// Reads a vector of weights.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<V: Simd>(p: *const Self::Bits) -> V;
}

/// Implements [`Stored`] by one of the vector type's loads.
macro_rules! stored {
    ($($name:ident $bits:ty, $load:ident;)*) => { $(
        #[derive(Clone, Copy)]
        struct $name;
        impl Stored for $name {
            type Bits = $bits;

            #[inline(always)]
            unsafe fn load<V: Simd>(p: *const $bits) -> V {
                // SAFETY: the caller's.
                unsafe { V::$load(p) }
            }
        }
    )* };
}
stored! {
    F16 u16, load_f16;
    Bf16 u16, load_bf16;
    Int8 i8, load_i8;
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

/// Rows up to which the weights are widened in the micro-kernel itself.
const FEW: usize = 6;

/// y (m x n) = x (m x c) w for weights in panels.
///
/// Contract: x and y are valid for m rows at their distances, w for the panels of n columns, all as [`Gemm`] has it.
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

/// At most [`FEW`] rows: one pass over the weights.
impl<T: Stored> Kernel for Product<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for j in 0..self.n.div_ceil(2 * V::LANES) {
            // SAFETY: panel j is one of the product's. Few rows take several steps at once, so that there are about
            // eight independent sums.
            unsafe {
                match self.m {
                    1 => self.panel::<V, 1, 4>(j),
                    2 => self.panel::<V, 2, 2>(j),
                    3 => self.panel::<V, 3, 2>(j),
                    4 => self.panel::<V, 4, 1>(j),
                    5 => self.panel::<V, 5, 1>(j),
                    6 => self.panel::<V, 6, 1>(j),
                    _ => unreachable!("at most {FEW} rows"),
                }
            }
        }
    }
}

impl<T: Stored> Product<T> {
    /// Panel j for R rows, STEPS numbers of each at once.
    #[inline(always)]
    unsafe fn panel<V: Simd, const R: usize, const STEPS: usize>(&self, j: usize) {
        let lanes = V::LANES;
        // SAFETY: by the contract; each address is inside its operand.
        unsafe {
            let mut sums = [[[V::splat(0.0); 2]; R]; STEPS];
            let w = self.w.add(j * self.c * 2 * lanes);
            let mut p = 0;
            while p + STEPS <= self.c {
                for (s, sums) in sums.iter_mut().enumerate() {
                    self.step(w, p + s, sums);
                }
                p += STEPS;
            }
            while p < self.c {
                self.step(w, p, &mut sums[0]);
                p += 1;
            }
            let width = self.n - j * 2 * lanes;
            for r in 0..R {
                for half in 0..2 {
                    let mut sum = sums[0][r][half];
                    for other in &sums[1..] {
                        sum = sum + other[r][half];
                    }
                    let to = self.y.wrapping_add(r * self.y_row + (2 * j + half) * lanes);
                    sum.store_up_to(to, width.saturating_sub(half * lanes));
                }
            }
        }
    }

    /// Adds what number p of each row contributes to one panel.
    #[inline(always)]
    unsafe fn step<V: Simd, const R: usize>(&self, panel: *const T::Bits, p: usize, sums: &mut [[V; 2]; R]) {
        // SAFETY: p is less than c.
        unsafe {
            let w = panel.add(p * 2 * V::LANES);
            let (left, right) = (T::load::<V>(w), T::load::<V>(w.add(V::LANES)));
            for (r, [a, b]) in sums.iter_mut().enumerate() {
                let x = V::splat(*self.x.add(r * self.x_row + p));
                *a = x.mul_add(left, *a);
                *b = x.mul_add(right, *b);
            }
        }
    }

    /// Any number of rows: pieces of panels are widened once for all of them.
    ///
    /// # Safety
    /// `isa` must be available and the contract of [`Product`] must hold.
    #[inline(always)]
    unsafe fn by_pieces(&self, isa: Isa) {
        let Self { m, c, n, x, x_row, w, y, y_row } = *self;
        let panel = isa.panel();
        let mut piece = scratch::take(DEPTH * panel);
        if c == 0 {
            (0..m).for_each(|r| {
                // SAFETY: row r of y.
                unsafe { y.add(r * y_row).write_bytes(0, n) }
            });
        }
        // A slab of x stays in the second-level cache while the panels pass.
        for p in (0..c).step_by(DEPTH) {
            let depth = DEPTH.min(c - p);
            for j in 0..n.div_ceil(panel) {
                // SAFETY: rows p..p + depth of panel j; the piece has room for them.
                unsafe {
                    let from = w.add((j * c + p) * panel);
                    isa.run(Widen::<T> { from, len: depth * panel, to: piece.as_mut_ptr() });
                    isa.run(Gemm {
                        m,
                        k: depth,
                        n: panel.min(n - j * panel),
                        a: x.add(p),
                        a_row: x_row,
                        a_col: 1,
                        b: piece.as_ptr(),
                        b_panel: 0,
                        c: y.add(j * panel),
                        c_row: y_row,
                        accumulate: p > 0,
                    });
                }
            }
        }
    }
}

/// Contract: `from` and `to` are valid for `len` numbers, which is whole vectors.
struct Widen<T: Stored> {
    from: *const T::Bits,
    len: usize,
    to: *mut f32,
}

impl<T: Stored> Kernel for Widen<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for i in (0..self.len).step_by(V::LANES) {
            // SAFETY: whole vectors inside `len` numbers.
            unsafe { T::load::<V>(self.from.add(i)).store(self.to.add(i)) };
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
