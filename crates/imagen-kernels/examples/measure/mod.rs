//! What the examples share: clocks, numbers to compute with, and the loop whose rate is the ceiling of everything that
//! multiplies.

use imagen_kernels::isa::Isa;
use imagen_kernels::{for_each, threads};
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

/// How times are taken.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// Count the process's time on a core instead of the clock's.
    pub(crate) cpu: bool,
    /// The instruction set whose ceiling counts.
    pub(crate) isa: Isa,
}

/// Times of one call, in seconds.
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) least: f64,
    /// Median of the multiply-adds that the machine could have done meanwhile.
    pub(crate) ceiling: f64,
}

impl Clock {
    /// Times `f` for about `seconds`, and sets each sample against the ceiling of its own moment: other users of the
    /// machine come and go.
    pub(crate) fn time(&self, seconds: f64, f: &mut dyn FnMut()) -> Times {
        let now = if self.cpu { cpu_seconds } else { clock_seconds };
        let timed = |f: &mut dyn FnMut()| {
            let start = now();
            f();
            now() - start
        };
        let rounds = 20_000;
        let work = (threads() * rounds * 24 * lanes(self.isa)) as f64;
        let multiply = || {
            for_each(threads(), |_| {
                black_box(multiply_add(self.isa, rounds));
            });
        };
        let (mut times, mut possible) = (Vec::new(), Vec::new());
        f();
        let start = now();
        while times.len() < 5 || now() - start < seconds {
            let before = timed(&mut { multiply });
            let time = timed(f);
            let after = timed(&mut { multiply });
            times.push(time);
            possible.push(2.0 * work / (before + after) * time);
        }
        times.sort_by(f64::total_cmp);
        possible.sort_by(f64::total_cmp);
        Times { median: times[times.len() / 2], least: times[0], ceiling: possible[possible.len() / 2] }
    }
}

/// Seconds since the first call.
fn clock_seconds() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Seconds that this process has spent on cores.
#[cfg(unix)]
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
use clock_seconds as cpu_seconds;

/// Numbers in -1..1, the same every time.
pub(crate) fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Lanes of one vector.
pub(crate) fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Neon | Isa::Portable => 4,
    }
}

/// `rounds` times 24 multiply-adds of whole vectors, in 12 independent chains.
pub(crate) fn multiply_add(isa: Isa, rounds: usize) -> f32 {
    let start = black_box([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]);
    match isa {
        // SAFETY: the instruction set was forced, so it is available.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::avx512(rounds, start) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::avx2(rounds, start) },
        _ => {
            let a = black_box(0.999);
            let mut sums = start.map(|x| [x; 4]);
            for _ in 0..2 * rounds {
                for sum in &mut sums {
                    sum.iter_mut().for_each(|x| *x = *x * a + 0.001);
                }
            }
            sums.iter().flatten().sum()
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(rounds: usize, start: [f32; 12]) -> f32 {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(0.001));
        let mut sums = start.map(|x| _mm512_set1_ps(x));
        for _ in 0..2 * rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(rounds: usize, start: [f32; 12]) -> f32 {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(0.001));
        let mut sums = start.map(|x| _mm256_set1_ps(x));
        for _ in 0..2 * rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(b, |total, sum| _mm256_add_ps(total, sum));
        _mm_cvtss_f32(_mm256_castps256_ps128(total))
    }
}
