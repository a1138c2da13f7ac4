//! Elementwise operations and the optimizer against one line of f64 each.

use crate::support::{Random, assert_close, blank, erf, on_every_isa, wide};
use imagen_kernels::elementwise::{add, add_assign, concat, gated_gelu_tanh, gelu, gelu_backward, scale, split};
use imagen_kernels::optimizer::{Adam, ema, sum_of_squares};

const LENGTHS: [usize; 6] = [0, 1, 7, 33, 1000, 40_001];

#[test]
fn every_operation_matches_its_formula() {
    let mut random = Random::new(41);
    for n in LENGTHS {
        let (a, b) = (random.numbers(n), random.numbers(n));
        let zip =
            |f: fn(f64, f64) -> f64| -> Vec<f64> { wide(&a).iter().zip(wide(&b)).map(|(&a, b)| f(a, b)).collect() };
        on_every_isa(|isa| {
            let what = format!("{n} numbers on {isa:?}");
            let mut y = blank(n);
            add(&a, &b, 0.5, &mut y);
            assert_close(&what, &y, &zip(|a, b| (a + b) / 2.0), 1e-7);
            let mut y = a.clone();
            add_assign(&mut y, &b);
            assert_close(&what, &y, &zip(|a, b| a + b), 1e-7);
            let mut y = a.clone();
            scale(&mut y, -0.3);
            assert_close(&what, &y, &wide(&a).iter().map(|&x| x * f64::from(-0.3f32)).collect::<Vec<_>>(), 1e-7);
        });
    }
}

/// Both forms of GELU, and the slope of the exact one.
fn gelu64(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}
fn gelu64_slope(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}
fn gelu64_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

#[test]
fn both_forms_of_gelu_match_their_formulas() {
    let mut random = Random::new(45);
    for n in LENGTHS {
        let (a, b) = (random.numbers(n), random.numbers(n));
        let both = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            wide(&a).into_iter().zip(wide(&b)).map(|(a, b)| f(a, b)).collect()
        };
        // The error of erf is absolute; a few numbers may all be small.
        let bound = if n < 33 { 5e-6 } else { 1e-6 };
        on_every_isa(|isa| {
            let what = format!("{n} numbers on {isa:?}");
            let mut y = blank(n);
            gelu(&a, &mut y);
            assert_close(&what, &y, &both(&|a, _| gelu64(a)), bound);
            gated_gelu_tanh(&a, &b, &mut y);
            assert_close(&format!("gated, {what}"), &y, &both(&|a, b| gelu64_tanh(a) * b), bound);
            let mut dx = b.clone();
            gelu_backward(&a, &mut dx);
            assert_close(&format!("slope, {what}"), &dx, &both(&|a, b| gelu64_slope(a) * b), bound);
        });
    }
}

#[test]
fn extreme_and_non_finite_inputs_stay_what_they_are() {
    on_every_isa(|isa| {
        let x = [-1e30, -200.0, -0.0, 200.0, 1e30, f32::NAN];
        let gated: fn(&[f32], &mut [f32]) = |x, y| gated_gelu_tanh(x, &[1.0; 6], y);
        for (name, f) in [("gelu", gelu as fn(&[f32], &mut [f32])), ("gelu_tanh", gated)] {
            let mut y = [0.0; 6];
            f(&x, &mut y);
            assert!(y[0].abs() < 1e-6 && y[1].abs() < 1e-6 && y[2] == 0.0, "{name} on {isa:?}: {y:?}");
            assert!((y[3] - 200.0).abs() < 1e-4 && (y[4] - 1e30).abs() < 1e24, "{name} on {isa:?}: {y:?}");
            assert!(y[5].is_nan(), "{name} on {isa:?}: {y:?}");
        }
        let mut y = [1.0; 6];
        gelu_backward(&x, &mut y);
        assert!(y[0].abs() < 1e-6 && y[1].abs() < 1e-6 && (y[2] - 0.5).abs() < 1e-6, "slope on {isa:?}: {y:?}");
        assert!((y[3] - 1.0).abs() < 1e-6 && (y[4] - 1.0).abs() < 1e-6 && y[5].is_nan(), "slope on {isa:?}: {y:?}");
    });
}

#[test]
fn concat_and_split_are_inverse() {
    let mut random = Random::new(42);
    for (rows, ca, cb) in [(0, 3, 4), (1, 1, 1), (1000, 64, 32), (77, 3, 19), (5, 0, 4)] {
        let (a, b) = (random.numbers(rows * ca), random.numbers(rows * cb));
        let mut y = blank(rows * (ca + cb));
        concat(&a, ca, &b, cb, &mut y);
        for r in 0..rows {
            assert_eq!(y[r * (ca + cb)..][..ca], a[r * ca..][..ca]);
            assert_eq!(y[r * (ca + cb) + ca..][..cb], b[r * cb..][..cb]);
        }
        let (mut a2, mut b2) = (blank(a.len()), blank(b.len()));
        split(&y, ca, cb, &mut a2, &mut b2);
        assert_eq!((a, b), (a2, b2));
    }
}

#[test]
fn adam_follows_the_published_recursion() {
    let mut random = Random::new(43);
    for n in LENGTHS {
        let start = random.numbers(n);
        let gradients: Vec<Vec<f32>> = (0..5).map(|_| random.numbers(n)).collect();
        let (mut w, mut m, mut v) = (wide(&start), vec![0.0; n], vec![0.0; n]);
        let (lr, b1, b2, eps, decay) = (1e-2, 0.9, 0.99, 1e-8, 0.1);
        for (t, g) in gradients.iter().enumerate() {
            for i in 0..n {
                let g = f64::from(g[i]);
                w[i] *= 1.0 - lr * decay;
                m[i] = b1 * m[i] + (1.0 - b1) * g;
                v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                let (mh, vh) = (m[i] / (1.0 - f64::powi(b1, t as i32 + 1)), v[i] / (1.0 - f64::powi(b2, t as i32 + 1)));
                w[i] -= lr * mh / (vh.sqrt() + eps);
            }
        }
        on_every_isa(|isa| {
            let (mut w32, mut m32, mut v32) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            for (t, g) in gradients.iter().enumerate() {
                let adam = Adam {
                    lr: 1e-2,
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step: t as u64 + 1,
                    scale: 1.0,
                    average_decay: 0.9,
                };
                adam.step(&mut w32, g, &mut m32, &mut v32, &mut vec![0.0; n]);
            }
            assert_close(&format!("w on {isa:?}"), &w32, &w, 1e-6);
            assert_close(&format!("m on {isa:?}"), &m32, &m, 1e-6);
            assert_close(&format!("v on {isa:?}"), &v32, &v, 1e-5);
        });
    }
}

#[test]
fn a_step_is_that_of_the_scaled_gradient_and_then_an_average() {
    let mut random = Random::new(46);
    for n in LENGTHS {
        let (w, g, m, average) = (random.numbers(n), random.numbers(n), random.numbers(n), random.numbers(n));
        let v: Vec<f32> = random.numbers(n).iter().map(|v| v * v).collect();
        let adam = Adam {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 7,
            scale: 0.25,
            average_decay: 0.95,
        };
        // A power of two, so that scaling the gradient first rounds nothing.
        let scaled: Vec<f32> = g.iter().map(|g| g * 0.25).collect();
        on_every_isa(|isa| {
            let mut apart = [w.clone(), m.clone(), v.clone(), average.clone()];
            let mut fused = apart.clone();
            let [w, m, v, average] = &mut apart;
            Adam { scale: 1.0, ..adam }.step(w, &scaled, m, v, &mut average.clone());
            ema(average, w, 0.95);
            let [w, m, v, average] = &mut fused;
            adam.step(w, &g, m, v, average);
            assert!(apart == fused, "{n} numbers on {isa:?}");
        });
    }
}

#[test]
fn averages_and_norms_match_their_formulas() {
    let mut random = Random::new(44);
    for n in LENGTHS {
        let (a, w) = (random.numbers(n), random.numbers(n));
        let mean: Vec<f64> = wide(&a).iter().zip(wide(&w)).map(|(a, w)| 0.9 * a + 0.1 * w).collect();
        let squares: f64 = wide(&a).iter().map(|a| a * a).sum();
        on_every_isa(|isa| {
            let mut average = a.clone();
            ema(&mut average, &w, 0.9);
            assert_close(&format!("{n} on {isa:?}"), &average, &mean, 1e-6);
            assert!((sum_of_squares(&a) - squares).abs() <= 1e-13 * squares, "{n} on {isa:?}");
        });
    }
    on_every_isa(|isa| {
        let mut average = [0.0];
        ema(&mut average, &[1.0], 1.0 - 1e-6);
        assert_close(&format!("a decay near 1 on {isa:?}"), &average, &[1e-6], 1e-7);
    });
    on_every_isa(|_| assert_eq!(sum_of_squares(&[1e30, 0.0]), f64::from(1e30f32).powi(2)));
}
