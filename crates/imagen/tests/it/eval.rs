//! Evaluation: features and distances against numpy, laws of the distances, and whether intervals hold what they say.

use imagen::ErrorKind;
use imagen::eval::{KidOptions, Layout, Protocol, Statistics, Summary, frechet, frechet_distance, kid};
use imagen::image::Picture;
use imagen::rng::Rng;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const GOLDEN: &[u8] = include_bytes!("../golden/eval/eval.safetensors");

fn golden() -> SafeTensors<'static> {
    SafeTensors::deserialize(GOLDEN).unwrap()
}

fn f32s(tensor: &TensorView<'_>) -> Vec<f32> {
    tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn number(golden: &SafeTensors<'_>, name: &str) -> f64 {
    f64::from_le_bytes(golden.tensor(name).unwrap().data().try_into().unwrap())
}

/// Statistics with exactly this mean and this covariance, which is diagonal: two points on each axis.
fn diagonal(mean: &[f64], variances: &[f64]) -> Statistics {
    let d = mean.len();
    let n = 2.0 * d as f64;
    let mut statistics = Statistics::new(d);
    for (axis, variance) in variances.iter().enumerate() {
        // the 2d points have the sum of squares 2 r² on each axis
        let r = (variance * (n - 1.0) / 2.0).sqrt();
        for sign in [-1.0, 1.0] {
            let point: Vec<f32> = (0..d).map(|i| (mean[i] + if i == axis { sign * r } else { 0.0 }) as f32).collect();
            statistics.add_rows(&point).unwrap();
        }
    }
    statistics
}

/// Rows of normal numbers around an offset, `[n, d]`.
fn normal(seed: u64, n: usize, d: usize, scale: f32, offset: f32) -> Vec<f32> {
    Rng::new(seed).normal(n * d).into_iter().map(|x| scale * x + offset).collect()
}

fn summary(rows: &[f32]) -> Summary {
    let mut summary = Summary::new(&Protocol::layout(), true);
    summary.add_rows(rows).unwrap();
    summary
}

#[test]
fn features_are_those_of_an_independent_implementation() {
    let golden = golden();
    for i in 0..3 {
        let tensor = golden.tensor(&format!("picture.{i}")).unwrap();
        let [height, width, _] = tensor.shape().try_into().unwrap();
        let picture = Picture::new(width, height, tensor.data().to_vec()).unwrap();
        let found = Layout::of(&picture).unwrap();
        let expected = f32s(&golden.tensor(&format!("layout.{i}")).unwrap());
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 2e-4, "picture {i}, feature {at}: {found}, expected {expected}");
        }
    }
}

#[test]
fn distances_are_those_of_an_independent_implementation_with_many_vectors_and_with_few() {
    let golden = golden();
    for case in ["tall", "wide"] {
        let [a, b] = ["a", "b"].map(|side| golden.tensor(&format!("{side}.{case}")).unwrap());
        let d = a.shape()[1];
        let (a, b) = (f32s(&a), f32s(&b));
        let statistics = |rows: &[f32]| Statistics::of_rows(rows, d).unwrap();
        let distance = frechet_distance(&statistics(&a), &statistics(&b)).unwrap();
        let expected = number(&golden, &format!("frechet.{case}"));
        assert!((distance - expected).abs() < 1e-6 * expected, "{case}: {distance}, expected {expected}");
        let found = kid(&a, &b, d, &KidOptions::default()).unwrap();
        let expected = number(&golden, &format!("kid.{case}"));
        assert!((found.value - expected).abs() < 1e-10 * expected.abs().max(1.0), "{case}: {found:?}, {expected}");
        assert!(found.interval.contains(found.value) && found.blocks == 1, "{found:?}");
    }
}

#[test]
fn two_diagonal_normal_distributions_have_the_distance_of_the_closed_form() {
    let (m, s) = ([1.0f64, -2.0, 0.5], [1.0f64, 4.0, 0.0]);
    let (n, t) = ([0.0f64, -2.0, 1.5], [9.0f64, 0.25, 0.0]);
    let expected: f64 = (0..3).map(|i| (m[i] - n[i]).powi(2) + (s[i].sqrt() - t[i].sqrt()).powi(2)).sum();
    let found = frechet_distance(&diagonal(&m, &s), &diagonal(&n, &t)).unwrap();
    assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
}

#[test]
fn a_set_is_at_no_distance_from_itself_even_with_fewer_pictures_than_features() {
    for n in [2, 20, 60] {
        let a = Statistics::of_rows(&normal(1, n, 40, 3.0, 7.0), 40).unwrap();
        let distance = frechet_distance(&a, &a).unwrap();
        assert!(distance < 1e-9, "{n}: {distance}");
    }
}

#[test]
fn turning_both_sets_does_not_change_their_distance_and_order_does_not_matter() {
    let d = 6;
    let (a, b) = (normal(1, 30, d, 1.0, 0.0), normal(2, 25, d, 2.0, 0.5));
    // a Householder reflection
    let axis: Vec<f32> = normal(3, 1, d, 1.0, 0.0);
    let square: f32 = axis.iter().map(|x| x * x).sum();
    let turned = |rows: &[f32]| {
        let turn = |row: &[f32]| {
            let along = row.iter().zip(&axis).map(|(x, v)| x * v).sum::<f32>() * 2.0 / square;
            row.iter().zip(&axis).map(|(x, v)| x - along * v).collect::<Vec<f32>>()
        };
        rows.chunks_exact(d).flat_map(turn).collect::<Vec<f32>>()
    };
    let distance = |a: &[f32], b: &[f32]| {
        frechet_distance(&Statistics::of_rows(a, d).unwrap(), &Statistics::of_rows(b, d).unwrap()).unwrap()
    };
    let plain = distance(&a, &b);
    assert!(plain > 1.0);
    assert!((distance(&turned(&a), &turned(&b)) - plain).abs() < 1e-4 * plain);
    assert!((distance(&b, &a) - plain).abs() < 1e-9 * plain);
    assert!((distance(&turned(&a), &b) - plain).abs() > 1e-2 * plain, "turning one set does change it");
}

#[test]
fn saved_statistics_compare_as_the_set_itself_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let (a, b) = (summary(&normal(1, 12, Layout::DIM, 1.0, 0.0)), summary(&normal(2, 9, Layout::DIM, 1.0, 0.5)));
    a.save(&path).unwrap();
    let loaded = Summary::load(&path).unwrap();
    assert_eq!(loaded, a);
    assert_eq!(frechet(&loaded, &b).unwrap(), frechet(&a, &b).unwrap());
    let mut joined = loaded;
    joined.merge(&b).unwrap();
    assert_eq!((joined.statistics().count(), joined.features().unwrap().len()), (21, 21 * Layout::DIM));

    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"layout-1").expect("the file names its extractor");
    bytes[at + 7] = b'2';
    std::fs::write(&path, &bytes).unwrap();
    let error = Summary::load(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(format!("{error:#}").contains("layout-2"), "{error:#}");
    imagen::models::weights::write_safetensors(
        &path,
        &[],
        &Default::default(),
        imagen::models::weights::Precision::F32,
    )
    .unwrap();
    assert!(format!("{:#}", Summary::load(&path).unwrap_err()).contains("imagen eval stats"));
}

#[test]
fn the_interval_of_a_frechet_distance_needs_features_and_is_as_wide_as_repetitions_spread() {
    let pair = |seed: u64| {
        // four directions vary, so that the distance is not all bias
        let rows = |seed: u64, offset: f32| {
            let numbers = normal(seed, 120, 4, 1.0, offset);
            let row = |four: &[f32]| (0..Layout::DIM).map(|i| if i < 4 { four[i] } else { 0.0 }).collect::<Vec<_>>();
            numbers.chunks_exact(4).flat_map(row).collect::<Vec<f32>>()
        };
        (summary(&rows(2 * seed, 0.0)), summary(&rows(2 * seed + 1, 1.0)))
    };
    let found: Vec<_> = (0..24).map(pair).map(|(a, b)| frechet(&a, &b).unwrap()).collect();
    let mean = found.iter().map(|f| f.distance).sum::<f64>() / 24.0;
    let held = found.iter().filter(|f| f.interval.unwrap().contains(mean)).count();
    // 95 % of 24 are 23; fewer than 19 happen once in 1000 times, and the seeds are fixed
    assert!(held >= 19, "{held} of 24 intervals hold the mean {mean}");
    let (a, b) = pair(1);
    let mut bare = Summary::new(&Protocol::layout(), false);
    bare.add_rows(a.features().unwrap()).unwrap();
    assert_eq!(frechet(&bare, &b).unwrap().interval, None);
}

/// The discrepancy of N(0, 1) and N(offset, scale²), `d` independent numbers each: by the binomial theorem that of the
/// first three moments, as tensors.
fn true_discrepancy(d: f64, s: f64, o: f64) -> f64 {
    let first = d * o * o;
    let second = d * (s * s - 1.0 + o * o).powi(2) + d * (d - 1.0) * o.powi(4);
    let [cube, pair, triple] = [o.powi(3) + 3.0 * o * s * s, o * (o * o + s * s), o.powi(3)];
    let third = d * cube.powi(2) + 3.0 * d * (d - 1.0) * pair.powi(2) + d * (d - 1.0) * (d - 2.0) * triple.powi(2);
    3.0 * first / d + 3.0 * second / (d * d) + third / d.powi(3)
}

#[test]
fn the_interval_of_a_kernel_distance_holds_the_truth_as_often_as_it_says() {
    let d = 16;
    let blocks = KidOptions { exact_up_to: 10, block: 20, seed: 1 };
    for (what, options, n) in [("exact", KidOptions::default(), 120), ("blocks", blocks, 300)] {
        for (scale, offset) in [(1.0, 0.0), (1.0, 0.3), (1.2, 0.2)] {
            let truth = true_discrepancy(d as f64, f64::from(scale), f64::from(offset));
            let found = (0..400).map(|seed| {
                let (a, b) = (normal(2 * seed, n, d, 1.0, 0.0), normal(2 * seed + 1, n, d, scale, offset));
                kid(&a, &b, d, &options).unwrap()
            });
            let found: Vec<_> = found.collect();
            let held = found.iter().filter(|found| found.interval.contains(truth)).count();
            // 95 % are 380, with a standard deviation of 4.4
            assert!((364..=399).contains(&held), "{what}, N({offset}, {scale}²): {held} of 400");
            let mean = found.iter().map(|found| found.value).sum::<f64>() / 400.0;
            let spread = (found.iter().map(|found| (found.value - mean).powi(2)).sum::<f64>() / 400.0).sqrt();
            assert!((mean - truth).abs() < 4.0 * spread / 20.0, "{what}: unbiased, {mean} for {truth}");
        }
    }
}

#[test]
fn blocks_estimate_what_the_whole_does_without_bias_and_a_seed_decides_them() {
    let (a, b) = (normal(1, 3000, 3, 1.0, 0.0), normal(2, 2500, 3, 1.0, 0.3));
    let whole = kid(&a, &b, 3, &KidOptions::default()).unwrap();
    let cut = |seed| kid(&a, &b, 3, &KidOptions { exact_up_to: 100, block: 200, seed }).unwrap();
    assert_eq!((cut(1).blocks, cut(1)), (15, cut(1)));
    assert_ne!(cut(1).value, cut(2).value);
    assert!(cut(1).interval.contains(whole.value), "{:?}, whole {whole:?}", cut(1));
    assert!(kid(&a[..6], &b, 3, &KidOptions::default()).is_err());
}
