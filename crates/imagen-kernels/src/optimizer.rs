//! The optimizer's inner loops: Adam with decoupled weight decay, the running average of weights, gradient norms.
//!
//! All are bound by memory: a step moves 28 bytes a parameter (reads w, g, m, v; writes w, m, v), the average on its
//! own 12. [`Adam::step`] does both, and the scaling of clipped gradients, in one pass of 36 bytes.

use crate::expect_len;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use std::sync::Mutex;

/// Numbers in one chunk of work.
const CHUNK: usize = 16 * 1024;

/// One step of Adam in PyTorch's form (Kingma and Ba 2015; decoupled decay as in Loshchilov and Hutter 2019):
/// `w *= 1 - lr * weight_decay`, then
/// `w -= lr / (1 - beta1^step) * m / (sqrt(v / (1 - beta2^step)) + eps)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay; 0 = none.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor of the gradient (clipping).
    pub scale: f32,
    /// Decay of the weights' moving average.
    pub average_decay: f64,
}

impl Adam {
    /// Updates the weights `w` and both moments from the gradient `g`, then the average as [`ema`] does, in one pass over
    /// memory.
    ///
    /// # Panics
    /// If the lengths differ or `step` is 0.
    pub fn step(&self, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], average: &mut [f32]) {
        assert!(self.step > 0, "Adam's steps are counted from 1");
        let len = w.len();
        expect_len("g", g, len);
        expect_len("m", m, len);
        expect_len("v", v, len);
        expect_len("average", average, len);
        let isa = Isa::current();
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let rates = Rates {
            scale: self.scale,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            keep: (1.0 - f64::from(self.lr) * f64::from(self.weight_decay)) as f32,
            rate: (f64::from(self.lr) / correction(self.beta1)) as f32,
            root: (1.0 / correction(self.beta2).sqrt()) as f32,
        };
        let (w, m, v, average) = (Shared::new(w), Shared::new(m), Shared::new(v), Shared::new(average));
        for_each(len.div_ceil(CHUNK), |i| {
            let first = i * CHUNK;
            // SAFETY: equal lengths are checked; chunks do not overlap.
            unsafe {
                let (w, m, v) = (w.get().add(first), m.get().add(first), v.get().add(first));
                let (g, average, len) = (g.as_ptr().add(first), average.get().add(first), CHUNK.min(len - first));
                isa.run(AdamChunk { w, g, m, v, average, share: (1.0 - self.average_decay) as f32, len, rates });
            }
        });
    }
}

/// The numbers of one step.
#[derive(Clone, Copy)]
struct Rates {
    scale: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// What decay leaves of a weight.
    keep: f32,
    /// Learning rate over the first moment's correction.
    rate: f32,
    /// Root of the second moment's correction.
    root: f32,
}

/// Contract: all pointers are valid for `len` numbers.
struct AdamChunk {
    w: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    average: *mut f32,
    /// What the new weights are of the average.
    share: f32,
    len: usize,
    rates: Rates,
}

impl Kernel for AdamChunk {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let whole = self.len - self.len % V::LANES;
        // SAFETY: whole vectors, then the rest, inside `len` numbers.
        unsafe {
            for i in (0..whole).step_by(V::LANES) {
                self.at::<V>(i, V::LANES);
            }
            if whole < self.len {
                self.at::<V>(whole, self.len - whole);
            }
        }
    }
}

impl AdamChunk {
    /// Numbers i..i + n, one vector at most.
    #[inline(always)]
    unsafe fn at<V: Simd>(&self, i: usize, n: usize) {
        let Rates { scale, beta1, beta2, eps, keep, rate, root } = self.rates;
        // SAFETY: the caller's range is inside all slices.
        unsafe {
            let g = V::load_up_to(self.g.add(i), n) * V::splat(scale);
            let m = V::load_up_to(self.m.add(i), n);
            let v = V::load_up_to(self.v.add(i), n);
            let w = V::load_up_to(self.w.add(i), n);
            let m = (g - m).mul_add(V::splat(1.0 - beta1), m);
            let v = (g * g).mul_add(V::splat(1.0 - beta2), v * V::splat(beta2));
            let step = m / v.sqrt().mul_add(V::splat(root), V::splat(eps));
            let w = step.neg_mul_add(V::splat(rate), w * V::splat(keep));
            m.store_up_to(self.m.add(i), n);
            v.store_up_to(self.v.add(i), n);
            w.store_up_to(self.w.add(i), n);
            let average = V::load_up_to(self.average.add(i), n);
            (w - average).mul_add(V::splat(self.share), average).store_up_to(self.average.add(i), n);
        }
    }
}

/// `average += (1 - decay) * (w - average)`; decays near 1 are exact, for 1 - decay is formed in `f64`.
///
/// # Panics
/// If the lengths differ.
pub fn ema(average: &mut [f32], w: &[f32], decay: f64) {
    let (isa, len) = (Isa::current(), average.len());
    expect_len("w", w, len);
    let average = Shared::new(average);
    for_each(len.div_ceil(CHUNK), |i| {
        let first = i * CHUNK;
        // SAFETY: equal lengths are checked; chunks do not overlap.
        unsafe {
            let (average, w) = (average.get().add(first), w.as_ptr().add(first));
            isa.run(EmaChunk { average, w, len: CHUNK.min(len - first), rate: (1.0 - decay) as f32 });
        }
    });
}

struct EmaChunk {
    average: *mut f32,
    w: *const f32,
    len: usize,
    rate: f32,
}

impl Kernel for EmaChunk {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut i = 0;
        while i < self.len {
            let n = self.len - i;
            // SAFETY: both are valid for `len` numbers.
            unsafe {
                let average = V::load_up_to(self.average.add(i), n);
                let w = V::load_up_to(self.w.add(i), n);
                (w - average).mul_add(V::splat(self.rate), average).store_up_to(self.average.add(i), n);
            }
            i += V::LANES;
        }
    }
}

/// The sum of squares of all numbers, accurate to `f64` and in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let isa = Isa::current();
    let parts = Mutex::new(vec![0.0; x.len().div_ceil(CHUNK)]);
    for_each(x.len().div_ceil(CHUNK), |i| {
        let part = &x[i * CHUNK..x.len().min((i + 1) * CHUNK)];
        // SAFETY: the kernel reads a slice.
        let sum = unsafe { isa.run(SquaresChunk { x: part }) };
        parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[i] = sum;
    });
    parts.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().sum()
}

struct SquaresChunk<'a> {
    x: &'a [f32],
}

impl Kernel for SquaresChunk<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Simd>(self) -> f64 {
        let (x, len) = (self.x.as_ptr(), self.x.len());
        let mut i = 0;
        // SAFETY: i.. is inside the slice.
        unsafe {
            // Four chains of additions, so that none waits for its own.
            let (mut even, mut odd) = (V::wide_zero(), V::wide_zero());
            while i + 2 * V::LANES <= len {
                even = V::load(x.add(i)).add_squares(even);
                odd = V::load(x.add(i + V::LANES)).add_squares(odd);
                i += 2 * V::LANES;
            }
            while i < len {
                even = V::load_up_to(x.add(i), len - i).add_squares(even);
                i += V::LANES;
            }
            V::sum_wide(even) + V::sum_wide(odd)
        }
    }
}
