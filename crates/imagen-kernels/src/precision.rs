//! How exact the operands of products are: as they come, or rounded to bfloat16.

use crate::isa::Isa;
use crate::kernel::OperandKernel;
use std::cell::Cell;

/// How exact the operands of a product are. Sums, and whatever is not a product, are in f32 either way.
///
/// In [`Precision::Bf16`] convolutions, linear layers and their gradients round what they multiply to bfloat16, eight bits of
/// a number: inputs, weights and gradients, in Winograd's algorithm their transforms. Products of few rows, and convolutions
/// to few channels, which take little time or are bound by memory, stay in f32. A processor without instructions for bfloat16 rounds alike,
/// multiplies in f32 and gains nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they come.
    #[default]
    F32,
    /// Rounded to the nearest bfloat16, to the even one of two.
    Bf16,
}

thread_local! {
    static CHOSEN: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// The precision of calls from this thread: f32 outside of [`Precision::during`].
    pub fn current() -> Self {
        CHOSEN.get()
    }

    /// Runs `f` with all kernel calls of this thread in this precision.
    pub fn during<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Precision);
        impl Drop for Restore {
            fn drop(&mut self) {
                CHOSEN.set(self.0);
            }
        }
        let _restore = Restore(CHOSEN.replace(self));
        f()
    }

    /// Whether this machine has instructions for it.
    pub fn is_native(self) -> bool {
        self == Self::F32 || Isa::current().has_pairs()
    }
}

/// An instruction set and a precision: what a call's products are made with, and what the layout of their operands depends on.
///
/// Operands are in units of 32 bits: a number in f32, or the numbers of two neighbouring depths in bfloat16. Without
/// instructions for the latter a rounded number takes a whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arithmetic {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
}

impl From<Isa> for Arithmetic {
    fn from(isa: Isa) -> Self {
        Self { isa, precision: Precision::F32 }
    }
}

impl Arithmetic {
    /// Of calls from this thread.
    pub(crate) fn current() -> Self {
        Self { isa: Isa::current(), precision: Precision::current() }
    }

    /// Depths of one unit.
    pub(crate) fn step(self) -> usize {
        if self.precision == Precision::Bf16 && self.isa.has_pairs() { 2 } else { 1 }
    }

    /// Units of so many depths.
    pub(crate) fn depth(self, numbers: usize) -> usize {
        numbers.div_ceil(self.step())
    }

    /// Lanes of one vector.
    pub(crate) fn lanes(self) -> usize {
        self.isa.lanes()
    }

    /// Columns of one packed panel.
    pub(crate) fn panel(self) -> usize {
        self.isa.panel()
    }

    /// Runs a kernel that reads or writes operands.
    ///
    /// # Safety
    /// The instruction set must be available, and the kernel's own contract must hold.
    pub(crate) unsafe fn run<K: OperandKernel>(self, kernel: K) -> K::Output {
        // SAFETY: passed on.
        unsafe {
            match self.precision {
                Precision::F32 => self.isa.run_single(kernel),
                Precision::Bf16 if self.step() == 1 => self.isa.run_rounded(kernel),
                Precision::Bf16 => self.isa.run_pairs(kernel),
            }
        }
    }

    /// Runs a kernel that multiplies operands and makes none: rounded or not, those of one depth are multiplied alike.
    ///
    /// # Safety
    /// As for [`Arithmetic::run`].
    pub(crate) unsafe fn multiply<K: OperandKernel>(self, kernel: K) -> K::Output {
        // SAFETY: passed on.
        unsafe { if self.step() == 1 { self.isa.run_single(kernel) } else { self.isa.run_pairs(kernel) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_ends_with_its_closure() {
        assert_eq!(Precision::current(), Precision::F32);
        assert_eq!(Precision::Bf16.during(Precision::current), Precision::Bf16);
        assert_eq!(Precision::current(), Precision::F32);
    }
}
