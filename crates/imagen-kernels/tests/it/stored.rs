//! Linear layers with stored weights against three nested loops over the decoded weights.

use crate::support::{Random, assert_close, bfloat, blank, half, on_every_isa, wide};
use imagen_kernels::stored::{StoredLinear, Weights, quantize_rows};

/// `y = (x w + bias + residual) * scale` for w `[c, k]`.
fn twin(rows: usize, x: &[f32], w: &[f64], k: usize, bias: &[f32], residual: &[f32], scale: f64) -> Vec<f64> {
    let c = w.len().checked_div(k).unwrap_or(0);
    let mut y = vec![0.0; rows * k];
    for (r, j) in (0..rows).flat_map(|r| (0..k).map(move |j| (r, j))) {
        let sum: f64 = (0..c).map(|i| f64::from(x[r * c + i]) * w[i * k + j]).sum();
        y[r * k + j] = (sum + f64::from(bias[j]) + f64::from(residual[r * k + j])) * scale;
    }
    y
}

/// `[a, b]` as `[b, a]`.
fn transposed<T: Copy>(x: &[T], a: usize, b: usize) -> Vec<T> {
    (0..a * b).map(|i| x[i % a * b + i / a]).collect()
}

#[test]
fn stored_weights_give_the_product_of_the_decoded_ones() {
    let mut random = Random::new(61);
    let mut shapes = vec![(0, 5, 6), (1, 1, 1), (1, 1024, 70), (6, 300, 33), (7, 513, 40), (100, 257, 64), (3, 0, 4)];
    shapes.extend([(8, 0, 4), (700, 64, 3), (4, 512, 17), (90, 1024, 9)]);
    shapes.extend((0..12).map(|_| (random.pick(1, 20), random.pick(1, 90), random.pick(1, 90))));
    for (rows, c, k) in shapes {
        let (x, bias, residual) = (random.numbers(rows * c), random.numbers(k), random.numbers(rows * k));
        // Normal and subnormal halves of both signs; bfloat16 is the upper half of f32.
        let halves: Vec<u16> =
            (0..c * k).map(|_| random.pick(0, 0x3C00) as u16 | (random.pick(0, 1) << 15) as u16).collect();
        let bfloats: Vec<u16> = random.numbers(c * k).iter().map(|w| (w.to_bits() >> 16) as u16).collect();
        let integers: Vec<i8> = (0..c * k).map(|_| random.pick(0, 255) as u8 as i8).collect();
        let scales: Vec<f32> = random.numbers(k).iter().map(|s| s * 0.01).collect();
        let scaled = integers.iter().enumerate().map(|(i, &w)| f64::from(w) * f64::from(scales[i % k])).collect();
        let singles = random.numbers(c * k);
        let decoded = [
            wide(&singles),
            halves.iter().map(|&w| half(w)).collect(),
            bfloats.iter().map(|&w| bfloat(w)).collect(),
            scaled,
        ];
        let expected = decoded.clone().map(|w: Vec<f64>| twin(rows, &x, &w, k, &bias, &residual, -1.5));
        let single_rows = transposed(&singles, c, k);
        let (half_rows, bfloat_rows) = (transposed(&halves, c, k), transposed(&bfloats, c, k));
        let integer_rows = transposed(&integers, c, k);
        on_every_isa(|isa| {
            let weights = [
                Weights::F32(&singles),
                Weights::F16(&halves),
                Weights::Bf16(&bfloats),
                Weights::Int8 { integers: &integers, scales: &scales },
            ];
            let in_rows = [
                Weights::F32(&single_rows),
                Weights::F16(&half_rows),
                Weights::Bf16(&bfloat_rows),
                Weights::Int8 { integers: &integer_rows, scales: &scales },
            ];
            let cases = weights.into_iter().zip(in_rows).zip(expected.iter().zip(&decoded));
            for ((weights, in_rows), (expected, decoded)) in cases {
                let layer = StoredLinear::new(c, k, weights);
                let what = format!("{rows} rows, {layer:?} on {isa:?}");
                let mut y = blank(rows * k);
                layer.forward(rows, &x, Some(&bias), Some(&residual), -1.5, &mut y);
                assert_close(&what, &y, expected, 2e-6);
                assert_close(&format!("widened, {what}"), &layer.widened(), decoded, 1e-7);
                let mut again = blank(rows * k);
                let layer = StoredLinear::from_rows(c, k, in_rows);
                layer.forward(rows, &x, Some(&bias), Some(&residual), -1.5, &mut again);
                assert!(y == again, "weights in rows, {what}");
            }
        });
    }
}

#[test]
fn every_half_is_decoded_exactly() {
    // Sixteen bits of weight in one feature each, times one.
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let expected: Vec<f64> = halves.iter().map(|&h| half(h)).collect();
    on_every_isa(|isa| {
        let layer = StoredLinear::new(1, halves.len(), Weights::F16(&halves));
        let mut y = blank(halves.len());
        layer.forward(1, &[1.0], None, None, 1.0, &mut y);
        for (i, (&y, &e)) in y.iter().zip(&expected).enumerate() {
            assert!(f64::from(y) == e || (y.is_nan() && e.is_nan()), "{i:#06x} is {y} on {isa:?}, not {e}");
        }
    });
}

#[test]
fn quantizing_keeps_each_weight_within_half_a_scale() {
    let mut random = Random::new(62);
    for (rows, columns) in [(0, 4), (3, 0), (1, 1), (7, 33)] {
        let mut w = random.numbers(rows * columns);
        w.iter_mut().take(columns).for_each(|w| *w = 0.0);
        let (integers, scales) = quantize_rows(&w, rows, columns);
        assert_eq!((integers.len(), scales.len()), (w.len(), rows));
        for (i, (&w, &integer)) in wide(&w).iter().zip(&integers).enumerate() {
            let scale = f64::from(scales[i / columns]);
            assert!((w - f64::from(integer) * scale).abs() <= 0.5001 * scale, "{w} became {integer} times {scale}");
        }
    }
}
