//! Winograd convolution (Winograd 1980; Lavin and Gray 2016), F(m x m, 3x3) with m = 4 or 2, on channels-last data.
//!
//! A picture is cut into tiles of m x m outputs, each seeing (m + 2) x (m + 2) = X inputs. With B, G and A of
//! `transform`, `Y = A^T [(G w G^T) . (B^T d B)] A`; the product in brackets is, over channels, X matrix products
//! `M[xi] = V[xi] U[xi]` of (tiles x c) by (c x k). So: transform inputs to V, multiply, transform back.
//!
//! Two schedules. *Independent*: a thread takes a few tiles through all three steps, V and M stay in its cache; U is
//! read again for every block. *Cooperative*: all threads do one step for many tiles, then the next; U is read once,
//! V and M go through memory. Few channels want the first, many channels the second.
//!
//! The gradient of the weights is the exact adjoint: `dU[xi] = V[xi]^T (A dY A^T)[xi]`, `dw = G^T dU G`; that of the
//! input is a convolution with flipped weights.

mod tiles;
mod transform;

pub(super) use transform::{F2, F4};

use super::Conv3x3;
use crate::gemm::Gemm;
use crate::isa::Isa;
use crate::pool::{Shared, for_each};
use crate::rows::Epilogue;
use crate::scratch;
use tiles::{FlipBlock, InputTiles, OutputTiles, Tiling, UpstreamTiles, WeightGradient, WeightTransform};
use transform::Transform;

/// Bytes of V and M that one thread keeps in its second-level cache.
const CACHE: usize = 1 << 20;
/// Bytes of V and M in one round of the cooperative schedule.
const ROUND: usize = 24 << 20;
/// Distance between the planes V[xi], M[xi], U[xi] beyond their size, so that the planes of a power-of-two shape do
/// not fall into the same cache sets.
const SKEW: usize = 16;

fn weights_stride(isa: Isa, c: usize, k: usize) -> usize {
    c * k.next_multiple_of(isa.panel()) + SKEW
}

/// Numbers that transformed weights take.
pub(super) fn weights_len<T: Transform>(isa: Isa, c: usize, k: usize) -> usize {
    T::POINTS * weights_stride(isa, c, k)
}

/// U = G w G^T, packed: `[xi][k / NR][c][NR]`.
pub(super) fn transform_weights<T: Transform>(isa: Isa, w: &[f32], c: usize, k: usize, to: &mut [f32]) {
    const CHUNK: usize = 32;
    assert!(w.len() == 9 * c * k && to.len() >= weights_len::<T>(isa, c, k), "operands of transform_weights");
    let (panel, plane) = (isa.panel(), weights_stride(isa, c, k));
    let chunks = c.div_ceil(CHUNK);
    let to = Shared::new(to);
    for_each(k.div_ceil(panel) * chunks, |i| {
        let (column, first) = (i / chunks * panel, i % chunks * CHUNK);
        let channels = first..(first + CHUNK).min(c);
        // SAFETY: channels of one panel of every plane; units do not overlap.
        unsafe {
            let to = to.get().add((column / panel * c + first) * panel);
            isa.run(WeightTransform::<T>::new(w, c, k, channels, column, to, plane));
        }
    });
}

/// `w[r, s, c, k]` to `[2 - r, 2 - s, k, c]`.
pub(super) fn flip(isa: Isa, w: &[f32], c: usize, k: usize, to: &mut [f32]) {
    assert!(w.len() == 9 * c * k && to.len() >= 9 * c * k, "operands of flip");
    const CHUNK: usize = 32;
    let chunks = c.div_ceil(CHUNK);
    let to = Shared::new(to);
    for_each(9 * chunks, |i| {
        let (tap, first) = (i / chunks, i % chunks * CHUNK);
        let rows = CHUNK.min(c - first);
        // SAFETY: columns first.. of the flipped tap; units do not overlap.
        unsafe {
            let from = w.as_ptr().add((tap * c + first) * k);
            let to = to.get().add((8 - tap) * k * c + first);
            isa.run(FlipBlock { from, rows, k, to, c });
        }
    });
}

pub(super) fn forward<T: Transform>(
    isa: Isa,
    conv: &Conv3x3,
    x: &[f32],
    u: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (c, k) = (conv.c, conv.k);
    let tiling = Tiling::new::<T>(conv);
    assert!(u.len() >= weights_len::<T>(isa, c, k), "transformed weights");
    let (v_row, m_row) = (c.next_multiple_of(isa.lanes()), k.next_multiple_of(isa.panel()));
    let tile_bytes = 4 * T::POINTS * (v_row + m_row);
    let independent = (CACHE / tile_bytes).next_multiple_of(14).max(14);
    let cooperative = v_row + m_row > 256 || tiling.count < 8 * independent;
    let most = if cooperative { (ROUND / tile_bytes).max(112) } else { independent }.min(tiling.count);
    let (v_plane, m_plane) = (most * v_row + SKEW, most * m_row + SKEW);
    let u_plane = weights_stride(isa, c, k);
    let mut zeros = scratch::take(c);
    zeros.fill(0.0);
    let to = Shared::new(y);
    // The three steps, for tiles `first..last`; V and M point to the first of these.
    let input = |first, last, v| InputTiles::<T>::new(&tiling, c, x, &zeros, first, last, v, v_row, v_plane);
    let output = |first, last, m| OutputTiles::<T>::new(&tiling, k, epilogue, first, last, m, m_row, m_plane, to.get());
    let multiply = |xi: usize, tiles: usize, v: *const f32, m: *mut f32| Gemm {
        m: tiles,
        k: c,
        n: m_row,
        a: v.wrapping_add(xi * v_plane),
        a_row: v_row,
        a_col: 1,
        b: u.as_ptr().wrapping_add(xi * u_plane),
        b_panel: c * isa.panel(),
        c: m.wrapping_add(xi * m_plane),
        c_row: m_row,
        accumulate: false,
    };
    if !cooperative {
        for_each(tiling.count.div_ceil(most), |i| {
            let (first, last) = (i * most, ((i + 1) * most).min(tiling.count));
            let mut v = scratch::take(T::POINTS * v_plane);
            let mut m = scratch::take(T::POINTS * m_plane);
            // SAFETY: V and M have room for `most` tiles in every plane; outputs of different tiles do not overlap.
            unsafe {
                isa.run(input(first, last, v.as_mut_ptr()));
                for xi in 0..T::POINTS {
                    multiply(xi, last - first, v.as_ptr(), m.as_mut_ptr()).run_deep(isa);
                }
                isa.run(output(first, last, m.as_ptr()));
            }
        });
        return;
    }
    let mut v = scratch::take(T::POINTS * v_plane);
    let mut m = scratch::take(T::POINTS * m_plane);
    let (v, m) = (Shared::new(&mut v), Shared::new(&mut m));
    let mut start = 0;
    while start < tiling.count {
        let tiles = most.min(tiling.count - start);
        let chunk = tiles.div_ceil(16);
        let chunks = tiles.div_ceil(chunk);
        let range = |i: usize| (i * chunk, ((i + 1) * chunk).min(tiles));
        for_each(chunks, |i| {
            let (first, last) = range(i);
            // SAFETY: rows first..last of every plane of V; chunks do not overlap.
            unsafe { isa.run(input(start + first, start + last, v.get().add(first * v_row))) };
        });
        // SAFETY: one plane of V, U and M each.
        for_each(T::POINTS, |xi| unsafe { multiply(xi, tiles, v.get(), m.get()).run_deep(isa) });
        for_each(chunks, |i| {
            let (first, last) = range(i);
            // SAFETY: rows first..last of every plane of M; outputs of different tiles do not overlap.
            unsafe { isa.run(output(start + first, start + last, m.get().add(first * m_row))) };
        });
        start += tiles;
    }
}

pub(super) fn grad_weight<T: Transform>(isa: Isa, conv: &Conv3x3, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    /// Tiles per round come in multiples of this, the depth of a pass of the products.
    const DEPTH: usize = crate::gemm::DEPTH;
    /// Rows of dU in one unit of work.
    const ROWS: usize = 112;
    let (c, k) = (conv.c, conv.k);
    let tiling = Tiling::new::<T>(conv);
    if tiling.count == 0 {
        return gw.fill(0.0);
    }
    let panel = isa.panel();
    let v_row = c.next_multiple_of(isa.lanes()) + SKEW;
    let z_row = k.next_multiple_of(panel);
    let tile_bytes = 4 * T::POINTS * (v_row + z_row);
    let most = (ROUND / tile_bytes / DEPTH * DEPTH).max(DEPTH).min(tiling.count);
    let (v_plane, z_plane, u_plane) = (most * v_row + SKEW, most * z_row + SKEW, c * z_row + SKEW);
    let mut zeros = scratch::take(c);
    zeros.fill(0.0);
    let mut v = scratch::take(T::POINTS * v_plane);
    let mut z = scratch::take(T::POINTS * z_plane);
    let mut du = scratch::take(T::POINTS * u_plane);
    let (v, z, du) = (Shared::new(&mut v), Shared::new(&mut z), Shared::new(&mut du));
    let mut start = 0;
    while start < tiling.count {
        let tiles = most.min(tiling.count - start);
        let chunk = tiles.div_ceil(16);
        for_each(tiles.div_ceil(chunk), |i| {
            let (first, last) = (i * chunk, ((i + 1) * chunk).min(tiles));
            // SAFETY: rows first..last of every plane of V and of every panel of Z; chunks do not overlap.
            unsafe {
                let (from, to) = (start + first, start + last);
                let v = v.get().add(first * v_row);
                isa.run(InputTiles::<T>::new(&tiling, c, x, &zeros, from, to, v, v_row, v_plane));
                let z = z.get().add(first * panel);
                isa.run(UpstreamTiles::<T>::new(&tiling, k, gy, from, to, z, tiles * panel, z_plane));
            }
        });
        let blocks = c.div_ceil(ROWS);
        for_each(T::POINTS * blocks, |i| {
            let (xi, row) = (i / blocks, i % blocks * ROWS);
            // SAFETY: rows row.. of plane xi of dU; units do not overlap.
            unsafe {
                Gemm {
                    m: ROWS.min(c - row),
                    k: tiles,
                    n: z_row,
                    a: v.get().add(xi * v_plane + row),
                    a_row: 1,
                    a_col: v_row,
                    b: z.get().add(xi * z_plane),
                    b_panel: tiles * panel,
                    c: du.get().add(xi * u_plane + row * z_row),
                    c_row: z_row,
                    accumulate: start > 0,
                }
                .run_deep(isa);
            }
        });
        start += tiles;
    }
    let gw = Shared::new(gw);
    for_each(c, |row| {
        // SAFETY: row `row` of every tap and every plane; rows do not overlap.
        unsafe {
            let (du, gw) = (du.get().add(row * z_row), gw.get().add(row * k));
            isa.run(WeightGradient::<T>::new(k, du, u_plane, gw, c * k));
        }
    });
}
