//! Attention with a bias against its definition.

use crate::support::{Random, assert_close, blank, on_every_isa};
use imagen_kernels::biased_attention::BiasedAttention;

fn twin(a: &BiasedAttention, q: &[f32], kv: &[f32], bias: &[f32], mask: Option<&[f32]>) -> Vec<f64> {
    let BiasedAttention { b, heads, tq, tk, d, scale } = *a;
    let row = heads * d;
    let mut o = vec![0.0; b * tq * row];
    for (picture, head, t) in (0..b * heads * tq).map(|i| (i / tq / heads, i / tq % heads, i % tq)) {
        let key = |s: usize, e: usize| f64::from(kv[(picture * tk + s) * 2 * row + head * d + e]);
        let value = |s: usize, e: usize| f64::from(kv[(picture * tk + s) * 2 * row + row + head * d + e]);
        let kept: Vec<usize> = (0..tk).filter(|s| mask.is_none_or(|mask| mask[picture * tk + s] != 0.0)).collect();
        let scores: Vec<f64> = kept
            .iter()
            .map(|&s| {
                let product: f64 =
                    (0..d).map(|e| f64::from(q[(picture * tq + t) * row + head * d + e]) * key(s, e)).sum();
                product * f64::from(scale) + f64::from(bias[(head * tq + t) * tk + s])
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        for (&s, score) in kept.iter().zip(&scores) {
            for e in 0..d {
                o[(picture * tq + t) * row + head * d + e] += (score - largest).exp() / sum * value(s, e);
            }
        }
    }
    o
}

#[test]
fn attention_with_a_bias_matches_the_definition() {
    let mut random = Random::new(81);
    let of = |b, heads, tq, tk, d, scale| BiasedAttention { b, heads, tq, tk, d, scale };
    let mut layers = vec![of(0, 2, 3, 4, 5, 1.0), of(1, 1, 1, 1, 1, 1.0), of(2, 3, 57, 70, 24, 0.5)];
    layers.extend([of(1, 2, 4, 0, 8, 1.0), of(1, 2, 0, 4, 8, 1.0), of(1, 2, 128, 128, 64, 0.125)]);
    layers.extend((0..8).map(|_| {
        let mut pick = |high| random.pick(1, high);
        of(pick(2), pick(4), pick(60), pick(60), pick(40), 0.3)
    }));
    for (case, layer) in layers.into_iter().enumerate() {
        let BiasedAttention { b, heads, tq, tk, d, .. } = layer;
        let (q, kv) = (random.numbers(b * tq * heads * d), random.numbers(b * tk * 2 * heads * d));
        // Far below zero: padding must not count as the largest.
        let offset = if case % 2 == 0 { -500.0 } else { 0.0 };
        let bias: Vec<f32> = random.numbers(heads * tq * tk).iter().map(|x| 3.0 * x + offset).collect();
        let mask: Vec<f32> = (0..b * tk).map(|_| random.pick(0, 1) as f32).collect();
        for mask in [None, Some(&mask[..]), Some(&vec![0.0; b * tk][..])] {
            let expected = twin(&layer, &q, &kv, &bias, mask);
            on_every_isa(|isa| {
                let mut o = blank(q.len());
                layer.forward(&q, &kv, &bias, mask, &mut o);
                // Scores near -500 have 3e-5 of rounding.
                let bound = if offset == 0.0 { 5e-6 } else { 1e-4 };
                assert_close(&format!("{layer:?}, mask {} on {isa:?}", mask.is_some()), &o, &expected, bound);
            });
        }
    }
}
