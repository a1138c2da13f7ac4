//! Quantiles against sorting.

use crate::support::{Random, on_every_isa};
use imagen_kernels::quantile::abs_quantiles;

/// numpy's default definition.
fn twin(picture: &[f32], ratio: f64) -> f64 {
    let mut sorted: Vec<f64> = picture.iter().map(|x| f64::from(x.abs())).collect();
    sorted.sort_by(f64::total_cmp);
    let position = ratio * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + position.fract() * (above - below)
}

#[test]
fn quantiles_are_those_of_the_sorted_magnitudes() {
    let mut random = Random::new(71);
    let shapes = [(1, 1), (1, 2), (3, 5), (2, 300), (1, 20_000), (2, 70_001), (9, 64)];
    for (pictures, size) in shapes {
        let normal = random.numbers(pictures * size);
        // Ties, a single bin of the histogram, and two far apart with nothing between.
        let whole = normal.iter().map(|x| x.round()).collect();
        let close = normal.iter().map(|x| 1.0 + x.abs() * 1e-3).collect();
        let apart = normal.iter().map(|x| if *x > 0.5 { 1e30 } else { -1e-40 }).collect();
        for x in [normal, whole, close, apart] {
            for ratio in [0.0, 0.1, 0.5, 0.7, 0.9, 0.995, 0.9999, 1.0] {
                let expected: Vec<f64> = x.chunks(size).map(|picture| twin(picture, ratio)).collect();
                on_every_isa(|isa| {
                    let mut quantiles = vec![f64::NAN; pictures];
                    abs_quantiles(&x, ratio, &mut quantiles);
                    assert_eq!(quantiles, expected, "{pictures} pictures of {size}, ratio {ratio}, on {isa:?}");
                });
            }
        }
    }
}

#[test]
fn what_is_not_a_number_counts_as_the_largest_and_empty_pictures_have_no_quantile() {
    let mut quantile = [0.0];
    abs_quantiles(&[1.0, f32::NAN, -2.0, f32::NEG_INFINITY, 0.0], 0.5, &mut quantile);
    assert_eq!(quantile, [2.0]);
    abs_quantiles(&[1.0, -f32::NAN], 1.0, &mut quantile);
    assert!(quantile[0].is_nan());
    abs_quantiles(&[], 0.5, &mut quantile);
    assert!(quantile[0].is_nan());
    abs_quantiles(&[], 0.5, &mut []);
}

#[test]
fn quantiles_equal_those_of_numpy() {
    // numpy.quantile(values, ratio), default method.
    let unsorted = [3.0, 0.0, -2.0, 1.0, -10.0];
    let cases = [(0.0, 0.0), (0.1, 0.4), (0.25, 1.0), (0.5, 2.0), (0.9, 7.2), (0.995, 9.86), (1.0, 10.0)];
    let quantile = |values: &[f32], ratio| {
        let mut found = [0.0];
        abs_quantiles(values, ratio, &mut found);
        found[0]
    };
    for (ratio, expected) in cases {
        let found = quantile(&unsorted, ratio);
        assert!((found - expected).abs() < 1e-12, "ratio {ratio}: {found}, expected {expected}");
    }
    assert_eq!(quantile(&[4.0], 0.995), 4.0);
    let found = quantile(&std::array::from_fn::<f32, 1001, _>(|i| ((i * 8) % 1001) as f32), 0.9955);
    assert!((found - 995.5).abs() < 1e-9, "{found}");
}
