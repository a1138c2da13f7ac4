//! What this machine can do, and how much of it the kernels use: `cargo run --release -p imagen-kernels --example peak`.
//!
//! Prints the rate of a loop of independent fused multiply-adds (the ceiling of everything that multiplies) and of
//! reading memory (the ceiling of everything else), then each kernel's time (median and least of many), rate, and
//! rate as a multiple of the ceiling measured right before and after.
//! Convolutions are rated by the multiplications of the definition, so that Winograd may exceed the ceiling.
//!
//! Arguments: words to look for in a line's name (none = all); `threads=N`; `isa=avx512|avx2|neon|portable`; `cpu` to
//! count the process's time on a core instead of the clock's (with `threads=1`, on a machine that others use too).
//! Shapes are those of the small base model (64x64 to 8x8, 24 to 384 channels) and a few others.

mod clock;
mod measure;

use clock::numbers;
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::Conv3x3;
use imagen_kernels::isa::Isa;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{Activation, GroupNorm, LayerNorm};
use imagen_kernels::peak::multiply_adds;
use imagen_kernels::{elementwise, optimizer, resample, set_threads, threads};
use measure::{Clock, Times};
use std::hint::black_box;

fn main() {
    let mut words = Vec::new();
    let mut isa = Isa::current();
    let mut cpu = false;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("threads", n)) => set_threads(n.parse().expect("threads=N")),
            Some(("isa", "avx512")) => isa = Isa::Avx512,
            Some(("isa", "avx2")) => isa = Isa::Avx2,
            Some(("isa", "neon")) => isa = Isa::Neon,
            Some(("isa", "portable")) => isa = Isa::Portable,
            _ if argument == "cpu" => cpu = true,
            _ => words.push(argument),
        }
    }
    isa.force(|| {
        let bench = Bench { words, clock: Clock { cpu, isa } };
        println!("{isa:?}, {} threads", threads());
        bench.ceilings(isa);
        bench.convolutions();
        bench.products();
        bench.memory_bound();
    });
}

struct Bench {
    words: Vec<String>,
    clock: Clock,
}

impl Bench {
    /// Whether a line, or the lines whose names begin so, may have been asked for.
    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()) || word.contains(name))
    }

    /// Times `f` and prints its rate, given the work of one call (in `unit`s of 1e9).
    fn line(&self, name: &str, work: f64, unit: &str, mut f: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let Times { median, least, ceiling } = self.clock.time(0.5, &mut f);
        let ratio = work / 2.0 / ceiling;
        let ratio = if unit == "GF/s" { format!("{ratio:6.2} x ceiling") } else { String::new() };
        println!("{name:44} {:9.3} ms ({:9.3})  {:7.1} {unit} {ratio}", median * 1e3, least * 1e3, work / median / 1e9);
    }

    fn ceilings(&self, isa: Isa) {
        if !self.wants("ceiling") {
            return;
        }
        for n in [1, threads()] {
            let run = || isa.force(|| multiply_adds(n, 4_000_000));
            self.line(&format!("ceiling: multiply-add, {n} threads"), run(), "GF/s", || _ = black_box(run()));
        }
        let big = vec![1.0f32; 64 << 20];
        for megabytes in [1, 8, 256] {
            let part = &big[..megabytes << 18];
            self.line(
                &format!("ceiling: read {megabytes} MB again and again"),
                4.0 * part.len() as f64,
                "GB/s",
                || {
                    black_box(optimizer::sum_of_squares(part));
                },
            );
        }
    }

    fn convolutions(&self) {
        let shapes = [
            // n, h, c, k, stride
            (16, 32, 48, 48, 1),
            (16, 32, 96, 48, 1),
            (16, 16, 128, 128, 1),
            (16, 16, 256, 128, 1),
            (16, 8, 256, 256, 1),
            (16, 8, 512, 256, 1),
            (16, 64, 3, 24, 1),
            (16, 64, 24, 48, 2),
            (16, 32, 48, 128, 2),
            (16, 16, 128, 256, 2),
            (8, 64, 64, 64, 1),
            (8, 64, 128, 64, 1),
            (8, 32, 128, 128, 1),
            (8, 32, 256, 128, 1),
            (8, 16, 256, 256, 1),
            (8, 16, 512, 256, 1),
            (8, 8, 384, 384, 1),
            (8, 8, 768, 384, 1),
            (2, 64, 128, 128, 1),
            (2, 8, 1024, 1024, 1),
            (2, 256, 128, 128, 1),
            (8, 64, 3, 64, 1),
            (8, 64, 64, 3, 1),
            (8, 64, 64, 128, 2),
            (8, 16, 256, 384, 2),
        ];
        for (n, h, c, k, stride) in shapes {
            let conv = Conv3x3 { n, h, w: h, c, k, stride };
            let name = |what: &str| format!("conv {n}x{h}x{h} {c}>{k} /{stride} {what}");
            if !self.wants(&name("")) {
                continue;
            }
            let (inputs, outputs) = (n * h * h * c, n * conv.out_h() * conv.out_w() * k);
            let work = 18.0 * (outputs * c) as f64;
            let (x, w) = (numbers(inputs), numbers(9 * c * k));
            let (mut y, mut gx, mut gw) = (numbers(outputs), numbers(inputs), numbers(9 * c * k));
            let (bias, mut gb, gy) = (numbers(k), numbers(k), numbers(outputs));
            self.line(&name("forward"), work, "GF/s", || conv.forward(&x, &w, Some(&bias), None, 1.0, &mut y));
            let prepared = conv.prepare(&w);
            self.line(&name("prepared"), work, "GF/s", || {
                conv.forward_prepared(&x, &prepared, Some(&bias), None, 1.0, &mut y);
            });
            self.line(&name("grad_input"), work, "GF/s", || conv.grad_input(&gy, &w, &mut gx));
            self.line(&name("grad_weight"), work, "GF/s", || conv.grad_weight(&x, &gy, &mut gw, Some(&mut gb)));
        }
    }

    fn products(&self) {
        for (b, heads, tq, tk, d) in [
            (16, 4, 256, 288, 32),
            (16, 4, 64, 96, 64),
            (8, 4, 256, 256, 64),
            (8, 4, 256, 128, 64),
            (8, 6, 64, 64, 64),
            (2, 8, 1024, 1024, 64),
        ] {
            let a = Attention { b, heads, tq, tk, d };
            let (q, kv) = (numbers(b * tq * heads * d), numbers(2 * b * tk * heads * d));
            let (mut o, go, mut gq, mut gkv) = (q.clone(), q.clone(), q.clone(), kv.clone());
            let work = 4.0 * (b * heads * tq * tk * d) as f64;
            let name = |what: &str| format!("attention {b}x{heads} {tq}x{tk} {d} {what}");
            self.line(&name("forward"), work, "GF/s", || a.forward(&q, &kv, None, &mut o));
            let mut log_sums = vec![0.0; b * heads * tq];
            a.forward_saving(&q, &kv, None, &mut o, &mut log_sums);
            self.line(&name("backward"), 2.5 * work, "GF/s", || {
                a.backward([&q, &kv], None, [&o, &log_sums], &go, &mut gq, &mut gkv);
            });
        }
        for (rows, c, k) in [
            (16, 256, 512),
            (4096, 128, 256),
            (1024, 256, 512),
            (16384, 48, 96),
            (1024, 1024, 1024),
            (2048, 256, 768),
            (32768, 64, 128),
            (8, 256, 512),
            (1024, 768, 256),
        ] {
            let linear = Linear { rows, c, k };
            let (x, w, bias) = (numbers(rows * c), numbers(c * k), numbers(k));
            let (mut y, mut gx, mut gw) = (numbers(rows * k), numbers(rows * c), numbers(c * k));
            let gy = numbers(rows * k);
            let work = 2.0 * (rows * c * k) as f64;
            let name = |what: &str| format!("linear {rows} {c}>{k} {what}");
            self.line(&name("forward"), work, "GF/s", || linear.forward(&x, &w, Some(&bias), None, 1.0, &mut y));
            self.line(&name("grad_input"), work, "GF/s", || linear.grad_input(&gy, &w, &mut gx));
            self.line(&name("grad_weight"), work, "GF/s", || linear.grad_weight(&x, &gy, &mut gw, None));
        }
    }

    fn memory_bound(&self) {
        if !["group norm", "layer norm", "add", "gelu", "concat", "split", "pool", "adam", "ema"]
            .iter()
            .any(|w| self.wants(w))
        {
            return;
        }
        for (n, h, c) in [
            (16, 32, 48),
            (16, 16, 128),
            (16, 8, 256),
            (8, 64, 64),
            (8, 32, 128),
            (8, 16, 256),
            (8, 8, 384),
            (2, 256, 128),
        ] {
            let norm = GroupNorm { n, hw: h * h, c, groups: 8, eps: 1e-5, activation: Activation::Silu };
            let (x, gamma, beta, film) = (numbers(n * h * h * c), numbers(c), numbers(c), numbers(2 * n * c));
            let (mut y, mut ggamma, mut gbeta) = (x.clone(), gamma.clone(), beta.clone());
            let mut gfilm = film.clone();
            let bytes = 4.0 * x.len() as f64;
            let stats = norm.forward(&x, &gamma, &beta, Some(&film), &mut y);
            let name = |what: &str| format!("group norm {n}x{h}x{h} {c} {what}");
            self.line(&name("forward"), 3.0 * bytes, "GB/s", || {
                norm.forward(&x, &gamma, &beta, Some(&film), &mut y);
            });
            self.line(&name("backward"), 6.0 * bytes, "GB/s", || {
                let gfilm = Some(&mut gfilm[..]);
                norm.backward(&stats, &x, &gamma, &beta, Some(&film), &mut y, &mut ggamma, &mut gbeta, gfilm);
            });
        }
        let norm = LayerNorm { rows: 2048, c: 256, eps: 1e-5 };
        let (x, gamma, beta) = (numbers(norm.rows * norm.c), numbers(norm.c), numbers(norm.c));
        let (mut y, mut ggamma, mut gbeta) = (x.clone(), gamma.clone(), beta.clone());
        let bytes = 4.0 * x.len() as f64;
        self.line("layer norm 2048 256 forward", 2.0 * bytes, "GB/s", || norm.forward(&x, &gamma, &beta, &mut y));
        self.line("layer norm 2048 256 backward", 3.0 * bytes, "GB/s", || {
            norm.backward(&x, &gamma, &mut y, &mut ggamma, &mut gbeta);
        });
        let len = 2 << 20;
        let bytes = 4.0 * len as f64;
        let (a, b) = (numbers(len), numbers(len));
        let (mut y, mut z) = (a.clone(), b.clone());
        self.line("add 8 MB", 3.0 * bytes, "GB/s", || elementwise::add(&a, &b, 0.5, &mut y));
        self.line("gelu 8 MB", 2.0 * bytes, "GB/s", || elementwise::gelu(&a, &mut y));
        let mut joined = numbers(2 * len);
        self.line("concat 2 x 8 MB", 4.0 * bytes, "GB/s", || elementwise::concat(&a, 64, &b, 64, &mut joined));
        self.line("split 16 MB", 4.0 * bytes, "GB/s", || elementwise::split(&joined, 64, 64, &mut y, &mut z));
        let mut quarter = numbers(len / 4);
        self.line("upsample2 to 8 MB", 1.25 * bytes, "GB/s", || {
            resample::upsample2(&quarter, 8, 32, 32, 64, &mut y);
        });
        self.line("average_pool2 of 8 MB", 1.25 * bytes, "GB/s", || {
            resample::average_pool2(&y, 8, 64, 64, 64, &mut quarter);
        });
        let len = 8_750_000;
        let (mut w, g, mut m, mut v) = (numbers(len), numbers(len), numbers(len), vec![1.0; len]);
        let mut average = w.clone();
        let adam = optimizer::Adam {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 10,
            scale: 1.0,
            average_decay: 0.999,
        };
        self.line("adam 8.75 M", 36.0 * len as f64, "GB/s", || {
            adam.step(&mut w, &g, &mut m, &mut v, &mut average);
        });
        self.line("ema 8.75 M", 12.0 * len as f64, "GB/s", || optimizer::ema(&mut m, &g, 0.999));
    }
}
