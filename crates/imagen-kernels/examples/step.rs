//! Where the time of a training step goes: `cargo run --release -p imagen-kernels --example step`.
//!
//! Walks the Efficient U-Nets of the built-in model at the batch sizes of their recipes, counts every operation that a
//! training step calls, measures each forward and backward, and prints one table: milliseconds of one call, calls a step,
//! share of the step, rate, and rate as a multiple of the machine's multiply-adds. Convolutions are rated by the
//! multiplications of the definition; operations that hardly multiply have no rate.
//!
//! Arguments: `base`, `sr256` or `world32`, the base of the default model's first 32 pixels (none = all); `threads=N`;
//! `batch=N`; `bf16` multiplies rounded operands; `forward` leaves out the backward passes; `cpu` counts the process's time on a core (with `threads=1`, on a machine that others use too).

mod clock;
mod measure;

use clock::numbers;
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::Conv3x3;
use imagen_kernels::isa::Isa;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{Activation, GroupNorm};
use imagen_kernels::precision::Precision;
use imagen_kernels::{elementwise, optimizer, set_threads, threads};
use measure::{Clock, Times};

/// Tokens of a caption in training.
const TOKENS: usize = 16;

fn main() {
    let (mut names, mut cpu, mut backward, mut batch, mut precision) = (Vec::new(), false, true, None, Precision::F32);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("threads", n)) => set_threads(n.parse().expect("threads=N")),
            Some(("batch", n)) => batch = Some(n.parse().expect("batch=N")),
            _ if argument == "cpu" => cpu = true,
            _ if argument == "forward" => backward = false,
            _ if argument == "bf16" => precision = Precision::Bf16,
            _ => names.push(argument),
        }
    }
    let clock = Clock { cpu, isa: Isa::current() };
    let level = |channels, blocks, picture, text| Level { channels, blocks, picture, text };
    let base = Net {
        batch: 16,
        side: 64,
        input: 3,
        channels: 24,
        embedding: 256,
        text: 256,
        groups: 8,
        levels: vec![level(48, 1, false, false), level(128, 2, true, true), level(256, 2, true, true)],
    };
    let sr256 = Net {
        batch: 8,
        side: 128,
        input: 6,
        channels: 16,
        embedding: 192,
        text: 192,
        groups: 16,
        levels: vec![
            level(32, 1, false, false),
            level(64, 2, false, false),
            level(96, 2, false, false),
            level(128, 2, false, true),
        ],
    };
    let world32 = Net {
        batch: 32,
        side: 32,
        input: 3,
        channels: 24,
        embedding: 256,
        text: 256,
        groups: 8,
        levels: vec![level(64, 1, false, false), level(160, 2, false, true), level(352, 3, true, true)],
    };
    for (name, mut net) in [("base", base), ("sr256", sr256), ("world32", world32)] {
        if names.is_empty() || names.iter().any(|n| n == name) {
            net.batch = batch.unwrap_or(net.batch);
            println!("\n{name}, batch {}, {:?}, {precision:?}, {} threads", net.batch, clock.isa, threads());
            precision.during(|| net.operations().print(clock, backward));
        }
    }
}

/// An Efficient U-Net with four heads.
struct Net {
    batch: usize,
    side: usize,
    input: usize,
    channels: usize,
    embedding: usize,
    text: usize,
    groups: usize,
    levels: Vec<Level>,
}

/// One resolution; whether it has attention to the picture, to the text, or to both at once.
struct Level {
    channels: usize,
    blocks: usize,
    picture: bool,
    text: bool,
}

/// An operation and whether the gradient of its input is wanted.
#[derive(Clone, Copy)]
enum Operation {
    Conv(Conv3x3, bool),
    Linear(Linear),
    Norm(GroupNorm, bool),
    Attention(Attention),
    Concat(usize, usize, usize),
    Adam(usize),
}

/// Operations and how often a step calls each.
#[derive(Default)]
struct Operations {
    calls: Vec<(Operation, usize)>,
    parameters: usize,
}

impl Net {
    fn operations(&self) -> Operations {
        let mut list = Operations::default();
        let (n, mut side, mut width) = (self.batch, self.side, self.channels);
        list.conv(n, side, self.input, width, 1, false);
        list.linear(n, width, self.embedding);
        list.linear(n, self.embedding, self.embedding);
        for level in &self.levels {
            list.conv(n, side, width, level.channels, 2, true);
            (side, width) = (side / 2, level.channels);
            (0..level.blocks).for_each(|_| self.block(&mut list, side, width, width));
            self.attention(&mut list, side, level);
        }
        for (i, level) in self.levels.iter().enumerate().rev() {
            for block in 0..level.blocks {
                let joined = block == 0 && i + 1 < self.levels.len();
                if joined {
                    list.add(Operation::Concat(n * side * side, width, level.channels));
                    width += level.channels;
                }
                self.block(&mut list, side, width, level.channels);
                width = level.channels;
            }
            self.attention(&mut list, side, level);
            let finer = if i == 0 { self.channels } else { self.levels[i - 1].channels };
            list.linear(n * side * side, width, 4 * finer);
            (side, width) = (2 * side, finer);
        }
        list.linear(n * side * side, width, 3);
        list.add(Operation::Adam(list.parameters));
        list
    }

    fn norm(&self, list: &mut Operations, side: usize, c: usize, film: bool, silu: bool) {
        let activation = if silu { Activation::Silu } else { Activation::None };
        let norm = GroupNorm { n: self.batch, hw: side * side, c, groups: self.groups, eps: 1e-5, activation };
        list.add(Operation::Norm(norm, film));
    }

    fn block(&self, list: &mut Operations, side: usize, from: usize, to: usize) {
        self.norm(list, side, from, false, true);
        list.conv(self.batch, side, from, to, 1, true);
        list.linear(self.batch, self.embedding, 2 * to);
        self.norm(list, side, to, true, true);
        list.conv(self.batch, side, to, to, 1, true);
        if from != to {
            list.linear(self.batch * side * side, from, to);
        }
    }

    fn attention(&self, list: &mut Operations, side: usize, level: &Level) {
        let (c, rows) = (level.channels, self.batch * side * side);
        if !level.picture && !level.text {
            return;
        }
        self.norm(list, side, c, false, false);
        list.linear(rows, c, c);
        let mut tk = 0;
        if level.picture {
            list.linear(rows, c, 2 * c);
            tk += side * side;
        }
        if level.text {
            list.linear(self.batch * TOKENS, self.text, 2 * c);
            tk += TOKENS;
        }
        list.add(Operation::Attention(Attention { b: self.batch, heads: 4, tq: side * side, tk, d: c / 4 }));
        list.linear(rows, c, c);
    }
}

impl Operations {
    fn add(&mut self, operation: Operation) {
        let name = operation.name();
        match self.calls.iter_mut().find(|(o, _)| o.name() == name) {
            Some((_, count)) => *count += 1,
            None => self.calls.push((operation, 1)),
        }
    }

    fn conv(&mut self, n: usize, side: usize, c: usize, k: usize, stride: usize, inner: bool) {
        self.parameters += 9 * c * k + k;
        self.add(Operation::Conv(Conv3x3 { n, h: side, w: side, c, k, stride }, inner));
    }

    fn linear(&mut self, rows: usize, c: usize, k: usize) {
        self.parameters += c * k + k;
        self.add(Operation::Linear(Linear { rows, c, k }));
    }

    fn print(&self, clock: Clock, backward: bool) {
        let mut lines: Vec<(String, usize, f64, Times)> = Vec::new();
        for (operation, count) in &self.calls {
            operation.measure(backward, &mut |pass, work, f| {
                lines.push((format!("{} {pass}", operation.name()), *count, work, clock.time(0.2, f)));
            });
        }
        let total: f64 = lines.iter().map(|(_, count, _, times)| *count as f64 * times.median).sum();
        let possible: f64 = lines.iter().map(|(_, count, _, times)| *count as f64 * times.ceiling).sum();
        println!("| operation | ms | least | calls | share of the step | GFLOP/s | of the multiply-adds |");
        println!("|---|---|---|---|---|---|---|");
        for (name, count, work, times) in &lines {
            let (ms, least) = (times.median * 1e3, times.least * 1e3);
            let share = 100.0 * *count as f64 * times.ceiling / possible;
            print!("| {name} | {ms:.3} | {least:.3} | {count} | {share:.1} % |");
            if *work > 0.0 {
                println!(" {:.0} | {:.2} |", work / times.median / 1e9, work / 2.0 / times.ceiling)
            } else {
                println!(" | |")
            }
        }
        println!(
            "| all, {:.1} M parameters | {:.1} | | | | | {:.1} G multiply-adds would fit |",
            self.parameters as f64 / 1e6,
            total * 1e3,
            possible / 1e9
        );
    }
}

/// Told a pass's name, its floating-point operations (0 = not its measure) and a call of it.
type Sink<'a> = dyn FnMut(&str, f64, &mut dyn FnMut()) + 'a;

impl Operation {
    fn name(&self) -> String {
        match *self {
            Self::Conv(Conv3x3 { h, c, k, stride, .. }, _) => format!("conv {c}>{k} @{h} /{stride}"),
            Self::Linear(Linear { rows, c, k }) => format!("linear {rows} {c}>{k}"),
            Self::Norm(GroupNorm { hw, c, activation, .. }, film) => {
                let silu = activation == Activation::Silu;
                format!("norm{}{} {hw} {c}", if film { "+film" } else { "" }, if silu { "+silu" } else { "" })
            }
            Self::Attention(Attention { heads, tq, tk, d, .. }) => format!("attention {heads} {tq}x{tk} {d}"),
            Self::Concat(rows, a, b) => format!("concat {rows} {a}+{b}"),
            Self::Adam(_) => "adam".into(),
        }
    }

    fn measure(&self, backward: bool, sink: &mut Sink<'_>) {
        match *self {
            Self::Conv(conv, inner) => {
                let Conv3x3 { n, h, w, c, k, .. } = conv;
                let (inputs, outputs) = (n * h * w * c, n * conv.out_h() * conv.out_w() * k);
                let work = 18.0 * (outputs * c) as f64;
                let (x, weights, bias) = (numbers(inputs), numbers(9 * c * k), numbers(k));
                let mut y = numbers(outputs);
                sink("forward", work, &mut || conv.forward(&x, &weights, Some(&bias), None, 1.0, &mut y));
                if backward {
                    let (mut gx, mut gw, mut gb) = (numbers(inputs), numbers(9 * c * k), numbers(k));
                    if inner {
                        sink("grad_input", work, &mut || conv.grad_input(&y, &weights, &mut gx));
                    }
                    sink("grad_weight", work, &mut || conv.grad_weight(&x, &y, &mut gw, Some(&mut gb)));
                }
            }
            Self::Linear(linear) => {
                let Linear { rows, c, k } = linear;
                let (x, w, bias) = (numbers(rows * c), numbers(c * k), numbers(k));
                let mut y = numbers(rows * k);
                let work = 2.0 * (rows * c * k) as f64;
                sink("forward", work, &mut || linear.forward(&x, &w, Some(&bias), None, 1.0, &mut y));
                if backward {
                    let (mut gx, mut gw, mut gb) = (numbers(rows * c), numbers(c * k), numbers(k));
                    sink("grad_input", work, &mut || linear.grad_input(&y, &w, &mut gx));
                    sink("grad_weight", work, &mut || linear.grad_weight(&x, &y, &mut gw, Some(&mut gb)));
                }
            }
            Self::Norm(norm, film) => {
                let GroupNorm { n, hw, c, .. } = norm;
                let (x, gamma, beta) = (numbers(n * hw * c), numbers(c), numbers(c));
                let film = film.then(|| numbers(2 * n * c));
                let mut y = numbers(n * hw * c);
                let stats = norm.forward(&x, &gamma, &beta, film.as_deref(), &mut y);
                sink("forward", 0.0, &mut || {
                    norm.forward(&x, &gamma, &beta, film.as_deref(), &mut y);
                });
                if backward {
                    let (mut ggamma, mut gbeta, mut gfilm) = (numbers(c), numbers(c), film.clone());
                    sink("backward", 0.0, &mut || {
                        let (film, gfilm) = (film.as_deref(), gfilm.as_deref_mut());
                        norm.backward(&stats, &x, &gamma, &beta, film, &mut y, &mut ggamma, &mut gbeta, gfilm);
                    });
                }
            }
            Self::Attention(a) => {
                let Attention { b, heads, tq, tk, d } = a;
                let (q, kv, mask) = (numbers(b * tq * heads * d), numbers(2 * b * tk * heads * d), vec![1.0; b * tk]);
                let (mut o, mut log_sums) = (q.clone(), vec![0.0; b * heads * tq]);
                let work = 4.0 * (b * heads * tq * tk * d) as f64;
                sink("forward", work, &mut || a.forward_saving(&q, &kv, Some(&mask), &mut o, &mut log_sums));
                if backward {
                    let (go, mut gq, mut gkv) = (q.clone(), q.clone(), kv.clone());
                    sink("backward", 2.5 * work, &mut || {
                        a.backward([&q, &kv], Some(&mask), [&o, &log_sums], &go, &mut gq, &mut gkv);
                    });
                }
            }
            Self::Concat(rows, a, b) => {
                let (mut left, mut right, mut y) = (numbers(rows * a), numbers(rows * b), numbers(rows * (a + b)));
                sink("forward", 0.0, &mut || elementwise::concat(&left, a, &right, b, &mut y));
                if backward {
                    sink("backward", 0.0, &mut || elementwise::split(&y, a, b, &mut left, &mut right));
                }
            }
            Self::Adam(count) if backward => {
                let (mut w, g, mut m, mut v) = (numbers(count), numbers(count), numbers(count), vec![1.0; count]);
                let mut average = w.clone();
                let adam = optimizer::Adam {
                    lr: 1e-4,
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-8,
                    weight_decay: 0.0,
                    step: 9,
                    scale: 1.0,
                    average_decay: 0.999,
                };
                sink("step", 0.0, &mut || adam.step(&mut w, &g, &mut m, &mut v, &mut average));
            }
            Self::Adam(_) => {}
        }
    }
}
