//! Weights: U = G w G^T in the forward pass, dw = G^T dU G in the backward pass.
//!
//! The weights of a gradient's convolution are flipped and transposed; that happens here, block by block, while they
//! are read, so that no flipped copy is ever stored.

use super::sink::{Keep, Rows, Sink, Units};
use super::transform::{Transform, fits};
use crate::kernel::{Kernel, OperandKernel};
use crate::simd::{Operands, Simd, prefetch};
use crate::stored::{Bf16, F16, F32, Format, Int8, Stored, StoredLinear};
use std::marker::PhantomData;
use std::ops::Range;

/// The weights of a convolution with c inputs and k outputs, as stored.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// `[3, 3, c, k]`
    Plain(&'a [f32]),
    /// `[3, 3, k, c]`, to be read as `w[2 - r, 2 - s, out, in]`: those of the convolution whose gradient this is.
    Flipped(&'a [f32]),
    /// `[9 c, k]` in panels, in the type in which they are stored.
    Stored(&'a StoredLinear),
}

/// Most lanes of a vector: the size of the block in which flipped weights are transposed.
const LANES: usize = 16;
/// Input channels whose taps are read together, a tap after the other: the nine taps of a channel are often a large power of
/// two apart, in one set of the caches, where not even one channel's have room.
const TOGETHER: usize = 32;

/// Asks for a panel.
#[inline(always)]
fn ask<V: Simd>(from: *const f32) {
    for line in (0..2 * V::LANES).step_by(16) {
        prefetch(from.wrapping_add(line));
    }
}

/// U for some input channels and one panel of outputs.
///
/// Contract: `weights` are of c inputs and k outputs; `to` is writable at `xi * plane + channel * NR` for NR units,
/// units of channels counted from the first.
pub(super) struct WeightTransform<'a, T> {
    weights: Weights<'a>,
    c: usize,
    k: usize,
    channels: Range<usize>,
    column: usize,
    to: *mut f32,
    plane: usize,
    of: PhantomData<T>,
}

impl<'a, T: Transform> WeightTransform<'a, T> {
    pub(super) fn new(
        weights: Weights<'a>,
        (c, k): (usize, usize),
        channels: Range<usize>,
        column: usize,
        to: *mut f32,
        plane: usize,
    ) -> Self {
        Self { weights, c, k, channels, column, to, plane, of: PhantomData }
    }

    /// One input channel, a vector of outputs; its taps are `tap` numbers apart.
    #[inline(always)]
    unsafe fn channel<V: Simd>(&self, w: *const f32, tap: usize, to: &mut impl Sink<V>) {
        // SAFETY: a vector of nine taps; a vector in every plane.
        unsafe {
            let mut half = [[V::splat(0.0); 3]; 6];
            for s in 0..3 {
                let mut taps = [V::splat(0.0); 3];
                for (r, value) in taps.iter_mut().enumerate() {
                    *value = V::load(w.add((r * 3 + s) * tap));
                }
                let points = T::weight(taps);
                for i in 0..T::IN {
                    half[i][s] = points[i];
                }
            }
            for i in 0..T::IN {
                let points = T::weight(half[i]);
                for j in 0..T::IN {
                    to.put(i * T::IN + j, points[j]);
                }
            }
        }
    }

    /// `count` input channels from number `first` on, a vector of outputs `half` into the panel: the taps of one lie
    /// `channel` numbers behind those of the other, and `tap` numbers apart.
    #[inline(always)]
    unsafe fn several<O: Operands>(
        &self,
        first: usize,
        count: usize,
        half: usize,
        (w, channel, tap): (*const f32, usize, usize),
    ) {
        for i in (0..count).step_by(O::STEP) {
            let unit = (first - self.channels.start + i) / O::STEP;
            // SAFETY: the taps of the channels; a vector in every plane.
            unsafe {
                let (w, to) = (w.add(i * channel), self.to.add(unit * 2 * O::V::LANES + half));
                if O::STEP == 1 {
                    self.channel::<O::V>(w, tap, &mut Rows::<O>::new(to, self.plane));
                } else {
                    let mut one = Keep::new();
                    self.channel::<O::V>(w, tap, &mut one);
                    let mut both = Units::<O>::new(&one, to, self.plane);
                    if i + 1 < count {
                        self.channel::<O::V>(w.add(channel), tap, &mut both);
                    } else {
                        let zero = O::V::splat(0.0);
                        for xi in 0..T::POINTS {
                            both.put(xi, zero);
                        }
                    }
                }
            }
        }
    }

    /// A tap of `rows` inputs and `n` outputs, turned the right way round, zero beyond.
    #[inline(always)]
    unsafe fn turn<V: Simd>(
        &self,
        w: &[f32],
        tap: usize,
        first: usize,
        rows: usize,
        q: usize,
        n: usize,
        to: &mut [f32],
    ) {
        let from = ((8 - tap) * self.k + q) * self.c + first;
        if rows == V::LANES && n >= V::LANES {
            // SAFETY: whole blocks inside the tap and the buffer.
            unsafe { V::transpose(w.as_ptr().add(from), self.c, to.as_mut_ptr(), V::LANES) };
        } else {
            to[..V::LANES * V::LANES].fill(0.0);
            for (i, j) in (0..rows).flat_map(|i| (0..n.min(V::LANES)).map(move |j| (i, j))) {
                to[i * V::LANES + j] = w[from + j * self.c + i];
            }
        }
    }
}

impl<T: Transform> WeightTransform<'_, T> {
    /// Weights as they lie.
    #[inline(always)]
    unsafe fn plain<O: Operands>(&self, w: &[f32]) {
        let lanes = O::V::LANES;
        let width = self.k.saturating_sub(self.column);
        let mut taps = [0.0; 9 * TOGETHER * 2 * LANES];
        let start = |channel: usize, t: usize| w.as_ptr().wrapping_add((t * self.c + channel) * self.k + self.column);
        for first in self.channels.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(self.channels.end - first);
            // SAFETY: `width` numbers of nine taps of every channel exist; a panel in every plane.
            unsafe {
                for t in 0..9 {
                    let (next, after) = if t < 8 { (first, t + 1) } else { (first + TOGETHER, 0) };
                    for i in 0..count {
                        ask::<O::V>(start(next + i, after));
                        let (from, to) = (start(first + i, t), taps.as_mut_ptr().add((t * TOGETHER + i) * 2 * lanes));
                        if width >= 2 * lanes {
                            O::V::load(from).store(to);
                            O::V::load(from.add(lanes)).store(to.add(lanes));
                        } else {
                            O::V::load_up_to(from, width).store(to);
                            O::V::load_up_to(from.wrapping_add(lanes), width.saturating_sub(lanes))
                                .store(to.add(lanes));
                        }
                    }
                }
                for half in [0, lanes] {
                    let taps = (taps.as_ptr().add(half), 2 * lanes, TOGETHER * 2 * lanes);
                    self.several::<O>(first, count, half, taps);
                }
            }
        }
    }

    /// Weights in panels, which are widened on the way.
    #[inline(always)]
    unsafe fn stored<O: Operands, T2: Stored>(&self, w: &StoredLinear) {
        const CHANNEL: usize = 9 * 2 * LANES;
        let lanes = O::V::LANES;
        let mut taps = [0.0; 2 * CHANNEL];
        let mut scales = [1.0; 2 * LANES];
        if let Some(of) = w.scales().get(self.column..) {
            let n = of.len().min(2 * lanes);
            scales[..n].copy_from_slice(&of[..n]);
        }
        let int8 = !w.scales().is_empty();
        // SAFETY: the panel of columns column.., which has 9 c rows of two vectors; a panel in every plane.
        unsafe {
            let panel = w.panels().cast::<T2::Bits>().add(self.column * 9 * self.c);
            for first in self.channels.clone().step_by(O::STEP) {
                let count = O::STEP.min(self.channels.end - first);
                for (i, t) in (0..count).flat_map(|i| (0..9).map(move |t| (i, t))) {
                    let from = panel.add((t * self.c + first + i) * 2 * lanes);
                    for half in [0, lanes] {
                        let mut value = T2::load::<O::V>(from.add(half));
                        if int8 {
                            value = value * O::V::load(scales.as_ptr().add(half));
                        }
                        value.store(taps.as_mut_ptr().add(i * CHANNEL + t * 2 * lanes + half));
                    }
                }
                for half in [0, lanes] {
                    self.several::<O>(first, count, half, (taps.as_ptr().add(half), CHANNEL, 2 * lanes));
                }
            }
        }
    }

    /// Weights in the type in which they are stored.
    #[inline(always)]
    unsafe fn of_format<O: Operands>(&self, w: &StoredLinear) {
        // SAFETY: passed on.
        unsafe {
            match w.format() {
                Format::F32 => self.stored::<O, F32>(w),
                Format::F16 => self.stored::<O, F16>(w),
                Format::Bf16 => self.stored::<O, Bf16>(w),
                Format::Int8 => self.stored::<O, Int8>(w),
            }
        }
    }

    /// Weights to be flipped and transposed.
    #[inline(always)]
    unsafe fn flipped<O: Operands>(&self, w: &[f32]) {
        let mut taps = [0.0; 9 * TOGETHER * LANES];
        let lanes = O::V::LANES;
        let block = lanes * lanes;
        for half in [0, lanes] {
            let q = self.column + half;
            let n = self.k.saturating_sub(q);
            for first in self.channels.clone().step_by(TOGETHER) {
                let last = self.channels.end.min(first + TOGETHER);
                for tap in 0..9 {
                    for (b, first) in (first..last).step_by(lanes).enumerate() {
                        let to = &mut taps[(tap * TOGETHER / lanes + b) * block..];
                        // SAFETY: the block's inputs and outputs exist.
                        unsafe { self.turn::<O::V>(w, tap, first, lanes.min(last - first), q, n, to) };
                    }
                }
                // SAFETY: a panel in every plane.
                unsafe { self.several::<O>(first, last - first, half, (taps.as_ptr(), lanes, TOGETHER * lanes)) };
            }
        }
    }
}

impl<T: Transform> OperandKernel for WeightTransform<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        // SAFETY: by the contract.
        unsafe {
            if const { fits::<T, O>() } {
                match self.weights {
                    Weights::Plain(w) => self.plain::<O>(w),
                    Weights::Flipped(w) => self.flipped::<O>(w),
                    Weights::Stored(w) => self.of_format::<O>(w),
                }
            } else {
                unreachable!("a transform for other operands");
            }
        }
    }
}

/// dw = G^T dU G for some input channels, added to what is there if `accumulate`.
///
/// Contract: `du` is readable at `xi * plane + channel * row` for `n` numbers in whole vectors; `gw` is writable at
/// `tap * gw_tap + channel * gw_row` for `n` numbers.
pub(super) struct WeightGradient<T> {
    pub(super) channels: usize,
    pub(super) n: usize,
    pub(super) du: *const f32,
    pub(super) plane: usize,
    pub(super) row: usize,
    pub(super) gw: *mut f32,
    pub(super) gw_tap: usize,
    pub(super) gw_row: usize,
    pub(super) accumulate: bool,
    pub(super) of: PhantomData<T>,
}

impl<T: Transform> Kernel for WeightGradient<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for channel in 0..self.channels {
            let mut q = 0;
            while q < self.n {
                let n = self.n - q;
                // SAFETY: by the contract.
                unsafe {
                    let du = self.du.add(channel * self.row + q);
                    let gw = self.gw.add(channel * self.gw_row + q);
                    let zero = V::splat(0.0);
                    let mut half = [[zero; 6]; 3];
                    for j in 0..T::IN {
                        let mut points = [zero; 6];
                        for i in 0..T::IN {
                            points[i] = V::load(du.add((i * T::IN + j) * self.plane));
                        }
                        let taps = T::weight_adjoint(points);
                        for i in 0..3 {
                            half[i][j] = taps[i];
                        }
                    }
                    for r in 0..3 {
                        let taps = T::weight_adjoint(half[r]);
                        for s in 0..3 {
                            let to = gw.add((r * 3 + s) * self.gw_tap);
                            let old = if self.accumulate { V::load_up_to(to, n) } else { zero };
                            (taps[s] + old).store_up_to(to, n);
                        }
                    }
                }
                q += V::LANES;
            }
        }
    }
}
