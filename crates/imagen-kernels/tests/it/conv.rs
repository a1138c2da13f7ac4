//! The convolution against seven nested loops.

use crate::support::{Forms, Random, assert_close, blank, on_every_isa};
use imagen_kernels::conv::{Algorithm, Conv2d, Conv3x3, StoredConv};

/// Calls `f(x index, w index, y index)` for every multiplication of the convolution.
pub(crate) fn multiplications(conv: &Conv3x3, mut f: impl FnMut(usize, usize, usize)) {
    let Conv3x3 { n, h, w, c, k, stride } = *conv;
    let (oh, ow) = (conv.out_h(), conv.out_w());
    for picture in 0..n {
        for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
            for (r, s) in (0..3).flat_map(|r| (0..3).map(move |s| (r, s))) {
                let (y, x) = ((oy * stride + r).wrapping_sub(1), (ox * stride + s).wrapping_sub(1));
                if y >= h || x >= w {
                    continue;
                }
                for ci in 0..c {
                    let from = ((picture * h + y) * w + x) * c + ci;
                    for ko in 0..k {
                        let weight = ((r * 3 + s) * c + ci) * k + ko;
                        f(from, weight, ((picture * oh + oy) * ow + ox) * k + ko);
                    }
                }
            }
        }
    }
}

/// Shapes that reach every algorithm, both schedules and every edge.
pub(crate) fn shapes() -> Vec<Conv3x3> {
    let of = |n, h, w, c, k, stride| Conv3x3 { n, h, w, c, k, stride };
    let mut shapes = vec![
        of(0, 8, 8, 16, 16, 1),
        of(1, 1, 1, 1, 1, 1),
        of(1, 1, 1, 1, 1, 2),
        of(2, 1, 1, 32, 48, 1),
        of(1, 2, 2, 40, 24, 1),
        of(3, 1, 2, 16, 16, 1),
        of(2, 8, 8, 64, 64, 1),
        of(1, 16, 16, 160, 136, 1),
        of(2, 29, 33, 240, 20, 1),
        of(1, 33, 30, 24, 16, 1),
        of(2, 64, 64, 16, 16, 1),
        of(2, 17, 19, 3, 32, 1),
        of(2, 17, 19, 32, 3, 1),
        of(1, 9, 1, 19, 7, 1),
        of(1, 1, 9, 20, 1, 1),
        of(2, 12, 10, 32, 40, 2),
        of(2, 11, 13, 24, 16, 2),
        of(1, 2, 3, 3, 5, 2),
        of(2, 48, 40, 5, 9, 2),
        of(3, 40, 41, 3, 20, 1),
        of(3, 41, 40, 18, 3, 1),
    ];
    let mut random = Random::new(7);
    for _ in 0..12 {
        let stride = random.pick(1, 2);
        let channels =
            |random: &mut Random| if random.pick(0, 1) == 0 { random.pick(1, 15) } else { random.pick(16, 70) };
        let (c, k) = (channels(&mut random), channels(&mut random));
        shapes.push(of(random.pick(1, 3), random.pick(1, 14), random.pick(1, 14), c, k, stride));
    }
    shapes
}

/// The bound on the relative L2 error, in particular of F(4x4, 3x3).
const BOUND: f64 = 1e-5;

#[test]
fn forward_is_the_convolution() {
    for (seed, conv) in shapes().into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let outputs = conv.n * conv.out_h() * conv.out_w() * conv.k;
        let x = random.numbers(conv.n * conv.h * conv.w * conv.c);
        let w = random.numbers(9 * conv.c * conv.k);
        let (bias, residual) = (random.numbers(conv.k), random.numbers(outputs));
        let mut plain = vec![0.0; outputs];
        multiplications(&conv, |i, j, o| plain[o] += f64::from(x[i]) * f64::from(w[j]));
        let full: Vec<f64> =
            (0..outputs).map(|o| (plain[o] + f64::from(bias[o % conv.k]) + f64::from(residual[o])) * 0.75).collect();
        on_every_isa(|isa| {
            let what = format!("{conv:?} on {isa:?}");
            let mut y = blank(outputs);
            conv.forward(&x, &w, None, None, 1.0, &mut y);
            assert_close(&what, &y, &plain, BOUND);
            let mut y = blank(outputs);
            conv.forward(&x, &w, Some(&bias), Some(&residual), 0.75, &mut y);
            assert_close(&what, &y, &full, BOUND);
            let mut again = blank(outputs);
            conv.forward_prepared(&x, &conv.prepare(&w), Some(&bias), Some(&residual), 0.75, &mut again);
            assert_eq!(y, again, "{what}: prepared weights");
            for algorithm in [Algorithm::Direct, Algorithm::Shifted, Algorithm::Winograd2, Algorithm::Winograd4] {
                if algorithm == Algorithm::Direct || conv.stride == 1 {
                    let mut y = blank(outputs);
                    let prepared = conv.prepare_as(algorithm, &w);
                    conv.forward_prepared(&x, &prepared, Some(&bias), Some(&residual), 0.75, &mut y);
                    assert_close(&format!("{algorithm:?}, {what}"), &y, &full, BOUND);
                }
            }
        });
    }
}

#[test]
fn any_window_is_its_convolution() {
    let of = |[n, h, w]: [usize; 3], [c, k]: [usize; 2], window, stride, padding| Conv2d {
        n,
        h,
        w,
        c,
        k,
        window,
        stride,
        padding,
    };
    let shapes = [
        // with Winograd's algorithm, padded and not; one smaller than its window
        of([2, 9, 14], [16, 24], [3, 3], 1, [0, 0]),
        of([1, 19, 3], [40, 150], [3, 3], 1, [0, 0]),
        of([1, 7, 6], [16, 16], [3, 3], 1, [1, 1]),
        of([1, 2, 9], [16, 16], [3, 3], 1, [0, 0]),
        // as a matrix
        of([2, 5, 7], [20, 33], [1, 1], 1, [0, 0]),
        // the rest
        of([2, 13, 12], [3, 32], [3, 3], 2, [0, 0]),
        of([1, 9, 11], [24, 18], [1, 7], 1, [0, 3]),
        of([1, 9, 11], [24, 18], [7, 1], 1, [3, 0]),
        of([1, 8, 5], [12, 20], [5, 5], 1, [2, 2]),
        of([1, 10, 11], [5, 4], [4, 2], 3, [1, 0]),
        of([1, 6, 6], [7, 9], [1, 1], 2, [0, 0]),
        of([0, 6, 6], [16, 16], [3, 3], 1, [0, 0]),
    ];
    for (seed, conv) in shapes.into_iter().enumerate() {
        let Conv2d { n, h, w, c, k, window: [rows, columns], stride, padding: [top, left] } = conv;
        let mut random = Random::new(300 + seed as u64);
        let [oh, ow] = conv.out();
        let (x, weights) = (random.numbers(n * h * w * c), random.numbers(rows * columns * c * k));
        let bias = random.numbers(k);
        let mut expected: Vec<f64> = (0..n * oh * ow * k).map(|o| f64::from(bias[o % k])).collect();
        for (o, y) in expected.iter_mut().enumerate() {
            let (out, ko) = (o / k, o % k);
            for (r, s) in (0..rows).flat_map(|r| (0..columns).map(move |s| (r, s))) {
                let i = (out / ow % oh * stride + r).wrapping_sub(top);
                let j = (out % ow * stride + s).wrapping_sub(left);
                if i < h && j < w {
                    let pixel = &x[((out / ow / oh * h + i) * w + j) * c..][..c];
                    let tap = (0..c).map(|q| weights[((r * columns + s) * c + q) * k + ko]);
                    *y += pixel.iter().zip(tap).map(|(x, w)| f64::from(*x) * f64::from(w)).sum::<f64>();
                }
            }
        }
        let rectified: Vec<f64> = expected.iter().map(|y| y.max(0.0)).collect();
        on_every_isa(|isa| {
            let prepared = conv.prepare(&weights);
            for (rectify, expected) in [(false, &expected), (true, &rectified)] {
                let mut y = blank(expected.len());
                conv.forward(&x, &prepared, Some(&bias), rectify, &mut y);
                assert_close(&format!("{conv:?} on {isa:?}"), &y, expected, BOUND);
            }
        });
    }
}

#[test]
fn what_is_no_number_stays_so_when_rectified() {
    for (c, window) in [(16, [3, 3]), (3, [3, 3]), (16, [1, 1])] {
        let conv = Conv2d { n: 1, h: 6, w: 6, c, k: 16, window, stride: 1, padding: [0, 0] };
        let [oh, ow] = conv.out();
        on_every_isa(|isa| {
            let prepared = conv.prepare(&vec![1.0; window[0] * window[1] * c * 16]);
            let mut y = blank(oh * ow * 16);
            conv.forward(&vec![f32::NAN; 36 * c], &prepared, None, true, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{conv:?} on {isa:?}");
        });
    }
}

#[test]
fn gradients_are_the_adjoints() {
    for (seed, conv) in shapes().into_iter().enumerate() {
        let mut random = Random::new(100 + seed as u64);
        let outputs = conv.n * conv.out_h() * conv.out_w() * conv.k;
        let x = random.numbers(conv.n * conv.h * conv.w * conv.c);
        let w = random.numbers(9 * conv.c * conv.k);
        let gy = random.numbers(outputs);
        let (mut gx, mut gw, mut gb) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; conv.k]);
        multiplications(&conv, |i, j, o| {
            gx[i] += f64::from(gy[o]) * f64::from(w[j]);
            gw[j] += f64::from(gy[o]) * f64::from(x[i]);
        });
        for (o, &g) in gy.iter().enumerate() {
            gb[o % conv.k] += f64::from(g);
        }
        on_every_isa(|isa| {
            let what = format!("{conv:?} on {isa:?}");
            let mut actual = blank(x.len());
            conv.grad_input(&gy, &w, &mut actual);
            assert_close(&format!("gx, {what}"), &actual, &gx, BOUND);
            if conv.stride == 1 {
                let mut again = blank(x.len());
                conv.grad_input_prepared(&gy, &conv.prepare_flipped(&w), &mut again);
                assert_close(&format!("gx by prepared weights, {what}"), &again, &gx, BOUND);
            }
            let (mut actual, mut bias) = (blank(w.len()), blank(conv.k));
            conv.grad_weight(&x, &gy, &mut actual, Some(&mut bias));
            assert_close(&format!("gw, {what}"), &actual, &gw, BOUND);
            assert_close(&format!("gb, {what}"), &bias, &gb, BOUND);
        });
    }
}

#[test]
fn prepared_weights_serve_other_maps() {
    let mut random = Random::new(3);
    let small = Conv3x3 { n: 1, h: 2, w: 2, c: 16, k: 24, stride: 1 };
    let large = Conv3x3 { n: 2, h: 13, w: 7, ..small };
    let w = random.numbers(9 * small.c * small.k);
    for (prepared, conv) in [(small.prepare(&w), large), (large.prepare(&w), small)] {
        let x = random.numbers(conv.n * conv.h * conv.w * conv.c);
        let mut expected = vec![0.0; conv.n * conv.h * conv.w * conv.k];
        multiplications(&conv, |i, j, o| expected[o] += f64::from(x[i]) * f64::from(w[j]));
        let mut y = blank(expected.len());
        conv.forward_prepared(&x, &prepared, None, None, 1.0, &mut y);
        assert_close("other map", &y, &expected, BOUND);
    }
}

#[test]
fn large_weights_of_small_maps_are_prepared_for_little_reading() {
    let picked = |n, side, channels: usize| {
        let conv = Conv3x3 { n, h: side, w: side, c: channels, k: channels, stride: 1 };
        let prepared = format!("{:?}", conv.prepare(&vec![0.0; 9 * channels * channels]));
        prepared.split_once("{ ").unwrap().1.split_once(',').unwrap().0.to_owned()
    };
    assert_eq!(picked(1, 4, 512), "Direct");
    assert_eq!(picked(2, 8, 512), "Winograd2");
    assert_eq!(picked(1, 64, 512), "Winograd4");
    assert_eq!(picked(1, 8, 64), "Winograd4", "small weights stay in a cache");
}

#[test]
#[should_panic(expected = "y has 3 numbers, its shape needs 4")]
fn a_wrong_length_is_named() {
    let conv = Conv3x3 { n: 1, h: 2, w: 2, c: 1, k: 1, stride: 1 };
    conv.forward(&[0.0; 4], &[0.0; 9], None, None, 1.0, &mut [0.0; 3]);
}

/// Weights `[3, 3, c, k]` as PyTorch lays them out, `[k, c, 3, 3]`.
fn turned<T: Copy>(w: &[T], c: usize, k: usize) -> Vec<T> {
    (0..w.len()).map(|i| w[(i % 9 * c + i / 9 % c) * k + i / 9 / c]).collect()
}

#[test]
fn stored_weights_give_the_convolution_of_the_decoded_ones() {
    for (seed, conv) in shapes().into_iter().enumerate().filter(|(_, conv)| conv.stride == 1) {
        let mut random = Random::new(100 + seed as u64);
        let Conv3x3 { n, h, w: wide, c, k, .. } = conv;
        let outputs = n * h * wide * k;
        let (x, bias, residual) = (random.numbers(n * h * wide * c), random.numbers(k), random.numbers(outputs));
        let forms = Forms::new(&mut random, k, 9 * c);
        for (weights, decoded) in forms.all() {
            let mut expected = vec![0.0; outputs];
            let place = |j: usize| (j % k * c + j / k % c) * 9 + j / k / c;
            multiplications(&conv, |i, j, o| expected[o] += f64::from(x[i]) * f64::from(decoded[place(j)]));
            for (o, y) in expected.iter_mut().enumerate() {
                *y = (*y + f64::from(bias[o % k]) + f64::from(residual[o])) * 0.7;
            }
            on_every_isa(|isa| {
                let stored = StoredConv::from_pytorch(c, k, weights);
                let what = format!("{conv:?}, {stored:?} on {isa:?}");
                let mut y = blank(outputs);
                stored.forward([n, h, wide], &x, Some(&bias), Some(&residual), 0.7, &mut y);
                assert_close(&what, &y, &expected, BOUND);
                assert!(turned(&stored.widened(), c, k) == decoded, "widened, {what}");
            });
        }
    }
}
