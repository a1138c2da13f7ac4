//! Four lanes as a plain array: no intrinsics, for every target. The compiler maps it to SSE2, NEON or scalar code.

use super::Simd;
use crate::isa::Isa;
use std::ops::{Add, Div, Mul, Sub};

/// Lanes of the portable vector: what SSE2 and NEON hold.
const LANES: usize = 4;

/// A vector of four.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i])))
    }
}

macro_rules! operators {
    ($($op:ident $f:ident $sign:tt),*) => { $(
        impl $op for Portable {
            type Output = Self;
            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                self.zip(other, |a, b| a $sign b)
            }
        }
    )* };
}
operators!(Add add +, Sub sub -, Mul mul *, Div div /);

/// `a * b + c`; fused only where that is one instruction, since the library call is a hundred times slower.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// Half precision to single. Shifted into place, the exponent is 112 too small, also for subnormal numbers; the
/// largest exponent stands for infinity and what is not a number.
#[inline(always)]
fn from_f16(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if half & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(half & 0x8000) << 16)
}

impl Simd for Portable {
    const ISA: Isa = Isa::Portable;
    const LANES: usize = LANES;
    type Wide = [f64; LANES];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: `p` is readable for `LANES` numbers; the read needs no alignment.
        Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`.
            *lane = unsafe { *p.add(i) };
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: as for `load`.
        Self(unsafe { p.cast::<[u16; LANES]>().read_unaligned() }.map(from_f16))
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: as for `load`.
        let halves = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Self(halves.map(|half| f32::from_bits(u32::from(half) << 16)))
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: as for `load`.
        Self(unsafe { p.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: `p` is writable for `LANES` numbers; the write needs no alignment.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: `i < n`.
            unsafe { *p.add(i) = *lane };
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| mul_add(self.0[i], a.0[i], b.0[i])))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| mul_add(-self.0[i], a.0[i], b.0[i])))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        self.map(|x| 1.0 / x)
    }

    #[inline(always)]
    fn to_bf16(self) -> Self {
        self.map(|x| {
            let bits = x.to_bits();
            let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
            f32::from_bits(if x.is_nan() { bits } else { nearest })
        })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no bits for a fraction.
        self.map(|x| (x + 12_582_912.0) - 12_582_912.0)
    }

    #[inline(always)]
    fn exp2_integral(self) -> Self {
        self.map(|x| f32::from_bits(((x as i32).wrapping_add(127) << 23) as u32))
    }

    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        [0.0; LANES]
    }

    #[inline(always)]
    fn add_squares(self, sums: Self::Wide) -> Self::Wide {
        std::array::from_fn(|i| sums[i] + f64::from(self.0[i]) * f64::from(self.0[i]))
    }

    #[inline(always)]
    fn sum_wide(sums: Self::Wide) -> f64 {
        (sums[0] + sums[2]) + (sums[1] + sums[3])
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let pair = |a: f32, b: f32| if a > b { a } else { b };
        pair(pair(self.0[0], self.0[2]), pair(self.0[1], self.0[3]))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        for i in 0..LANES {
            for j in 0..LANES {
                // SAFETY: both blocks are valid for `LANES` rows of `LANES` numbers.
                unsafe { *to.add(j * to_row + i) = *from.add(i * from_row + j) };
            }
        }
    }
}
