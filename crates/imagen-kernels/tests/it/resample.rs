//! Doubling and halving against their definitions; the backward passes as adjoints.

use crate::support::{Random, assert_close, blank, on_every_isa};
use imagen_kernels::resample::{average_pool2, average_pool2_backward, upsample2, upsample2_backward};

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
