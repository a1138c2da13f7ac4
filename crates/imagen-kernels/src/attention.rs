//! Scaled dot-product attention, `softmax(q k^T / sqrt d) v`, with a key mask, for several heads side by side.
//!
//! Keys and values of one head are packed a block at a time and stay in cache while all queries pass; no T x T matrix is
//! kept. Each query carries its largest score so far and the sum of its exponentials (Milakov & Gimelshein 2018), and its
//! output grows block by block. The backward pass makes the probabilities of a block again from q, k and the logarithm of
//! that sum (as in Dao et al. 2022).

mod rows;

use crate::gemm::{Gemm, PackPanel, PackTransposedPanel};
use crate::isa::Isa;
use crate::pool::{Shared, for_each};
use crate::{expect_len, scratch};
use rows::{CopyRows, Exponentials, IGNORED, NOTHING, RowDots, ScaleRows, SoftmaxBackward};

/// Queries whose scores are made at once in the forward pass.
const QUERIES: usize = 36;
/// In the backward pass: more, since each block adds to the gradients of all its keys.
const QUERIES_BACK: usize = 112;
/// Keys of a block: packed keys and values and the scores lie in the second-level cache, or nearly.
const KEYS: usize = 512;
/// In the backward pass, which packs three operands and adds up two.
const KEYS_BACK: usize = 256;
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
        self.run(q, kv, mask, o, None);
    }

    /// [`Attention::forward`] that keeps what [`Attention::backward`] needs: for each query `[b, heads, tq]` the logarithm
    /// to the base 2 of the sum of its exponentials.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward_saving(&self, q: &[f32], kv: &[f32], mask: Option<&[f32]>, o: &mut [f32], log_sums: &mut [f32]) {
        expect_len("log_sums", log_sums, self.b * self.heads * self.tq);
        self.run(q, kv, mask, o, Some(log_sums));
    }

    fn run(&self, q: &[f32], kv: &[f32], mask: Option<&[f32]>, o: &mut [f32], log_sums: Option<&mut [f32]>) {
        self.check(q, kv, mask);
        let Self { b, heads, tq, tk, d } = *self;
        expect_len("o", o, b * tq * heads * d);
        if tk == 0 {
            log_sums.into_iter().for_each(|sums| sums.fill(NOTHING));
            return o.fill(0.0);
        }
        let isa = Isa::current();
        let row = heads * d;
        let span = if b * heads >= 16 { tq.max(1) } else { SPAN };
        let spans = tq.div_ceil(span);
        let (to, log_sums) = (Shared::new(o), log_sums.map(Shared::new));
        for_each(b * heads * spans, |i| {
            let (picture, head, first) = (i / spans / heads, i / spans % heads, i % spans * span);
            let queries = span.min(tq - first);
            let mut area = Area::new(isa, self, QUERIES, KEYS, 2);
            let mut running = scratch::take(2 * queries);
            let (largest, sums) = running.split_at_mut(queries);
            largest.fill(IGNORED);
            sums.fill(0.0);
            let kv = &kv[picture * tk * 2 * row + head * d..];
            let at = |t: usize| (picture * tq + first + t) * row + head * d;
            for key in (0..tk).step_by(KEYS) {
                let n = KEYS.min(tk - key);
                area.set_mask(mask.map(|mask| &mask[picture * tk + key..][..n]), n);
                let [keys, values, _] = area.packed();
                let (scores, block) = (area.scores(0), area.rows(0));
                pack_transposed_rows(isa, &kv[key * 2 * row..], 2 * row, n, d, keys);
                pack_rows(isa, &kv[key * 2 * row + row..], 2 * row, n, d, values);
                for t in (0..queries).step_by(QUERIES) {
                    let m = QUERIES.min(queries - t);
                    // SAFETY: m queries of this head from t on; units of work do not overlap; the area has room for
                    // QUERIES rows.
                    unsafe {
                        let o = to.get().add(at(t));
                        isa.run(CopyRows { x: &q[at(t)..], row, rows: m, d, scale: area.exponent_scale(), to: block });
                        area.product([m, d, area.keys], (block, d), keys, (scores, area.row), false);
                        isa.run(Exponentials {
                            rows: scores,
                            row: area.row,
                            len: area.keys,
                            mask: area.mask(),
                            largest: &mut largest[t..t + m],
                            sums: &mut sums[t..t + m],
                            o: (key > 0).then_some(o),
                            o_row: row,
                            d,
                        });
                        area.product([m, n, d], (scores, area.row), values, (o, row), key > 0);
                        if key + n == tk {
                            let sums = &mut sums[t..t + m];
                            if let Some(log_sums) = &log_sums {
                                let to = log_sums.get().add((picture * heads + head) * tq + first + t);
                                for (i, (largest, &sum)) in largest[t..t + m].iter().zip(sums.iter()).enumerate() {
                                    to.add(i).write(if sum == 0.0 { NOTHING } else { largest + sum.log2() });
                                }
                            }
                            for sum in sums.iter_mut() {
                                *sum = if *sum == 0.0 { 0.0 } else { 1.0 / *sum };
                            }
                            isa.run(ScaleRows { rows: o, row, len: d, scales: sums });
                        }
                    }
                }
            }
        });
    }

    /// The gradients of q and kv from that of o; `o` and `log_sums` are what [`Attention::forward_saving`] wrote.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn backward(
        &self,
        [q, kv]: [&[f32]; 2],
        mask: Option<&[f32]>,
        [o, log_sums]: [&[f32]; 2],
        go: &[f32],
        gq: &mut [f32],
        gkv: &mut [f32],
    ) {
        self.check(q, kv, mask);
        let Self { b, heads, tq, tk, d } = *self;
        expect_len("o", o, b * tq * heads * d);
        expect_len("log_sums", log_sums, b * heads * tq);
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
            let mut area = Area::new(isa, self, QUERIES_BACK, KEYS_BACK, 3);
            let at = |t: usize| (picture * tq + t) * row + head * d;
            let log_sums = &log_sums[i * tq..][..tq];
            let mut dots = scratch::take(tq);
            // SAFETY: the instruction set is available.
            unsafe { isa.run(RowDots { x: &go[at(0)..], y: &o[at(0)..], row, d, dots: &mut dots }) };
            // dK and dV of a block side by side, rather than in gkv, whose rows are far apart.
            let mut sums = scratch::take(2 * KEYS_BACK * d);
            for key in (0..tk).step_by(KEYS_BACK) {
                let n = KEYS_BACK.min(tk - key);
                area.set_mask(mask.map(|mask| &mask[picture * tk + key..][..n]), n);
                let [keys, values, keys_back] = area.packed();
                let (scores, slopes, block) = (area.scores(0), area.scores(1), area.block());
                let (q_rows, go_rows) = (area.rows(0), area.rows(1));
                let from = (picture * tk + key) * 2 * row + head * d;
                let kv = &kv[from..];
                pack_transposed_rows(isa, kv, 2 * row, n, d, keys);
                pack_transposed_rows(isa, &kv[row..], 2 * row, n, d, values);
                pack_rows(isa, kv, 2 * row, n, d, keys_back);
                for t in (0..tq).step_by(QUERIES_BACK) {
                    let m = QUERIES_BACK.min(tq - t);
                    let (q, go) = (&q[at(t)..], &go[at(t)..]);
                    // SAFETY: m queries from t on and n keys of this head; heads do not overlap; the area has room for
                    // QUERIES_BACK rows.
                    unsafe {
                        // P and dP, then dS = P (dP - rowsum(do o)) / sqrt d in place of dP.
                        let shape = [m, d, area.keys];
                        isa.run(CopyRows { x: q, row, rows: m, d, scale: area.exponent_scale(), to: q_rows });
                        isa.run(CopyRows { x: go, row, rows: m, d, scale: 1.0, to: go_rows });
                        area.product(shape, (q_rows, d), keys, (scores, area.row), false);
                        area.product(shape, (go_rows, d), values, (slopes, area.row), false);
                        isa.run(SoftmaxBackward {
                            p: scores,
                            dp: slopes,
                            row: area.row,
                            len: area.keys,
                            mask: area.mask(),
                            log_sums: &log_sums[t..t + m],
                            dots: &dots[t..t + m],
                            scale: area.scale,
                        });
                        area.product([m, n, d], (slopes, area.row), keys_back, (to_q.get().add(at(t)), row), key > 0);
                        // dK += dS^T q, dV += P^T do.
                        for (left, right, half) in [(slopes, q, 0), (scores, go, n * d)] {
                            pack_rows(isa, right, row, m, d, block);
                            let gemm = Gemm {
                                m: n,
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
                            gemm.run(isa.into());
                        }
                    }
                }
                for j in 0..n {
                    let (dk, dv) = (&sums[j * d..][..d], &sums[(n + j) * d..][..d]);
                    // SAFETY: key `key + j` of this head.
                    unsafe {
                        let to = to_kv.get().add(from + j * 2 * row);
                        to.copy_from_nonoverlapping(dk.as_ptr(), d);
                        to.add(row).copy_from_nonoverlapping(dv.as_ptr(), d);
                    }
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
    /// Keys of the block, up to whole panels.
    keys: usize,
    /// What is added to the score of each: 0, or [`IGNORED`] for those masked and those beyond the last.
    mask: Vec<f32>,
    /// Whether there are such.
    masked: bool,
    /// Queries of a block.
    queries: usize,
    /// Distance between rows of scores.
    row: usize,
    /// Numbers of one packed operand: keys or values.
    packed: usize,
    /// How many of those there are.
    operands: usize,
    /// Features of one head.
    d: usize,
    /// 1 / sqrt d
    scale: f32,
}

impl Area {
    /// For blocks of `queries` queries and at most `keys` keys, which are packed in `operands` ways.
    fn new(isa: Isa, of: &Attention, queries: usize, keys: usize, operands: usize) -> Self {
        let panel = isa.panel();
        let keys = of.tk.min(keys).next_multiple_of(panel);
        // Rows of a power-of-two length would fall into few cache sets.
        let row = keys + 16;
        let packed = keys * of.d.next_multiple_of(panel);
        let block = queries * of.d.next_multiple_of(panel);
        Self {
            isa,
            buffer: scratch::take(operands * packed + 2 * queries * row + 3 * block),
            keys,
            mask: Vec::with_capacity(keys),
            masked: false,
            queries,
            row,
            packed,
            operands,
            d: of.d,
            scale: 1.0 / (of.d as f32).sqrt(),
        }
    }

    fn set_mask(&mut self, mask: Option<&[f32]>, keys: usize) {
        self.mask.clear();
        match mask {
            Some(mask) => self.mask.extend(mask.iter().map(|&keep| if keep == 0.0 { IGNORED } else { 0.0 })),
            None => self.mask.resize(keys, 0.0),
        }
        self.keys = keys.next_multiple_of(self.isa.panel());
        self.mask.resize(self.keys, IGNORED);
        self.masked = self.mask.iter().any(|&m| m != 0.0);
    }

    fn mask(&self) -> Option<&[f32]> {
        self.masked.then_some(&self.mask)
    }

    /// The factor of q that makes its products with keys exponents to the base 2.
    fn exponent_scale(&self) -> f32 {
        self.scale * std::f32::consts::LOG2_E
    }

    /// Where packed operands lie; the last only where there are three.
    fn packed(&mut self) -> [*mut f32; 3] {
        let start = self.buffer.as_mut_ptr();
        // SAFETY: inside the buffer, or, where there are two operands, the start of the scores.
        [0, 1, 2].map(|i| unsafe { start.add(i * self.packed) })
    }

    /// The first or second block of scores.
    fn scores(&mut self, index: usize) -> *mut f32 {
        // SAFETY: inside the buffer, see `new`.
        unsafe { self.buffer.as_mut_ptr().add(self.operands * self.packed + index * self.queries * self.row) }
    }

    /// Room for packed queries.
    fn block(&mut self) -> *mut f32 {
        self.scores(2)
    }

    /// Room for the first or second copy of a block of queries.
    fn rows(&mut self, index: usize) -> *mut f32 {
        let block = self.queries * self.d.next_multiple_of(self.isa.panel());
        // SAFETY: inside the buffer, see `new`.
        unsafe { self.block().add((1 + index) * block) }
    }

    /// `c (m x n) = a (m x k) b` for a packed b of depth k, or `+=`; operands in rows that are as far apart as stated.
    ///
    /// # Safety
    /// As for [`Gemm`].
    unsafe fn product(
        &self,
        [m, k, n]: [usize; 3],
        (a, a_row): (*const f32, usize),
        b: *const f32,
        (c, c_row): (*mut f32, usize),
        accumulate: bool,
    ) {
        let b_panel = k * self.isa.panel();
        let gemm = Gemm { m, k, n, a, a_row, a_col: 1, b, b_panel, c, c_row, accumulate };
        // SAFETY: the caller's.
        unsafe { gemm.run_deep(self.isa.into()) };
    }
}

/// Packs `t` rows of `d` numbers, `row` apart, as the columns of an operand of depth d.
fn pack_transposed_rows(isa: Isa, x: &[f32], row: usize, t: usize, d: usize, to: *mut f32) {
    for j in 0..t.div_ceil(isa.panel()) {
        let first = j * isa.panel();
        // SAFETY: rows of `x` (checked by the public functions); the area has room for whole panels.
        unsafe {
            let to = to.add(first * d);
            isa.run_single(PackTransposedPanel { x: x.as_ptr(), row, k: d, n: t, first, to });
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
            isa.run_single(PackPanel { b: x.as_ptr(), row, k: t, n: d, column, to });
        }
    }
}
