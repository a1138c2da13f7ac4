//! Attention with an additive bias for every head, query and key, `softmax(scale q k^T + bias) v`: T5's relative
//! positions. Forward only, since language models stay frozen.
//!
//! As in [`attention`](crate::attention), keys and values of one head are packed once and stay in cache while blocks
//! of queries pass.

use crate::gemm::{Gemm, PackPanel, PackTransposedPanel};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::math;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};

/// Queries of one block.
const QUERIES: usize = 56;

/// An attention layer: q and o `[b, tq, heads * d]`, kv `[b, tk, 2 * heads * d]` (all keys, then all values),
/// bias `[heads, tq, tk]`, mask `[b, tk]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BiasedAttention {
    /// Batch.
    pub b: usize,
    /// Heads.
    pub heads: usize,
    /// Queries.
    pub tq: usize,
    /// Keys.
    pub tk: usize,
    /// Features of one head.
    pub d: usize,
    /// Factor of the scores; T5's is 1.
    pub scale: f32,
}

impl BiasedAttention {
    /// `o = softmax(scale q k^T + bias) v` per head. Keys whose mask is 0 are ignored (1 = attend); a query that may
    /// attend to nothing gets 0.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(&self, q: &[f32], kv: &[f32], bias: &[f32], mask: Option<&[f32]>, o: &mut [f32]) {
        let Self { b, heads, tq, tk, d, scale } = *self;
        expect_len("q", q, b * tq * heads * d);
        expect_len("kv", kv, b * tk * 2 * heads * d);
        expect_len("bias", bias, heads * tq * tk);
        expect_len("o", o, b * tq * heads * d);
        if let Some(mask) = mask {
            expect_len("mask", mask, b * tk);
        }
        if tk == 0 {
            return o.fill(0.0);
        }
        let (isa, row) = (Isa::current(), heads * d);
        let panel = isa.panel();
        let (keys, features) = (tk.next_multiple_of(panel), d.next_multiple_of(panel));
        // Rows of a power-of-two length would fall into few cache sets.
        let score_row = keys + 16;
        let to = Shared::new(o);
        for_each(b * heads, |i| {
            let (picture, head) = (i / heads, i % heads);
            let mut keep = scratch::take(keys);
            keep.fill(0.0);
            match mask {
                Some(mask) => {
                    for (keep, mask) in keep.iter_mut().zip(&mask[picture * tk..][..tk]) {
                        *keep = f32::from(u8::from(*mask != 0.0));
                    }
                }
                None => keep[..tk].fill(1.0),
            }
            let mut packed_keys = scratch::take(keys * d);
            let mut packed_values = scratch::take(tk * features);
            let mut scores = scratch::take(QUERIES * score_row);
            let kv = &kv[picture * tk * 2 * row + head * d..];
            for first in (0..tk).step_by(panel) {
                // SAFETY: keys first.. of this head; the buffer has room for whole panels.
                unsafe {
                    let to = packed_keys.as_mut_ptr().add(first * d);
                    isa.run_single(PackTransposedPanel { x: kv.as_ptr(), row: 2 * row, k: d, n: tk, first, to });
                }
            }
            for column in (0..d).step_by(panel) {
                // SAFETY: features column.. of this head's values; the buffer has room for whole panels.
                unsafe {
                    let to = packed_values.as_mut_ptr().add(column * tk);
                    isa.run_single(PackPanel { b: kv.as_ptr().add(row), row: 2 * row, k: tk, n: d, column, to });
                }
            }
            for t in (0..tq).step_by(QUERIES) {
                let m = QUERIES.min(tq - t);
                let at = (picture * tq + t) * row + head * d;
                // SAFETY: queries t..t + m of this head; heads do not overlap; scores has room for m rows.
                unsafe {
                    let scores = scores.as_mut_ptr();
                    let product = Gemm {
                        m,
                        k: d,
                        n: keys,
                        a: q.as_ptr().add(at),
                        a_row: row,
                        a_col: 1,
                        b: packed_keys.as_ptr(),
                        b_panel: d * panel,
                        c: scores,
                        c_row: score_row,
                        accumulate: false,
                    };
                    product.run_deep(isa.into());
                    for r in 0..m {
                        let bias = &bias[(head * tq + t + r) * tk..][..tk];
                        isa.run(Softmax { row: scores.add(r * score_row), bias, keep: &keep, scale });
                    }
                    let product = Gemm {
                        k: tk,
                        n: d,
                        a: scores,
                        a_row: score_row,
                        b: packed_values.as_ptr(),
                        b_panel: tk * panel,
                        c: to.get().add(at),
                        c_row: row,
                        ..product
                    };
                    product.run_deep(isa.into());
                }
            }
        });
    }
}

/// Replaces scores by `keep * exp(s - largest) / sum` for `s = scale * score + bias`; all zero if nothing is kept.
///
/// Contract: `row` is valid for as many numbers as `keep` has, which is whole vectors and at least as many as `bias`
/// has; `keep` is 0 beyond.
struct Softmax<'a> {
    row: *mut f32,
    bias: &'a [f32],
    keep: &'a [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        const IGNORED: f32 = 1e30;
        let Self { row, bias, keep, scale } = self;
        // SAFETY: whole vectors inside `row` and `keep`, partial ones inside `bias`.
        unsafe {
            let (one, ignored, scale) = (V::splat(1.0), V::splat(IGNORED), V::splat(scale));
            let mut largest = V::splat(-IGNORED);
            for j in (0..keep.len()).step_by(V::LANES) {
                let bias = V::load_up_to(bias.as_ptr().wrapping_add(j), bias.len().saturating_sub(j));
                let hide = (V::load(keep.as_ptr().add(j)) - one) * ignored;
                let s = V::load(row.add(j)).mul_add(scale, bias + hide);
                s.store(row.add(j));
                largest = largest.max(s);
            }
            let largest = V::splat(largest.largest());
            let mut sum = V::splat(0.0);
            for j in (0..keep.len()).step_by(V::LANES) {
                let e = math::exp(V::load(row.add(j)) - largest) * V::load(keep.as_ptr().add(j));
                e.store(row.add(j));
                sum = sum + e;
            }
            let sum = sum.sum();
            let inverse = V::splat(if sum > 0.0 { 1.0 / sum } else { 0.0 });
            for j in (0..keep.len()).step_by(V::LANES) {
                (V::load(row.add(j)) * inverse).store(row.add(j));
            }
        }
    }
}
