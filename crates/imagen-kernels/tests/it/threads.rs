//! What resumed training rests on: results do not depend, not even in the last bit, on the number of threads, nor on
//! what else runs at the same time.

use crate::support::{Random, blank, on_every_isa};
use imagen_kernels::adafactor::{Adafactor, SecondMoment};
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::Conv3x3;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{Activation, GroupNorm, LayerNorm, RmsNorm};
use imagen_kernels::precision::Precision;
use imagen_kernels::quantile::abs_quantiles;
use imagen_kernels::stored::{StoredLinear, Weights};
use imagen_kernels::{optimizer, set_threads};

/// The results of every kernel whose work is cut into pieces that are added up.
fn everything() -> Vec<Vec<f32>> {
    let mut random = Random::new(51);
    let mut results = Vec::new();
    let of = |n, h, w, c, k, stride| Conv3x3 { n, h, w, c, k, stride };
    for conv in [
        of(3, 20, 20, 32, 48, 1),
        of(2, 9, 7, 192, 136, 1),
        of(3, 16, 16, 32, 24, 2),
        of(2, 16, 16, 3, 32, 1),
        of(2, 16, 16, 32, 3, 1),
    ] {
        let x = random.numbers(conv.n * conv.h * conv.w * conv.c);
        let gy = random.numbers(conv.n * conv.out_h() * conv.out_w() * conv.k);
        let w = random.numbers(9 * conv.c * conv.k);
        let (mut y, mut gx) = (blank(gy.len()), blank(x.len()));
        let (mut gw, mut gb) = (blank(w.len()), blank(conv.k));
        conv.forward(&x, &w, None, None, 1.0, &mut y);
        conv.grad_input(&gy, &w, &mut gx);
        conv.grad_weight(&x, &gy, &mut gw, Some(&mut gb));
        results.extend([y, gx, gw, gb]);
    }
    let linear = Linear { rows: 3000, c: 40, k: 70 };
    let (x, gy) = (random.numbers(3000 * 40), random.numbers(3000 * 70));
    let (mut gw, mut gb) = (blank(40 * 70), blank(70));
    linear.grad_weight(&x, &gy, &mut gw, Some(&mut gb));
    results.extend([gw, gb]);
    for n in [2, 3] {
        let norm = GroupNorm { n, hw: 700, c: 24, groups: 4, eps: 1e-5, activation: Activation::Silu };
        let (x, gamma, beta) = (random.numbers(n * 700 * 24), random.numbers(24), random.numbers(24));
        let (mut y, mut dx, mut ggamma, mut gbeta) = (blank(x.len()), random.numbers(x.len()), blank(24), blank(24));
        let stats = norm.forward(&x, &gamma, &beta, None, &mut y);
        norm.backward(&stats, &x, &gamma, &beta, None, &mut dx, &mut ggamma, &mut gbeta, None);
        results.extend([y, dx, ggamma, gbeta]);
    }
    let norm = LayerNorm { rows: 500, c: 40, eps: 1e-5 };
    let (x, gamma, mut dx) = (random.numbers(500 * 40), random.numbers(40), random.numbers(500 * 40));
    let (mut ggamma, mut gbeta) = (blank(40), blank(40));
    norm.backward(&x, &gamma, &mut dx, &mut ggamma, &mut gbeta);
    results.extend([dx, ggamma, gbeta]);
    let norm = RmsNorm { rows: 500, c: 40, eps: 1e-6 };
    let mut y = blank(500 * 40);
    norm.forward(&x, &gamma, &mut y);
    results.push(y);
    for rows in [2, 9, 700] {
        let halves: Vec<u16> = (0..300 * 200).map(|_| random.pick(0, 0x3C00) as u16).collect();
        let layer = StoredLinear::new(300, 200, Weights::Bf16(&halves));
        let mut y = blank(rows * 200);
        layer.forward(rows, &random.numbers(rows * 300), None, None, 1.0, &mut y);
        results.push(y);
    }
    let mut quantiles = [0.0; 2];
    abs_quantiles(&random.numbers(200_000), 0.995, &mut quantiles);
    results.push(quantiles.map(|q| q as f32).to_vec());
    let a = Attention { b: 1, heads: 2, tq: 700, tk: 90, d: 16 };
    let (q, kv, go) = (random.numbers(700 * 32), random.numbers(90 * 64), random.numbers(700 * 32));
    let (mut o, mut gq, mut gkv) = (blank(q.len()), blank(q.len()), blank(kv.len()));
    let mut log_sums = blank(2 * 700);
    a.forward_saving(&q, &kv, None, &mut o, &mut log_sums);
    a.backward([&q, &kv], None, [&o, &log_sums], &go, &mut gq, &mut gkv);
    results.extend([o, log_sums, gq, gkv]);
    let (mut w, g) = (random.numbers(300 * 200), random.numbers(300 * 200));
    let (mut row, mut column) = (vec![0.0; 300], vec![0.0; 200]);
    let second = SecondMoment::Factored { rows: 300, columns: 200, row: &mut row, column: &mut column };
    ADAFACTOR.step(&mut w, &g, second, None);
    results.extend([w, row, column]);
    let sum = optimizer::sum_of_squares(&random.numbers(100_000));
    results.push(vec![sum as f32, (sum - f64::from(sum as f32)) as f32]);
    results
}

const ADAFACTOR: Adafactor =
    Adafactor { lr: 0.1, beta1: 0.0, beta2: 0.0, clip: 1.0, weight_decay: 0.0, relative: true, scale: 1.0 };

#[test]
fn results_do_not_depend_on_threads_or_on_company() {
    for precision in [Precision::F32, Precision::Bf16] {
        on_every_isa(|isa| {
            let everything = || precision.during(everything);
            set_threads(1);
            let alone = everything();
            for threads in [2, 5] {
                set_threads(threads);
                assert!(everything() == alone, "{threads} threads on {isa:?} in {precision:?}");
            }
            let together: Vec<_> = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..3).map(|_| scope.spawn(move || isa.force(everything))).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect()
            });
            set_threads(0);
            assert!(
                together.iter().all(|results| *results == alone),
                "several callers at once on {isa:?}, {precision:?}"
            );
        });
    }
}
