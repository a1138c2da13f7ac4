//! The algorithms of a convolution beside each other: where `conv::Conv3x3` should go from one to the next.
//!
//! `cargo run --release -p imagen-kernels --example algorithms`: prepared weights, on maps from 4x4 to 64x64.
//! `… algorithms training`: what a training step does, in f32 and in bfloat16: weights made ready, forward, and the gradient of
//! the weights, in milliseconds of a core, by one thread.

mod clock;

use clock::{clock_seconds, cpu_seconds, numbers};
use imagen_kernels::conv::{Algorithm, Conv3x3};
use imagen_kernels::precision::Precision;
use imagen_kernels::set_threads;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4];

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => prepared(),
        Some("training") => training(),
        Some(other) => panic!("{other:?} is not known: expected nothing, or training"),
    }
}

fn prepared() {
    println!("milliseconds, median of {ROUNDS}; all weights of a kind are {MEGABYTES} MB, read in turn");
    println!("{:>20} {:>10} {:>10} {:>10}", "pictures, side, c", "direct", "F(2x2)", "F(4x4)");
    for (n, side, c) in
        [1, 2].into_iter().flat_map(|n| [4, 8, 16, 32].map(|side| (n, side, 512))).chain([(2, 16, 1024)])
    {
        let conv = Conv3x3 { n, h: side, w: side, c, k: c, stride: 1 };
        let (x, mut y) = (vec![0.5; n * side * side * c], vec![0.0; n * side * side * c]);
        let w = vec![0.01; 9 * c * c];
        // as in a network, other weights have passed through the caches before these come again
        let copies = (MEGABYTES << 20).div_ceil(36 * c * c).max(2);
        let medians = ALGORITHMS.map(|algorithm| {
            let prepared: Vec<_> = (0..copies).map(|_| conv.prepare_as(algorithm, &w)).collect();
            let times = (0..ROUNDS.max(copies)).map(|i| {
                let start = clock_seconds();
                conv.forward_prepared(&x, &prepared[i % copies], None, None, 1.0, &mut y);
                (clock_seconds() - start) * 1e3
            });
            median(times.collect())
        });
        println!("{:>20} {:>10.2} {:>10.2} {:>10.2}", format!("{n}, {side}, {c}"), medians[0], medians[1], medians[2]);
    }
}

fn training() {
    set_threads(1);
    println!("| pictures, side, channels | precision | {} |", ALGORITHMS.map(|a| format!("{a:?}")).join(" | "));
    println!("|---|---|---|---|---|");
    for (n, side, c, k) in [
        (32, 4, 352, 352),
        (32, 8, 160, 160),
        (32, 8, 320, 160),
        (16, 16, 64, 64),
        (16, 16, 128, 64),
        (8, 32, 24, 24),
        (8, 32, 48, 24),
        (16, 8, 256, 256),
        (16, 16, 128, 128),
        (8, 32, 48, 48),
    ] {
        let conv = Conv3x3 { n, h: side, w: side, c, k, stride: 1 };
        let (x, gy, w) = (numbers(n * side * side * c), numbers(n * side * side * k), numbers(9 * c * k));
        let (mut y, mut gw, mut gb) = (gy.clone(), w.clone(), vec![0.0; k]);
        let others = numbers(OTHERS);
        for precision in [Precision::F32, Precision::Bf16] {
            let cells = ALGORITHMS.map(|algorithm| {
                let mut times = [(); 3].map(|()| Vec::new());
                for _ in 0..ROUNDS {
                    // what else a step reads passes through the caches
                    std::hint::black_box(others.iter().sum::<f32>());
                    precision.during(|| {
                        let begun = cpu_seconds();
                        let prepared = conv.prepare_as(algorithm, &w);
                        let ready = cpu_seconds();
                        conv.forward_prepared(&x, &prepared, None, None, 1.0, &mut y);
                        let there = cpu_seconds();
                        conv.grad_weight_as(algorithm, &x, &gy, &mut gw, Some(&mut gb));
                        let back = cpu_seconds();
                        let parts = [ready - begun, there - ready, back - there];
                        times.iter_mut().zip(parts).for_each(|(times, part)| times.push(part * 1e3));
                    });
                }
                let [ready, there, back] = times.map(median);
                format!("{ready:.2} + {there:.2}, {back:.2}")
            });
            println!("| {n} × {side}², {c} to {k} | {precision:?} | {} |", cells.join(" | "));
        }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

const ROUNDS: usize = 15;
const MEGABYTES: usize = 128;
/// Numbers that fill the caches.
const OTHERS: usize = 8 << 20;
