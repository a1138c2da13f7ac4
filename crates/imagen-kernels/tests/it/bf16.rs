//! Products of operands that are rounded to bfloat16: linear layers and direct convolutions against the loops over rounded
//! numbers, Winograd's algorithm, which rounds transforms, against the loops over the numbers themselves.

use crate::conv::{multiplications, shapes};
use crate::support::{Forms, Random, assert_close, blank, error, on_every_isa};
use imagen_kernels::conv::{Algorithm, Conv3x3, StoredConv};
use imagen_kernels::isa::Isa;
use imagen_kernels::linear::Linear;
use imagen_kernels::precision::Precision;
use imagen_kernels::stored::StoredLinear;
use std::cell::Cell;

/// The nearest number of eight bits, by comparing both neighbours.
fn rounded(x: f32) -> f32 {
    let below = f32::from_bits(x.to_bits() & 0xFFFF_0000);
    let above = f32::from_bits((x.to_bits() & 0xFFFF_0000) + 0x1_0000);
    let (down, up) = ((x - below).abs(), (above - x).abs());
    let even = below.to_bits() >> 16 & 1 == 0;
    if down < up || (down == up && even) { below } else { above }
}

fn all_rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| rounded(x)).collect()
}

/// The bound on the relative L2 error of what multiplies rounded numbers: sums are in f32.
const SUMS: f64 = 5e-6;

/// The bound on the relative L2 error of an algorithm in bfloat16, for normal numbers: what its transforms make of the
/// rounding of operands, 2^-9 at most of each. F(4x4) is 1.1e-2 away on whole tiles, 1.8e-2 in a tile's corners alone.
fn bound(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Winograd4 => 2.5e-2,
        Algorithm::Winograd2 => 8e-3,
        Algorithm::Shifted | Algorithm::Direct => 4e-3,
    }
}

/// Runs `test` in bfloat16 on every instruction set.
fn in_bf16(test: impl Fn(Isa)) {
    on_every_isa(|isa| Precision::Bf16.during(|| test(isa)));
}

#[test]
fn linear_layers_multiply_rounded_numbers() {
    let mut random = Random::new(21);
    let mut shapes =
        vec![(0, 5, 6), (700, 64, 3), (2100, 9, 40), (600, 190, 180), (85, 513, 33), (40, 0, 4), (17, 37, 515)];
    shapes.extend([(1500, 33, 31), (20, 1024, 130), (1030, 512, 300)]);
    shapes.extend((0..10).map(|_| (random.pick(17, 200), random.pick(1, 90), random.pick(1, 90))));
    for (rows, c, k) in shapes {
        let linear = Linear { rows, c, k };
        let (x, w, bias) = (random.numbers(rows * c), random.numbers(c * k), random.numbers(k));
        let (residual, gy) = (random.numbers(rows * k), random.numbers(rows * k));
        let [rounded_x, rounded_w, rounded_gy] = [&x, &w, &gy].map(|x| all_rounded(x));
        let (mut y, mut gx, mut gw) = (vec![0.0; rows * k], vec![0.0; rows * c], vec![0.0; c * k]);
        let mut gb = vec![0.0; k];
        for (r, j) in (0..rows).flat_map(|r| (0..k).map(move |j| (r, j))) {
            let g = f64::from(rounded_gy[r * k + j]);
            for i in 0..c {
                let (x, w) = (f64::from(rounded_x[r * c + i]), f64::from(rounded_w[i * k + j]));
                y[r * k + j] += x * w;
                gx[r * c + i] += g * w;
                gw[i * k + j] += g * x;
            }
            gb[j] += f64::from(gy[r * k + j]);
        }
        let full: Vec<f64> =
            (0..rows * k).map(|o| (y[o] + f64::from(bias[o % k]) + f64::from(residual[o])) * -1.5).collect();
        in_bf16(|isa| {
            let what = format!("{linear:?} on {isa:?}");
            let mut actual = blank(rows * k);
            linear.forward(&x, &w, Some(&bias), Some(&residual), -1.5, &mut actual);
            assert_close(&what, &actual, &full, SUMS);
            let prepared = linear.prepare(&w);
            let mut again = blank(rows * k);
            Precision::F32
                .during(|| linear.forward_prepared(&x, &prepared, Some(&bias), Some(&residual), -1.5, &mut again));
            assert_eq!(actual, again, "packed weights have a precision of their own, {what}");
            let mut actual = blank(rows * c);
            linear.grad_input(&gy, &w, &mut actual);
            assert_close(&format!("gx, {what}"), &actual, &gx, SUMS);
            let (mut actual, mut bias) = (blank(c * k), blank(k));
            linear.grad_weight(&x, &gy, &mut actual, Some(&mut bias));
            assert_close(&format!("gw, {what}"), &actual, &gw, SUMS);
            assert_close(&format!("gb, {what}"), &bias, &gb, SUMS);
        });
    }
}

#[test]
fn stored_layers_multiply_rounded_numbers() {
    let mut random = Random::new(31);
    let few = StoredLinear::FEW_ROWS;
    let mut shapes = vec![(few, 40, 50), (few + 1, 40, 50), (700, 64, 3), (50, 513, 33), (40, 0, 4), (400, 384, 1536)];
    // more units than are operands at a time
    shapes.push((33, 3000, 3100));
    shapes.extend((0..6).map(|_| (random.pick(33, 200), random.pick(1, 90), random.pick(1, 90))));
    for (rows, c, k) in shapes {
        let (x, bias, residual) = (random.numbers(rows * c), random.numbers(k), random.numbers(rows * k));
        let forms = Forms::new(&mut random, k, c);
        for (weights, decoded) in forms.all() {
            let read = |x: f32| f64::from(if rows > few { rounded(x) } else { x });
            let x_read: Vec<f64> = x.iter().map(|&x| read(x)).collect();
            let w_read: Vec<f64> = decoded.iter().map(|&w| read(w)).collect();
            let expected: Vec<f64> = (0..rows * k)
                .map(|o| {
                    let (x, w) = (&x_read[o / k * c..][..c], &w_read[o % k * c..][..c]);
                    let sum: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                    (sum + f64::from(bias[o % k]) + f64::from(residual[o])) * -1.5
                })
                .collect();
            in_bf16(|isa| {
                let layer = StoredLinear::from_rows(c, k, weights);
                let mut y = blank(rows * k);
                layer.forward(rows, &x, Some(&bias), Some(&residual), -1.5, &mut y);
                assert_close(&format!("{rows} rows, {layer:?} on {isa:?}"), &y, &expected, SUMS);
            });
        }
    }
}

#[test]
fn stored_convolutions_keep_their_bounds() {
    let farthest = Cell::new(0.0f64);
    for (seed, conv) in shapes().into_iter().enumerate().filter(|(_, conv)| conv.stride == 1) {
        let mut random = Random::new(500 + seed as u64);
        let Conv3x3 { n, h, w, c, k, .. } = conv;
        let outputs = n * h * w * k;
        let x = random.numbers(n * h * w * c);
        let forms = Forms::new(&mut random, k, 9 * c);
        for (weights, decoded) in forms.all() {
            let mut y = vec![0.0; outputs];
            let place = |j: usize| (j % k * c + j / k % c) * 9 + j / k / c;
            multiplications(&conv, |i, j, o| y[o] += f64::from(x[i]) * f64::from(decoded[place(j)]));
            in_bf16(|isa| {
                let stored = StoredConv::from_pytorch(c, k, weights);
                let mut actual = blank(outputs);
                stored.forward([n, h, w], &x, None, None, 1.0, &mut actual);
                assert_close(&format!("{conv:?}, {stored:?} on {isa:?}"), &actual, &y, bound(Algorithm::Winograd4));
                farthest.set(farthest.get().max(error(&actual, &y)));
            });
        }
    }
    assert!(farthest.get() > 1e-3, "nothing was rounded: {}", farthest.get());
}

#[test]
fn convolutions_keep_their_bounds() {
    for (seed, conv) in shapes().into_iter().enumerate() {
        let mut random = Random::new(400 + seed as u64);
        let outputs = conv.n * conv.out_h() * conv.out_w() * conv.k;
        let x = random.numbers(conv.n * conv.h * conv.w * conv.c);
        let (w, gy) = (random.numbers(9 * conv.c * conv.k), random.numbers(outputs));
        let (mut y, mut by_definition) = (vec![0.0; outputs], vec![0.0; outputs]);
        let (mut gx, mut gw, mut gb) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; conv.k]);
        multiplications(&conv, |i, j, o| {
            y[o] += f64::from(x[i]) * f64::from(w[j]);
            by_definition[o] += f64::from(rounded(x[i])) * f64::from(rounded(w[j]));
            gx[i] += f64::from(gy[o]) * f64::from(w[j]);
            gw[j] += f64::from(gy[o]) * f64::from(x[i]);
        });
        for (o, &g) in gy.iter().enumerate() {
            gb[o % conv.k] += f64::from(g);
        }
        in_bf16(|isa| {
            let what = format!("{conv:?} on {isa:?}");
            for algorithm in [Algorithm::Direct, Algorithm::Shifted, Algorithm::Winograd2, Algorithm::Winograd4] {
                if algorithm == Algorithm::Direct || conv.stride == 1 {
                    let what = format!("{algorithm:?}, {what}");
                    let prepared = conv.prepare_as(algorithm, &w);
                    let mut actual = blank(outputs);
                    conv.forward_prepared(&x, &prepared, None, None, 1.0, &mut actual);
                    assert_close(&what, &actual, &y, bound(algorithm));
                    if algorithm == Algorithm::Direct {
                        assert_close(&what, &actual, &by_definition, SUMS);
                    }
                }
            }
            let most = bound(Algorithm::Winograd4);
            let mut actual = blank(outputs);
            conv.forward(&x, &w, None, None, 1.0, &mut actual);
            assert_close(&what, &actual, &y, most);
            let mut again = blank(outputs);
            conv.forward_prepared(&x, &conv.prepare(&w), None, None, 1.0, &mut again);
            assert_eq!(actual, again, "{what}: prepared weights");
            let mut actual = blank(x.len());
            conv.grad_input(&gy, &w, &mut actual);
            assert_close(&format!("gx, {what}"), &actual, &gx, most);
            if conv.stride == 1 {
                let mut again = blank(x.len());
                conv.grad_input_prepared(&gy, &conv.prepare_flipped(&w), &mut again);
                assert_close(&format!("gx by prepared weights, {what}"), &again, &gx, most);
            }
            let (mut actual, mut bias) = (blank(w.len()), blank(conv.k));
            conv.grad_weight(&x, &gy, &mut actual, Some(&mut bias));
            assert_close(&format!("gw, {what}"), &actual, &gw, most);
            assert_close(&format!("gb, {what}"), &bias, &gb, SUMS);
        });
    }
}

/// Small integers, for which eight bits are enough everywhere: every number has to come from the right place.
#[test]
fn where_rounding_changes_nothing_results_are_exact() {
    for (n, h, w, c, k) in
        [(1, 2, 2, 16, 16), (3, 1, 2, 33, 17), (2, 2, 1, 150, 136), (1, 7, 5, 13, 40), (5, 2, 2, 300, 40)]
    {
        let conv = Conv3x3 { n, h, w, c, k, stride: 1 };
        let mut random = Random::new(77);
        let mut small =
            |n: usize, times: f32| -> Vec<f32> { (0..n).map(|_| times * (random.pick(0, 4) as f32 - 2.0)).collect() };
        let (x, weights, gy) = (small(n * h * w * c, 1.0), small(9 * c * k, 4.0), small(n * h * w * k, 1.0));
        let (mut y, mut gx, mut gw) = (vec![0.0; gy.len()], vec![0.0; x.len()], vec![0.0; weights.len()]);
        multiplications(&conv, |i, j, o| {
            y[o] += f64::from(x[i]) * f64::from(weights[j]);
            gx[i] += f64::from(gy[o]) * f64::from(weights[j]);
            gw[j] += f64::from(gy[o]) * f64::from(x[i]);
        });
        in_bf16(|isa| {
            let what = format!("{conv:?} on {isa:?}");
            let mut actual = blank(y.len());
            conv.forward_prepared(&x, &conv.prepare_as(Algorithm::Winograd2, &weights), None, None, 1.0, &mut actual);
            assert_eq!(error(&actual, &y), 0.0, "{what}");
            if h.max(w) > 2 {
                return;
            }
            let mut actual = blank(x.len());
            conv.grad_input(&gy, &weights, &mut actual);
            assert_eq!(error(&actual, &gx), 0.0, "gx, {what}");
            let mut actual = blank(weights.len());
            conv.grad_weight(&x, &gy, &mut actual, None);
            assert_eq!(error(&actual, &gw), 0.0, "gw, {what}");
        });
    }
}

#[test]
fn what_is_no_number_stays_so() {
    let conv = Conv3x3 { n: 1, h: 6, w: 6, c: 16, k: 16, stride: 1 };
    let linear = Linear { rows: 36, c: 16, k: 16 };
    in_bf16(|isa| {
        let mut y = blank(36 * 16);
        y.fill(0.0);
        conv.forward(&[f32::NAN; 36 * 16], &[1.0; 9 * 256], None, None, 1.0, &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "a convolution on {isa:?}");
        y.fill(0.0);
        linear.forward(&[f32::INFINITY; 36 * 16], &[1.0; 256], None, None, 1.0, &mut y);
        assert!(y.iter().all(|y| y.is_infinite()), "a linear layer on {isa:?}");
    });
}

#[test]
fn f32_is_what_it_is_outside() {
    let mut random = Random::new(5);
    let linear = Linear { rows: 40, c: 30, k: 20 };
    let (x, w) = (random.numbers(40 * 30), random.numbers(30 * 20));
    let product = || {
        let mut y = blank(40 * 20);
        linear.forward(&x, &w, None, None, 1.0, &mut y);
        y
    };
    let before = product();
    let rounded = Precision::Bf16.during(product);
    assert_ne!(before, rounded);
    assert_eq!(before, product());
}
