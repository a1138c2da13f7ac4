//! Normalizations against their definitions; gradients against the textbook formulas in f64.

use crate::support::{Random, assert_close, blank, erf, on_every_isa, wide};
use imagen_kernels::norm::{Activation, GroupNorm, LayerNorm, RmsNorm};

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The normal distribution's Phi.
fn normal(z: f64) -> f64 {
    0.5 * (1.0 + erf(z * std::f64::consts::FRAC_1_SQRT_2))
}

/// Everything that the group normalization computes, for one set of inputs.
struct Twin {
    y: Vec<f64>,
    gx: Vec<f64>,
    ggamma: Vec<f64>,
    gbeta: Vec<f64>,
    gfilm: Vec<f64>,
}

fn twin(norm: &GroupNorm, x: &[f64], gamma: &[f64], beta: &[f64], film: Option<&[f64]>, gy: &[f64]) -> Twin {
    let GroupNorm { n, hw, c, groups, eps, activation } = *norm;
    let mut t = Twin {
        y: vec![0.0; x.len()],
        gx: vec![0.0; x.len()],
        ggamma: vec![0.0; c],
        gbeta: vec![0.0; c],
        gfilm: vec![0.0; 2 * n * c],
    };
    let per_group = c / groups;
    for (image, group) in (0..n).flat_map(|i| (0..groups).map(move |g| (i, g))) {
        let members: Vec<(usize, usize)> = (0..hw)
            .flat_map(|p| (group * per_group..(group + 1) * per_group).map(move |q| ((image * hw + p) * c + q, q)))
            .collect();
        let count = members.len() as f64;
        let mean = members.iter().map(|&(i, _)| x[i]).sum::<f64>() / count;
        let variance = members.iter().map(|&(i, _)| (x[i] - mean).powi(2)).sum::<f64>() / count;
        let rstd = 1.0 / (variance + f64::from(eps)).sqrt();
        let (mut sum, mut product) = (0.0, 0.0);
        let mut ghat = Vec::new();
        for &(i, q) in &members {
            let (scale, shift) = film.map_or((1.0, 0.0), |f| (1.0 + f[image * 2 * c + q], f[image * 2 * c + c + q]));
            let hat = (x[i] - mean) * rstd;
            let affine = hat * gamma[q] + beta[q];
            let z = affine * scale + shift;
            t.y[i] = match activation {
                Activation::None => z,
                Activation::Silu => z * sigmoid(z),
                Activation::Gelu => z * normal(z),
            };
            let slope = match activation {
                Activation::None => 1.0,
                Activation::Silu => sigmoid(z) * (1.0 + z * (1.0 - sigmoid(z))),
                Activation::Gelu => normal(z) + z * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt(),
            };
            let gz = gy[i] * slope;
            t.gfilm[image * 2 * c + q] += gz * affine;
            t.gfilm[image * 2 * c + c + q] += gz;
            t.ggamma[q] += gz * scale * hat;
            t.gbeta[q] += gz * scale;
            let g = gz * scale * gamma[q];
            sum += g;
            product += g * hat;
            ghat.push((g, hat));
        }
        for (&(i, _), (g, hat)) in members.iter().zip(ghat) {
            t.gx[i] = rstd * (g - sum / count - hat * product / count);
        }
    }
    t
}

#[test]
fn group_normalization_and_its_gradients_match_the_definition() {
    let mut random = Random::new(11);
    let mut shapes =
        vec![(0, 4, 8, 2), (1, 1, 12, 2), (2, 4096, 8, 4), (1, 100, 64, 32), (2, 37, 33, 11), (1, 9, 5, 1)];
    shapes.extend((0..10).map(|_| {
        let groups = random.pick(1, 6);
        (random.pick(1, 3), random.pick(2, 300), groups * random.pick(1, 12), groups)
    }));
    for (case, (n, hw, c, groups)) in shapes.into_iter().enumerate() {
        let activation = [Activation::Silu, Activation::None, Activation::Gelu][case % 3];
        let with_film = case / 3 % 3 != 0;
        let norm = GroupNorm { n, hw, c, groups, eps: 1e-5, activation };
        // A mean far from zero shows whether the variance cancels.
        let offset = if case % 4 == 1 { 100.0 } else { 0.3 };
        let x: Vec<f32> = random.numbers(n * hw * c).iter().map(|x| x * 2.0 + offset).collect();
        let (gamma, beta) = (random.numbers(c), random.numbers(c));
        let film = random.numbers(2 * n * c);
        let film = with_film.then_some(&film[..]);
        let gy = random.numbers(x.len());
        let film64 = film.map(wide);
        let expected = twin(&norm, &wide(&x), &wide(&gamma), &wide(&beta), film64.as_deref(), &wide(&gy));
        let bound = if offset > 1.0 { 3e-5 } else { 2e-6 };
        on_every_isa(|isa| {
            let what = format!("{norm:?}, film {with_film}, on {isa:?}");
            let mut y = blank(x.len());
            let stats = norm.forward(&x, &gamma, &beta, film, &mut y);
            assert_close(&what, &y, &expected.y, bound);
            let mut again = blank(x.len());
            norm.forward_again(&stats, &x, &mut again);
            assert!(again.iter().zip(&y).all(|(a, y)| a.to_bits() == y.to_bits()), "again, {what}");
            let mut dx = gy.clone();
            let (mut ggamma, mut gbeta, mut gfilm) = (blank(c), blank(c), blank(2 * n * c));
            let to = with_film.then_some(&mut gfilm[..]);
            norm.backward(&stats, &x, &gamma, &beta, film, &mut dx, &mut ggamma, &mut gbeta, to);
            assert_close(&format!("gx, {what}"), &dx, &expected.gx, 10.0 * bound);
            assert_close(&format!("ggamma, {what}"), &ggamma, &expected.ggamma, 10.0 * bound);
            assert_close(&format!("gbeta, {what}"), &gbeta, &expected.gbeta, 10.0 * bound);
            if with_film {
                assert_close(&format!("gfilm, {what}"), &gfilm, &expected.gfilm, 10.0 * bound);
            }
        });
    }
}

#[test]
fn layer_normalization_and_its_gradients_match_the_definition() {
    let mut random = Random::new(12);
    let mut shapes = vec![(0, 4), (1, 5), (3000, 24), (5, 1000)];
    shapes.extend((0..8).map(|_| (random.pick(1, 200), random.pick(8, 130))));
    for (rows, c) in shapes {
        let norm = LayerNorm { rows, c, eps: 1e-5 };
        let x: Vec<f32> = random.numbers(rows * c).iter().map(|x| x + 5.0).collect();
        let (gamma, beta, gy) = (random.numbers(c), random.numbers(c), random.numbers(rows * c));
        // A layer normalization is a group normalization with one pixel and one group.
        let as_group = GroupNorm { n: rows, hw: 1, c, groups: 1, eps: norm.eps, activation: Activation::None };
        let expected = twin(&as_group, &wide(&x), &wide(&gamma), &wide(&beta), None, &wide(&gy));
        on_every_isa(|isa| {
            let what = format!("{norm:?} on {isa:?}");
            let mut y = blank(rows * c);
            norm.forward(&x, &gamma, &beta, &mut y);
            assert_close(&what, &y, &expected.y, 5e-6);
            let (mut dx, mut ggamma, mut gbeta) = (gy.clone(), blank(c), blank(c));
            norm.backward(&x, &gamma, &mut dx, &mut ggamma, &mut gbeta);
            assert_close(&format!("gx, {what}"), &dx, &expected.gx, 2e-5);
            assert_close(&format!("ggamma, {what}"), &ggamma, &expected.ggamma, 5e-6);
            assert_close(&format!("gbeta, {what}"), &gbeta, &expected.gbeta, 5e-6);
        });
    }
}

#[test]
fn root_mean_square_normalization_matches_the_definition() {
    let mut random = Random::new(13);
    let mut shapes = vec![(0, 4), (1, 1), (1, 5), (3000, 24), (5, 1000), (3, 0)];
    shapes.extend((0..8).map(|_| (random.pick(1, 200), random.pick(1, 130))));
    for (rows, c) in shapes {
        let norm = RmsNorm { rows, c, eps: 1e-6 };
        let x: Vec<f32> = random.numbers(rows * c).iter().map(|x| x * 30.0 + 5.0).collect();
        let gamma = random.numbers(c);
        let mut y = vec![0.0; rows * c];
        for r in 0..rows {
            let at = |q: usize| r * c + q;
            let mean = (0..c).map(|q| f64::from(x[at(q)]).powi(2)).sum::<f64>() / c as f64;
            let scale = 1.0 / (mean + f64::from(norm.eps)).sqrt();
            for q in 0..c {
                y[at(q)] = f64::from(x[at(q)]) * scale * f64::from(gamma[q]);
            }
        }
        on_every_isa(|isa| {
            let what = format!("{norm:?} on {isa:?}");
            let mut actual = blank(rows * c);
            norm.forward(&x, &gamma, &mut actual);
            assert_close(&what, &actual, &y, 1e-6);
        });
    }
}
