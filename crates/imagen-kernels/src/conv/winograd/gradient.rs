//! The gradient of the weights, as the exact adjoint of the forward pass: `Z = A dY A^T`, `dU[xi] = V[xi]^T Z[xi]`
//! summed over tiles, `dw = G^T dU G`.
//!
//! Two schedules, as in the forward pass. *By tiles*, for few channels: the tiles are cut into a fixed number of parts; a thread
//! takes a part, block by block, with V, Z and its own dU in cache; the parts' results are added in order. *By
//! panels*: V and Z of many tiles are made first; then a thread makes dU for some inputs and some outputs, and at once its
//! share of dw.
//!
//! The gradient of the bias falls out in f32: both transforms have the interpolation point 1 at index 1, where A dY A^T is
//! the sum of the tile's dY. From operands in bfloat16 it is not taken, but from dY itself.

use super::super::Conv3x3;
use super::tiles::{CACHE, Inputs, Layout, ReadTiles, SKEW, Tiling, Upstream};
use super::transform::Transform;
use super::weights::WeightGradient;
use crate::gemm::{DEPTH, Gemm};
use crate::pool::{Shared, for_each};
use crate::precision::{Arithmetic, Precision};
use crate::rows::{SumRows, add_parts, column_sums};
use crate::scratch;
use std::marker::PhantomData;
use std::ops::Range;

/// Rows and columns of dU of one unit of work in the schedule by panels: whole chunks, and some panels on every
/// instruction set.
const ROWS: usize = 48;
const COLUMNS: usize = 64;
/// Channels of a chunk of V: what a product reads of it is then contiguous.
const CHUNK: usize = SKEW;
/// Bytes of V and Z of one round in the schedule by panels: all threads write and read them, which is quick as long as the
/// shared cache holds them.
const ROUND: usize = 5 << 20;
/// Tiles by which a round is shorter or longer.
const STEP: usize = 64;
/// Bytes of dU up to which a thread keeps one of its own.
const OWN: usize = 5 << 18;

/// `gw[3, 3, c, k]` and `gb[k]` from x and gy.
pub(in crate::conv) fn grad_weight<T: Transform>(
    on: Arithmetic,
    conv: &Conv3x3,
    x: &[f32],
    gy: &[f32],
    gw: &mut [f32],
    gb: Option<&mut [f32]>,
) {
    let (c, k) = (conv.c, conv.k);
    let tiling = Tiling::new::<T>(conv);
    if tiling.count == 0 {
        gb.into_iter().for_each(|gb| gb.fill(0.0));
        return gw.fill(0.0);
    }
    let mut zeros = scratch::take(c.max(k));
    zeros.fill(0.0);
    let gb = match (on.precision, gb) {
        (Precision::Bf16, Some(gb)) => {
            column_sums(on.isa, gy, gy.len() / k, k, gb);
            None
        }
        (_, gb) => gb,
    };
    let call = Call { on, c, k, tiling, x, gy, zeros: &zeros, z_row: k.next_multiple_of(on.panel()) };
    if 4 * T::POINTS * c * call.z_row <= OWN { call.by_tiles::<T>(gw, gb) } else { call.by_panels::<T>(gw, gb) }
}

struct Call<'a> {
    on: Arithmetic,
    c: usize,
    k: usize,
    tiling: Tiling,
    x: &'a [f32],
    gy: &'a [f32],
    zeros: &'a [f32],
    /// Units of Z per tile, all panels together.
    z_row: usize,
}

impl Call<'_> {
    /// Bytes of V and Z per tile.
    fn tile_bytes<T: Transform>(&self) -> usize {
        4 * T::POINTS * (self.c + SKEW + self.z_row) / self.on.step()
    }

    /// V and Z of some tiles; `v` and `z` point to the first, Z's panels are `z_panel` apart.
    ///
    /// # Safety
    /// As for [`ReadTiles`].
    unsafe fn transform<T: Transform>(
        &self,
        tiles: Range<usize>,
        v: *mut f32,
        layout: Layout,
        z: *mut f32,
        z_panel: usize,
        z_plane: usize,
    ) {
        let Self { on, c, k, ref tiling, x, gy, zeros, z_row } = *self;
        // SAFETY: the caller's.
        unsafe {
            let (over_tiles, of, ours) = (true, PhantomData::<(T, Inputs)>, tiles.clone());
            on.run(ReadTiles { tiling, c, x, zeros, tiles: ours, to: v, layout, channels: c, over_tiles, of });
            let (layout, of) = (Layout::panels(on, z_plane, z_panel), PhantomData::<(T, Upstream)>);
            on.run(ReadTiles { tiling, c: k, x: gy, zeros, tiles, to: z, layout, channels: z_row, over_tiles, of });
        }
    }

    /// Adds the tiles' sums of gy, Z at the point (1, 1), to `gb`.
    ///
    /// # Safety
    /// `z` must hold `count` tiles, `gb` all panels.
    unsafe fn sum_panels<T: Transform>(&self, z: *const f32, z_plane: usize, count: usize, gb: *mut f32) {
        let panel = self.on.panel();
        for column in (0..self.z_row).step_by(panel) {
            // SAFETY: panel `column / panel` of the plane; the caller's.
            unsafe {
                let x = z.add((T::IN + 1) * z_plane + column * count);
                let sums = gb.add(column);
                self.on.isa.run(SumRows { x, rows: count, row: panel, k: panel, sums, accumulate: true });
            }
        }
    }

    /// dU at one point, for some channels and `n` outputs: `z` are its first panel, the distance of panels and the
    /// number of tiles, `to` are dU and the distance of its rows.
    ///
    /// # Safety
    /// V and Z must hold the tiles, dU the channels; the first channel is that of a chunk.
    unsafe fn product<T: Transform>(
        &self,
        v: *const f32,
        layout: Layout,
        xi: usize,
        channels: Range<usize>,
        (z, z_panel, count): (*const f32, usize, usize),
        n: usize,
        (to, to_row): (*mut f32, usize),
        accumulate: bool,
    ) {
        for first in channels.clone().step_by(CHUNK) {
            // SAFETY: a chunk of V, rows first.. of dU; the rest is the caller's.
            unsafe {
                Gemm {
                    m: CHUNK.min(channels.end - first),
                    k: self.on.depth(count),
                    n: n.next_multiple_of(self.on.lanes()),
                    a: v.add(first / CHUNK * layout.chunk_stride + xi * layout.plane),
                    a_row: 1,
                    a_col: layout.row,
                    b: z,
                    b_panel: z_panel,
                    c: to.add((first - channels.start) * to_row),
                    c_row: to_row,
                    accumulate,
                }
                .run_deep(self.on);
            }
        }
    }

    fn by_tiles<T: Transform>(&self, gw: &mut [f32], gb: Option<&mut [f32]>) {
        let Self { on, c, k, ref tiling, z_row, .. } = *self;
        let step = on.step();
        let block =
            (2 * CACHE / self.tile_bytes::<T>()).clamp(8, DEPTH * step).min(tiling.count).next_multiple_of(step);
        // Parts for every thread as soon as there is something to share out; cut by shape alone.
        let parts = match tiling.count / block {
            0..=1 => 1,
            blocks => (blocks / 2).clamp(4, 16),
        };
        let part = tiling.count.div_ceil(parts);
        let (layout, z_plane) = (Layout::over_tiles::<T>(on, block, CHUNK), on.depth(block) * z_row + SKEW);
        let (u_row, u_plane) = (z_row, c * z_row + SKEW);
        // Each part's gw, then its gb.
        let part_len = 9 * c * k + z_row;
        let mut sums = scratch::take(parts * part_len);
        let to = Shared::new(&mut sums);
        for_each(parts, |i| {
            let mut v = scratch::take(layout.len(c));
            let mut z = scratch::take(T::POINTS * z_plane);
            let mut du = scratch::take(T::POINTS * u_plane);
            let (start, end) = ((i * part).min(tiling.count), ((i + 1) * part).min(tiling.count));
            du.fill(0.0);
            // SAFETY: part i of the sums; parts do not overlap.
            let gw = unsafe { to.get().add(i * part_len) };
            // SAFETY: as above.
            let gb = unsafe { std::slice::from_raw_parts_mut(gw.add(9 * c * k), z_row) };
            gb.fill(0.0);
            for first in (start..end).step_by(block) {
                let tiles = first..(first + block).min(end);
                let count = tiles.len();
                let z_panel = on.depth(count) * on.panel();
                // SAFETY: V and Z hold `block` tiles in every plane, dU c rows.
                unsafe {
                    self.transform::<T>(tiles, v.as_mut_ptr(), layout, z.as_mut_ptr(), z_panel, z_plane);
                    for xi in 0..T::POINTS {
                        let (z, z_panel) = (z.as_ptr().add(xi * z_plane), z_panel);
                        let du = du.as_mut_ptr().add(xi * u_plane);
                        self.product::<T>(v.as_ptr(), layout, xi, 0..c, (z, z_panel, count), k, (du, u_row), true);
                    }
                    if on.precision == Precision::F32 {
                        self.sum_panels::<T>(z.as_ptr(), z_plane, count, gb.as_mut_ptr());
                    }
                }
            }
            // SAFETY: part i of the sums.
            unsafe {
                on.isa.run(WeightGradient::<T> {
                    channels: c,
                    n: k,
                    du: du.as_ptr(),
                    plane: u_plane,
                    row: u_row,
                    gw,
                    gw_tap: c * k,
                    gw_row: k,
                    accumulate: false,
                    of: PhantomData,
                });
            }
        });
        add_parts(on.isa, &sums, part_len, parts, gw);
        if let Some(gb) = gb {
            add_parts(on.isa, &sums[9 * c * k..], part_len, parts, gb);
        }
    }

    fn by_panels<T: Transform>(&self, gw: &mut [f32], gb: Option<&mut [f32]>) {
        let Self { on, c, k, ref tiling, z_row, .. } = *self;
        let panel = on.panel();
        let most = (ROUND / self.tile_bytes::<T>() / STEP * STEP).max(STEP).min(tiling.count);
        let (layout, z_plane) = (Layout::over_tiles::<T>(on, most, CHUNK), on.depth(most) * z_row + SKEW);
        let mut v = scratch::take(layout.len(c));
        let mut z = scratch::take(T::POINTS * z_plane);
        let (v, z, to) = (Shared::new(&mut v), Shared::new(&mut z), Shared::new(gw));
        let groups = k.div_ceil(COLUMNS);
        let mut sums = scratch::take(z_row);
        sums.fill(0.0);
        let u_plane = ROWS * COLUMNS + SKEW;
        let mut start = 0;
        while start < tiling.count {
            let count = most.min(tiling.count - start);
            let chunk = count.div_ceil(16).next_multiple_of(on.step());
            for_each(count.div_ceil(chunk), |i| {
                let (first, last) = (i * chunk, ((i + 1) * chunk).min(count));
                // SAFETY: rows first..last of every plane of V and of every panel of Z; chunks do not overlap.
                unsafe {
                    let (v, z) = (v.get().add(on.depth(first) * layout.row), z.get().add(on.depth(first) * panel));
                    self.transform::<T>(start + first..start + last, v, layout, z, on.depth(count) * panel, z_plane);
                }
            });
            for_each(c.div_ceil(ROWS) * groups, |i| {
                let (row, column) = (i / groups * ROWS, i % groups * COLUMNS);
                let (rows, columns) = (ROWS.min(c - row), COLUMNS.min(k - column));
                let mut du = scratch::take(T::POINTS * u_plane);
                // SAFETY: rows row.. and columns column.. of dU and gw; units do not overlap.
                unsafe {
                    for xi in 0..T::POINTS {
                        let z = z.get().add(xi * z_plane + column * on.depth(count)).cast_const();
                        let du = du.as_mut_ptr().add(xi * u_plane);
                        let (z, to) = ((z, on.depth(count) * panel, count), (du, COLUMNS));
                        self.product::<T>(v.get(), layout, xi, row..row + rows, z, columns, to, false);
                    }
                    on.isa.run(WeightGradient::<T> {
                        channels: rows,
                        n: columns,
                        du: du.as_ptr(),
                        plane: u_plane,
                        row: COLUMNS,
                        gw: to.get().add(row * k + column),
                        gw_tap: c * k,
                        gw_row: k,
                        accumulate: start > 0,
                        of: PhantomData,
                    });
                }
            });
            if gb.is_some() {
                // SAFETY: Z holds `count` tiles.
                unsafe { self.sum_panels::<T>(z.get(), z_plane, count, sums.as_mut_ptr()) };
            }
            start += count;
        }
        if let Some(gb) = gb {
            gb.copy_from_slice(&sums[..k]);
        }
    }
}
