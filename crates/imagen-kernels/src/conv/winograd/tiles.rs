//! The two-dimensional transforms between pictures and planes of tiles, as kernels.
//!
//! A plane holds one point of every tile: M as `[tile][channel]`; V likewise but in chunks of channels, each with all
//! its planes, so that what a product reads is contiguous; Z (the gradients of outputs) in panels
//! `[channel / NR][tile][NR]`, since it is the right-hand operand of its product.
//!
//! V and Z are operands: two neighbouring depths share a unit in bfloat16, channels of V in the forward pass, tiles of both
//! where the gradient of the weights sums over tiles.

use super::super::Conv3x3;
use super::sink::{Keep, Rows, Sink, Units};
use super::transform::{Transform, fits};
use crate::kernel::{Kernel, OperandKernel};
use crate::precision::Arithmetic;
use crate::rows::Epilogue;
use crate::simd::{Operands, Simd, prefetch, prefetch_write};
use std::marker::PhantomData;
use std::ops::Range;

/// Numbers in a cache line: what one [`prefetch`] asks for.
const LINE: usize = 16;
/// Bytes of V and M (or Z) that one thread keeps in its second-level cache.
pub(super) const CACHE: usize = 1 << 19;
/// Distance between rows and planes of V, M and U beyond their size, so that those of a power-of-two shape do not fall
/// into the same cache sets.
pub(super) const SKEW: usize = 16;

/// Where each of the pixels of a tile starts.
type Pixels = [*const f32; 36];

/// The results of a convolution of a batch of pictures `[n, h, w]`, cut into tiles.
pub(in crate::conv) struct Tiling {
    h: usize,
    w: usize,
    /// Zeros around a picture: 0 or 1.
    padding: usize,
    /// Height and width of the results.
    out: (usize, usize),
    /// Tiles in a column and in a row of a picture.
    rows: usize,
    columns: usize,
    /// Tiles of all pictures.
    pub(super) count: usize,
}

impl Tiling {
    pub(super) fn new<T: Transform>(conv: &Conv3x3) -> Self {
        Self::padded::<T>(conv.n, (conv.h, conv.w), 1)
    }

    /// Of a convolution with so many zeros around each picture.
    pub(in crate::conv) fn padded<T: Transform>(n: usize, (h, w): (usize, usize), padding: usize) -> Self {
        let out = |size: usize| (size + 2 * padding).saturating_sub(2);
        let out = (out(h), out(w));
        let (rows, columns) = (out.0.div_ceil(T::OUT), out.1.div_ceil(T::OUT));
        Self { h, w, padding, out, rows, columns, count: n * rows * columns }
    }

    /// Picture, first row and first column of the outputs of a tile.
    #[inline(always)]
    fn origin<T: Transform>(&self, tile: usize) -> (usize, usize, usize) {
        let (picture, rest) = (tile / (self.rows * self.columns), tile % (self.rows * self.columns));
        (picture, rest / self.columns * T::OUT, rest % self.columns * T::OUT)
    }

    /// Where each of `size` x `size` pixels starts whose first is at (y0, x0); `zeros` for those outside the picture.
    ///
    /// # Safety
    /// `x` must hold the batch with c channels.
    #[inline(always)]
    unsafe fn pixels(
        &self,
        (picture, y0, x0): (usize, isize, isize),
        size: usize,
        x: *const f32,
        c: usize,
        zeros: *const f32,
    ) -> Pixels {
        let mut pixels = [zeros; 36];
        for i in 0..size {
            let y = (y0 + i as isize) as usize;
            for j in 0..size {
                let column = (x0 + j as isize) as usize;
                if y < self.h && column < self.w {
                    // SAFETY: the pixel is inside the picture.
                    pixels[i * 6 + j] = unsafe { x.add(((picture * self.h + y) * self.w + column) * c) };
                }
            }
        }
        pixels
    }
}

/// V = B^T d B for some tiles.
///
/// Contract: x holds the batch with c channels; `zeros` holds c numbers; `v` is writable at
/// `q / chunk * chunk_stride + xi * plane + tile * row + q % chunk` for channels q < c in whole vectors, tiles counted
/// from the first, and units of channels or of tiles in place of either; `chunk` is a multiple of 16.
pub(super) struct InputTiles<'a, T> {
    pub(super) tiling: &'a Tiling,
    pub(super) c: usize,
    pub(super) x: &'a [f32],
    pub(super) zeros: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) v: *mut f32,
    pub(super) layout: Layout,
    /// Whether products sum over tiles, and not over channels.
    pub(super) over_tiles: bool,
    pub(super) of: PhantomData<T>,
}

/// How V is laid out, see [`InputTiles`].
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) row: usize,
    pub(super) plane: usize,
    pub(super) chunk: usize,
    pub(super) chunk_stride: usize,
}

impl Layout {
    /// V of c channels and `tiles` tiles in chunks of at most `most` channels, for products that sum over channels.
    pub(super) fn over_channels<T: Transform>(on: Arithmetic, c: usize, tiles: usize, most: usize) -> Self {
        let chunk = c.next_multiple_of(SKEW).min(most);
        // Rows of a power-of-two length would fall into few cache sets.
        let units = on.depth(chunk);
        let row = if units.is_multiple_of(128) { units + SKEW } else { units };
        let plane = tiles * row + SKEW;
        Self { row, plane, chunk, chunk_stride: T::POINTS * plane }
    }

    /// V of `tiles` tiles in chunks of so many channels, for products that sum over tiles.
    pub(super) fn over_tiles<T: Transform>(on: Arithmetic, tiles: usize, chunk: usize) -> Self {
        let plane = on.depth(tiles) * chunk + SKEW;
        Self { row: chunk, plane, chunk, chunk_stride: T::POINTS * plane }
    }

    /// Units of all of V.
    pub(super) fn len(&self, c: usize) -> usize {
        c.div_ceil(self.chunk) * self.chunk_stride
    }
}

impl<T: Transform> InputTiles<'_, T> {
    /// Channels q.. of a tile; `n` of them, at most a vector.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, [pixels, next]: [&Pixels; 2], q: usize, n: usize, to: &mut impl Sink<V>) {
        if q.is_multiple_of(LINE) {
            for (i, j) in (0..T::IN).flat_map(|i| (T::IN - T::OUT..T::IN).map(move |j| (i, j))) {
                prefetch(next[i * 6 + j].wrapping_add(q));
            }
        }
        // SAFETY: every pixel holds n channels from q; V holds whole vectors.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; 6]; 6];
            for j in 0..T::IN {
                let mut d = [zero; 6];
                for i in 0..T::IN {
                    d[i] = V::load_up_to(pixels[i * 6 + j].add(q), n);
                }
                let points = T::input(d);
                for i in 0..T::IN {
                    half[i][j] = points[i];
                }
            }
            for i in 0..T::IN {
                let points = T::input(half[i]);
                for j in 0..T::IN {
                    to.put(i * T::IN + j, points[j]);
                }
            }
        }
    }

    /// Channels q.. of a tile.
    #[inline(always)]
    unsafe fn vector<V: Simd>(&self, pixels: [&Pixels; 2], q: usize, to: &mut impl Sink<V>) {
        // SAFETY: the caller's; the constant number of the bulk is compiled in.
        unsafe {
            if q + V::LANES <= self.c {
                self.channels::<V>(pixels, q, V::LANES, to);
            } else {
                self.channels::<V>(pixels, q, self.c - q, to);
            }
        }
    }
}

impl<T: Transform> InputTiles<'_, T> {
    /// All of them.
    #[inline(always)]
    unsafe fn all<O: Operands>(self) {
        let c = self.c;
        // SAFETY: by the contract.
        let pixels = |tile: usize| unsafe {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile.min(self.tiles.end - 1));
            let padding = self.tiling.padding as isize;
            let corner = (picture, y0 as isize - padding, x0 as isize - padding);
            self.tiling.pixels(corner, T::IN, self.x.as_ptr(), c, self.zeros.as_ptr())
        };
        let Layout { row, plane, chunk, chunk_stride } = self.layout;
        let mut next = pixels(self.tiles.start);
        if O::STEP == 1 || !self.over_tiles {
            for tile in self.tiles.clone() {
                let now = next;
                next = pixels(tile + 1);
                // SAFETY: by the contract.
                unsafe {
                    let v = self.v.add((tile - self.tiles.start) * row);
                    for q in (0..c).step_by(O::V::LANES) {
                        let to = v.add(q / chunk * chunk_stride + q % chunk / O::STEP);
                        self.vector::<O::V>([&now, &next], q, &mut Rows::<O>::new(to, plane));
                    }
                }
            }
        } else {
            for tile in self.tiles.clone().step_by(2) {
                let now = next;
                let second = if tile + 1 < self.tiles.end { pixels(tile + 1) } else { [self.zeros.as_ptr(); 36] };
                next = pixels(tile + 2);
                // SAFETY: by the contract.
                unsafe {
                    let v = self.v.add((tile - self.tiles.start) / 2 * row);
                    for q in (0..c).step_by(O::V::LANES) {
                        let mut first = Keep::new();
                        self.vector::<O::V>([&now, &second], q, &mut first);
                        let to = v.add(q / chunk * chunk_stride + q % chunk);
                        self.vector::<O::V>([&second, &next], q, &mut Units::<O>::new(&first, to, plane));
                    }
                }
            }
        }
    }
}

impl<T: Transform> OperandKernel for InputTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        if const { fits::<T, O>() } {
            // SAFETY: by the contract.
            unsafe { self.all::<O>() };
        } else {
            unreachable!("a transform for other operands");
        }
    }
}

/// y = epilogue(A^T M A) for some tiles and outputs `first..first + n` of k.
///
/// Contract: `m` is readable at `xi * plane + tile * row` for n numbers in whole vectors, tiles counted from the
/// first; `y` is writable for the batch with k channels; the epilogue was checked against it.
pub(super) struct OutputTiles<'a, T> {
    pub(super) tiling: &'a Tiling,
    pub(super) k: usize,
    pub(super) first: usize,
    pub(super) n: usize,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) tiles: Range<usize>,
    pub(super) m: *const f32,
    pub(super) row: usize,
    pub(super) plane: usize,
    pub(super) y: *mut f32,
    pub(super) of: PhantomData<T>,
}

impl<T: Transform> OutputTiles<'_, T> {
    /// Channels q.. (`n` of them, at most a vector) of the outputs `rows` x `columns` of the tile whose first pixel
    /// is number `pixel`.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, m: *const f32, q: usize, n: usize, pixel: usize, rows: usize, columns: usize) {
        // The next tile's pixels, mostly.
        if q.is_multiple_of(LINE) {
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let at = (pixel + i * self.tiling.out.1 + j + T::OUT) * self.k + self.first + q;
                prefetch_write(self.y.wrapping_add(at));
                if let Some(residual) = self.epilogue.residual {
                    prefetch(residual.as_ptr().wrapping_add(at));
                }
            }
        }
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
                Some(bias) => V::load_up_to(bias.as_ptr().add(self.first + q), n),
                None => zero,
            };
            for i in 0..rows {
                let outputs = T::output(half[i]);
                for j in 0..columns {
                    let at = (pixel + i * self.tiling.out.1 + j) * self.k + self.first + q;
                    let mut y = outputs[j] + bias;
                    if let Some(residual) = self.epilogue.residual {
                        y = y + V::load_up_to(residual.as_ptr().add(at), n);
                    }
                    self.epilogue.end(y).store_up_to(self.y.add(at), n);
                }
            }
        }
    }
}

impl<T: Transform> Kernel for OutputTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (h, w) = self.tiling.out;
        for tile in self.tiles.clone() {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile);
            let (rows, columns) = (T::OUT.min(h - y0), T::OUT.min(w - x0));
            let pixel = (picture * h + y0) * w + x0;
            let mut q = 0;
            // SAFETY: by the contract.
            unsafe {
                let m = self.m.add((tile - self.tiles.start) * self.row);
                if rows == T::OUT && columns == T::OUT {
                    while q + V::LANES <= self.n {
                        self.channels::<V>(m, q, V::LANES, pixel, T::OUT, T::OUT);
                        q += V::LANES;
                    }
                }
                while q < self.n {
                    self.channels::<V>(m, q, self.n - q, pixel, rows, columns);
                    q += V::LANES;
                }
            }
        }
    }
}

/// Z = A dY A^T for some tiles.
///
/// Contract: `gy` holds the batch with k channels; `zeros` holds k numbers; `z` is writable at
/// `xi * plane + panel * panel_stride + tile * NR`, units of tiles counted from the first.
pub(super) struct UpstreamTiles<'a, T> {
    pub(super) tiling: &'a Tiling,
    pub(super) k: usize,
    pub(super) gy: &'a [f32],
    pub(super) zeros: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) z: *mut f32,
    pub(super) panel: usize,
    pub(super) plane: usize,
    pub(super) of: PhantomData<T>,
}

impl<T: Transform> UpstreamTiles<'_, T> {
    /// Channels q.. of a tile; `n` of them, at most a vector, perhaps none.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, [pixels, next]: [&Pixels; 2], q: usize, n: usize, to: &mut impl Sink<V>) {
        if q.is_multiple_of(LINE) {
            for (i, j) in (0..T::OUT).flat_map(|i| (0..T::OUT).map(move |j| (i, j))) {
                prefetch(next[i * 6 + j].wrapping_add(q));
            }
        }
        // SAFETY: every pixel holds n channels from q; Z holds whole panels.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; 4]; 6];
            for j in 0..T::OUT {
                let mut y = [zero; 4];
                for i in 0..T::OUT {
                    y[i] = V::load_up_to(pixels[i * 6 + j].wrapping_add(q), n);
                }
                let points = T::output_adjoint(y);
                for i in 0..T::IN {
                    half[i][j] = points[i];
                }
            }
            for i in 0..T::IN {
                let points = T::output_adjoint(half[i]);
                for j in 0..T::IN {
                    to.put(i * T::IN + j, points[j]);
                }
            }
        }
    }

    /// Channels q.. of a tile, perhaps none.
    #[inline(always)]
    unsafe fn vector<V: Simd>(&self, pixels: [&Pixels; 2], q: usize, to: &mut impl Sink<V>) {
        // SAFETY: the caller's; the constant number of the bulk is compiled in.
        unsafe {
            if q + V::LANES <= self.k {
                self.channels::<V>(pixels, q, V::LANES, to);
            } else {
                self.channels::<V>(pixels, q, self.k.saturating_sub(q), to);
            }
        }
    }
}

impl<T: Transform> UpstreamTiles<'_, T> {
    /// All of them.
    #[inline(always)]
    unsafe fn all<O: Operands>(self) {
        let k = self.k;
        let panel = 2 * O::V::LANES;
        // SAFETY: by the contract.
        let pixels = |tile: usize| unsafe {
            let (picture, y0, x0) = self.tiling.origin::<T>(tile.min(self.tiles.end - 1));
            let corner = (picture, y0 as isize, x0 as isize);
            self.tiling.pixels(corner, T::OUT, self.gy.as_ptr(), k, self.zeros.as_ptr())
        };
        let mut next = pixels(self.tiles.start);
        for tile in self.tiles.clone().step_by(O::STEP) {
            let now = next;
            next = pixels(tile + O::STEP);
            let second = match O::STEP {
                1 => now,
                _ if tile + 1 < self.tiles.end => pixels(tile + 1),
                _ => [self.zeros.as_ptr(); 36],
            };
            // SAFETY: by the contract.
            unsafe {
                let z = self.z.add((tile - self.tiles.start) / O::STEP * panel);
                // Whole panels.
                for q in (0..k.next_multiple_of(panel)).step_by(O::V::LANES) {
                    let to = z.add(q / panel * self.panel + q % panel);
                    if O::STEP == 1 {
                        self.vector::<O::V>([&now, &next], q, &mut Rows::<O>::new(to, self.plane));
                    } else {
                        let mut first = Keep::new();
                        self.vector::<O::V>([&now, &second], q, &mut first);
                        self.vector::<O::V>([&second, &next], q, &mut Units::<O>::new(&first, to, self.plane));
                    }
                }
            }
        }
    }
}

impl<T: Transform> OperandKernel for UpstreamTiles<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        if const { fits::<T, O>() } {
            // SAFETY: by the contract.
            unsafe { self.all::<O>() };
        } else {
            unreachable!("a transform for other operands");
        }
    }
}
