//! Attention against the textbook, with all probabilities written down.

use crate::support::{Random, assert_close, blank, on_every_isa};
use imagen_kernels::attention::Attention;

struct Twin {
    o: Vec<f64>,
    gq: Vec<f64>,
    gkv: Vec<f64>,
}

fn twin(a: &Attention, q: &[f32], kv: &[f32], mask: Option<&[f32]>, go: &[f32]) -> Twin {
    let Attention { b, heads, tq, tk, d } = *a;
    let row = heads * d;
    let scale = 1.0 / (d as f64).sqrt();
    let mut t = Twin { o: vec![0.0; q.len()], gq: vec![0.0; q.len()], gkv: vec![0.0; kv.len()] };
    for (picture, head, i) in (0..b).flat_map(|p| (0..heads).flat_map(move |h| (0..tq).map(move |i| (p, h, i)))) {
        let at_q = (picture * tq + i) * row + head * d;
        let at_k = |j: usize| (picture * tk + j) * 2 * row + head * d;
        let dot = |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
        let keep = |j: usize| mask.is_none_or(|mask| mask[picture * tk + j] != 0.0);
        let s: Vec<f64> = (0..tk).map(|j| dot(&q[at_q..][..d], &kv[at_k(j)..][..d]) * scale).collect();
        let largest = (0..tk).filter(|&j| keep(j)).map(|j| s[j]).fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = (0..tk).map(|j| if keep(j) { (s[j] - largest).exp() } else { 0.0 }).collect();
        let sum: f64 = e.iter().sum();
        let p: Vec<f64> = e.iter().map(|e| if sum > 0.0 { e / sum } else { 0.0 }).collect();
        let dp: Vec<f64> = (0..tk).map(|j| dot(&go[at_q..][..d], &kv[at_k(j) + row..][..d])).collect();
        let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for j in 0..tk {
            let ds = p[j] * (dp[j] - mean) * scale;
            for f in 0..d {
                t.o[at_q + f] += p[j] * f64::from(kv[at_k(j) + row + f]);
                t.gq[at_q + f] += ds * f64::from(kv[at_k(j) + f]);
                t.gkv[at_k(j) + f] += ds * f64::from(q[at_q + f]);
                t.gkv[at_k(j) + row + f] += p[j] * f64::from(go[at_q + f]);
            }
        }
    }
    t
}

fn check(a: Attention, masked: bool, random: &mut Random) {
    let Attention { b, heads, tq, tk, d } = a;
    let q = random.numbers(b * tq * heads * d);
    let kv = random.numbers(b * tk * 2 * heads * d);
    let go = random.numbers(q.len());
    let mut mask: Vec<f32> = (0..b * tk).map(|_| if random.pick(0, 3) == 0 { 0.0 } else { 1.0 }).collect();
    // The last picture attends to nothing.
    if masked && b > 1 {
        mask[(b - 1) * tk..].fill(0.0);
    }
    let mask = masked.then_some(&mask[..]);
    let expected = twin(&a, &q, &kv, mask, &go);
    on_every_isa(|isa| {
        let what = format!("{a:?}, masked {masked}, on {isa:?}");
        let mut o = blank(q.len());
        a.forward(&q, &kv, mask, &mut o);
        assert_close(&what, &o, &expected.o, 3e-6);
        if masked && b > 1 {
            assert!(o[(b - 1) * tq * heads * d..].iter().all(|&o| o == 0.0), "{what}: no key, yet an output");
        }
        let (mut again, mut log_sums) = (blank(q.len()), blank(b * heads * tq));
        a.forward_saving(&q, &kv, mask, &mut again, &mut log_sums);
        assert_eq!(again, o, "{what}: what is kept changes the result");
        let (mut gq, mut gkv) = (blank(q.len()), blank(kv.len()));
        a.backward([&q, &kv], mask, [&o, &log_sums], &go, &mut gq, &mut gkv);
        assert_close(&format!("gq, {what}"), &gq, &expected.gq, 5e-6);
        assert_close(&format!("gkv, {what}"), &gkv, &expected.gkv, 5e-6);
    });
}

#[test]
fn attention_and_its_gradients_match_the_definition() {
    let mut random = Random::new(21);
    let of = |b, heads, tq, tk, d| Attention { b, heads, tq, tk, d };
    let mut shapes = vec![
        of(0, 2, 3, 4, 8),
        of(1, 1, 1, 1, 8),
        of(2, 2, 0, 5, 8),
        of(2, 2, 5, 0, 8),
        of(2, 4, 64, 64, 64),
        of(3, 2, 100, 77, 16),
        of(1, 1, 1000, 40, 32),
        of(2, 3, 57, 300, 40),
        // several blocks of keys, the last one short
        of(2, 2, 40, 1037, 24),
        of(2, 1, 9, 11, 5),
    ];
    for _ in 0..8 {
        let d = 8 * random.pick(1, 9);
        shapes.push(of(random.pick(1, 3), random.pick(1, 4), random.pick(1, 130), random.pick(1, 130), d));
    }
    for a in shapes {
        for masked in [false, true] {
            check(a, masked, &mut random);
        }
    }
}

#[test]
fn blocks_of_keys_of_which_all_are_masked_change_nothing() {
    let (a, seen) = (Attention { b: 1, heads: 2, tq: 70, tk: 1200, d: 16 }, 700..720);
    let mut random = Random::new(22);
    let (q, go) = (random.numbers(70 * 32), random.numbers(70 * 32));
    let kv = random.numbers(1200 * 64);
    let mask: Vec<f32> = (0..1200).map(|j| f32::from(u8::from(seen.contains(&j)))).collect();
    let expected = twin(&a, &q, &kv, Some(&mask), &go);
    on_every_isa(|isa| {
        let (mut o, mut log_sums) = (blank(q.len()), blank(2 * 70));
        a.forward_saving(&q, &kv, Some(&mask), &mut o, &mut log_sums);
        assert_close(&format!("{isa:?}"), &o, &expected.o, 3e-6);
        let (mut gq, mut gkv) = (blank(q.len()), blank(kv.len()));
        a.backward([&q, &kv], Some(&mask), [&o, &log_sums], &go, &mut gq, &mut gkv);
        assert_close(&format!("gq, {isa:?}"), &gq, &expected.gq, 5e-6);
        assert_close(&format!("gkv, {isa:?}"), &gkv, &expected.gkv, 5e-6);
        assert!(gkv[..700 * 64].iter().all(|&g| g == 0.0), "{isa:?}: a masked key has a gradient");
    });
}

#[test]
fn large_scores_do_not_overflow() {
    let a = Attention { b: 1, heads: 1, tq: 3, tk: 4, d: 8 };
    let q = vec![1000.0; 24];
    let kv: Vec<f32> = (0..64).map(|i| if i % 16 < 8 { i as f32 * 10.0 } else { i as f32 }).collect();
    on_every_isa(|isa| {
        let mut o = blank(24);
        a.forward(&q, &kv, None, &mut o);
        // All weight on the last key.
        let expected: Vec<f64> = (0..24).map(|i| f64::from(56 + i % 8)).collect();
        assert_close(&format!("{isa:?}"), &o, &expected, 1e-6);
    });
}
