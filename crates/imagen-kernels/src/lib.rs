//! Fast CPU kernels for channels-last diffusion networks, forward and backward, over plain `f32` slices.
//!
//! | module | holds |
//! |---|---|
//! | [`conv`] | 3x3 convolutions: Winograd F(4x4) and F(2x2), implicit products for stride 2 and few channels |
//! | [`norm`] | group normalization fused with FiLM and SiLU; layer normalization |
//! | [`attention`] | scaled dot-product attention with a key mask, no T x T buffer kept |
//! | [`linear`] | `x w + b`, which is also the 1x1 convolution |
//! | [`resample`], [`elementwise`], [`optimizer`] | the memory-bound rest |
//! | [`isa`] | which instruction set a call uses (found at run time) |
//! | [`peak`] | the machine's ceiling, to rate kernels by |
//!
//! Layouts are channels-last: activations `[n, h, w, c]`, convolution weights `[3, 3, c, k]` (height, width, in,
//! out), linear weights `[c, k]`. Outputs are overwritten, never added to, unless a function says so. Every function
//! checks the lengths of its slices and panics with a message that names the one that is wrong; the unsafe code
//! behind is not reachable with wrong lengths. Shapes may be empty.
//!
//! Results do not depend on the number of threads: work is cut by shape alone, and partial sums are added in a
//! fixed order. They do depend, within rounding, on the instruction set.
//!
//! This crate knows no tensors, no shapes beyond its arguments, no gradients graph and no randomness.

mod gemm;
mod math;
mod pool;
mod rows;
mod scratch;
mod simd;

pub mod attention;
pub mod conv;
pub mod elementwise;
pub mod isa;
pub mod linear;
pub mod norm;
pub mod optimizer;
pub mod peak;
pub mod resample;

pub use pool::{for_each, set_threads, threads};

/// Panics unless a slice has the expected length.
#[track_caller]
fn expect_len(name: &str, slice: &[f32], expected: usize) {
    assert!(slice.len() == expected, "{name} has {} numbers, its shape needs {expected}", slice.len());
}
