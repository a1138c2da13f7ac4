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

/// What is read of a tile, and what its points are made of.
pub(super) trait Reading<T: Transform> {
    /// Pixels of a tile, along one axis.
    const SIDE: usize;
    /// Whether the first tile begins within the zeros around a picture.
    const PADDED: bool;

    /// The points along one axis.
    fn points<V: Simd>(pixels: [V; 6]) -> [V; 6];
}

/// Tiles of inputs, which overlap: V = B^T d B.
pub(super) struct Inputs;

impl<T: Transform> Reading<T> for Inputs {
    const SIDE: usize = T::IN;
    const PADDED: bool = true;

    #[inline(always)]
    fn points<V: Simd>(d: [V; 6]) -> [V; 6] {
        T::input(d)
    }
}

/// Tiles of the gradients of outputs: Z = A dY A^T.
pub(super) struct Upstream;

impl<T: Transform> Reading<T> for Upstream {
    const SIDE: usize = T::OUT;
    const PADDED: bool = false;

    #[inline(always)]
    fn points<V: Simd>([y0, y1, y2, y3, ..]: [V; 6]) -> [V; 6] {
        T::output_adjoint([y0, y1, y2, y3])
    }
}

/// Some tiles of a batch, transformed.
///
/// Contract: x holds the batch with c channels; `zeros` holds c numbers; `to` is writable where `layout` says for the
/// first `channels` channels in whole vectors, tiles counted from the first.
pub(super) struct ReadTiles<'a, T, R> {
    pub(super) tiling: &'a Tiling,
    pub(super) c: usize,
    pub(super) x: &'a [f32],
    pub(super) zeros: &'a [f32],
    pub(super) tiles: Range<usize>,
    pub(super) to: *mut f32,
    pub(super) layout: Layout,
    /// Those that are written: perhaps more than there are, then zeros.
    pub(super) channels: usize,
    /// Whether products sum over tiles, and not over channels.
    pub(super) over_tiles: bool,
    pub(super) of: PhantomData<(T, R)>,
}

impl<T: Transform, R: Reading<T>> ReadTiles<'_, T, R> {
    /// Where the pixels of a tile start; beyond the last tile, those of the last.
    #[inline(always)]
    unsafe fn pixels(&self, tile: usize) -> Pixels {
        let (picture, y0, x0) = self.tiling.origin::<T>(tile.min(self.tiles.end - 1));
        let padding = if R::PADDED { self.tiling.padding as isize } else { 0 };
        let corner = (picture, y0 as isize - padding, x0 as isize - padding);
        // SAFETY: x holds the batch.
        unsafe { self.tiling.pixels(corner, R::SIDE, self.x.as_ptr(), self.c, self.zeros.as_ptr()) }
    }

    /// Channels q.. of a tile; `n` of them, at most a vector, perhaps none.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, [pixels, next]: [&Pixels; 2], q: usize, n: usize, to: &mut impl Sink<V>) {
        if q.is_multiple_of(LINE) {
            // what this tile does not read
            for (i, j) in (0..R::SIDE).flat_map(|i| (R::SIDE - T::OUT..R::SIDE).map(move |j| (i, j))) {
                prefetch(next[i * 6 + j].wrapping_add(q));
            }
        }
        // SAFETY: every pixel holds n channels from q; planes hold whole vectors.
        unsafe {
            let zero = V::splat(0.0);
            let mut half = [[zero; 6]; 6];
            for j in 0..R::SIDE {
                let mut column = [zero; 6];
                for i in 0..R::SIDE {
                    column[i] = V::load_up_to(pixels[i * 6 + j].wrapping_add(q), n);
                }
                let points = R::points(column);
                for i in 0..T::IN {
                    half[i][j] = points[i];
                }
            }
            for i in 0..T::IN {
                let points = R::points(half[i]);
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
            if q + V::LANES <= self.c {
                self.channels::<V>(pixels, q, V::LANES, to);
            } else {
                self.channels::<V>(pixels, q, self.c.saturating_sub(q), to);
            }
        }
    }

    /// All of them; in pairs where a unit is two tiles: what lacks a second one has zeros there.
    #[inline(always)]
    unsafe fn all<O: Operands>(self) {
        let Layout { row, plane, chunk, chunk_stride } = self.layout;
        let step = if self.over_tiles { O::STEP } else { 1 };
        let within = O::STEP / step;
        // SAFETY: by the contract.
        unsafe {
            let mut next = self.pixels(self.tiles.start);
            for (unit, tile) in self.tiles.clone().step_by(step).enumerate() {
                let now = next;
                next = self.pixels(tile + step);
                let second = match step {
                    1 => now,
                    _ if tile + 1 < self.tiles.end => self.pixels(tile + 1),
                    _ => [self.zeros.as_ptr(); 36],
                };
                for (number, start) in (0..self.channels).step_by(chunk).enumerate() {
                    let to = self.to.add(unit * row + number * chunk_stride);
                    for at in (0..chunk.min(self.channels - start)).step_by(O::V::LANES) {
                        let (q, to) = (start + at, to.add(at / within));
                        if step == 1 {
                            self.vector::<O::V>([&now, &next], q, &mut Rows::<O>::new(to, plane));
                        } else {
                            let mut first = Keep::new();
                            self.vector::<O::V>([&now, &second], q, &mut first);
                            self.vector::<O::V>([&second, &next], q, &mut Units::<O>::new(&first, to, plane));
                        }
                    }
                }
            }
        }
    }
}

impl<T: Transform, R: Reading<T>> OperandKernel for ReadTiles<'_, T, R> {
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

/// How V or Z is laid out: point xi of channel q at `q / chunk * chunk_stride + xi * plane + tile * row + q % chunk`, with units
/// of channels or of tiles in place of either; `chunk` is a multiple of 16.
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

    /// Z of k channels in panels that are `stride` units apart.
    pub(super) fn panels(on: Arithmetic, plane: usize, stride: usize) -> Self {
        Self { row: on.panel(), plane, chunk: on.panel(), chunk_stride: stride }
    }

    /// Units of all of V.
    pub(super) fn len(&self, c: usize) -> usize {
        c.div_ceil(self.chunk) * self.chunk_stride
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
