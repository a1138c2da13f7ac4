//! The passes over the activations, as kernels.

use crate::kernel::Kernel;
use crate::math;
use crate::norm::activation::Activation;
use crate::simd::Simd;

/// Per channel, the sums of `x - pivot` and of its square over `pixels`, into `sums[2][c]`.
pub(super) struct Sums<'a> {
    pub(super) x: *const f32,
    pub(super) pixels: usize,
    pub(super) c: usize,
    pub(super) pivot: &'a [f32],
    pub(super) sums: *mut f32,
}

impl Columns for Sums<'_> {
    fn channels(&self) -> usize {
        self.c
    }

    #[inline(always)]
    unsafe fn columns<V: Simd, const W: usize>(&self, q: usize, n: usize) {
        // SAFETY: channels q.. of every pixel.
        unsafe {
            let zero = V::splat(0.0);
            let (mut pivot, mut sum, mut squares) = ([zero; W], [zero; W], [zero; W]);
            for (w, pivot) in pivot.iter_mut().enumerate() {
                *pivot = V::load_up_to(self.pivot.as_ptr().add(q + w * V::LANES), n);
            }
            for i in 0..self.pixels {
                let x = self.x.add(i * self.c + q);
                for w in 0..W {
                    let x = V::load_up_to(x.add(w * V::LANES), n) - pivot[w];
                    sum[w] = sum[w] + x;
                    squares[w] = x.mul_add(x, squares[w]);
                }
            }
            for w in 0..W {
                let to = self.sums.add(q + w * V::LANES);
                sum[w].store_up_to(to, n);
                squares[w].store_up_to(to.add(self.c), n);
            }
        }
    }
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: passed on.
        unsafe { across::<V>(&self) }
    }
}

/// A pass that sums over pixels, some channels at a time.
trait Columns {
    fn channels(&self) -> usize;

    /// Channels of W vectors from q, the last of which has n.
    ///
    /// # Safety
    /// They are inside every pixel.
    unsafe fn columns<V: Simd, const W: usize>(&self, q: usize, n: usize);
}

/// All channels, whole cache lines side by side where there are enough.
#[inline(always)]
unsafe fn across<V: Simd>(pass: &impl Columns) {
    let (c, mut q) = (pass.channels(), 0);
    // SAFETY: q.. is inside every pixel.
    unsafe {
        while q + 4 * V::LANES <= c {
            pass.columns::<V, 4>(q, V::LANES);
            q += 4 * V::LANES;
        }
        if q + 2 * V::LANES <= c {
            pass.columns::<V, 2>(q, V::LANES);
            q += 2 * V::LANES;
        }
        while q < c {
            pass.columns::<V, 1>(q, c - q);
            q += V::LANES;
        }
    }
}

/// [`Activation`] as a constant, so that the loop over pixels does not ask.
const IDENTITY: u8 = 0;
const SILU: u8 = 1;
const GELU: u8 = 2;

/// `y = act(a x + b)`.
///
/// Contract: x and y hold the pixels, a and b one number per channel.
pub(super) struct Apply {
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    pub(super) pixels: usize,
    pub(super) c: usize,
    pub(super) a: *const f32,
    pub(super) b: *const f32,
    pub(super) activation: Activation,
}

impl Apply {
    /// Channels q.. of pixel i, `n` of them, at most a vector.
    #[inline(always)]
    unsafe fn channels<V: Simd, const A: u8>(&self, i: usize, q: usize, n: usize) {
        // SAFETY: channels q.. of pixel i.
        unsafe {
            let x = V::load_up_to(self.x.add(i * self.c + q), n);
            let z = x.mul_add(V::load_up_to(self.a.add(q), n), V::load_up_to(self.b.add(q), n));
            let y = match A {
                SILU => math::silu(z),
                GELU => math::gelu(z),
                _ => z,
            };
            y.store_up_to(self.y.add(i * self.c + q), n);
        }
    }
}

impl Apply {
    /// Every pixel.
    #[inline(always)]
    unsafe fn pixels<V: Simd, const A: u8>(&self) {
        for i in 0..self.pixels {
            let mut q = 0;
            // SAFETY: by the contract.
            unsafe {
                while q + V::LANES <= self.c {
                    self.channels::<V, A>(i, q, V::LANES);
                    q += V::LANES;
                }
                if q < self.c {
                    self.channels::<V, A>(i, q, self.c - q);
                }
            }
        }
    }
}

impl Kernel for Apply {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: by the contract.
        unsafe {
            match self.activation {
                Activation::None => self.pixels::<V, IDENTITY>(),
                Activation::Silu => self.pixels::<V, SILU>(),
                Activation::Gelu => self.pixels::<V, GELU>(),
            }
        }
    }
}

/// dz in place of dy, and per channel the sums of dz and of dz (x - pivot), into `sums[2][c]`.
pub(super) struct BackwardSums<'a> {
    pub(super) x: *const f32,
    pub(super) dy: *mut f32,
    pub(super) pixels: usize,
    pub(super) c: usize,
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
    pub(super) pivot: &'a [f32],
    pub(super) sums: *mut f32,
    pub(super) activation: Activation,
}

impl Columns for BackwardSums<'_> {
    fn channels(&self) -> usize {
        self.c
    }

    #[inline(always)]
    unsafe fn columns<V: Simd, const W: usize>(&self, q: usize, n: usize) {
        // SAFETY: channels q.. of every pixel.
        unsafe {
            let zero = V::splat(0.0);
            let [mut a, mut b, mut pivot, mut sum, mut product] = [[zero; W]; 5];
            for w in 0..W {
                a[w] = V::load_up_to(self.a.as_ptr().add(q + w * V::LANES), n);
                b[w] = V::load_up_to(self.b.as_ptr().add(q + w * V::LANES), n);
                pivot[w] = V::load_up_to(self.pivot.as_ptr().add(q + w * V::LANES), n);
            }
            for i in 0..self.pixels {
                let (x, dy) = (self.x.add(i * self.c + q), self.dy.add(i * self.c + q));
                for w in 0..W {
                    let (at, dy) = (x.add(w * V::LANES), dy.add(w * V::LANES));
                    let x = V::load_up_to(at, n);
                    let mut dz = V::load_up_to(dy, n);
                    if self.activation != Activation::None {
                        let z = x.mul_add(a[w], b[w]);
                        let slope = match self.activation {
                            Activation::Gelu => math::gelu_slope(z),
                            _ => math::silu_slope(z),
                        };
                        dz = dz * slope;
                        dz.store_up_to(dy, n);
                    }
                    sum[w] = sum[w] + dz;
                    product[w] = dz.mul_add(x - pivot[w], product[w]);
                }
            }
            for w in 0..W {
                let to = self.sums.add(q + w * V::LANES);
                sum[w].store_up_to(to, n);
                product[w].store_up_to(to.add(self.c), n);
            }
        }
    }
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        // SAFETY: passed on.
        unsafe { across::<V>(&self) }
    }
}

/// `dx = a dz + slope x + offset`, in place of dz.
///
/// Contract: x and dz hold the pixels, the others one number per channel.
pub(super) struct BackwardApply {
    pub(super) x: *const f32,
    pub(super) dz: *mut f32,
    pub(super) pixels: usize,
    pub(super) c: usize,
    pub(super) a: *const f32,
    pub(super) slope: *const f32,
    pub(super) offset: *const f32,
}

impl BackwardApply {
    /// Channels q.. of pixel i, `n` of them, at most a vector.
    #[inline(always)]
    unsafe fn channels<V: Simd>(&self, i: usize, q: usize, n: usize) {
        let at = i * self.c + q;
        // SAFETY: channels q.. of pixel i.
        unsafe {
            let a = V::load_up_to(self.a.add(q), n);
            let slope = V::load_up_to(self.slope.add(q), n);
            let offset = V::load_up_to(self.offset.add(q), n);
            let x = V::load_up_to(self.x.add(at), n);
            let dz = V::load_up_to(self.dz.add(at), n);
            dz.mul_add(a, x.mul_add(slope, offset)).store_up_to(self.dz.add(at), n);
        }
    }
}

impl Kernel for BackwardApply {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for i in 0..self.pixels {
            let mut q = 0;
            // SAFETY: by the contract.
            unsafe {
                while q + V::LANES <= self.c {
                    self.channels::<V>(i, q, V::LANES);
                    q += V::LANES;
                }
                if q < self.c {
                    self.channels::<V>(i, q, self.c - q);
                }
            }
        }
    }
}
