//! Doubling, halving and bilinear resizing against their definitions; the backward passes as adjoints.

use crate::support::{Random, assert_close, blank, on_every_isa};
use imagen_kernels::resample::{
    Bilinear, Pool3x3, Pooling, average_pool2, average_pool2_backward, pixel_shuffle, pixel_shuffle_backward,
    upsample2, upsample2_backward,
};

#[test]
fn resampling_and_its_gradients_match_the_definition() {
    let mut random = Random::new(31);
    let mut shapes = vec![(0, 2, 2, 3), (1, 1, 1, 1), (2, 8, 8, 64), (1, 5, 7, 19)];
    shapes.extend((0..8).map(|_| (random.pick(1, 3), random.pick(1, 9), random.pick(1, 9), random.pick(1, 40))));
    for (n, h, w, c) in shapes {
        let x = random.numbers(n * h * w * c);
        let at = |p: usize, i: usize, j: usize, q: usize| ((p * h + i) * w + j) * c + q;
        let mut places = Vec::new();
        for p in 0..n {
            for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                places.extend((0..c).map(|q| (p, i, j, q)));
            }
        }
        // Up: pixel (i, j) is copied to four places; down: four pixels are averaged into one.
        let big = random.numbers(4 * x.len());
        let small = random.numbers(n * (h / 2) * (w / 2) * c);
        let (mut up, mut up_back) = (vec![0.0; 4 * x.len()], vec![0.0; x.len()]);
        let (mut down, mut down_back) = (vec![0.0; small.len()], vec![0.0; x.len()]);
        for &(p, i, j, q) in &places {
            for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let to = ((p * 2 * h + 2 * i + a) * 2 * w + 2 * j + b) * c + q;
                up[to] = f64::from(x[at(p, i, j, q)]);
                up_back[at(p, i, j, q)] += f64::from(big[to]);
            }
            if i / 2 < h / 2 && j / 2 < w / 2 {
                let to = ((p * (h / 2) + i / 2) * (w / 2) + j / 2) * c + q;
                down[to] += f64::from(x[at(p, i, j, q)]) / 4.0;
                down_back[at(p, i, j, q)] = f64::from(small[to]) / 4.0;
            }
        }
        on_every_isa(|isa| {
            let what = format!("{:?} on {isa:?}", (n, h, w, c));
            let (mut y, mut gx) = (blank(up.len()), blank(x.len()));
            upsample2(&x, n, h, w, c, &mut y);
            assert_close(&what, &y, &up, 1e-7);
            upsample2_backward(&big, n, h, w, c, &mut gx);
            assert_close(&what, &gx, &up_back, 1e-6);
            let (mut y, mut gx) = (blank(small.len()), blank(x.len()));
            average_pool2(&x, n, h, w, c, &mut y);
            assert_close(&what, &y, &down, 1e-6);
            average_pool2_backward(&small, n, h, w, c, &mut gx);
            assert_close(&what, &gx, &down_back, 1e-6);
        });
    }
}

#[test]
fn windows_are_pooled_by_their_definition() {
    let mut random = Random::new(37);
    for (n, h, w, c) in [(0, 4, 4, 3), (1, 1, 1, 5), (2, 3, 8, 19), (1, 7, 6, 32), (1, 2, 5, 4)] {
        let x = random.numbers(n * h * w * c);
        for (pooling, stride) in [(Pooling::Mean, 1), (Pooling::Largest, 1), (Pooling::Largest, 2), (Pooling::Mean, 2)]
        {
            let pool = Pool3x3 { n, h, w, c, pooling, stride };
            let [oh, ow] = pool.out();
            let inside = if stride == 2 { 0 } else { 1 };
            let mut expected = Vec::new();
            for o in 0..n * oh * ow * c {
                let (q, j, i, p) = (o % c, o / c % ow, o / c / ow % oh, o / c / ow / oh);
                let taps = (0..9).map(|tap| {
                    ((i * stride + tap / 3).wrapping_sub(inside), (j * stride + tap % 3).wrapping_sub(inside))
                });
                let seen =
                    taps.filter(|&(y, x)| y < h && x < w).map(|(i, j)| f64::from(x[((p * h + i) * w + j) * c + q]));
                let seen: Vec<f64> = seen.collect();
                expected.push(match pooling {
                    Pooling::Mean => seen.iter().sum::<f64>() / seen.len() as f64,
                    Pooling::Largest => seen.into_iter().fold(f64::NEG_INFINITY, f64::max),
                });
            }
            on_every_isa(|isa| {
                let mut y = blank(expected.len());
                pool.forward(&x, &mut y);
                assert_close(&format!("{pool:?} on {isa:?}"), &y, &expected, 1e-6);
            });
        }
    }
}

#[test]
fn channels_become_pixels_row_by_row_and_back() {
    let mut random = Random::new(33);
    for (n, h, w, c) in [(0, 2, 2, 3), (1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 2, 16)] {
        let x = random.numbers(4 * n * h * w * c);
        let mut expected = vec![0.0; x.len()];
        for (p, i, j) in (0..n).flat_map(|p| (0..2 * h * 2 * w).map(move |o| (p, o / (2 * w), o % (2 * w)))) {
            for q in 0..c {
                let from = ((p * h + i / 2) * w + j / 2) * 4 * c + (i % 2 * 2 + j % 2) * c + q;
                expected[((p * 2 * h + i) * 2 * w + j) * c + q] = x[from];
            }
        }
        let (mut y, mut back) = (blank(x.len()), blank(x.len()));
        pixel_shuffle(&x, n, h, w, c, &mut y);
        assert_eq!(y, expected, "{:?}", (n, h, w, c));
        pixel_shuffle_backward(&y, n, h, w, c, &mut back);
        assert_eq!(back, x, "{:?}", (n, h, w, c));
    }
}

/// The weight of input `i` in output `o` along an axis, from the definition: a hat around where the output lies.
fn weight(i: usize, o: usize, inputs: usize, outputs: usize, align_corners: bool) -> f64 {
    let (i, o, last) = (i as f64, o as f64, inputs as f64 - 1.0);
    let position = match (align_corners, outputs) {
        (true, 1) => 0.0,
        (true, _) => o * last / (outputs as f64 - 1.0),
        (false, _) => ((o + 0.5) * inputs as f64 / outputs as f64 - 0.5).clamp(0.0, last),
    };
    (1.0 - (position - i).abs()).max(0.0)
}

#[test]
fn bilinear_resizing_and_its_gradient_match_the_definition() {
    let mut random = Random::new(32);
    let mut shapes = vec![(0, 2, 2, 4, 4, 3), (1, 1, 1, 4, 4, 1), (2, 8, 8, 16, 16, 64), (1, 5, 7, 20, 28, 3)];
    shapes.extend([(1, 9, 11, 4, 1, 5), (1, 3, 3, 1, 7, 33), (1, 4, 4, 4, 4, 8), (2, 3, 5, 6, 0, 4)]);
    shapes.extend((0..10).map(|_| {
        let mut side = || random.pick(1, 12);
        let (h, w, out_h, out_w) = (side(), side(), side(), side());
        (random.pick(1, 3), h, w, out_h, out_w, random.pick(1, 40))
    }));
    for (n, h, w, out_h, out_w, c) in shapes {
        let (x, gy) = (random.numbers(n * h * w * c), random.numbers(n * out_h * out_w * c));
        for align_corners in [false, true] {
            let resize = Bilinear { n, h, w, out_h, out_w, c, align_corners };
            let (mut y, mut gx) = (vec![0.0; gy.len()], vec![0.0; x.len()]);
            for (p, oi, oj) in (0..n).flat_map(|p| (0..out_h * out_w).map(move |o| (p, o / out_w, o % out_w))) {
                for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                    let weight = weight(i, oi, h, out_h, align_corners) * weight(j, oj, w, out_w, align_corners);
                    for q in 0..c {
                        let (from, to) = (((p * h + i) * w + j) * c + q, ((p * out_h + oi) * out_w + oj) * c + q);
                        y[to] += weight * f64::from(x[from]);
                        gx[from] += weight * f64::from(gy[to]);
                    }
                }
            }
            on_every_isa(|isa| {
                let what = format!("{resize:?} on {isa:?}");
                let mut actual = blank(y.len());
                resize.forward(&x, &mut actual);
                assert_close(&what, &actual, &y, 1e-6);
                let mut actual = blank(gx.len());
                resize.backward(&gy, &mut actual);
                assert_close(&format!("gx, {what}"), &actual, &gx, 1e-6);
            });
        }
    }
}
