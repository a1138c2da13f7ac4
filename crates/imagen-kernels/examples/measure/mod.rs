//! Timing beside the ceiling: each sample between two runs of nothing but multiply-adds.

use imagen_kernels::isa::Isa;
use imagen_kernels::peak::multiply_adds;
use imagen_kernels::threads;
use std::hint::black_box;

use crate::clock::{clock_seconds, cpu_seconds};

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
        let operations = || self.isa.force(|| multiply_adds(threads(), 40_000));
        let work = operations();
        let mut multiply = || _ = black_box(operations());
        let (mut times, mut possible) = (Vec::new(), Vec::new());
        f();
        let start = now();
        while times.len() < 5 || now() - start < seconds {
            let before = timed(&mut multiply);
            let time = timed(f);
            let after = timed(&mut multiply);
            times.push(time);
            possible.push(work / (before + after) * time);
        }
        times.sort_by(f64::total_cmp);
        possible.sort_by(f64::total_cmp);
        Times { median: times[times.len() / 2], least: times[0], ceiling: possible[possible.len() / 2] }
    }
}
