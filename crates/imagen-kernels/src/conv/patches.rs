//! Convolution as a matrix product: the neighbourhood of each output pixel is copied into a row, a block of rows
//! at a time, and multiplied with the packed weights. Any stride, any channels.
//!
//! Also the gradients that take this road: of the weights (rows transposed times gy), and of the input with
//! stride 2.

use super::Conv3x3;
use crate::gemm::{Ahead, DEPTH, Gemm, LayColumns, LayRows, PackTransposedPanel, Region, pack, packed_len};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::precision::{Arithmetic, Precision};
use crate::rows::{Epilogue, FinishRow, FinishRows, outer_in_parts};
use crate::scratch;
use crate::simd::Simd;
use std::ptr;

/// Rows that a unit of work copies and multiplies.
const BLOCK: usize = 84;

/// The pixels of a picture `[h, w, c]` that a grid of output pixels looks at: output (i, j) sees rows
/// `i * step + top ..` of number `rows`, columns `j * step + left ..` of number `columns`; outside is zero.
#[derive(Clone, Copy)]
pub(super) struct Neighbourhood {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    pub(super) grid: (usize, usize),
    pub(super) step: usize,
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Neighbourhood {
    /// What the outputs of a convolution see of its input.
    pub(super) fn of_input(conv: &Conv3x3, grid: (usize, usize)) -> Self {
        let Conv3x3 { h, w, c, stride, .. } = *conv;
        Self { h, w, c, grid, step: stride, top: -1, left: -1, rows: 3, columns: 3 }
    }

    /// Numbers in one row.
    pub(super) fn len(&self) -> usize {
        self.rows * self.columns * self.c
    }
}

/// A pixel of a grid in a batch of pictures; stepping needs no divisions.
#[derive(Clone, Copy)]
struct Place {
    picture: usize,
    i: usize,
    j: usize,
}

impl Place {
    /// Pixel number `pixel`, counted over all pictures.
    fn of(pixel: usize, grid: (usize, usize)) -> Self {
        Self { picture: pixel / (grid.0 * grid.1), i: pixel / grid.1 % grid.0, j: pixel % grid.1 }
    }

    #[inline(always)]
    fn next(&mut self, grid: (usize, usize)) {
        self.j += 1;
        if self.j == grid.1 {
            (self.i, self.j) = (self.i + 1, 0);
        }
        if self.i == grid.0 {
            (self.picture, self.i) = (self.picture + 1, 0);
        }
    }
}

/// Copies neighbourhoods `first..first + count` (counted over all pictures) into rows `len()` apart.
///
/// Contract: `x` holds all pictures; `to` is writable for `count` rows.
struct Fill {
    near: Neighbourhood,
    x: *const f32,
    first: usize,
    count: usize,
    to: *mut f32,
}

impl Kernel for Fill {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Neighbourhood { h, w, c, grid, step, top, left, rows, columns } = self.near;
        let mut to = self.to;
        let width = columns * c;
        let limit = to.wrapping_add(self.count * rows * width);
        let mut place = Place::of(self.first, grid);
        for _ in 0..self.count {
            let Place { picture, i, j } = place;
            place.next(grid);
            let x0 = (j * step) as isize + left;
            // Columns of the neighbourhood that are inside the picture.
            let skip = (-x0).clamp(0, columns as isize) as usize;
            let end = (w as isize - x0).clamp(skip as isize, columns as isize) as usize;
            for r in 0..rows {
                let y = (i * step) as isize + top + r as isize;
                // SAFETY: the copied columns are inside row y of the picture; the rest of the row is zeroed. Whole
                // vectors run into the row's rest and into what is written next, but not beyond the end.
                unsafe {
                    if y < 0 || y >= h as isize || skip == end {
                        to.write_bytes(0, width);
                    } else {
                        let from = self.x.add(((picture * h + y as usize) * w + (x0 + skip as isize) as usize) * c);
                        let (zeros, len) = (skip * c, (end - skip) * c);
                        // Mostly there is nothing to fill, and few numbers to copy.
                        if zeros > 0 {
                            to.write_bytes(0, zeros);
                        }
                        let inner = to.add(zeros);
                        let mut q = 0;
                        while q + V::LANES <= len {
                            V::load(from.add(q)).store(inner.add(q));
                            q += V::LANES;
                        }
                        if q < len {
                            let last = V::load_first(from.add(q), len - q);
                            if inner.add(q).wrapping_add(V::LANES) <= limit {
                                last.store(inner.add(q));
                            } else {
                                last.store_first(inner.add(q), len - q);
                            }
                        }
                        if zeros + len < width {
                            inner.add(len).write_bytes(0, width - zeros - len);
                        }
                    }
                    to = to.add(width);
                }
            }
        }
    }
}

/// Where the results of a grid go: pixel (i, j) of picture p to row `(p * h + i * step + top) * w + j * step + left`.
#[derive(Clone, Copy)]
pub(super) struct Target {
    n: usize,
    grid: (usize, usize),
    h: usize,
    w: usize,
    step: usize,
    top: usize,
    left: usize,
}

impl Target {
    /// All pixels of a batch, in order.
    pub(super) fn whole(n: usize, grid: (usize, usize)) -> Self {
        Self { n, grid, h: grid.0, w: grid.1, step: 1, top: 0, left: 0 }
    }

    /// Whether the pixels of the grid are those of the batch, in order.
    fn is_whole(&self) -> bool {
        self.grid == (self.h, self.w) && (self.step, self.top, self.left) == (1, 0, 0)
    }

    #[inline(always)]
    fn row(&self, Place { picture, i, j }: Place) -> usize {
        (picture * self.h + i * self.step + self.top) * self.w + j * self.step + self.left
    }
}

/// Copies `count` rows of k numbers to the targets of pixels `first..`, through the epilogue.
///
/// Contract: `from` holds the rows, `to` all pixels that the target speaks of; the epilogue was checked against it.
struct FinishPixels<'a> {
    from: *const f32,
    to: *mut f32,
    k: usize,
    target: Target,
    first: usize,
    count: usize,
    epilogue: Epilogue<'a>,
}

impl Kernel for FinishPixels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Self { k, epilogue, .. } = self;
        let mut place = Place::of(self.first, self.target.grid);
        for r in 0..self.count {
            let row = self.target.row(place);
            place.next(self.target.grid);
            // SAFETY: row r of the results, the target of its pixel.
            unsafe {
                let (from, to) = (self.from.add(r * k), self.to.add(row * k));
                FinishRow { from, to, row, k, epilogue }.run::<V>();
            }
        }
    }
}

/// Neighbourhoods times packed weights (depth `near.len()`, k columns), through the epilogue to their targets.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) near: Neighbourhood,
    pub(super) x: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) k: usize,
    pub(super) target: Target,
    pub(super) epilogue: Epilogue<'a>,
}

impl Product<'_> {
    /// All of them.
    pub(super) fn run(&self, on: Arithmetic, y: &mut [f32]) {
        let grid = self.target.grid;
        let pixels = self.target.n * grid.0 * grid.1;
        // Smaller blocks when there are few pixels, so that every thread has work; cut by shape alone.
        let block = pixels.div_ceil(16).clamp(14, BLOCK);
        let y = Shared::new(y);
        for_each(pixels.div_ceil(block), |i| {
            let first = i * block;
            // SAFETY: targets of different pixels do not overlap.
            unsafe { self.block(on, first, block.min(pixels - first), y) };
        });
    }

    /// Pixels `first..first + m`, counted over all pictures.
    ///
    /// # Safety
    /// `y` must be writable at their targets.
    unsafe fn block(&self, on: Arithmetic, first: usize, m: usize, y: Shared) {
        let Self { near, x, weights, k, target, epilogue } = *self;
        let depth = near.len();
        let in_order = target.is_whole();
        let isa = on.isa;
        let mut area = scratch::take(m * (depth + if in_order { 0 } else { k }));
        let (rows, results) = area.split_at_mut(m * depth);
        // SAFETY: the area holds m rows of both; the rest is the caller's.
        unsafe {
            isa.run(Fill { near, x: x.as_ptr(), first, count: m, to: rows.as_mut_ptr() });
            let c = if in_order { y.get().add(first * k) } else { results.as_mut_ptr() };
            let (mut a, mut a_row) = (rows.as_ptr(), depth);
            let mut laid;
            if on.precision == Precision::Bf16 {
                a_row = LayRows::distance(on, depth);
                laid = scratch::take(m * a_row);
                on.run(LayRows { x: a, rows: m, row: depth, n: depth, to: laid.as_mut_ptr(), to_row: a_row });
                a = laid.as_ptr();
            }
            Gemm {
                m,
                k: on.depth(depth),
                n: k,
                a,
                a_row,
                a_col: 1,
                b: weights.as_ptr(),
                b_panel: on.depth(depth) * isa.panel(),
                c,
                c_row: k,
                accumulate: false,
            }
            .run_deep_onto(on, epilogue.bias.map_or(ptr::null(), <[f32]>::as_ptr), Ahead::NOTHING);
            let epilogue = Epilogue { bias: None, ..epilogue };
            if !in_order {
                let (from, to) = (results.as_ptr(), y.get());
                isa.run(FinishPixels { from, to, k, target, first, count: m, epilogue });
            } else if !epilogue.is_none() {
                isa.run(FinishRows { y: y.get(), first, rows: m, k, column: 0, n: k, epilogue });
            }
        }
    }
}

/// The gradient of the weights: for each tap, the transposed rows that it sees times gy. A unit of work is a tap and some
/// outputs; it copies what it needs for itself, by blocks of pixels. Few weights take [`products`].
pub(super) fn grad_weight(on: Arithmetic, conv: &Conv3x3, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    /// Bytes of copied rows at a time.
    const CACHE: usize = 1 << 18;
    /// Most numbers of the gradient of which every part of the pixels may have its own.
    const FEW: usize = 1 << 14;
    /// Outputs of a unit of work: some panels on every instruction set.
    const SPAN: usize = 64;
    let Conv3x3 { n, c, k, .. } = *conv;
    let grid = (conv.out_h(), conv.out_w());
    let pixels = n * grid.0 * grid.1;
    if pixels == 0 {
        return gw.fill(0.0);
    }
    if 9 * c * k <= FEW {
        return products(on, Neighbourhood::of_input(conv, grid), x, gy, k, gw);
    }
    let (isa, panel) = (on.isa, on.panel());
    let mut packed = scratch::take(packed_len(on, pixels, k));
    pack(on, gy, pixels, k, &mut packed);
    let block = (CACHE / (4 * c) / DEPTH).max(1) * DEPTH;
    let laid_row = c.next_multiple_of(16);
    let spans = k.div_ceil(SPAN);
    let to = Shared::new(gw);
    for_each(9 * spans, |i| {
        let (tap, first_output) = (i / spans, i % spans * SPAN);
        let (r, s) = (tap / 3, tap % 3);
        let (top, left) = (r as isize - 1, s as isize - 1);
        let near = Neighbourhood { top, left, rows: 1, columns: 1, ..Neighbourhood::of_input(conv, grid) };
        let mut rows = scratch::take(block.min(pixels) * c);
        let bf16 = on.precision == Precision::Bf16;
        let mut laid = scratch::take(if bf16 { on.depth(block) * laid_row } else { 0 });
        for first in (0..pixels).step_by(block) {
            let count = block.min(pixels - first);
            // SAFETY: the scratch holds `block` rows; units have a tap or outputs of their own.
            unsafe {
                isa.run(Fill { near, x: x.as_ptr(), first, count, to: rows.as_mut_ptr() });
                let (mut a, mut a_col) = (rows.as_ptr(), c);
                if bf16 {
                    on.run(LayColumns { x: a, rows: count, row: c, n: c, to: laid.as_mut_ptr(), to_row: laid_row });
                    (a, a_col) = (laid.as_ptr(), laid_row);
                }
                Gemm {
                    m: c,
                    k: on.depth(count),
                    n: SPAN.min(k - first_output),
                    a,
                    a_row: 1,
                    a_col,
                    b: packed.as_ptr().add(first_output * on.depth(pixels) + on.depth(first) * panel),
                    b_panel: on.depth(pixels) * panel,
                    c: to.get().add(tap * c * k + first_output),
                    c_row: k,
                    accumulate: first > 0,
                }
                .run_deep(on);
            }
        }
    });
}

/// Transposed neighbourhoods in `x` times the rows of `y` `[pixels, n]`, `to` `[near.len(), n]`, for short rows.
pub(super) fn products(on: Arithmetic, near: Neighbourhood, x: &[f32], y: &[f32], n: usize, to: &mut [f32]) {
    let (width, pixels) = (near.len(), y.len() / n.max(1));
    let left = |first: usize, count: usize, rows: &mut [f32]| {
        let (x, to) = (x.as_ptr(), rows.as_mut_ptr());
        // SAFETY: pixels of the batch; the rows have room for them.
        unsafe { on.isa.run(Fill { near, x, first, count, to }) };
        to.cast_const()
    };
    outer_in_parts(on, [pixels, width, n], y, to, left, |_, _| Region::NONE, None);
}

/// Neighbourhoods `first..first + count` into rows, on all threads.
pub(super) fn fill(isa: Isa, near: Neighbourhood, x: &[f32], first: usize, count: usize, to: &mut [f32]) {
    const CHUNK: usize = 64;
    let to = Shared::new(to);
    for_each(count.div_ceil(CHUNK), |i| {
        let at = i * CHUNK;
        // SAFETY: rows at.. of the chunk; chunks do not overlap.
        unsafe {
            let (x, to) = (x.as_ptr(), to.get().add(at * near.len()));
            isa.run(Fill { near, x, first: first + at, count: CHUNK.min(count - at), to });
        }
    });
}

/// The gradient of the input of a convolution with stride 2.
///
/// Input row i is seen by output rows o with `i = 2 o - 1 + r`. An even i has one, `o = i / 2` through r = 1; an odd
/// i has two, `o = (i - 1) / 2` through r = 2 and the next through r = 0. Columns likewise: four classes of pixels,
/// each a small convolution of gy. A unit of work is a few rows of all four, which lie between each other.
pub(super) fn grad_input_stride2(on: Arithmetic, conv: &Conv3x3, gy: &[f32], w: &[f32], gx: &mut [f32]) {
    const CLASSES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let Conv3x3 { n, h, w: width, c, k, .. } = *conv;
    let taps = |odd: usize| if odd == 1 { &[2, 0][..] } else { &[1][..] };
    // Taps follow each other in whole units.
    let on = if k.is_multiple_of(on.step()) { on } else { on.isa.into() };
    let panel = on.panel();
    let mut packed = scratch::take(packed_len(on, 9 * k, c));
    let mut start = 0;
    let classes = CLASSES.map(|(top, left)| {
        let (rows, columns) = (taps(top), taps(left));
        let depth = rows.len() * columns.len() * k;
        // The taps' weights, transposed, one below the other.
        let first = start;
        start += packed_len(on, depth, c);
        let to = Shared::new(&mut packed[first..start]);
        for_each(c.div_ceil(panel), |j| {
            for (i, (r, s)) in rows.iter().flat_map(|r| columns.iter().map(move |s| (r, s))).enumerate() {
                // SAFETY: tap (r, s) of w is c rows of k; panels do not overlap, taps follow each other in them.
                unsafe {
                    let x = w.as_ptr().add((r * 3 + s) * c * k);
                    let to = to.get().add((j * on.depth(depth) + i * on.depth(k)) * panel);
                    on.run(PackTransposedPanel { x, row: k, k, n: c, first: j * panel, to });
                }
            }
        });
        let grid = ((h + 1 - top) / 2, (width + 1 - left) / 2);
        let near = Neighbourhood {
            h: conv.out_h(),
            w: conv.out_w(),
            c: k,
            grid,
            step: 1,
            top: 0,
            left: 0,
            rows: rows.len(),
            columns: columns.len(),
        };
        (first..start, near, Target { n, grid, h, w: width, step: 2, top, left })
    });
    let classes = classes.map(|(part, near, target)| {
        let weights = &packed[part];
        Product { near, x: gy, weights, k: c, target, epilogue: Epilogue::NONE }
    });
    let (rows, columns) = classes[0].target.grid;
    // As many as make a block, fewer where there are few; cut by shape alone.
    let width = columns.max(1);
    let band = (BLOCK / width).min((n * rows).div_ceil(16)).max(14usize.div_ceil(width)).clamp(1, rows.max(1));
    let bands = rows.div_ceil(band);
    let gx = Shared::new(gx);
    for_each(n * bands, |i| {
        let (picture, top) = (i / bands, i % bands * band);
        for class in &classes {
            let (rows, columns) = class.target.grid;
            let pixels = top * columns..(top + band).min(rows).max(top) * columns;
            for first in pixels.clone().step_by(BLOCK) {
                let first_of_all = picture * rows * columns + first;
                // SAFETY: targets of different pixels and classes do not overlap.
                unsafe { class.block(on, first_of_all, BLOCK.min(pixels.end - first), gx) };
            }
        }
    });
}

/// `w[2 - r, 2 - s, k, c]` to `[r, s, c, k]`, number by number; convolutions that come here have few channels.
pub(super) fn flip(w: &[f32], c: usize, k: usize, to: &mut [f32]) {
    for (tap, to) in to.chunks_exact_mut((c * k).max(1)).enumerate() {
        let w = &w[(8 - tap) * c * k..][..c * k];
        for (i, row) in to.chunks_exact_mut(k).enumerate() {
            row.iter_mut().enumerate().for_each(|(j, to)| *to = w[j * c + i]);
        }
    }
}
