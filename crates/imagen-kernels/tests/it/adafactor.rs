//! Adafactor against its algorithm in f64.

use imagen_kernels::adafactor::{Adafactor, SecondMoment};

use crate::support::{Random, assert_close};

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The algorithm of one step in f64: `(w, row, column, v, m)` are overwritten.
fn definition(
    a: &Adafactor,
    [n, rows, columns]: [usize; 3],
    factored: bool,
    g: &[f32],
    [w, row, column, v, m]: [&mut Vec<f64>; 5],
    beta1: Option<f64>,
) {
    let (lr, beta2) = (f64::from(a.lr), f64::from(a.beta2));
    let g: Vec<f64> = wide(g).into_iter().map(|g| g * f64::from(a.scale)).collect();
    let at = |b: usize, i: usize, j: usize| (b * rows + i) * columns + j;
    let mut u = vec![0.0; w.len()];
    if factored {
        for b in 0..n {
            for i in 0..rows {
                let mean = (0..columns).map(|j| g[at(b, i, j)].powi(2)).sum::<f64>() / columns as f64;
                row[b * rows + i] = beta2 * row[b * rows + i] + (1.0 - beta2) * mean;
            }
            for j in 0..columns {
                let mean = (0..rows).map(|i| g[at(b, i, j)].powi(2)).sum::<f64>() / rows as f64;
                column[b * columns + j] = beta2 * column[b * columns + j] + (1.0 - beta2) * mean;
            }
            let mean = row[b * rows..][..rows].iter().sum::<f64>() / rows as f64;
            for i in 0..rows {
                for j in 0..columns {
                    let second = row[b * rows + i] * column[b * columns + j] / mean;
                    u[at(b, i, j)] = g[at(b, i, j)] / second.sqrt();
                }
            }
        }
    } else {
        for i in 0..g.len() {
            v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
            u[i] = g[i] / v[i].sqrt();
        }
    }
    let rms = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
    let rate = lr * if a.relative { rms(w).max(1e-3) } else { 1.0 } / (rms(&u) / f64::from(a.clip)).max(1.0);
    for i in 0..w.len() {
        let mut update = rate * u[i];
        if let Some(beta1) = beta1 {
            m[i] = beta1 * m[i] + (1.0 - beta1) * update;
            update = m[i];
        }
        w[i] = w[i] * (1.0 - lr * f64::from(a.weight_decay)) - update;
    }
}

#[test]
fn steps_follow_the_algorithm() {
    let mut random = Random::new(51);
    for (shape, factored) in [([1, 5, 7], true), ([9, 4, 3], true), ([1, 300, 130], true), ([1, 1, 40], false)] {
        for (relative, beta1) in [(false, None), (true, None), (false, Some(0.9))] {
            let [n, rows, columns] = shape;
            let start = random.numbers(n * rows * columns);
            let (mut w, mut m) = (start.clone(), vec![0.0; start.len()]);
            let (mut row, mut column) = (vec![0.0; n * rows], vec![0.0; n * columns]);
            let mut v = vec![0.0; start.len()];
            let mut exact = [wide(&w), wide(&row), wide(&column), wide(&v), wide(&m)];
            for step in 1..=5 {
                let g = random.numbers(start.len());
                let beta2 = 1.0 - (step as f64).powf(-0.8);
                let adafactor = Adafactor {
                    lr: 0.01,
                    beta1: beta1.unwrap_or(0.0) as f32,
                    beta2: beta2 as f32,
                    clip: 1.0,
                    weight_decay: 0.1,
                    relative,
                    scale: 0.5,
                };
                let second = if factored {
                    SecondMoment::Factored { rows, columns, row: &mut row, column: &mut column }
                } else {
                    SecondMoment::Whole(&mut v)
                };
                adafactor.step(&mut w, &g, second, beta1.map(|_| &mut m[..]));
                definition(&adafactor, shape, factored, &g, exact.each_mut(), beta1);
            }
            let what = format!("{shape:?}, relative {relative}, beta1 {beta1:?}");
            let [exact_w, exact_row, exact_column, exact_v, exact_m] = &exact;
            assert_close(&format!("w of {what}"), &w, exact_w, 1e-6);
            assert_close(&format!("row of {what}"), &row, exact_row, 1e-6);
            assert_close(&format!("column of {what}"), &column, exact_column, 1e-6);
            assert_close(&format!("v of {what}"), &v, exact_v, 1e-6);
            assert_close(&format!("m of {what}"), &m, exact_m, 1e-5);
        }
    }
}

#[test]
fn a_gradient_of_zeros_changes_nothing() {
    let adafactor =
        Adafactor { lr: 0.1, beta1: 0.0, beta2: 0.0, clip: 1.0, weight_decay: 0.0, relative: false, scale: 1.0 };
    let mut w = vec![1.0, -2.0, 3.0, 0.5, 0.25, 7.0];
    let before = w.clone();
    let (mut row, mut column) = (vec![0.0; 2], vec![0.0; 3]);
    let second = SecondMoment::Factored { rows: 2, columns: 3, row: &mut row, column: &mut column };
    adafactor.step(&mut w, &[0.0; 6], second, None);
    assert_eq!(w, before);
}
