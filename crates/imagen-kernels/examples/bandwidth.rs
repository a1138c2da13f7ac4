//! What the kernels that are bound by memory reach of the machine's bandwidth:
//! `cargo run --release -p imagen-kernels --example bandwidth`.
//!
//! Each line gives the bytes that a call must move (memory that is written is read first, line by line), its median
//! time, and its rate as a share of a ceiling measured right before and after each call: reading (`r`) or updating in
//! place (`u`, which reads and writes) of memory far larger than the caches.
//!
//! Arguments: words to look for in a line's name (none = all); `threads=N`; `cpu` to count the process's time on a
//! core instead of the clock's (with `threads=1`, on a machine that others use too).

mod clock;

use imagen_kernels::linear::Linear;
use imagen_kernels::norm::RmsNorm;
use imagen_kernels::optimizer::{Adam, ema, sum_of_squares};
use imagen_kernels::quantile::abs_quantiles;
use imagen_kernels::resample::Bilinear;
use imagen_kernels::stored::{StoredLinear, Weights, quantize_rows};
use imagen_kernels::{elementwise, for_each, set_threads, threads};
use std::hint::black_box;
use std::sync::Mutex;

use clock::{clock_seconds, cpu_seconds, numbers};

fn main() {
    let mut words = Vec::new();
    let mut now: fn() -> f64 = clock_seconds;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("threads", n)) => set_threads(n.parse().expect("threads=N")),
            _ if argument == "cpu" => now = cpu_seconds,
            _ => words.push(argument),
        }
    }
    println!("{:?}, {} threads", imagen_kernels::isa::Isa::current(), threads());
    let bench = Bench { words, now, big: Mutex::new(vec![1; 16 << 20]) };
    bench.optimizer();
    bench.elementwise();
    bench.stored();
    bench.pictures();
}

struct Bench {
    words: Vec<String>,
    now: fn() -> f64,
    /// 128 MB to measure the ceilings on.
    big: Mutex<Vec<u64>>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// Seconds that moving `bytes` takes at the ceiling.
    fn ceiling(&self, kind: char, bytes: f64) -> f64 {
        const PART: usize = 1 << 16;
        let mut big = self.big.lock().unwrap();
        let len = big.len();
        let moved = 8.0 * len as f64 * if kind == 'u' { 2.0 } else { 1.0 };
        let parts: Vec<Mutex<&mut [u64]>> = big.chunks_mut(PART).map(Mutex::new).collect();
        let start = (self.now)();
        for_each(parts.len(), |i| {
            let mut part = parts[i].lock().unwrap();
            if kind == 'u' {
                part.iter_mut().for_each(|x| *x = x.wrapping_add(3));
            } else {
                black_box(part.iter().fold(0, |sum: u64, x| sum.wrapping_add(*x)));
            }
        });
        ((self.now)() - start) * bytes / moved
    }

    /// Times `f`, which moves `bytes`.
    fn line(&self, name: &str, kind: char, bytes: usize, mut f: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let bytes = bytes as f64;
        let (mut times, mut shares) = (Vec::new(), Vec::new());
        f();
        let start = (self.now)();
        while times.len() < 7 || (self.now)() - start < 0.7 {
            let before = self.ceiling(kind, bytes);
            let called = (self.now)();
            f();
            let time = (self.now)() - called;
            let after = self.ceiling(kind, bytes);
            times.push(time);
            shares.push((before + after) / 2.0 / time);
        }
        times.sort_by(f64::total_cmp);
        shares.sort_by(f64::total_cmp);
        let (time, share) = (times[times.len() / 2], shares[shares.len() / 2]);
        println!(
            "{name:40} {:9.3} ms  {:7.1} MB  {:6.1} GB/s  {share:5.2} {kind}",
            time * 1e3,
            bytes / 1e6,
            bytes / time / 1e9
        );
    }

    fn optimizer(&self) {
        let n = 8_750_000;
        let (mut w, g, mut m, mut v) = (numbers(n), numbers(n), numbers(n), vec![1.0; n]);
        let mut average = w.clone();
        let adam = Adam {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.01,
            step: 10,
            scale: 0.5,
            average_decay: 0.999,
        };
        self.line("ema 8.75 M", 'u', 12 * n, || ema(&mut average, &w, 0.999));
        self.line("adam with average 8.75 M", 'u', 36 * n, || {
            adam.step(&mut w, &g, &mut m, &mut v, &mut average);
        });
        self.line("sum of squares 8.75 M", 'r', 4 * n, || {
            black_box(sum_of_squares(&g));
        });
    }

    fn elementwise(&self) {
        let n = 8 << 20;
        let (a, b) = (numbers(n), numbers(n));
        let mut y = a.clone();
        self.line("gelu 8 M", 'u', 12 * n, || elementwise::gelu(&a, &mut y));
        self.line("gated_gelu_tanh 8 M", 'u', 16 * n, || elementwise::gated_gelu_tanh(&a, &b, &mut y));
        self.line("gelu_backward 8 M", 'u', 12 * n, || elementwise::gelu_backward(&a, &mut y));
        let norm = RmsNorm { rows: 2048, c: 4096, eps: 1e-6 };
        let gamma = numbers(4096);
        self.line("rms norm 2048 x 4096", 'u', 12 * n, || norm.forward(&a, &gamma, &mut y));
    }

    fn stored(&self) {
        let (c, k) = (4096, 10240);
        if !["f16", "bf16", "int8", "f32"].iter().any(|w| self.wants(&format!("linear {w}"))) {
            return;
        }
        // Any bits below infinity will do.
        let halves: Vec<u16> = numbers(c * k).iter().map(|w| (w.to_bits() >> 16) as u16 & 0xB3FF).collect();
        let (integers, scales) = quantize_rows(&numbers(c * k), k, c);
        let layers = [
            ("f16", 2, StoredLinear::from_rows(c, k, Weights::F16(&halves))),
            ("bf16", 2, StoredLinear::from_rows(c, k, Weights::Bf16(&halves))),
            ("int8", 1, StoredLinear::from_rows(c, k, Weights::Int8 { integers: &integers, scales: &scales })),
        ];
        for rows in [1, 2, 4, 6, 7, 12, 16, 77] {
            let (x, mut y) = (numbers(rows * c), numbers(rows * k));
            for (name, bytes, layer) in &layers {
                self.line(&format!("linear {name} {c} x {k}, {rows} rows"), 'r', bytes * c * k, || {
                    layer.forward(rows, &x, None, None, 1.0, &mut y);
                });
            }
            // The multiply-adds alone: the same number of them with weights that stay in cache.
            let small = Linear { rows: rows * 16, c: 256, k: 256 };
            let (x, w, mut y) = (numbers(rows * 16 * 256), numbers(256 * 256), numbers(rows * 16 * 256));
            self.line(&format!("linear f32 in cache, {rows} rows, 1/40"), 'r', 4 * c * k / 40, || {
                small.forward(&x, &w, None, None, 1.0, &mut y);
            });
        }
    }

    fn pictures(&self) {
        for (n, side) in [(1, 1024), (8, 256)] {
            let x = numbers(n * side * side * 3);
            let mut quantiles = vec![0.0; n];
            self.line(&format!("abs quantile {n} x {side} x {side} x 3"), 'r', 4 * x.len(), || {
                abs_quantiles(&x, 0.995, &mut quantiles);
            });
        }
        for (n, h, c, factor) in [(8, 64, 3, 4), (8, 64, 64, 2), (2, 256, 3, 4)] {
            let resize = Bilinear { n, h, w: h, out_h: factor * h, out_w: factor * h, c, align_corners: false };
            let x = numbers(n * h * h * c);
            let mut y = numbers(x.len() * factor * factor);
            let mut gx = x.clone();
            let bytes = 4 * (x.len() + 2 * y.len());
            self.line(&format!("bilinear {n} x {h} x {h} x {c}, x{factor}"), 'u', bytes, || resize.forward(&x, &mut y));
            self.line(
                &format!("bilinear {n} x {h} x {h} x {c}, x{factor} backward"),
                'r',
                4 * (y.len() + 2 * x.len()),
                || {
                    resize.backward(&y, &mut gx);
                },
            );
        }
    }
}
