//! Fast CPU kernels for channels-last diffusion networks, forward and backward, over plain `f32` slices.
//!
//! | module | holds |
//! |---|---|
//! | [`conv`] | 3x3 convolutions: Winograd F(4x4) and F(2x2), implicit products for stride 2 and few channels |
//! | [`norm`] | group normalization fused with FiLM and SiLU; layer and root-mean-square normalization |
//! | [`attention`] | scaled dot-product attention with a key mask, no T x T buffer kept |
//! | [`biased_attention`] | the same with a bias for every query and key, for T5 |
//! | [`linear`] | `x w + b`, which is also the 1x1 convolution |
//! | [`stored`] | the same with weights in f16, bf16 or int8, for inference |
//! | [`resample`], [`elementwise`], [`optimizer`], [`adafactor`], [`quantile`] | the memory-bound rest |
//! | [`mapped`] | files as memory, here because it needs `unsafe` |
//! | [`isa`] | which instruction set a call uses (found at run time) |
//! | [`precision`] | whether products multiply f32 or bfloat16 |
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
mod kernel;
mod math;
mod pool;
mod rows;
mod scratch;
mod simd;

pub mod adafactor;
pub mod attention;
pub mod biased_attention;
pub mod conv;
pub mod elementwise;
pub mod isa;
pub mod linear;
pub mod mapped;
pub mod norm;
pub mod optimizer;
pub mod peak;
pub mod precision;
pub mod quantile;
pub mod resample;
pub mod stored;

pub use pool::{for_each, set_threads, threads};

/// Panics unless a slice has the expected length.
#[track_caller]
fn expect_len(name: &str, slice: &[f32], expected: usize) {
    expect_count(name, slice.len(), expected);
}

/// Panics unless there are as many numbers as expected.
#[track_caller]
fn expect_count(name: &str, count: usize, expected: usize) {
    assert!(count == expected, "{name} has {count} numbers, its shape needs {expected}");
}
