//! How exact the products of networks are.

use imagen_kernels::precision::Precision as OfKernels;

use crate::names::named;

/// How exact the products of a network are: those of convolutions and of linear layers, on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Numbers of 32 bits.
    #[default]
    F32,
    /// What is multiplied is rounded to bfloat16, for processors that multiply it faster (AVX512-BF16): inputs, weights and
    /// gradients of convolutions and linear layers. Sums, norms, attention and losses are in f32, and so are the weights that
    /// are learned, their moments and averages.
    Bf16,
}

named!(Precision, "precision", F32 = "f32", Bf16 = "bf16");

impl Precision {
    /// The precision of this thread's operations: f32 outside of [`Precision::during`].
    pub(crate) fn current() -> Self {
        match OfKernels::current() {
            OfKernels::F32 => Self::F32,
            OfKernels::Bf16 => Self::Bf16,
        }
    }

    /// Runs `f` with the operations of this thread in this precision; what they record for the backward pass keeps it.
    pub fn during<R>(self, f: impl FnOnce() -> R) -> R {
        self.of_kernels().during(f)
    }

    /// Whether it is the one of everything that does not say.
    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Whether this machine gains anything by it: whether the processor has instructions for it.
    pub fn is_native(self) -> bool {
        self.of_kernels().is_native()
    }

    /// Bytes that transformed weights take which take so many in f32.
    pub(crate) fn transformed_bytes(self, in_f32: u64) -> u64 {
        match self {
            Self::Bf16 if self.is_native() => in_f32.div_ceil(2),
            _ => in_f32,
        }
    }

    fn of_kernels(self) -> OfKernels {
        match self {
            Self::F32 => OfKernels::F32,
            Self::Bf16 => OfKernels::Bf16,
        }
    }
}
