//! The two-dimensional transforms between pictures and planes of tiles, as kernels, and the flip of the weights.
//!
//! A plane holds one point of every tile: V and M as `[tile][channel]`, Z (the gradients of outputs) in panels
//! `[channel / NR][tile][NR]`, since it is the right-hand operand of its product.

// Small matrices of vectors are indexed by row and column, as in the formulas.
#![allow(clippy::needless_range_loop)]

use super::super::Conv3x3;
use super::transform::Transform;
use crate::isa::Kernel;
use crate::rows::Epilogue;
use crate::simd::Simd;
use std::marker::PhantomData;
use std::ops::Range;

/// A batch of pictures `[n, h, w]` cut into tiles.
pub(super) struct Tiling {
    h: usize,
    w: usize,
    /// Tiles in a column and in a row of a picture.
    rows: usize,
    columns: usize,
    /// Tiles of all pictures.
    pub(super) count: usize,
}

impl Tiling {
    pub(super) fn new<T: Transform>(conv: &Conv3x3) -> Self {
        let (rows, columns) = (conv.h.div_ceil(T::OUT), conv.w.div_ceil(T::OUT));
        Self { h: conv.h, w: conv.w, rows, columns, count: conv.n * rows * columns }
    }

    /// Picture, first row and first column of the outputs of a tile.
    #[inline(always)]
    fn origin<T: Transform>(&self, tile: usize) -> (usize, usize, usize) {
        let (picture, rest) = (tile / (self.rows * self.columns), tile % (self.rows * self.columns));
        (picture, rest / self.columns * T::OUT, rest % self.columns * T::OUT)
    }
}

/// V = B^T d B for tiles `first..last`.
///
/// Contract: x holds the batch; `zeros` holds c numbers; `v` is writable at `xi * plane + tile * row` for c numbers
/// in whole vectors, tiles counted from `first`.
pub(super) struct InputTiles<'a, T> {
    tiling: &'a Tiling,
    c: usize,
    x: &'a [f32],
    zeros: &'a [f32],
    first: usize,
    last: usize,
    v: *mut f32,
    row: usize,
    plane: usize,
    of: PhantomData<T>,
}

impl<'a, T: Transform> InputTiles<'a, T> {
    pub(super) fn new(
        tiling: &'a Tiling,
        c: usize,
        x: &'a [f32],
        zeros: &'a [f32],
        first: usize,
        last: usize,
        v: *mut f32,
        row: usize,
        plane: usize,
    ) -> Self {
        Self { tiling, c, x, zeros, first, last, v, row, plane, of: PhantomData }
    }

    /// Channels q.. of a tile whose pixels start at `pixels`; `n` of them, at most a vector.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, pixels: &[*const f32; 36], q: usize, n: usize, v: *mut f32) {
        // SAFETY: every pixel holds n channels from q; V holds whole vectors.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; 6]; 6];
            for j in 0..T::IN {
                let mut d = [zero; 6];
                for i in 0..T::IN {
                    d[i] = V::load_up_to(pixels[i * 6 + j].add(q), n);
                }
                let d = T::input(d);
                for i in 0..T::IN {
                    half[i][j] = d[i];
                }
            }
            for (i, row) in half.iter().enumerate().take(T::IN) {
                for (j, point) in T::input(*row).iter().enumerate().take(T::IN) {
                    point.store(v.add((i * T::IN + j) * self.plane + q));
                }
            }
        }
    }
}

impl<T: Transform> Kernel for InputTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Tiling { h, w, .. } = *self.tiling;
        let c = self.c;
        for tile in self.first..self.last {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile);
            // Where each pixel of the tile starts; pixels outside the picture are the row of zeros.
            let mut pixels = [self.zeros.as_ptr(); 36];
            for i in 0..T::IN {
                let y = (y0 + i).wrapping_sub(1);
                for j in 0..T::IN {
                    let x = (x0 + j).wrapping_sub(1);
                    if y < h && x < w {
                        // SAFETY: pixel (y, x) is inside the picture.
                        pixels[i * 6 + j] = unsafe { self.x.as_ptr().add(((picture * h + y) * w + x) * c) };
                    }
                }
            }
            // SAFETY: by the contract.
            unsafe {
                let v = self.v.add((tile - self.first) * self.row);
                let mut q = 0;
                while q + V::LANES <= c {
                    self.channels::<V>(&pixels, q, V::LANES, v);
                    q += V::LANES;
                }
                if q < c {
                    self.channels::<V>(&pixels, q, c - q, v);
                }
            }
        }
    }
}

/// y = (A^T M A + bias + residual) * scale for tiles `first..last`.
///
/// Contract: `m` is readable at `xi * plane + tile * row` for k numbers in whole vectors, tiles counted from `first`;
/// `y` is writable for the batch; the epilogue was checked.
pub(super) struct OutputTiles<'a, T> {
    tiling: &'a Tiling,
    k: usize,
    epilogue: Epilogue<'a>,
    first: usize,
    last: usize,
    m: *const f32,
    row: usize,
    plane: usize,
    y: *mut f32,
    of: PhantomData<T>,
}

impl<'a, T: Transform> OutputTiles<'a, T> {
    pub(super) fn new(
        tiling: &'a Tiling,
        k: usize,
        epilogue: Epilogue<'a>,
        first: usize,
        last: usize,
        m: *const f32,
        row: usize,
        plane: usize,
        y: *mut f32,
    ) -> Self {
        Self { tiling, k, epilogue, first, last, m, row, plane, y, of: PhantomData }
    }

    /// Channels q.. (`n` of them, at most a vector) of the outputs `rows` x `columns` of the tile whose first pixel
    /// is number `pixel`.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, m: *const f32, q: usize, n: usize, pixel: usize, rows: usize, columns: usize) {
        // SAFETY: M holds whole vectors; the pixels are inside the picture.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; 6]; 4];
            for j in 0..T::IN {
                let mut points = [zero; 6];
                for i in 0..T::IN {
                    points[i] = V::load(m.add((i * T::IN + j) * self.plane + q));
                }
                let points = T::output(points);
                for i in 0..T::OUT {
                    half[i][j] = points[i];
                }
            }
            let bias = match self.epilogue.bias {
                Some(bias) => V::load_up_to(bias.as_ptr().add(q), n),
                None => zero,
            };
            let scale = V::splat(self.epilogue.scale);
            for (i, row) in half.iter().enumerate().take(T::OUT) {
                let outputs = T::output(*row);
                if i >= rows {
                    break;
                }
                for (j, &output) in outputs.iter().enumerate().take(T::OUT) {
                    if j >= columns {
                        break;
                    }
                    let at = (pixel + i * self.tiling.w + j) * self.k + q;
                    let mut y = output + bias;
                    if let Some(residual) = self.epilogue.residual {
                        y = y + V::load_up_to(residual.as_ptr().add(at), n);
                    }
                    (y * scale).store_up_to(self.y.add(at), n);
                }
            }
        }
    }
}

impl<T: Transform> Kernel for OutputTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Tiling { h, w, .. } = *self.tiling;
        for tile in self.first..self.last {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile);
            let (rows, columns) = (T::OUT.min(h - y0), T::OUT.min(w - x0));
            let pixel = (picture * h + y0) * w + x0;
            // SAFETY: by the contract.
            unsafe {
                let m = self.m.add((tile - self.first) * self.row);
                let mut q = 0;
                while q + V::LANES <= self.k {
                    self.channels::<V>(m, q, V::LANES, pixel, rows, columns);
                    q += V::LANES;
                }
                if q < self.k {
                    self.channels::<V>(m, q, self.k - q, pixel, rows, columns);
                }
            }
        }
    }
}

/// Z = A dY A^T for tiles `first..last`.
///
/// Contract: `gy` holds the batch; `z` is writable at `xi * plane + panel * panel_stride + tile * NR`, tiles counted
/// from `first`.
pub(super) struct UpstreamTiles<'a, T> {
    tiling: &'a Tiling,
    k: usize,
    gy: &'a [f32],
    first: usize,
    last: usize,
    z: *mut f32,
    panel: usize,
    plane: usize,
    of: PhantomData<T>,
}

impl<'a, T: Transform> UpstreamTiles<'a, T> {
    pub(super) fn new(
        tiling: &'a Tiling,
        k: usize,
        gy: &'a [f32],
        first: usize,
        last: usize,
        z: *mut f32,
        panel: usize,
        plane: usize,
    ) -> Self {
        Self { tiling, k, gy, first, last, z, panel, plane, of: PhantomData }
    }
}

impl<T: Transform> Kernel for UpstreamTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Tiling { h, w, .. } = *self.tiling;
        let k = self.k;
        for tile in self.first..self.last {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile);
            let (rows, columns) = (T::OUT.min(h - y0), T::OUT.min(w - x0));
            let pixel = (picture * h + y0) * w + x0;
            for (part, q) in (0..k.next_multiple_of(2 * V::LANES)).step_by(V::LANES).enumerate() {
                let n = k.saturating_sub(q);
                // SAFETY: pixels inside the picture, n channels from q; Z holds whole panels.
                unsafe {
                    let zero = V::splat(0.0);
                    let mut half = [[zero; 4]; 6];
                    for j in 0..columns {
                        let mut y = [zero; 4];
                        for (i, y) in y.iter_mut().enumerate().take(rows) {
                            let at = self.gy.as_ptr().wrapping_add((pixel + i * w + j) * k + q);
                            *y = V::load_up_to(at, n);
                        }
                        let points = T::output_adjoint(y);
                        for i in 0..T::IN {
                            half[i][j] = points[i];
                        }
                    }
                    let to = self.z.add(part / 2 * self.panel + (tile - self.first) * 2 * V::LANES);
                    let to = to.add(part % 2 * V::LANES);
                    for (i, row) in half.iter().enumerate().take(T::IN) {
                        for (j, point) in T::output_adjoint(*row).iter().enumerate().take(T::IN) {
                            point.store(to.add((i * T::IN + j) * self.plane));
                        }
                    }
                }
            }
        }
    }
}

/// U = G w G^T for some input channels and one panel of outputs.
///
/// Contract: `w` is `[3, 3, c, k]`; `to` is writable at `xi * plane + channel * NR` for NR numbers, channels counted
/// from the first.
pub(super) struct WeightTransform<'a, T> {
    w: &'a [f32],
    c: usize,
    k: usize,
    channels: Range<usize>,
    column: usize,
    to: *mut f32,
    plane: usize,
    of: PhantomData<T>,
}

impl<'a, T: Transform> WeightTransform<'a, T> {
    pub(super) fn new(
        w: &'a [f32],
        c: usize,
        k: usize,
        channels: Range<usize>,
        column: usize,
        to: *mut f32,
        plane: usize,
    ) -> Self {
        Self { w, c, k, channels, column, to, plane, of: PhantomData }
    }
}

impl<T: Transform> Kernel for WeightTransform<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let first = self.channels.start;
        for channel in self.channels {
            for half in 0..2 {
                let q = self.column + half * V::LANES;
                let n = self.k.saturating_sub(q);
                // SAFETY: n outputs from q of every tap of this channel; the panel holds whole vectors.
                unsafe {
                    let mut columns = [[V::splat(0.0); 3]; 6];
                    for s in 0..3 {
                        let mut taps = [V::splat(0.0); 3];
                        for (r, tap) in taps.iter_mut().enumerate() {
                            let at = ((r * 3 + s) * self.c + channel) * self.k + q;
                            *tap = V::load_up_to(self.w.as_ptr().wrapping_add(at), n);
                        }
                        let points = T::weight(taps);
                        for i in 0..T::IN {
                            columns[i][s] = points[i];
                        }
                    }
                    let to = self.to.add((channel - first) * 2 * V::LANES + half * V::LANES);
                    for (i, row) in columns.iter().enumerate().take(T::IN) {
                        for (j, point) in T::weight(*row).iter().enumerate().take(T::IN) {
                            point.store(to.add((i * T::IN + j) * self.plane));
                        }
                    }
                }
            }
        }
    }
}

/// dw = G^T dU G for one input channel.
///
/// Contract: `du` is readable at `xi * plane` for k numbers in whole vectors; `gw` is writable at `tap * tap_stride`
/// for k numbers.
pub(super) struct WeightGradient<T> {
    k: usize,
    du: *const f32,
    plane: usize,
    gw: *mut f32,
    tap: usize,
    of: PhantomData<T>,
}

impl<T: Transform> WeightGradient<T> {
    pub(super) fn new(k: usize, du: *const f32, plane: usize, gw: *mut f32, tap: usize) -> Self {
        Self { k, du, plane, gw, tap, of: PhantomData }
    }
}

impl<T: Transform> Kernel for WeightGradient<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.k {
            let n = self.k - q;
            // SAFETY: by the contract.
            unsafe {
                let zero = V::splat(0.0);
                let mut half = [[zero; 6]; 3];
                for j in 0..T::IN {
                    let mut points = [zero; 6];
                    for i in 0..T::IN {
                        points[i] = V::load(self.du.add((i * T::IN + j) * self.plane + q));
                    }
                    let taps = T::weight_adjoint(points);
                    for i in 0..3 {
                        half[i][j] = taps[i];
                    }
                }
                for (r, row) in half.iter().enumerate() {
                    for (s, tap) in T::weight_adjoint(*row).iter().enumerate() {
                        tap.store_up_to(self.gw.add((r * 3 + s) * self.tap + q), n);
                    }
                }
            }
            q += V::LANES;
        }
    }
}

/// Transposes `rows` rows of k numbers into k rows that are c apart.
///
/// Contract: `from` holds the rows; `to` is writable at `j * c` for `rows` numbers, j < k.
pub(super) struct FlipBlock {
    pub(super) from: *const f32,
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) to: *mut f32,
    pub(super) c: usize,
}

impl Kernel for FlipBlock {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Self { from, rows, k, to, c } = self;
        // What whole blocks cover.
        let (whole_rows, whole_k) = (rows / V::LANES * V::LANES, k / V::LANES * V::LANES);
        // SAFETY: all indices are below `rows` and k.
        unsafe {
            for i in (0..whole_rows).step_by(V::LANES) {
                for j in (0..whole_k).step_by(V::LANES) {
                    V::transpose(from.add(i * k + j), k, to.add(j * c + i), c);
                }
            }
            for i in 0..rows {
                let start = if i < whole_rows { whole_k } else { 0 };
                for j in start..k {
                    *to.add(j * c + i) = *from.add(i * k + j);
                }
            }
        }
    }
}
