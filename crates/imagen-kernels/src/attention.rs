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

/// Queries of one block in the forward pass: few, so that their scores stay in the first-level cache.
const QUERIES: usize = 36;
/// Queries of one block in the backward pass: more, since each block adds to the gradients of all keys.
const QUERIES_BACK: usize = 56;
/// Queries of one unit of work in the forward pass, if heads alone do not make enough units.
const SPAN: usize = 12 * QUERIES;

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
            let mut area = Area::new(isa, self, QUERIES);
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
                    isa.run(area.exponentials(scores, &mut inverse[..m]));
                    area.product(m, tk, scores, area.row, values, o, row, d);
                    isa.run(ScaleRows { rows: o, row, len: d, scales: &inverse[..m] });
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
            let mut area = Area::new(isa, self, QUERIES_BACK);
            area.set_mask(mask.map(|mask| &mask[picture * tk..][..tk]), tk);
            let [keys, values, scores, slopes, keys_back, block] = area.parts();
            let from = picture * tk * 2 * row + head * d;
            let kv = &kv[from..];
            pack_transposed_rows(isa, kv, 2 * row, tk, d, keys);
            pack_transposed_rows(isa, &kv[row..], 2 * row, tk, d, values);
            pack_rows(isa, kv, 2 * row, tk, d, keys_back);
            // dK and dV side by side, rather than in gkv, whose rows are far apart.
            let mut sums = scratch::take(2 * tk * d);
            let mut t = 0;
            while t < tq {
                let m = QUERIES_BACK.min(tq - t);
                let at = (picture * tq + t) * row + head * d;
                // SAFETY: queries t..t + m and all keys of this head; heads do not overlap; the area has room for
                // QUERIES_BACK rows.
                unsafe {
                    let (q, go, o) = (&q[at..], &go[at..], &o[at..]);
                    // P and dP, then dS = P (dP - rowsum(do o)) / sqrt d in place of dP.
                    area.product(m, d, q.as_ptr(), row, keys, scores, area.row, area.mask.len());
                    area.product(m, d, go.as_ptr(), row, values, slopes, area.row, area.mask.len());
                    let mut inverse = [0.0; QUERIES_BACK];
                    isa.run(area.exponentials(scores, &mut inverse[..m]));
                    isa.run(SoftmaxBackward {
                        p: scores,
                        dp: slopes,
                        row: area.row,
                        len: area.mask.len(),
                        inverse: &inverse[..m],
                        go: go.as_ptr(),
                        o: o.as_ptr(),
                        o_row: row,
                        d,
                        scale: area.scale,
                    });
                    area.product(m, tk, slopes, area.row, keys_back, to_q.get().add(at), row, d);
                    // dK += dS^T q, dV += P^T do.
                    for (left, right, half) in [(slopes, q, 0), (scores, go, tk * d)] {
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
                            c: sums.as_mut_ptr().add(half),
                            c_row: d,
                            accumulate: t > 0,
                        };
                        isa.run(gemm);
                    }
                }
                t += m;
            }
            for j in 0..tk {
                let (dk, dv) = (&sums[j * d..][..d], &sums[(tk + j) * d..][..d]);
                // SAFETY: key j of this head.
                unsafe {
                    let to = to_kv.get().add(from + j * 2 * row);
                    to.copy_from_nonoverlapping(dk.as_ptr(), d);
                    to.add(row).copy_from_nonoverlapping(dv.as_ptr(), d);
                }
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
    /// What is added to the score of a key: 0, or [`IGNORED`] for those masked and those beyond the last, up to whole
    /// panels.
    mask: scratch::Scratch,
    /// Queries of a block.
    queries: usize,
    /// Distance between rows of scores.
    row: usize,
    /// Numbers of one packed operand: keys or values.
    packed: usize,
    /// 1 / sqrt d
    scale: f32,
}

impl Area {
    /// For blocks of `queries` queries.
    fn new(isa: Isa, of: &Attention, queries: usize) -> Self {
        let panel = isa.panel();
        let keys = of.tk.next_multiple_of(panel);
        // Rows of a power-of-two length would fall into few cache sets.
        let row = keys + 16;
        let packed = keys * of.d.next_multiple_of(panel);
        let block = queries * of.d.next_multiple_of(panel);
        Self {
            isa,
            buffer: scratch::take(3 * packed + 2 * queries * row + block),
            mask: scratch::take(keys),
            queries,
            row,
            packed,
            scale: 1.0 / (of.d as f32).sqrt(),
        }
    }

    fn set_mask(&mut self, mask: Option<&[f32]>, keys: usize) {
        self.mask.fill(IGNORED);
        match mask {
            Some(mask) => {
                for (to, &keep) in self.mask.iter_mut().zip(mask) {
                    *to = if keep == 0.0 { IGNORED } else { 0.0 };
                }
            }
            None => self.mask[..keys].fill(0.0),
        }
    }

    /// The kernel for as many rows of scores as there are places for the reciprocal sums.
    fn exponentials<'a>(&'a self, scores: *mut f32, inverse: &'a mut [f32]) -> Exponentials<'a> {
        Exponentials { rows: scores, row: self.row, mask: &self.mask, scale: self.scale, inverse }
    }

    /// Three packed operands, two blocks of scores (in places 2 and 3), one packed block of queries (last).
    fn parts(&mut self) -> [*mut f32; 6] {
        let start = self.buffer.as_mut_ptr();
        let scores = self.queries * self.row;
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

/// Stands for minus infinity, without its arithmetic.
const IGNORED: f32 = -1e30;

/// Replaces the scores of each row by `exp(scale * score + mask)` over the largest of them, and finds the reciprocals of
/// the rows' sums; both are 0 where every key is ignored.
///
/// Contract: `rows` is valid for a row for each of `inverse`, `row` apart, of as many numbers as `mask` has, which is
/// whole vectors.
struct Exponentials<'a> {
    rows: *mut f32,
    row: usize,
    mask: &'a [f32],
    scale: f32,
    inverse: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (mask, len) = (self.mask.as_ptr(), self.mask.len());
        for (r, inverse) in self.inverse.iter_mut().enumerate() {
            // SAFETY: whole vectors inside the row and `mask`.
            unsafe {
                let row = self.rows.add(r * self.row);
                // To the base 2.
                let scale = V::splat(self.scale * std::f32::consts::LOG2_E);
                let mut largest = V::splat(IGNORED);
                let mut j = 0;
                // Scaled scores are made twice rather than stored.
                while j < len {
                    largest = largest.max(V::load(row.add(j)).mul_add(scale, V::load(mask.add(j))));
                    j += V::LANES;
                }
                let largest = largest.largest();
                if largest <= 0.5 * IGNORED {
                    row.write_bytes(0, len);
                    *inverse = 0.0;
                    continue;
                }
                let largest = V::splat(largest);
                let mut sum = V::splat(0.0);
                j = 0;
                while j < len {
                    let e = math::exp2(V::load(row.add(j)).mul_add(scale, V::load(mask.add(j))) - largest);
                    e.store(row.add(j));
                    sum = sum + e;
                    j += V::LANES;
                }
                *inverse = 1.0 / sum.sum();
            }
        }
    }
}

/// Multiplies each row by a number of its own.
///
/// Contract: `rows` is valid for a row of `len` numbers for each scale, `row` apart.
struct ScaleRows<'a> {
    rows: *mut f32,
    row: usize,
    len: usize,
    scales: &'a [f32],
}

impl Kernel for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (r, &scale) in self.scales.iter().enumerate() {
            let mut j = 0;
            while j < self.len {
                let n = self.len - j;
                // SAFETY: j.. is inside the row.
                unsafe {
                    let to = self.rows.add(r * self.row + j);
                    (V::load_up_to(to, n) * V::splat(scale)).store_up_to(to, n);
                }
                j += V::LANES;
            }
        }
    }
}

/// For each row, `p *= inverse` and `dp = p (dp - go . o) scale`.
///
/// Contract: `p` and `dp` are valid for `len` numbers, which is whole vectors, in rows `row` apart; `go` and `o` for d
/// numbers in rows `o_row` apart; there is a row for each `inverse`.
struct SoftmaxBackward<'a> {
    p: *mut f32,
    dp: *mut f32,
    row: usize,
    len: usize,
    inverse: &'a [f32],
    go: *const f32,
    o: *const f32,
    o_row: usize,
    d: usize,
    scale: f32,
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for (r, &inverse) in self.inverse.iter().enumerate() {
            // SAFETY: whole vectors inside the rows of `p` and `dp`; partial ones inside those of `go` and `o`.
            unsafe {
                let (p, dp) = (self.p.add(r * self.row), self.dp.add(r * self.row));
                let (go, o) = (self.go.add(r * self.o_row), self.o.add(r * self.o_row));
                let mut dot = V::splat(0.0);
                let mut j = 0;
                while j < self.d {
                    let n = self.d - j;
                    dot = V::load_up_to(go.add(j), n).mul_add(V::load_up_to(o.add(j), n), dot);
                    j += V::LANES;
                }
                let dot = V::splat(dot.sum());
                let (inverse, scale) = (V::splat(inverse), V::splat(self.scale));
                j = 0;
                while j < self.len {
                    let e = V::load(p.add(j)) * inverse;
                    e.store(p.add(j));
                    (e * scale * (V::load(dp.add(j)) - dot)).store(dp.add(j));
                    j += V::LANES;
                }
            }
        }
    }
}
