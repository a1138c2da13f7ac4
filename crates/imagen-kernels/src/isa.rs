//! Instruction sets: which ones this machine has, which one a call uses, and the single door through which a
//! kernel is entered.
//!
//! A kernel is a struct that holds its arguments and implements `Kernel`; its `run` is generic over the vector
//! type and marked `#[inline(always)]`. `Isa::run` is the only place that picks the vector type: it calls one of
//! three thin functions that carry `#[target_feature]`, into which the whole kernel is inlined. Work is therefore
//! handed to the thread pool first and dispatched inside each chunk, never the other way round (a closure passed
//! *through* a kernel would lose the target features).
//!
//! Every public function asks [`Isa::current`] once and passes the answer down, because packed operands have a
//! layout that depends on it.

#[cfg(target_arch = "aarch64")]
use crate::simd::F32x4;
#[cfg(target_arch = "x86_64")]
use crate::simd::{F32x8, F32x16};
use crate::simd::{Portable, Simd};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512F: 16 lanes, 32 registers.
    Avx512,
    /// AVX2 with FMA and F16C: 8 lanes, 16 registers.
    Avx2,
    /// NEON of AArch64: 4 lanes, 32 registers.
    Neon,
    /// No intrinsics: arrays of four that the compiler turns into whatever the target has.
    Portable,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// Every instruction set, fastest first.
    const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Every instruction set that this machine can run, fastest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.is_available(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Isa::Portable => true,
            _ => false,
        }
    }

    /// The instruction set that a call from this thread uses: the forced one, else the fastest available that the variable
    /// `IMAGEN_MAX_ISA` (`avx512`, `avx2`, `neon` or `portable`, read once) allows.
    pub fn current() -> Isa {
        static BEST: AtomicU8 = AtomicU8::new(0);
        if let Some(isa) = FORCED.get() {
            return isa;
        }
        match BEST.load(Ordering::Relaxed) {
            0 => {
                let most = std::env::var("IMAGEN_MAX_ISA").ok().and_then(|name| Isa::named(&name));
                let allowed = most.map_or(0, |most| most as usize);
                let best = Isa::ALL[allowed..].iter().copied().find(|isa| isa.is_available()).unwrap_or(Isa::Portable);
                BEST.store(best as u8 + 1, Ordering::Relaxed);
                best
            }
            known => Isa::ALL[usize::from(known) - 1],
        }
    }

    /// The instruction set of a name, as [`Isa::current`] reads it.
    fn named(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| format!("{isa:?}").eq_ignore_ascii_case(name))
    }

    /// Runs `f` with all kernel calls of this thread on `self`; for tests and measurements.
    ///
    /// # Panics
    /// If the machine lacks the instruction set.
    pub fn force<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        assert!(self.is_available(), "this machine has no {self:?}; Isa::available() lists what it has");
        let _restore = Restore(FORCED.replace(Some(self)));
        f()
    }

    /// Lanes of one vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Isa::Avx512 => 16,
            Isa::Avx2 => 8,
            Isa::Neon | Isa::Portable => 4,
        }
    }

    /// Columns of one packed panel of the right-hand operand of a matrix product: two vectors.
    pub(crate) fn panel(self) -> usize {
        2 * self.lanes()
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the features are enabled here; the rest is the caller's.
    unsafe { kernel.run::<F32x16>() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forcing_an_instruction_set_ends_with_the_closure() {
        let before = Isa::current();
        assert_eq!(Isa::Portable.force(Isa::current), Isa::Portable);
        assert_eq!(Isa::current(), before);
    }

    #[test]
    fn the_fastest_instruction_set_is_the_default() {
        let available = Isa::available();
        assert_eq!(Isa::current(), available[0]);
        assert_eq!(Isa::current(), available[0], "the cached answer differs");
        assert_eq!(available.last(), Some(&Isa::Portable));
        #[cfg(target_arch = "aarch64")]
        assert_eq!(available[0], Isa::Neon);
    }
}
