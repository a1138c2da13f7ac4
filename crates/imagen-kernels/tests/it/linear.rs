//! Linear layers against three nested loops.

use crate::support::{Random, assert_close, blank, on_every_isa};
use imagen_kernels::linear::Linear;

#[test]
fn forward_and_gradients_are_the_matrix_products() {
    let mut random = Random::new(5);
    let mut shapes = vec![
        (0, 5, 6),
        (1, 1, 1),
        (1, 300, 1000),
        (700, 64, 3),
        (2100, 9, 40),
        (600, 190, 180),
        (85, 513, 33),
        (3, 0, 4),
        (8, 37, 515),
        (9, 37, 515),
        (15, 35, 2100),
        (17, 37, 515),
    ];
    shapes.extend((0..10).map(|_| (random.pick(1, 200), random.pick(1, 90), random.pick(1, 90))));
    for (rows, c, k) in shapes {
        let linear = Linear { rows, c, k };
        let (x, w, bias) = (random.numbers(rows * c), random.numbers(c * k), random.numbers(k));
        let (residual, gy) = (random.numbers(rows * k), random.numbers(rows * k));
        let (mut y, mut gx, mut gw) = (vec![0.0; rows * k], vec![0.0; rows * c], vec![0.0; c * k]);
        let mut gb = vec![0.0; k];
        for r in 0..rows {
            for j in 0..k {
                let g = f64::from(gy[r * k + j]);
                for i in 0..c {
                    let (x, w) = (f64::from(x[r * c + i]), f64::from(w[i * k + j]));
                    y[r * k + j] += x * w;
                    gx[r * c + i] += g * w;
                    gw[i * k + j] += g * x;
                }
                gb[j] += g;
            }
        }
        let full: Vec<f64> =
            (0..rows * k).map(|o| (y[o] + f64::from(bias[o % k]) + f64::from(residual[o])) * -1.5).collect();
        on_every_isa(|isa| {
            let what = format!("{linear:?} on {isa:?}");
            let mut actual = blank(rows * k);
            linear.forward(&x, &w, None, None, 1.0, &mut actual);
            assert_close(&what, &actual, &y, 2e-6);
            linear.forward(&x, &w, Some(&bias), Some(&residual), -1.5, &mut actual);
            assert_close(&what, &actual, &full, 2e-6);
            linear.forward_prepared(&x, &linear.prepare(&w), Some(&bias), Some(&residual), -1.5, &mut actual);
            assert_close(&format!("packed, {what}"), &actual, &full, 2e-6);
            let mut actual = blank(rows * c);
            linear.grad_input(&gy, &w, &mut actual);
            assert_close(&format!("gx, {what}"), &actual, &gx, 2e-6);
            actual.copy_from_slice(&x);
            linear.add_grad_input(&gy, &w, &mut actual);
            let sum: Vec<f64> = gx.iter().zip(&x).map(|(gx, x)| gx + f64::from(*x)).collect();
            assert_close(&format!("gx onto another, {what}"), &actual, &sum, 2e-6);
            let (mut actual, mut bias) = (blank(c * k), blank(k));
            linear.grad_weight(&x, &gy, &mut actual, Some(&mut bias));
            assert_close(&format!("gw, {what}"), &actual, &gw, 2e-6);
            assert_close(&format!("gb, {what}"), &bias, &gb, 2e-6);
        });
    }
}
