//! The vector type that kernels are generic over: a handful of operations on a fixed number of `f32` lanes.
//!
//! A value of a vector type can only come from the unsafe constructors (`splat`, `load*`), whose contract is that
//! the instruction set is available; so holding a value proves it, and arithmetic on values is safe. Functions of
//! several lanes (exp, erf) are in `math`.

#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operands;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use bf16::Pairs;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::F32x4;
pub(crate) use operands::{Operands, Plain};
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{F32x8, F32x16};

use crate::isa::Isa;
use std::ops::{Add, Div, Mul, Sub};

/// A vector of [`Simd::LANES`] `f32`.
pub(crate) trait Simd:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The instruction set that it belongs to.
    const ISA: Isa;
    /// Number of lanes.
    const LANES: usize;
    /// As many `f64` lanes.
    type Wide: Copy;

    /// `x` in every lane.
    ///
    /// # Safety
    /// The instruction set must be available.
    unsafe fn splat(x: f32) -> Self;

    /// Reads `LANES` numbers.
    ///
    /// # Safety
    /// The instruction set must be available and `p` valid for reading `LANES` numbers.
    unsafe fn load(p: *const f32) -> Self;

    /// Reads `n <= LANES` numbers; the other lanes are zero.
    ///
    /// # Safety
    /// The instruction set must be available and `p` valid for reading `n` numbers.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;

    /// Reads `LANES` numbers of half precision (IEEE binary16).
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_f16(p: *const u16) -> Self;

    /// Reads `LANES` numbers of bfloat16.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_bf16(p: *const u16) -> Self;

    /// Reads `LANES` integers.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load_i8(p: *const i8) -> Self;

    /// Writes all lanes.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` numbers.
    unsafe fn store(self, p: *mut f32);

    /// Writes the first `n <= LANES` lanes.
    ///
    /// # Safety
    /// `p` must be valid for writing `n` numbers.
    unsafe fn store_first(self, p: *mut f32, n: usize);

    /// `x` in every lane; `self` is the proof that the instruction set is there.
    #[inline(always)]
    fn all(self, x: f32) -> Self {
        // SAFETY: a value of this type exists only where the instruction set is available.
        unsafe { Self::splat(x) }
    }

    /// `self * a + b`, fused where the target can.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// `b - self * a`, fused where the target can.
    fn neg_mul_add(self, a: Self, b: Self) -> Self;

    /// The smaller of each pair; `other` where either is not a number.
    fn min(self, other: Self) -> Self;

    /// The larger of each pair; `other` where either is not a number.
    fn max(self, other: Self) -> Self;

    /// Square roots.
    fn sqrt(self) -> Self;

    /// 1 / x within two units in the last place, for 1 <= x <= 1e38; cheaper than a division.
    fn reciprocal(self) -> Self;

    /// The nearest numbers of bfloat16, the even one of two; what is not a number stays so.
    fn to_bf16(self) -> Self;

    /// Nearest integers; for magnitudes below 2^22.
    fn round(self) -> Self;

    /// 2 to the power of integral lanes in -126..=127, and 0 for -127.
    fn exp2_integral(self) -> Self;

    /// Zero in every lane of the wide vector.
    ///
    /// # Safety
    /// The instruction set must be available.
    unsafe fn wide_zero() -> Self::Wide;

    /// `sums + self * self`; the squares are exact, the sums rounded to `f64`.
    fn add_squares(self, sums: Self::Wide) -> Self::Wide;

    /// Sum of the wide lanes.
    fn sum_wide(sums: Self::Wide) -> f64;

    /// Sum of the lanes.
    fn sum(self) -> f32;

    /// Largest lane.
    fn largest(self) -> f32;

    /// Transposes a block of `LANES` x `LANES` numbers from rows `from_row` apart to rows `to_row` apart.
    ///
    /// # Safety
    /// The instruction set must be available, `LANES` rows must be readable at `from` and writable at `to`.
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize);

    /// Reads a whole vector if `n >= LANES`, else the first `n`: in a loop whose bulk passes the constant `LANES`,
    /// the choice vanishes at compile time.
    ///
    /// # Safety
    /// As [`Simd::load_first`] with `min(n, LANES)`.
    #[inline(always)]
    unsafe fn load_up_to(p: *const f32, n: usize) -> Self {
        // SAFETY: passed on.
        unsafe { if n >= Self::LANES { Self::load(p) } else { Self::load_first(p, n) } }
    }

    /// Writes the whole vector if `n >= LANES`, else the first `n` lanes.
    ///
    /// # Safety
    /// As [`Simd::store_first`] with `min(n, LANES)`.
    #[inline(always)]
    unsafe fn store_up_to(self, p: *mut f32, n: usize) {
        // SAFETY: passed on.
        unsafe { if n >= Self::LANES { self.store(p) } else { self.store_first(p, n) } }
    }
}

/// Asks for the cache line at `p`, which will be written soon; any address will do.
///
/// A store that misses the first-level cache holds up those behind it, so scattered ones are asked for in advance.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults; SSE belongs to every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// As [`prefetch`], of memory that will be written.
#[inline(always)]
pub(crate) fn prefetch_write(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults; processors without it do nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    /// The lanes of a vector that begins with a number, rounded.
    struct Rounded(f32);

    impl Kernel for Rounded {
        type Output = f32;

        #[inline(always)]
        unsafe fn run<V: Simd>(self) -> f32 {
            let mut lanes = [0.0; 16];
            // SAFETY: room for the lanes of any vector.
            unsafe { V::splat(self.0).to_bf16().store(lanes.as_mut_ptr()) };
            lanes[0]
        }
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_the_even() {
        for isa in Isa::available() {
            // SAFETY: the instruction set is available.
            let rounded = |x: f32| unsafe { isa.run(Rounded(x)) };
            for exact in [0.0, -0.0, 1.0, -3.5, 2f32.powi(-126), f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(rounded(exact).to_bits(), exact.to_bits(), "{isa:?}");
            }
            // half way between 1 and its successor, and between that and the next
            assert_eq!(rounded(1.0 + 1.0 / 256.0), 1.0, "{isa:?}");
            assert_eq!(rounded(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0, "{isa:?}");
            assert_eq!(rounded(1.0 + 1.01 / 256.0), 1.0 + 2.0 / 256.0, "{isa:?}");
            assert_eq!(rounded(f32::MAX), f32::INFINITY, "{isa:?}");
            for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7F80_0001), f32::from_bits(u32::MAX)] {
                assert!(rounded(nan).is_nan(), "{isa:?}");
            }
        }
    }
}
