//! Winograd convolution (Winograd 1980; Lavin and Gray 2016), F(m x m, 3x3) with m = 4 or 2, on channels-last data.
//!
//! A picture is cut into tiles of m x m outputs, each seeing (m + 2) x (m + 2) inputs: X points. With B, G and A of
//! `transform`, `Y = A^T [(G w G^T) . (B^T d B)] A`; the product in brackets is, over channels, X matrix products
//! `M[xi] = V[xi] U[xi]` of (tiles x c) by (c x k). So: transform inputs to V, multiply, transform M back.
//!
//! Two schedules. *By tiles*, for few channels: a thread takes a few tiles through all three steps, V and M stay in
//! its cache; U is read again for every block. *By panels*, for many: V of many tiles is made first; then a thread
//! takes one panel of outputs of a block of tiles through the other two steps. If the weights are not prepared, U is made
//! once for several blocks; for a single one, or where it would be too large, each block makes the part that it needs
//! on the way. M never goes to memory.
//!
//! The gradient of the weights (`gradient`) is the exact adjoint; that of the input is a convolution with flipped
//! weights.

// Small matrices of vectors are indexed by row and column, as in the formulas.
#![allow(clippy::needless_range_loop)]

mod gradient;
mod sink;
mod tiles;
mod transform;
mod weights;

pub(super) use gradient::grad_weight;
pub(super) use tiles::Tiling;
pub(super) use transform::{F2, F4, RoundedF4};
pub(super) use weights::Weights;

use super::Conv3x3;
use crate::gemm::{Gemm, ROW};
use crate::pool::{Shared, for_each, threads};
use crate::precision::Arithmetic;
use crate::rows::Epilogue;
use crate::scratch;
use std::marker::PhantomData;
use std::ops::Range;
use tiles::{CACHE, Inputs, Layout, OutputTiles, ReadTiles, SKEW};
use transform::Transform;
use weights::WeightTransform;

/// Bytes of V in one round of the schedule by panels.
const ROUND: usize = 24 << 20;
/// Tiles of one unit of work in the schedule by panels.
const BLOCK: usize = 112;
/// Units of U that are kept in memory for the blocks of one call.
const KEPT: usize = 24 << 20;
/// Output channels of one unit of work: some panels on every instruction set.
const COLUMNS: usize = 32;
/// Units of input channels whose U is made at a time.
const CHANNELS: usize = ROW;

/// Where U comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// It was made before, by [`transform_weights`].
    Prepared(&'a [f32]),
    /// It is made on the way.
    Weights(Weights<'a>),
}

/// Whether c inputs and k outputs are few enough for the schedule by tiles.
fn few(c: usize, k: usize) -> bool {
    c + k <= 256
}

fn prepared_plane(on: Arithmetic, c: usize, k: usize) -> usize {
    on.depth(c) * k.next_multiple_of(on.panel()) + SKEW
}

/// Units that prepared weights take.
pub(super) fn weights_len<T: Transform>(on: Arithmetic, c: usize, k: usize) -> usize {
    T::POINTS * prepared_plane(on, c, k)
}

/// U = G w G^T, packed: `[xi][k / NR][c][NR]`.
pub(super) fn transform_weights<T: Transform>(
    on: Arithmetic,
    weights: Weights<'_>,
    c: usize,
    k: usize,
    to: &mut [f32],
) {
    const CHUNK: usize = 32;
    assert!(to.len() >= weights_len::<T>(on, c, k), "room for transformed weights");
    let (panel, plane) = (on.panel(), prepared_plane(on, c, k));
    let chunks = c.div_ceil(CHUNK);
    let to = Shared::new(to);
    for_each(k.div_ceil(panel) * chunks, |i| {
        let (column, first) = (i / chunks * panel, i % chunks * CHUNK);
        let channels = first..(first + CHUNK).min(c);
        // SAFETY: channels of one panel of every plane; units do not overlap.
        unsafe {
            let to = to.get().add(column * on.depth(c) + on.depth(first) * panel);
            on.run(WeightTransform::<T>::new(weights, (c, k), channels, column, to, plane));
        }
    });
}

/// `y = epilogue(conv(x))`.
pub(super) fn forward<T: Transform>(
    on: Arithmetic,
    conv: &Conv3x3,
    x: &[f32],
    source: Source<'_>,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    forward_on::<T>(on, Tiling::new::<T>(conv), (conv.c, conv.k), x, source, epilogue, y);
}

/// The forward pass with any tiling.
pub(super) fn forward_on<T: Transform>(
    on: Arithmetic,
    tiling: Tiling,
    (c, k): (usize, usize),
    x: &[f32],
    source: Source<'_>,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    if tiling.count == 0 {
        return;
    }
    let mut zeros = scratch::take(c);
    zeros.fill(0.0);
    match source {
        Source::Prepared(u) => assert!(u.len() >= weights_len::<T>(on, c, k), "transformed weights"),
        Source::Weights(Weights::Plain(w) | Weights::Flipped(w)) => assert_eq!(w.len(), 9 * c * k, "weights"),
        Source::Weights(Weights::Stored(w)) => {
            assert_eq!((w.features(), w.isa()), ((9 * c, k), on.isa), "stored weights");
        }
    }
    let call = Call { on, c, k, tiling, x, zeros: &zeros, epilogue };
    let many = !few(c, k);
    match source {
        Source::Weights(weights) if !many || (call.tiling.count > BLOCK && weights_len::<T>(on, c, k) <= KEPT) => {
            let mut u = scratch::take(weights_len::<T>(on, c, k));
            transform_weights::<T>(on, weights, c, k, &mut u);
            let prepared = Source::Prepared(&u);
            if many { call.by_panels::<T>(prepared, y) } else { call.by_tiles::<T>(&u, y) }
        }
        Source::Prepared(u) if !many => call.by_tiles::<T>(u, y),
        _ => call.by_panels::<T>(source, y),
    }
}

/// What both schedules share.
struct Call<'a> {
    on: Arithmetic,
    c: usize,
    k: usize,
    tiling: Tiling,
    x: &'a [f32],
    zeros: &'a [f32],
    epilogue: Epilogue<'a>,
}

impl Call<'_> {
    fn by_tiles<T: Transform>(&self, u: &[f32], y: &mut [f32]) {
        let Self { on, c, k, ref tiling, epilogue, .. } = *self;
        let m_row = k.next_multiple_of(on.panel());
        // As many tiles as the cache holds, but enough blocks for all threads; cut by shape alone.
        let most = CACHE / (4 * T::POINTS * (on.depth(c) + SKEW + m_row));
        let block = most.min(tiling.count.div_ceil(16)).next_multiple_of(14);
        let layout = Layout::over_channels::<T>(on, c, block, usize::MAX);
        let m_plane = block * m_row + SKEW;
        let u_plane = prepared_plane(on, c, k);
        let to = Shared::new(y);
        for_each(tiling.count.div_ceil(block), |i| {
            let tiles = i * block..((i + 1) * block).min(tiling.count);
            let mut v = scratch::take(layout.len(c));
            let mut m = scratch::take(T::POINTS * m_plane);
            // SAFETY: V and M have room for `block` tiles in every plane; outputs of different tiles do not overlap.
            unsafe {
                self.read::<T>(tiles.clone(), v.as_mut_ptr(), layout);
                for xi in 0..T::POINTS {
                    Gemm {
                        m: tiles.len(),
                        k: on.depth(c),
                        n: k.next_multiple_of(on.lanes()),
                        a: v.as_ptr().add(xi * layout.plane),
                        a_row: layout.row,
                        a_col: 1,
                        b: u.as_ptr().add(xi * u_plane),
                        b_panel: on.depth(c) * on.panel(),
                        c: m.as_mut_ptr().add(xi * m_plane),
                        c_row: m_row,
                        accumulate: false,
                    }
                    .run_deep(on);
                }
                on.isa.run(OutputTiles::<T> {
                    tiling,
                    k,
                    first: 0,
                    n: k,
                    epilogue,
                    tiles,
                    m: m.as_ptr(),
                    row: m_row,
                    plane: m_plane,
                    y: to.get(),
                    of: PhantomData,
                });
            }
        });
    }

    fn by_panels<T: Transform>(&self, source: Source<'_>, y: &mut [f32]) {
        let Self { on, c, k, ref tiling, epilogue, .. } = *self;
        let panel = on.panel();
        let most = (ROUND / (4 * T::POINTS * on.depth(c))).max(BLOCK).min(tiling.count);
        let together = CHANNELS * on.step();
        let layout = Layout::over_channels::<T>(on, c, most, together);
        let groups = k.div_ceil(COLUMNS);
        // Equal blocks of tiles; smaller ones if that gives every thread work. An output does not depend on its block.
        let enough = (2 * threads()).div_ceil(groups).min(most / 14).max(1);
        let block = most.div_ceil(most.div_ceil(BLOCK).max(enough));
        let m_plane = block * COLUMNS + SKEW;
        let part_plane = CHANNELS * COLUMNS + SKEW;
        let mut v = scratch::take(layout.len(c));
        let to = Shared::new(y);
        let mut start = 0;
        while start < tiling.count {
            let count = most.min(tiling.count - start);
            self.input_tiles::<T>(start, count, &mut v, layout);
            let v = &v;
            for_each(count.div_ceil(block) * groups, |i| {
                let (first, column) = (i / groups * block, i % groups * COLUMNS);
                let columns = COLUMNS.min(k - column);
                let tiles = start + first..start + (first + block).min(count);
                let mut m = scratch::take(T::POINTS * m_plane);
                let mut part = scratch::take(T::POINTS * part_plane);
                for (chunk, channel) in (0..c).step_by(together).enumerate() {
                    let channels = channel..(channel + together).min(c);
                    // U of these channels and columns: where it starts, and how far panels and planes are apart.
                    let (u, u_panel, u_plane) = match source {
                        Source::Prepared(u) => {
                            let first = column * on.depth(c) + on.depth(channel) * panel;
                            (u[first..].as_ptr(), on.depth(c) * panel, prepared_plane(on, c, k))
                        }
                        Source::Weights(weights) => {
                            for column in (column..column + columns).step_by(panel) {
                                let to = &mut part[column % COLUMNS * CHANNELS..];
                                let (to, channels) = (to.as_mut_ptr(), channels.clone());
                                // SAFETY: a panel of CHANNELS rows in every plane.
                                unsafe {
                                    on.run(WeightTransform::<T>::new(
                                        weights,
                                        (c, k),
                                        channels,
                                        column,
                                        to,
                                        part_plane,
                                    ));
                                }
                            }
                            (part.as_ptr(), CHANNELS * panel, part_plane)
                        }
                    };
                    for xi in 0..T::POINTS {
                        // SAFETY: rows first.. of a plane of V, the part of U, a plane of M with `block` rows.
                        unsafe {
                            let product = Gemm {
                                m: tiles.len(),
                                k: on.depth(channels.len()),
                                n: columns.next_multiple_of(on.lanes()),
                                a: v.as_ptr().add(chunk * layout.chunk_stride + xi * layout.plane + first * layout.row),
                                a_row: layout.row,
                                a_col: 1,
                                b: u.add(xi * u_plane),
                                b_panel: u_panel,
                                c: m.as_mut_ptr().add(xi * m_plane),
                                c_row: COLUMNS,
                                accumulate: channel > 0,
                            };
                            product.run(on);
                        }
                    }
                }
                // SAFETY: M is complete; the outputs of different tiles and columns do not overlap.
                unsafe {
                    on.isa.run(OutputTiles::<T> {
                        tiling,
                        k,
                        first: column,
                        n: columns,
                        epilogue,
                        tiles,
                        m: m.as_ptr(),
                        row: COLUMNS,
                        plane: m_plane,
                        y: to.get(),
                        of: PhantomData,
                    });
                }
            });
            start += count;
        }
    }

    /// V of `count` tiles from `start`, on all threads.
    fn input_tiles<T: Transform>(&self, start: usize, count: usize, v: &mut [f32], layout: Layout) {
        let chunk = count.div_ceil(16);
        let v = Shared::new(v);
        for_each(count.div_ceil(chunk), |i| {
            let first = i * chunk;
            let tiles = start + first..start + (first + chunk).min(count);
            // SAFETY: rows first.. of every plane of V; chunks do not overlap.
            unsafe { self.read::<T>(tiles, v.get().add(first * layout.row), layout) };
        });
    }

    /// V of some tiles; `to` points to the first.
    ///
    /// # Safety
    /// V must have room for them.
    unsafe fn read<T: Transform>(&self, tiles: Range<usize>, to: *mut f32, layout: Layout) {
        let Self { on, c, ref tiling, x, zeros, .. } = *self;
        let (over_tiles, of) = (false, PhantomData::<(T, Inputs)>);
        // SAFETY: the caller's.
        unsafe { on.run(ReadTiles { tiling, c, x, zeros, tiles, to, layout, channels: c, over_tiles, of }) };
    }
}
