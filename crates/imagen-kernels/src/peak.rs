//! The machine's ceiling of arithmetic: independent fused multiply-adds on every thread, nothing read or written.
//!
//! A kernel's rate says something only beside it. Convolutions may exceed it, because Winograd's algorithm does with
//! fewer multiplications than the definition, by which they are rated.

use std::hint::black_box;
use std::time::Instant;

use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{for_each, threads};
use crate::simd::Simd;

/// Chains of dependent operations that run side by side: enough to hide their latency, few enough for 16 registers.
const CHAINS: usize = 12;
/// Operations of each chain: some milliseconds.
const LENGTH: usize = 2_000_000;

/// Floating-point operations a second of all [`threads`] together, a multiply-add counting as two; takes some
/// milliseconds. On a shared machine the largest of several calls is the ceiling.
pub fn multiply_add_rate() -> f64 {
    let start = Instant::now();
    multiply_adds(threads(), LENGTH) / start.elapsed().as_secs_f64()
}

/// Does nothing but multiply and add, in chains of `length` on each of `n` threads; how many floating-point operations
/// that were, a multiply-add counting as two.
pub fn multiply_adds(n: usize, length: usize) -> f64 {
    let isa = Isa::current();
    for_each(n, |_| {
        // SAFETY: `Isa::current` is available; the kernel reads and writes no memory of others.
        black_box(unsafe { isa.run(Chains { length }) });
    });
    (2 * n * isa.lanes() * CHAINS * length) as f64
}

struct Chains {
    length: usize,
}

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Simd>(self) -> f32 {
        // SAFETY: the caller vouches for the instruction set.
        let (a, b, mut chains) = unsafe { (V::splat(black_box(0.999)), V::splat(0.001), [V::splat(0.0); CHAINS]) };
        for (i, chain) in chains.iter_mut().enumerate() {
            *chain = a.all(black_box(i as f32));
        }
        for _ in 0..self.length {
            for chain in &mut chains {
                *chain = chain.mul_add(a, b);
            }
        }
        let mut total = b;
        for chain in chains {
            total = total + chain;
        }
        total.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_within_what_processors_can_do() {
        for isa in Isa::available() {
            let rate = isa.force(multiply_add_rate);
            assert!((1e7..1e15).contains(&rate), "{isa:?}: {rate:e} operations a second");
        }
    }
}
