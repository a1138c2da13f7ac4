//! The algorithms of a convolution with prepared weights beside each other, on maps from 4x4 to 64x64: where
//! `conv::Conv3x3::prepare` should go from one to the next.
//!
//! `cargo run --release -p imagen-kernels --example algorithms`

use std::time::Instant;

use imagen_kernels::conv::{Algorithm, Conv3x3};

fn main() {
    const ALGORITHMS: [Algorithm; 3] = [Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4];
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
            let mut times: Vec<f64> = (0..ROUNDS.max(copies))
                .map(|i| {
                    let start = Instant::now();
                    conv.forward_prepared(&x, &prepared[i % copies], None, None, 1.0, &mut y);
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        println!("{:>20} {:>10.2} {:>10.2} {:>10.2}", format!("{n}, {side}, {c}"), medians[0], medians[1], medians[2]);
    }
}

const ROUNDS: usize = 15;
const MEGABYTES: usize = 128;
