//! The x86-64 vectors: AVX-512F with 16 lanes, AVX2 + FMA + F16C with 8.

use super::Simd;
use crate::isa::Isa;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

/// Sixteen lanes; exists only where AVX-512F is available.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(pub(super) __m512);

/// Eight lanes; exists only where AVX2, FMA and F16C are available.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);

macro_rules! operators {
    ($vector:ident: $($op:ident $f:ident $intrinsic:ident),*) => { $(
        impl $op for $vector {
            type Output = Self;
            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                // SAFETY: a value of this type exists only where the instruction set is available.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )* };
}
operators!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operators!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);

/// The methods that are one intrinsic each.
macro_rules! one_to_one {
    ($splat:ident $load:ident $store:ident $fma:ident $fnma:ident $min:ident $max:ident $sqrt:ident) => {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller vouches for the instruction set.
            Self(unsafe { $splat(x) })
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller vouches for the instruction set and for `p`; the load needs no alignment.
            Self(unsafe { $load(p) })
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as for `load`.
            unsafe { $store(p, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: a value of this type exists only where the instruction set is available; so below.
            Self(unsafe { $fma(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn neg_mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: see `mul_add`.
            Self(unsafe { $fnma(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see `mul_add`.
            Self(unsafe { $min(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: see `mul_add`.
            Self(unsafe { $max(self.0, other.0) })
        }

        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: see `mul_add`.
            Self(unsafe { $sqrt(self.0) })
        }
    };
}

impl Simd for F32x16 {
    const ISA: Isa = Isa::Avx512;
    const LANES: usize = 16;
    type Wide = [__m512d; 2];

    one_to_one!(_mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_fmadd_ps _mm512_fnmadd_ps _mm512_min_ps
        _mm512_max_ps _mm512_sqrt_ps);

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: masked lanes are not touched; the rest is the caller's.
        Self(unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) })
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: as for `load`; so below.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: see `load_f16`.
        Self(unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see `load_f16`.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) })
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: masked lanes are not touched; the rest is the caller's.
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, self.0) }
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        // An estimate of 14 bits, then one step of Newton's method.
        // SAFETY: see `mul_add`.
        let estimate = Self(unsafe { _mm512_rcp14_ps(self.0) });
        estimate * self.neg_mul_add(estimate, self.all(2.0))
    }

    #[inline(always)]
    fn to_bf16(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
            let nearest = _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x1_0000)));
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0), nearest, self.0)
        })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }

    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        // SAFETY: the caller vouches for the instruction set.
        [unsafe { _mm512_setzero_pd() }; 2]
    }

    #[inline(always)]
    fn add_squares(self, [low, high]: Self::Wide) -> Self::Wide {
        // SAFETY: see `mul_add`.
        unsafe {
            let upper =
                _mm512_castpd_ps(_mm512_shuffle_f64x2::<0xEE>(_mm512_castps_pd(self.0), _mm512_castps_pd(self.0)));
            let x = _mm512_cvtps_pd(_mm512_castps512_ps256(self.0));
            let y = _mm512_cvtps_pd(_mm512_castps512_ps256(upper));
            [_mm512_fmadd_pd(x, x, low), _mm512_fmadd_pd(y, y, high)]
        }
    }

    #[inline(always)]
    fn sum_wide([low, high]: Self::Wide) -> f64 {
        // SAFETY: wide vectors come from `wide_zero`, so the instruction set is available.
        unsafe { _mm512_reduce_add_pd(_mm512_add_pd(low, high)) }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // Four quarters of 8 x 8.
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: AVX-512F implies AVX2, and the quarters lie inside the caller's blocks.
            unsafe { F32x8::transpose(from.add(i * from_row + j), from_row, to.add(j * to_row + i), to_row) };
        }
    }
}

impl Simd for F32x8 {
    const ISA: Isa = Isa::Avx2;
    const LANES: usize = 8;
    type Wide = [__m256d; 2];

    one_to_one!(_mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_fmadd_ps _mm256_fnmadd_ps _mm256_min_ps
        _mm256_max_ps _mm256_sqrt_ps);

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: masked lanes are not touched; the rest is the caller's.
        Self(unsafe { _mm256_maskload_ps(p, first_lanes(n)) })
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: as for `load`; so below.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: see `load_f16`.
        Self(unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: see `load_f16`.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) })
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: masked lanes are not touched; the rest is the caller's.
        unsafe { _mm256_maskstore_ps(p, first_lanes(n), self.0) }
    }

    #[inline(always)]
    fn reciprocal(self) -> Self {
        // An estimate of 12 bits, then one step of Newton's method.
        // SAFETY: see `mul_add`.
        let estimate = Self(unsafe { _mm256_rcp_ps(self.0) });
        estimate * self.neg_mul_add(estimate, self.all(2.0))
    }

    #[inline(always)]
    fn to_bf16(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
            let nearest = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(-0x1_0000)));
            _mm256_blendv_ps(nearest, self.0, _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0))
        })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: see `mul_add`.
        Self(unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }

    #[inline(always)]
    unsafe fn wide_zero() -> Self::Wide {
        // SAFETY: the caller vouches for the instruction set.
        [unsafe { _mm256_setzero_pd() }; 2]
    }

    #[inline(always)]
    fn add_squares(self, [low, high]: Self::Wide) -> Self::Wide {
        // SAFETY: see `mul_add`.
        unsafe {
            let x = _mm256_cvtps_pd(_mm256_castps256_ps128(self.0));
            let y = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self.0));
            [_mm256_fmadd_pd(x, x, low), _mm256_fmadd_pd(y, y, high)]
        }
    }

    #[inline(always)]
    fn sum_wide([low, high]: Self::Wide) -> f64 {
        // SAFETY: wide vectors come from `wide_zero`, so the instruction set is available.
        unsafe {
            let four = _mm256_add_pd(low, high);
            let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see `mul_add`.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller vouches for the instruction set and for both blocks.
        unsafe {
            let zero = _mm256_setzero_ps();
            let mut r = [zero; 8];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(i * from_row));
            }
            // Pairs, then fours, then halves.
            let mut p = [zero; 8];
            for i in 0..4 {
                p[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                p[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut f = [zero; 8];
            for b in [0, 4] {
                f[b] = _mm256_shuffle_ps::<0x44>(p[b], p[b + 2]);
                f[b + 1] = _mm256_shuffle_ps::<0xEE>(p[b], p[b + 2]);
                f[b + 2] = _mm256_shuffle_ps::<0x44>(p[b + 1], p[b + 3]);
                f[b + 3] = _mm256_shuffle_ps::<0xEE>(p[b + 1], p[b + 3]);
            }
            for i in 0..4 {
                _mm256_storeu_ps(to.add(i * to_row), _mm256_permute2f128_ps::<0x20>(f[i], f[i + 4]));
                _mm256_storeu_ps(to.add((i + 4) * to_row), _mm256_permute2f128_ps::<0x31>(f[i], f[i + 4]));
            }
        }
    }
}

/// The mask whose first `n <= 8` lanes are set.
///
/// # Safety
/// AVX2 must be available.
#[inline(always)]
unsafe fn first_lanes(n: usize) -> __m256i {
    // SAFETY: the caller vouches for AVX2.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}
