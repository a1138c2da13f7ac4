//! Scaled dot-product attention, `softmax(q k^T / sqrt d) v`, with a key mask, for several heads side by side.
//!
//! Keys and values of one head are packed once and stay in cache while blocks of queries pass; no T x T matrix is
//! kept. The backward pass recomputes the probabilities of a block from q and k (as in Dao et al. 2022) and needs
//! nothing but the forward pass's output.

use crate::gemm::{Gemm, PackPanel, PackTransposedPanel};
use crate::isa::{Isa, Kernel};
use crate::math;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};

/// Queries of one block; a multiple of the micro-kernels' rows.
const QUERIES: usize = 56;
/// Queries of one unit of work in the forward pass, if heads alone do not make enough units.
const SPAN: usize = 8 * QUERIES;

/// An attention layer: q and o `[b, tq, heads * d]`, kv `[b, tk, 2 * heads * d]` (all keys, then all values),
/// mask `[b, tk]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
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
}

impl Attention {
    /// `o = softmax(q k^T / sqrt d) v` per head. Keys whose mask is 0 are ignored (1 = attend); a query that may
    /// attend to nothing gets 0.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(&self, q: &[f32], kv: &[f32], mask: Option<&[f32]>, o: &mut [f32]) {
        self.check(q, kv, mask);
        let Self { b, heads, tq, tk, d } = *self;
        expect_len("o", o, b * tq * heads * d);
        if tk == 0 {
            return o.fill(0.0);
        }
        let isa = Isa::current();
        let row = heads * d;
        let span = if b * heads >= 16 { tq.max(1) } else { SPAN };
        let spans = tq.div_ceil(span);
        let to = Shared::new(o);
        for_each(b * heads * spans, |i| {
            let (picture, head, first) = (i / spans / heads, i / spans % heads, i % spans * span);
            let mut area = Area::new(isa, self);
            area.set_mask(mask.map(|mask| &mask[picture * tk..][..tk]), tk);
            let [keys, values, scores, _, _, _] = area.parts();
            let kv = &kv[picture * tk * 2 * row + head * d..];
            pack_transposed_rows(isa, kv, 2 * row, tk, d, keys);
            pack_rows(isa, &kv[row..], 2 * row, tk, d, values);
            let mut t = first;
            while t < (first + span).min(tq) {
                let m = QUERIES.min((first + span).min(tq) - t);
                let at = (picture * tq + t) * row + head * d;
                // SAFETY: queries t..t + m of this head; units of work do not overlap; the area has room for
                // QUERIES rows.
                unsafe {
                    let (q, o) = (q.as_ptr().add(at), to.get().add(at));
                    area.product(m, d, q, row, keys, scores, area.row, area.mask.len());
                    let mut inverse = [0.0; QUERIES];
                    for (r, inverse) in inverse.iter_mut().enumerate().take(m) {
                        let row = scores.add(r * area.row);
                        let sum = isa.run(Exponentials { row, mask: &area.mask, scale: area.scale });
                        *inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                    }
                    area.product(m, tk, scores, area.row, values, o, row, d);
                    for (r, &scale) in inverse.iter().enumerate().take(m) {
                        isa.run(ScaleRow { row: o.add(r * row), len: d, scale });
                    }
                }
                t += m;
            }
        });
    }

    /// The gradients of q and kv from that of o; `o` is what [`Attention::forward`] returned.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn backward(
        &self,
        q: &[f32],
        kv: &[f32],
        mask: Option<&[f32]>,
        o: &[f32],
        go: &[f32],
        gq: &mut [f32],
        gkv: &mut [f32],
    ) {
        self.check(q, kv, mask);
        let Self { b, heads, tq, tk, d } = *self;
        expect_len("o", o, b * tq * heads * d);
        expect_len("go", go, b * tq * heads * d);
        expect_len("gq", gq, b * tq * heads * d);
        expect_len("gkv", gkv, b * tk * 2 * heads * d);
        if tq == 0 || tk == 0 {
            gq.fill(0.0);
            return gkv.fill(0.0);
        }
        let isa = Isa::current();
        let row = heads * d;
        let (to_q, to_kv) = (Shared::new(gq), Shared::new(gkv));
        for_each(b * heads, |i| {
            let (picture, head) = (i / heads, i % heads);
            let mut area = Area::new(isa, self);
            area.set_mask(mask.map(|mask| &mask[picture * tk..][..tk]), tk);
            let [keys, values, scores, slopes, keys_back, block] = area.parts();
            let from = picture * tk * 2 * row + head * d;
            let kv = &kv[from..];
            pack_transposed_rows(isa, kv, 2 * row, tk, d, keys);
            pack_transposed_rows(isa, &kv[row..], 2 * row, tk, d, values);
            pack_rows(isa, kv, 2 * row, tk, d, keys_back);
            let mut t = 0;
            while t < tq {
                let m = QUERIES.min(tq - t);
                let at = (picture * tq + t) * row + head * d;
                // SAFETY: queries t..t + m and all keys of this head; heads do not overlap; the area has room for
                // QUERIES rows.
                unsafe {
                    let (q, go, o) = (&q[at..], &go[at..], &o[at..]);
                    // P and dP, then dS = P (dP - rowsum(do o)) / sqrt d in place of dP.
                    area.product(m, d, q.as_ptr(), row, keys, scores, area.row, area.mask.len());
                    area.product(m, d, go.as_ptr(), row, values, slopes, area.row, area.mask.len());
                    for r in 0..m {
                        let (p, dp) = (scores.add(r * area.row), slopes.add(r * area.row));
                        let sum = isa.run(Exponentials { row: p, mask: &area.mask, scale: area.scale });
                        let inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                        let (go, o) = (&go[r * row..][..d], &o[r * row..][..d]);
                        isa.run(SoftmaxBackward { p, dp, len: area.mask.len(), inverse, go, o, scale: area.scale });
                    }
                    area.product(m, tk, slopes, area.row, keys_back, to_q.get().add(at), row, d);
                    // dK += dS^T q, dV += P^T do.
                    for (left, right, half) in [(slopes, q, 0), (scores, go, row)] {
                        pack_rows(isa, right, row, m, d, block);
                        let gemm = Gemm {
                            m: tk,
                            k: m,
                            n: d,
                            a: left,
                            a_row: 1,
                            a_col: area.row,
                            b: block,
                            b_panel: m * isa.panel(),
                            c: to_kv.get().add(from + half),
                            c_row: 2 * row,
                            accumulate: t > 0,
                        };
                        isa.run(gemm);
                    }
                }
                t += m;
            }
        });
    }

    #[track_caller]
    fn check(&self, q: &[f32], kv: &[f32], mask: Option<&[f32]>) {
        let Self { b, heads, tq, tk, d } = *self;
        expect_len("q", q, b * tq * heads * d);
        expect_len("kv", kv, b * tk * 2 * heads * d);
        if let Some(mask) = mask {
            expect_len("mask", mask, b * tk);
        }
    }
}

/// The scratch memory of one unit of work.
struct Area {
    isa: Isa,
    buffer: scratch::Scratch,
    /// 1 or 0 per key, padded with 0 to whole panels.
    mask: scratch::Scratch,
    /// Distance between rows of scores.
    row: usize,
    /// Numbers of one packed operand: keys or values.
    packed: usize,
    /// 1 / sqrt d
    scale: f32,
}

impl Area {
    fn new(isa: Isa, of: &Attention) -> Self {
        let panel = isa.panel();
        let keys = of.tk.next_multiple_of(panel);
        // Rows of a power-of-two length would fall into few cache sets.
        let row = keys + 16;
        let packed = keys * of.d.next_multiple_of(panel);
        let block = QUERIES * of.d.next_multiple_of(panel);
        Self {
            isa,
            buffer: scratch::take(3 * packed + 2 * QUERIES * row + block),
            mask: scratch::take(keys),
            row,
            packed,
            scale: 1.0 / (of.d as f32).sqrt(),
        }
    }

    fn set_mask(&mut self, mask: Option<&[f32]>, keys: usize) {
        self.mask.fill(0.0);
        match mask {
            Some(mask) => {
                for (to, &keep) in self.mask.iter_mut().zip(mask) {
                    *to = f32::from(u8::from(keep != 0.0));
                }
            }
            None => self.mask[..keys].fill(1.0),
        }
    }

    /// Three packed operands, two blocks of scores (in places 2 and 3), one packed block of queries (last).
    fn parts(&mut self) -> [*mut f32; 6] {
        let start = self.buffer.as_mut_ptr();
        let scores = QUERIES * self.row;
        let ends = [0, self.packed, 2 * self.packed, 2 * self.packed + scores, 2 * (self.packed + scores)];
        let last = ends[4] + self.packed;
        // SAFETY: all offsets are inside the buffer, see `new`.
        unsafe {
            [start, start.add(ends[1]), start.add(ends[2]), start.add(ends[3]), start.add(ends[4]), start.add(last)]
        }
    }

    /// `c (m x n) = a (m x k) b` for a packed b of depth k.
    ///
    /// # Safety
    /// As for [`Gemm`].
    unsafe fn product(
        &self,
        m: usize,
        k: usize,
        a: *const f32,
        a_row: usize,
        b: *const f32,
        c: *mut f32,
        c_row: usize,
        n: usize,
    ) {
        let b_panel = k * self.isa.panel();
        let gemm = Gemm { m, k, n, a, a_row, a_col: 1, b, b_panel, c, c_row, accumulate: false };
        // SAFETY: the caller's.
        unsafe { gemm.run_deep(self.isa) };
    }
}

/// Packs `t` rows of `d` numbers, `row` apart, as the columns of an operand of depth d.
fn pack_transposed_rows(isa: Isa, x: &[f32], row: usize, t: usize, d: usize, to: *mut f32) {
    for j in 0..t.div_ceil(isa.panel()) {
        let first = j * isa.panel();
        // SAFETY: rows of `x` (checked by the public functions); the area has room for whole panels.
        unsafe {
            let to = to.add(first * d);
            isa.run(PackTransposedPanel { x: x.as_ptr(), row, k: d, n: t, first, to });
        }
    }
}

/// Packs `t` rows of `d` numbers, `row` apart, as an operand of depth t.
fn pack_rows(isa: Isa, x: &[f32], row: usize, t: usize, d: usize, to: *mut f32) {
    for j in 0..d.div_ceil(isa.panel()) {
        let column = j * isa.panel();
        // SAFETY: as above.
        unsafe {
            let to = to.add(column * t);
            isa.run(PackPanel { b: x.as_ptr(), row, k: t, n: d, column, to });
        }
    }
}

/// Replaces scores by `mask * exp(scale * (score - largest))` and returns their sum; the largest is taken over
/// the keys that the mask keeps.
///
/// Contract: `row` is valid for as many numbers as `mask` has, which is whole vectors.
struct Exponentials<'a> {
    row: *mut f32,
    mask: &'a [f32],
    scale: f32,
}

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Simd>(self) -> f32 {
        const IGNORED: f32 = 1e30;
        let len = self.mask.len();
        // SAFETY: whole vectors inside `row` and `mask`.
        unsafe {
            let (scale, one, ignored) = (V::splat(self.scale), V::splat(1.0), V::splat(IGNORED));
            let mut largest = V::splat(-IGNORED);
            let mut j = 0;
            // Scaled scores, far below all others where the mask is 0; made twice rather than stored.
            while j < len {
                let mask = V::load(self.mask.as_ptr().add(j));
                let s = V::load(self.row.add(j)).mul_add(scale, (mask - one) * ignored);
                largest = largest.max(s);
                j += V::LANES;
            }
            let largest = V::splat(largest.largest());
            let mut sum = V::splat(0.0);
            j = 0;
            while j < len {
                let mask = V::load(self.mask.as_ptr().add(j));
                let s = V::load(self.row.add(j)).mul_add(scale, (mask - one) * ignored);
                let e = math::exp(s - largest) * mask;
                e.store(self.row.add(j));
                sum = sum + e;
                j += V::LANES;
            }
            sum.sum()
        }
    }
}

/// Multiplies a row by a number.
struct ScaleRow {
    row: *mut f32,
    len: usize,
    scale: f32,
}

impl Kernel for ScaleRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut j = 0;
        while j < self.len {
            let n = self.len - j;
            // SAFETY: j.. is inside the row.
            unsafe { (V::load_up_to(self.row.add(j), n) * V::splat(self.scale)).store_up_to(self.row.add(j), n) };
            j += V::LANES;
        }
    }
}

/// `p *= inverse`; `dp = p (dp - go . o) scale`.
///
/// Contract: `p` and `dp` are valid for `len` numbers, which is whole vectors; `go` and `o` are equally long.
struct SoftmaxBackward<'a> {
    p: *mut f32,
    dp: *mut f32,
    len: usize,
    inverse: f32,
    go: &'a [f32],
    o: &'a [f32],
    scale: f32,
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: whole vectors inside `p` and `dp`; partial ones inside `go` and `o`.
        unsafe {
            let mut dot = V::splat(0.0);
            let mut j = 0;
            while j < self.go.len() {
                let n = self.go.len() - j;
                let go = V::load_up_to(self.go.as_ptr().add(j), n);
                dot = go.mul_add(V::load_up_to(self.o.as_ptr().add(j), n), dot);
                j += V::LANES;
            }
            let dot = V::splat(dot.sum());
            let (inverse, scale) = (V::splat(self.inverse), V::splat(self.scale));
            j = 0;
            while j < self.len {
                let p = V::load(self.p.add(j)) * inverse;
                p.store(self.p.add(j));
                (p * scale * (V::load(self.dp.add(j)) - dot)).store(self.dp.add(j));
                j += V::LANES;
            }
        }
    }
}
