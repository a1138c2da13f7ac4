//! The single door through which a kernel is entered.
//!
//! A kernel is a struct that holds its arguments and implements [`Kernel`]; its `run` is generic over the vector
//! type and marked `#[inline(always)]`. `Isa::run` is the only place that picks the vector type: it calls one of
//! three thin functions that carry `#[target_feature]`, into which the whole kernel is inlined. Work is therefore
//! handed to the thread pool first and dispatched inside each chunk, never the other way round (a closure passed
//! *through* a kernel would lose the target features).

use crate::isa::Isa;
#[cfg(target_arch = "aarch64")]
use crate::simd::F32x4;
#[cfg(target_arch = "x86_64")]
use crate::simd::{F32x8, F32x16, Pairs};
use crate::simd::{Operands, Plain, Portable, Simd};

/// The arguments of a kernel and its body.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// The body; every implementation must be `#[inline(always)]`, or it is compiled without the vector features.
    ///
    /// # Safety
    /// The instruction set of `V` must be available; the pointers among the arguments must be valid for the
    /// ranges that the implementing type states.
    unsafe fn run<V: Simd>(self) -> Self::Output;
}

/// A kernel that reads or writes the operands of products, generic over how they lie in memory.
pub(crate) trait OperandKernel {
    /// What it returns.
    type Output;

    /// The body; every implementation must be `#[inline(always)]`, as for [`Kernel`].
    ///
    /// # Safety
    /// As for [`Kernel::run`].
    unsafe fn run<O: Operands>(self) -> Self::Output;
}

/// A kernel on operands that are kept in f32, rounded to bfloat16 before where `ROUNDED`.
struct OnPlain<K, const ROUNDED: bool>(K);

impl<K: OperandKernel, const ROUNDED: bool> Kernel for OnPlain<K, ROUNDED> {
    type Output = K::Output;

    #[inline(always)]
    unsafe fn run<V: Simd>(self) -> K::Output {
        // SAFETY: passed on.
        unsafe { self.0.run::<Plain<V, ROUNDED>>() }
    }
}

impl Isa {
    /// Runs a kernel on operands in f32.
    ///
    /// # Safety
    /// As for [`Isa::run`].
    pub(crate) unsafe fn run_single<K: OperandKernel>(self, kernel: K) -> K::Output {
        // SAFETY: passed on.
        unsafe { self.run(OnPlain::<_, false>(kernel)) }
    }

    /// Runs a kernel on operands that are rounded to bfloat16 and kept in f32.
    ///
    /// # Safety
    /// As for [`Isa::run`].
    pub(crate) unsafe fn run_rounded<K: OperandKernel>(self, kernel: K) -> K::Output {
        // SAFETY: passed on.
        unsafe { self.run(OnPlain::<_, true>(kernel)) }
    }

    /// Runs a kernel on pairs of bfloat16; on another processor than those of [`Isa::has_pairs`] it panics.
    ///
    /// # Safety
    /// The kernel's own contract must hold.
    pub(crate) unsafe fn run_pairs<K: OperandKernel>(self, kernel: K) -> K::Output {
        assert!(self.has_pairs(), "{self:?} has no instructions for bfloat16");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instructions are there; the rest is the caller's.
        return unsafe { run_pairs(kernel) };
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("checked above")
    }

    /// Runs a kernel on this instruction set.
    ///
    /// # Safety
    /// `self` must be available on this machine (values from [`Isa::current`] are), and the kernel's own contract
    /// must hold.
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the caller vouches for the instruction set and for the kernel's contract.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => run_avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => run_avx2(kernel),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => run_neon(kernel),
                _ => kernel.run::<Portable>(),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { kernel.run::<F32x16>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn run_pairs<K: OperandKernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<Pairs>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<F32x8>() }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<F32x4>() }
}
