//! Bilinear resizing of `[n, h, w, c]` to any height and width, forward and backward, in both of the usual
//! conventions for where pixels lie.
//!
//! A row of outputs is made in two steps: two rows of inputs are mixed, then neighbouring pixels of the mixture. The
//! backward pass gathers instead of scattering: each input pixel sums what its outputs have received, so that rows
//! are independent.

use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};
use std::ops::Range;

/// Numbers after a buffer's end that whole vectors may touch.
const SPILL: usize = 16;

/// A bilinear resizing from `[n, h, w, c]` to `[n, out_h, out_w, c]`, without a low-pass filter when it shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bilinear {
    /// Pictures.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Height of the output.
    pub out_h: usize,
    /// Width of the output.
    pub out_w: usize,
    /// Channels.
    pub c: usize,
    /// Whether the centres of the corner pixels of both pictures coincide; else their outer corners do, and pixels
    /// beyond the centres at the edge repeat them.
    pub align_corners: bool,
}

impl Bilinear {
    /// `y[n, out_h, out_w, c]` from `x[n, h, w, c]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape, or pictures without pixels are to get some.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let Self { n, h, w, out_h, out_w, c, .. } = *self;
        self.check(x, y);
        let (rows, columns) = self.axes();
        let isa = Isa::current();
        let to = Shared::new(y);
        for_each(n * out_h, |row| {
            let (image, tap) = (row / out_h, rows.taps[row % out_h]);
            let of = |i: usize| &x[(image * h + i) * w * c..][..w * c];
            let mut mixture = scratch::take(w * c + SPILL);
            // SAFETY: row `row` of y; rows do not overlap; the mixture has room for w pixels and a vector more.
            unsafe {
                let to = to.get().add(row * out_w * c);
                let parts = [(of(tap.low), 1.0 - tap.share), (of(tap.high), tap.share)];
                isa.run(MixRows { parts: parts.into_iter(), len: w * c, to: mixture.as_mut_ptr() });
                isa.run(MixPixels { from: mixture.as_ptr(), taps: &columns.taps, c, to });
            }
        });
    }

    /// The gradient: `gx[n, h, w, c]` from `gy[n, out_h, out_w, c]`.
    ///
    /// # Panics
    /// As [`Bilinear::forward`].
    pub fn backward(&self, gy: &[f32], gx: &mut [f32]) {
        let Self { n, h, w, out_h, out_w, c, .. } = *self;
        self.check(gx, gy);
        let (rows, columns) = self.axes();
        let isa = Isa::current();
        let to = Shared::new(gx);
        for_each(n * h, |row| {
            let (image, i) = (row / h, row % h);
            let of = |o: usize| &gy[(image * out_h + o) * out_w * c..][..out_w * c];
            let mut mixture = scratch::take(out_w * c + SPILL);
            // SAFETY: row `row` of gx; rows do not overlap; the mixture has room for out_w pixels and a vector more.
            unsafe {
                let to = to.get().add(row * w * c);
                let parts = rows.users[i].clone().map(|o| (of(o), rows.taps[o].share_of(i)));
                isa.run(MixRows { parts, len: out_w * c, to: mixture.as_mut_ptr() });
                isa.run(SumPixels { from: mixture.as_ptr(), axis: &columns, c, to });
            }
        });
    }

    fn axes(&self) -> (Axis, Axis) {
        let Self { h, w, out_h, out_w, align_corners, .. } = *self;
        (Axis::new(h, out_h, align_corners), Axis::new(w, out_w, align_corners))
    }

    #[track_caller]
    fn check(&self, small: &[f32], large: &[f32]) {
        let Self { n, h, w, out_h, out_w, c, .. } = *self;
        expect_len("the unresized side", small, n * h * w * c);
        expect_len("the resized side", large, n * out_h * out_w * c);
        assert!(!small.is_empty() || large.is_empty(), "a picture without pixels cannot be enlarged");
    }
}

/// The two inputs of an output along one axis.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    /// Weight of the higher one; the lower one has the rest.
    share: f32,
}

impl Tap {
    /// The weight of input `i`.
    fn share_of(self, i: usize) -> f32 {
        let low = if self.low == i { 1.0 - self.share } else { 0.0 };
        let high = if self.high == i { self.share } else { 0.0 };
        low + high
    }
}

/// One axis of a resizing.
struct Axis {
    /// By output.
    taps: Vec<Tap>,
    /// By input: the outputs that use it.
    users: Vec<Range<usize>>,
}

impl Axis {
    fn new(inputs: usize, outputs: usize, align_corners: bool) -> Self {
        let last = inputs.saturating_sub(1);
        let tap = |o: usize| {
            let position = if align_corners {
                o as f64 * last as f64 / outputs.saturating_sub(1).max(1) as f64
            } else {
                ((o as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5).max(0.0)
            };
            let low = (position as usize).min(last);
            Tap { low, high: (low + 1).min(last), share: (position - low as f64) as f32 }
        };
        let taps: Vec<Tap> = (0..outputs).map(tap).collect();
        // Positions ascend, so the users of an input are neighbours.
        let user = |i| taps.partition_point(|tap| tap.high < i)..taps.partition_point(|tap| tap.low <= i);
        let users = (0..inputs).map(user).collect();
        Self { taps, users }
    }
}

/// `to = sum of weight * row` over the parts.
///
/// Contract: rows hold `len` numbers; `to` is writable for as many.
struct MixRows<I> {
    parts: I,
    len: usize,
    to: *mut f32,
}

impl<'a, I: Iterator<Item = (&'a [f32], f32)>> Kernel for MixRows<I> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut first = true;
        for (row, weight) in self.parts {
            let mut q = 0;
            while q < self.len {
                let n = self.len - q;
                // SAFETY: q.. is inside all rows.
                unsafe {
                    let (to, x) = (self.to.add(q), V::load_up_to(row.as_ptr().add(q), n));
                    let sum = if first { V::splat(0.0) } else { V::load_up_to(to, n) };
                    x.mul_add(V::splat(weight), sum).store_up_to(to, n);
                }
                q += V::LANES;
            }
            first = false;
        }
        if first {
            // SAFETY: `to` is writable for `len` numbers.
            unsafe { self.to.write_bytes(0, self.len) };
        }
    }
}

/// A row of outputs from a row of mixed inputs.
///
/// Contract: `from` holds the pixels of all taps and [`SPILL`] numbers more; `to` is writable for a pixel a tap.
struct MixPixels<'a> {
    from: *const f32,
    taps: &'a [Tap],
    c: usize,
    to: *mut f32,
}

impl Kernel for MixPixels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let c = self.c;
        for (j, tap) in self.taps.iter().enumerate() {
            // SAFETY: pixels of `from` with what may be read beyond; see `store_ascending`.
            unsafe {
                let (low, high) = (self.from.add(tap.low * c), self.from.add(tap.high * c));
                let share = V::splat(tap.share);
                let mut q = 0;
                while q < c {
                    let x = V::load(low.add(q));
                    let y = (V::load(high.add(q)) - x).mul_add(share, x);
                    store_ascending(y, self.to, j * c + q, self.taps.len() * c, c - q);
                    q += V::LANES;
                }
            }
        }
    }
}

/// A row of input gradients from a mixed row of output gradients.
///
/// Contract: `from` holds a pixel a tap and [`SPILL`] numbers more; `to` is writable for a pixel an input.
struct SumPixels<'a> {
    from: *const f32,
    axis: &'a Axis,
    c: usize,
    to: *mut f32,
}

impl Kernel for SumPixels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (c, Axis { taps, users }) = (self.c, self.axis);
        for (i, users) in users.iter().enumerate() {
            let mut q = 0;
            while q < c {
                // SAFETY: pixels of `from` with what may be read beyond; see `store_ascending`.
                unsafe {
                    let mut sum = V::splat(0.0);
                    let mut o = users.start;
                    while o < users.end {
                        sum = V::load(self.from.add(o * c + q)).mul_add(V::splat(taps[o].share_of(i)), sum);
                        o += 1;
                    }
                    store_ascending(sum, self.to, i * c + q, self.axis.users.len() * c, c - q);
                }
                q += V::LANES;
            }
        }
    }
}

/// Writes the first `n` lanes at `at` in a row of `len` numbers that is written from left to right: a whole vector,
/// which is cheaper than a part of one, wherever it only spills over what comes later.
///
/// # Safety
/// `row` must be writable for `len` numbers, of which `at..at + min(n, LANES)` are some.
#[inline(always)]
unsafe fn store_ascending<V: Simd>(vector: V, row: *mut f32, at: usize, len: usize, n: usize) {
    // SAFETY: by the contract.
    unsafe {
        if at + V::LANES <= len {
            vector.store(row.add(at));
        } else {
            vector.store_up_to(row.add(at), n);
        }
    }
}
