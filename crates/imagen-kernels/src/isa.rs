//! Instruction sets: which ones this machine has, and which one a call uses.
//!
//! Every public function asks [`Isa::current`] once and passes the answer down, because packed operands have a
//! layout that depends on it.

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

    /// Whether there are instructions for pairs of bfloat16 beside it on this processor.
    pub(crate) fn has_pairs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Isa::Avx512
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        #[cfg(not(target_arch = "x86_64"))]
        false
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
