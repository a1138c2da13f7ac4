//! The optimizer's inner loops: Adam with decoupled weight decay, the running average of weights, gradient norms.

use crate::expect_len;
use crate::isa::{Isa, Kernel};
use crate::pool::{Shared, for_each};
use crate::simd::Simd;

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
}

impl Adam {
    /// Updates the weights `w` and both moments from the gradient `g`.
    ///
    /// # Panics
    /// If the lengths differ or `step` is 0.
    pub fn step(&self, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        assert!(self.step > 0, "Adam's steps are counted from 1");
        let len = w.len();
        expect_len("g", g, len);
        expect_len("m", m, len);
        expect_len("v", v, len);
        let isa = Isa::current();
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        let kernel = |w, g, m, v, len| AdamChunk {
            w,
            g,
            m,
            v,
            len,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            keep: (1.0 - f64::from(self.lr) * f64::from(self.weight_decay)) as f32,
            rate: (f64::from(self.lr) / correction(self.beta1)) as f32,
            root: (1.0 / correction(self.beta2).sqrt()) as f32,
        };
        let (w, m, v) = (Shared::new(w), Shared::new(m), Shared::new(v));
        for_each(len.div_ceil(CHUNK), |i| {
            let first = i * CHUNK;
            // SAFETY: equal lengths are checked; chunks do not overlap.
            unsafe {
                let (w, m, v) = (w.get().add(first), m.get().add(first), v.get().add(first));
                isa.run(kernel(w, g.as_ptr().add(first), m, v, CHUNK.min(len - first)));
            }
        });
    }
}

struct AdamChunk {
    w: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    len: usize,
    beta1: f32,
    beta2: f32,
    eps: f32,
    keep: f32,
    rate: f32,
    root: f32,
}

impl Kernel for AdamChunk {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut i = 0;
        while i < self.len {
            let n = self.len - i;
            // SAFETY: all four are valid for `len` numbers.
            unsafe {
                let g = V::load_up_to(self.g.add(i), n);
                let m = V::load_up_to(self.m.add(i), n);
                let v = V::load_up_to(self.v.add(i), n);
                let w = V::load_up_to(self.w.add(i), n);
                let m = (g - m).mul_add(g.all(1.0 - self.beta1), m);
                let v = (g * g).mul_add(g.all(1.0 - self.beta2), v * g.all(self.beta2));
                let step = m / v.sqrt().mul_add(g.all(self.root), g.all(self.eps));
                let w = step.neg_mul_add(g.all(self.rate), w * g.all(self.keep));
                m.store_up_to(self.m.add(i), n);
                v.store_up_to(self.v.add(i), n);
                w.store_up_to(self.w.add(i), n);
            }
            i += V::LANES;
        }
    }
}

/// `average += (1 - decay) * (w - average)`.
///
/// # Panics
/// If the lengths differ.
pub fn ema(average: &mut [f32], w: &[f32], decay: f32) {
    let (isa, len) = (Isa::current(), average.len());
    expect_len("w", w, len);
    let average = Shared::new(average);
    for_each(len.div_ceil(CHUNK), |i| {
        let first = i * CHUNK;
        // SAFETY: equal lengths are checked; chunks do not overlap.
        unsafe {
            let (average, w) = (average.get().add(first), w.as_ptr().add(first));
            isa.run(EmaChunk { average, w, len: CHUNK.min(len - first), rate: 1.0 - decay });
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

/// The sum of squares of all numbers, in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let isa = Isa::current();
    let mut parts = vec![0.0; x.len().div_ceil(CHUNK)];
    let total = parts.len();
    let to = std::sync::Mutex::new(&mut parts);
    for_each(total, |i| {
        let part = &x[i * CHUNK..x.len().min((i + 1) * CHUNK)];
        // SAFETY: the slice is valid for its length.
        let sum = f64::from(unsafe { isa.run(SquaresChunk { x: part.as_ptr(), len: part.len() }) });
        // Squares beyond the range of f32: once more, slowly, in f64.
        let sum = if sum.is_finite() { sum } else { part.iter().map(|&x| f64::from(x).powi(2)).sum() };
        to.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[i] = sum;
    });
    parts.iter().sum()
}

struct SquaresChunk {
    x: *const f32,
    len: usize,
}

impl Kernel for SquaresChunk {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Simd>(self) -> f32 {
        let mut i = 0;
        // SAFETY: `x` is valid for `len` numbers.
        unsafe {
            let mut sums = [V::splat(0.0); 4];
            while i + 4 * V::LANES <= self.len {
                for (j, sum) in sums.iter_mut().enumerate() {
                    let x = V::load(self.x.add(i + j * V::LANES));
                    *sum = x.mul_add(x, *sum);
                }
                i += 4 * V::LANES;
            }
            while i < self.len {
                let x = V::load_up_to(self.x.add(i), self.len - i);
                sums[0] = x.mul_add(x, sums[0]);
                i += V::LANES;
            }
            ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
        }
    }
}
