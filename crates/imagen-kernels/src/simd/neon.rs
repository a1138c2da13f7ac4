//! The AArch64 vector: NEON with 4 lanes, and registers enough for a dozen rows of a matrix product.

use super::Simd;
use crate::isa::Isa;
use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

/// Lanes of a vector.
const LANES: usize = 4;

/// Four lanes; exists only where NEON is available.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(float32x4_t);

macro_rules! operators {
    ($($op:ident $f:ident $intrinsic:ident),*) => { $(
        impl $op for F32x4 {
            type Output = Self;
            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                // SAFETY: a value of this type exists only where the instruction set is available.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )* };
}
operators!(Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);

impl Simd for F32x4 {
    const ISA: Isa = Isa::Neon;
    const LANES: usize = LANES;
    type Wide = [float64x2_t; 2];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        Self(unsafe { vdupq_n_f32(x) })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for the instruction set and for `p`; the load needs no alignment.
        Self(unsafe { vld1q_f32(p) })
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n`.
            *lane = unsafe { *p.add(i) };
        }
        // SAFETY: four numbers on the stack.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: as for `load`; so below.
        Self(unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))) })
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: see `load_f16`.
        Self(unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(p)))) })
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see `load_f16`; four bytes are read.
        Self(unsafe {
            let bytes = vcreate_s8(u64::from(p.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { vst1q_f32(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0; LANES];
        // SAFETY: four numbers on the stack.
        unsafe { self.store(lanes.as_mut_ptr()) };
        for (i, lane) in lanes.iter().enumerate().take(n) {
            // SAFETY: `i < n`.
            unsafe { *p.add(i) = *lane };
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: a value of this type exists only where the instruction set is available; so below.
        Self(unsafe { vfmaq_f32(b.0, self.0, a.0) })
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { vfmsq_f32(b.0, self.0, a.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // A comparison with what is not a number is false; the minimum instruction would return it.
        // SAFETY: see `mul_add`.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { vsqrtq_f32(self.0) })
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        // The estimate has 8 bits: two steps of Newton's method would cost as much.
        self.all(1.0) / self
    }

    #[inline(always)]
    fn to_bf16(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
            let nearest = vreinterpretq_f32_u32(vandq_u32(up, vdupq_n_u32(0xFFFF_0000)));
            vbslq_f32(vceqq_f32(self.0, self.0), nearest, self.0)
        })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { vrndnq_f32(self.0) })
    }

    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(self.0), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }

    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        // SAFETY: the caller vouches for the instruction set.
        [unsafe { vdupq_n_f64(0.0) }; 2]
    }

    #[inline(always)]
    fn add_squares(self, [low, high]: Self::Wide) -> Self::Wide {
        // SAFETY: see `mul_add`.
        unsafe {
            let (x, y) = (vcvt_f64_f32(vget_low_f32(self.0)), vcvt_high_f64_f32(self.0));
            [vfmaq_f64(low, x, x), vfmaq_f64(high, y, y)]
        }
    }

    #[inline(always)]
    fn sum_wide([low, high]: Self::Wide) -> f64 {
        // SAFETY: wide vectors come from `wide_zero`, so the instruction set is available.
        unsafe { vaddvq_f64(vaddq_f64(low, high)) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe { vaddvq_f32(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe { vmaxvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller vouches for the instruction set and for both blocks.
        unsafe {
            let (r0, r1) = (vld1q_f32(from), vld1q_f32(from.add(from_row)));
            let (r2, r3) = (vld1q_f32(from.add(2 * from_row)), vld1q_f32(from.add(3 * from_row)));
            // Pairs of numbers, then pairs of pairs.
            let wide = |x: float32x4_t| vreinterpretq_f64_f32(x);
            let (even, odd) = (wide(vtrn1q_f32(r0, r1)), wide(vtrn2q_f32(r0, r1)));
            let (even_below, odd_below) = (wide(vtrn1q_f32(r2, r3)), wide(vtrn2q_f32(r2, r3)));
            let columns = [
                vtrn1q_f64(even, even_below),
                vtrn1q_f64(odd, odd_below),
                vtrn2q_f64(even, even_below),
                vtrn2q_f64(odd, odd_below),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                vst1q_f32(to.add(i * to_row), vreinterpretq_f32_f64(column));
            }
        }
    }
}
