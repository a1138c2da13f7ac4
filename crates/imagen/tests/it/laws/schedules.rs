//! Noise schedules: log-SNR falls, signal and noise share the variance, and the closed forms are the limits of the discrete ones.

use super::*;

// --- schedules ---

#[test]
fn log_snr_strictly_decreases_within_its_limits() {
    for schedule in NoiseSchedule::ALL {
        // Ten thousand steps over all of time, and as many over each of its ends.
        for (start, width) in [(0.0, 1.0), (0.0, 1e-6), (1.0 - 1e-6, 1e-6)] {
            let grid = (0..=10_000).map(|i| schedule.log_snr(time(start + width * f64::from(i) / 1e4)));
            let lambdas: Vec<f64> = grid.map(LogSnr::get).collect();
            let stuck = lambdas.windows(2).position(|pair| pair[0] <= pair[1]);
            assert_eq!(stuck, None, "{schedule} from t = {start}, width {width}");
            assert!(lambdas.iter().all(|lambda| lambda.abs() <= LogSnr::LIMIT), "{schedule}");
        }
    }
}

#[test]
fn schedules_begin_and_end_where_they_should() {
    let ends = |schedule: NoiseSchedule| [Time::ZERO, Time::ONE].map(|t| schedule.log_snr(t).get());
    let expected = [(NoiseSchedule::Cosine, [20.0, -20.0]), (NoiseSchedule::Linear, [20.0, -10.049_956_8])];
    for (schedule, expected) in expected {
        let found = ends(schedule);
        let error = (found[0] - expected[0]).abs().max((found[1] - expected[1]).abs());
        assert!(error < 1e-6, "{schedule}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn signal_and_noise_share_one_unit_of_variance() {
    for i in -2000..=2000 {
        let level = level(f64::from(i) / 2.0);
        let (alpha, sigma) = (level.alpha(), level.sigma());
        assert!((alpha * alpha + sigma * sigma - 1.0).abs() < 1e-15, "{level:?}");
        // Both keep their relative precision where they are small.
        assert!((2.0 * (alpha.ln() - sigma.ln()) - level.get()).abs() < 1e-9 || level.get().abs() > 600.0, "{level:?}");
    }
    assert_eq!(level(33.0).clamped(), level(20.0));
}

/// λ of a discrete schedule after each of its steps: ᾱ is the product of 1 − β.
fn discrete(betas: impl Iterator<Item = f64>) -> Vec<f64> {
    let log_alpha_bars = betas.scan(0.0, |sum, beta: f64| {
        *sum += (-beta).ln_1p();
        Some(*sum)
    });
    log_alpha_bars.map(|log: f64| log - (-log.exp_m1()).ln()).collect()
}

#[test]
fn linear_is_the_limit_of_a_thousand_linear_steps() {
    let lambdas = discrete((0..1000).map(|i| 1e-4 + (0.02 - 1e-4) * f64::from(i) / 999.0));
    for (i, expected) in lambdas.into_iter().enumerate() {
        let found = NoiseSchedule::Linear.log_snr(time((i + 1) as f64 / 1e3)).get();
        assert!((found - expected).abs() < 0.1, "step {}: {found}, expected {expected}", i + 1);
    }
}

#[test]
fn cosine_is_the_limit_of_a_thousand_cosine_steps() {
    let alpha_bar = |i: usize| ((i as f64 / 1e3 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    let lambdas = discrete((0..1000).map(|i| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).min(0.999)));
    // The last step's β is cut off at 0.999 there; here the limit of λ ends the schedule.
    for (i, expected) in lambdas.into_iter().take(999).enumerate() {
        let found = NoiseSchedule::Cosine.log_snr(time((i + 1) as f64 / 1e3)).get();
        let tolerance = if i < 990 { 6e-3 } else { 6e-2 };
        assert!((found - expected).abs() < tolerance, "step {}: {found}, expected {expected}", i + 1);
    }
}

#[test]
fn a_shifted_schedule_gives_averaged_pictures_the_noise_of_the_small_ones() {
    // The mean of 2x2 pixels keeps a flat signal and has a quarter of the noise's variance: λ rises by ln 4.
    let shifted: NoiseSchedule = "shifted-cosine".parse().unwrap();
    for i in 5..=95 {
        let t = time(f64::from(i) / 100.0);
        let averaged = shifted.log_snr(t).get() + 4f64.ln();
        assert!((averaged - NoiseSchedule::Cosine.log_snr(t).get()).abs() < 5e-3, "t = {}", t.get());
    }
    assert_eq!("shifted-cosine:-2".parse::<NoiseSchedule>().unwrap(), NoiseSchedule::ShiftedCosine { shift: -2.0 });
    assert_eq!(NoiseSchedule::ShiftedCosine { shift: -2.0 }.to_string(), "shifted-cosine:-2");
    for wrong in ["shifted-cosine:-11", "shifted-cosine:x", "cosine:1", "shifted"] {
        assert_eq!(wrong.parse::<NoiseSchedule>().unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
    }
}

#[test]
fn times_outside_the_unit_interval_are_refused() {
    for t in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY] {
        assert_eq!(Time::new(t).unwrap_err().kind(), ErrorKind::Usage, "{t}");
    }
}
