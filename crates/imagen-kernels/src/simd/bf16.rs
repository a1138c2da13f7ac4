//! Pairs of bfloat16 by the instructions of AVX-512.

use super::operands::Operands;
use super::x86::F32x16;
use std::arch::x86_64::*;

/// Pairs of bfloat16, multiplied two depths at a time; exists only where AVX-512F, BW, VL and BF16 are available.
pub(crate) struct Pairs;

/// Lanes of two vectors of 16 halves in turn: the first of the one, the first of the other, the second of the one, ...
const IN_TURN: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    order
};

impl Operands for Pairs {
    type V = F32x16;
    type X = __m512bh;
    const STEP: usize = 2;
    const ROUNDED: bool = true;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512bh {
        // SAFETY: the caller vouches for the instruction set and for `p`; so below.
        unsafe { p.cast::<__m512bh>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> __m512bh {
        // SAFETY: see `load`; a vector of pairs is 512 bits in either type.
        unsafe { std::mem::transmute(_mm512_set1_epi32(p.cast::<i32>().read())) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512bh, b: __m512bh, sum: F32x16) -> F32x16 {
        // SAFETY: see `load`.
        F32x16(unsafe { _mm512_dpbf16_ps(sum.0, a, b) })
    }

    #[inline(always)]
    unsafe fn store_row(depths: F32x16, to: *mut f32) {
        // SAFETY: see `load`; sixteen halves are 256 bits in either type.
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(depths.0));
            _mm256_storeu_si256(to.cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn store_units(first: F32x16, second: F32x16, to: *mut f32) {
        // SAFETY: see `load`; thirty-two halves are 512 bits in either type.
        unsafe {
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second.0, first.0));
            let order = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, both));
        }
    }
}
