//! The laws of `diffusion/`: identities that hold for every schedule, parameterization and sampler.
//!
//! The samplers are judged on normal data N(μ, s²), for which everything is known: the exact denoiser is affine, so a
//! deterministic sampler is an affine map of the first noise, and an ancestral one is a recursion of mean and variance.
//! Both are followed in f64 without a tensor; that the `Trajectory` does the same to tensors is a law of its own.

use std::fmt::{Debug, Display};
use std::ops::{Add, Mul};
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use imagen::diffusion::{
    Denoised, Draw, Guidance, Keep, Key, LogSnr, LossWeight, Noise, NoiseSchedule, Outside, Parameterization,
    PlannedStep, Sampler, Spacing, StepEvent, Thresholding, Time, TimeSampling, Trajectory, beginnings, diffuse, noise,
    noise_of, repeated, rescale,
};
use imagen::rng::Rng;
use imagen::{ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn level(lambda: f64) -> LogSnr {
    LogSnr::new(lambda)
}

fn time(t: f64) -> Time {
    Time::new(t).unwrap()
}

fn values(x: Tensor<4>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

fn close(a: Tensor<4>, b: Tensor<4>, tolerance: f64) -> bool {
    values(a).into_iter().zip(values(b)).all(|(a, b)| f64::from(a - b).abs() <= tolerance)
}

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

// --- parameterizations and guidance ---

fn picture_and_noise(n: u64) -> (Tensor<4>, Tensor<4>) {
    let keys = |stream: u64| (0..n).map(|i| Rng::new(4).fold(stream).fold(i)).collect::<Vec<_>>();
    let draw = |stream| noise(&keys(stream), [n as usize, 4, 4, 3], &Device::flex());
    (draw(0).tanh(), draw(1))
}

#[test]
fn each_parameterization_recovers_picture_and_noise_from_its_target() {
    for parameterization in Parameterization::ALL {
        let levels = [-20.0, -8.0, -1.0, 0.0, 2.0, 9.0, 20.0].map(level);
        let (x, eps) = picture_and_noise(levels.len() as u64);
        let z = diffuse(x.clone(), eps.clone(), &levels);
        let output = parameterization.target(x.clone(), eps.clone(), &levels);
        let x_hat = parameterization.x_hat(output.clone(), z.clone(), &levels);
        let eps_hat = parameterization.eps(output, z, &levels);
        for (i, level) in levels.into_iter().enumerate() {
            let picture = |x: &Tensor<4>| x.clone().narrow(0, i, 1);
            let (near_x, near_eps) = (1e-6 / level.alpha(), 1e-6 / level.sigma());
            assert!(close(picture(&x_hat), picture(&x), near_x), "x from {parameterization} at {level:?}");
            assert!(close(picture(&eps_hat), picture(&eps), near_eps), "eps from {parameterization} at {level:?}");
        }
    }
}

#[test]
fn guiding_outputs_equals_guiding_noise() {
    let (levels, w) = ([-4.0, 0.0, 4.0].map(level), Guidance::new(7.5).unwrap());
    let ((z, with_text), (_, without_text)) = (picture_and_noise(3), picture_and_noise(3));
    for parameterization in Parameterization::ALL {
        let eps = |output: &Tensor<4>| parameterization.eps(output.clone(), z.clone(), &levels);
        let guided_eps = w.combine(eps(&with_text), eps(&without_text));
        let guided_output = w.combine(with_text.clone(), without_text.clone());
        assert!(close(eps(&guided_output), guided_eps, 1e-3), "{parameterization}");
    }
}

// --- samplers on normal data ---

/// The data distribution N(mean, deviation²).
#[derive(Clone, Copy, Debug)]
struct Normal {
    mean: f64,
    deviation: f64,
}

/// u ↦ slope · u + offset.
#[derive(Clone, Copy, Debug)]
struct Affine {
    slope: f64,
    offset: f64,
}

impl Affine {
    const IDENTITY: Self = Self { slope: 1.0, offset: 0.0 };

    fn after(self, first: Self) -> Self {
        Self { slope: self.slope * first.slope, offset: self.slope * first.offset + self.offset }
    }

    fn error(self, exact: Self) -> f64 {
        (self.slope - exact.slope).abs().max((self.offset - exact.offset).abs())
    }
}

impl Add for Affine {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { slope: self.slope + other.slope, offset: self.offset + other.offset }
    }
}

impl Mul<f64> for Affine {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { slope: self.slope * factor, offset: self.offset * factor }
    }
}

impl Normal {
    const CASES: [Self; 3] =
        [Self { mean: 0.3, deviation: 0.5 }, Self { mean: -0.8, deviation: 0.1 }, Self { mean: 0.0, deviation: 1.0 }];

    /// The standard deviation of z.
    fn spread(self, level: LogSnr) -> f64 {
        (level.alpha_squared() * self.deviation.powi(2) + level.sigma_squared()).sqrt()
    }

    /// E[x | z], the exact denoiser.
    fn x_hat(self, level: LogSnr) -> Affine {
        let slope = level.alpha() * self.deviation.powi(2) / self.spread(level).powi(2);
        Affine { slope, offset: self.mean * (1.0 - slope * level.alpha()) }
    }

    /// The exact solution of the deterministic equation from one level to another.
    fn transport(self, from: LogSnr, to: LogSnr) -> Affine {
        let slope = self.spread(to) / self.spread(from);
        Affine { slope, offset: self.mean * (to.alpha() - slope * from.alpha()) }
    }
}

fn even_times(schedule: NoiseSchedule, steps: usize) -> Vec<LogSnr> {
    (0..steps).map(|i| schedule.log_snr(time(1.0 - i as f64 / steps as f64))).collect()
}

/// What a deterministic sampler makes of the first z along the levels: the last z, and x̂ there.
fn follow(sampler: Sampler, levels: &[LogSnr], data: Normal) -> (Affine, Affine) {
    let mut z = Affine::IDENTITY;
    let mut previous: Option<(LogSnr, Affine)> = None;
    for pair in levels.windows(2) {
        let x_hat = data.x_hat(pair[0]).after(z);
        let by = sampler.coefficients(previous.map(|(level, _)| level), pair[0], pair[1]);
        assert_eq!(by.noise, 0.0, "{sampler} is not deterministic");
        z = z * by.z + x_hat * by.x_hat + previous.map_or(x_hat, |(_, x_hat)| x_hat) * by.previous;
        previous = Some((pair[0], x_hat));
    }
    (z, data.x_hat(*levels.last().unwrap()).after(z))
}

/// Mean and variance of the last x̂ of an ancestral sampler.
fn moments(sampler: Sampler, levels: &[LogSnr], data: Normal) -> (f64, f64) {
    let (mut mean, mut variance) = (0.0, 1.0);
    for pair in levels.windows(2) {
        let by = sampler.coefficients(None, pair[0], pair[1]);
        let step = Affine::IDENTITY * by.z + data.x_hat(pair[0]) * by.x_hat;
        mean = step.slope * mean + step.offset;
        variance = step.slope.powi(2) * variance + by.noise.powi(2);
    }
    let last = data.x_hat(*levels.last().unwrap());
    (last.slope * mean + last.offset, last.slope.powi(2) * variance)
}

#[test]
fn deterministic_samplers_reproduce_mean_and_variance_of_normal_data() {
    for schedule in NoiseSchedule::ALL {
        for sampler in [Sampler::Ddim { eta: 0.0 }, Sampler::DpmSolverPlusPlus2M] {
            for data in Normal::CASES {
                let levels = even_times(schedule, 1000);
                let (_, x_hat) = follow(sampler, &levels, data);
                let error = x_hat.error(data.transport(levels[0], level(40.0)));
                assert!(error < 2.5e-3, "{sampler}, {schedule}, {data:?}: error {error}");
            }
        }
    }
}

#[test]
fn ancestral_samplers_reproduce_mean_and_variance_of_normal_data() {
    for schedule in NoiseSchedule::ALL {
        for text in ["ddpm", "ddpm:0.3", "ddpm:1", "ddim:0.5", "ddim:1"] {
            for data in Normal::CASES {
                let (mean, variance) = moments(text.parse().unwrap(), &even_times(schedule, 1000), data);
                let error = (mean - data.mean).abs().max((variance.sqrt() - data.deviation).abs());
                assert!(error < 6e-3, "{text}, {schedule}, {data:?}: mean {mean}, variance {variance}");
            }
        }
    }
}

#[test]
fn gamma_zero_is_exact_for_one_picture_and_gamma_one_for_unit_normal_data() {
    let point = Normal { mean: 0.7, deviation: 0.0 };
    let unit = Normal { mean: 0.7, deviation: 1.0 };
    let levels = [-9.0, -2.0, 1.5, 6.0].map(level);
    for (gamma, data) in [(0.0, point), (1.0, unit)] {
        // From the right distribution of z at the first level, a few large steps give the right one at the last.
        let mut z = (levels[0].alpha() * data.mean, data.spread(levels[0]).powi(2));
        for pair in levels.windows(2) {
            let by = Sampler::Ddpm { gamma }.coefficients(None, pair[0], pair[1]);
            let step = Affine::IDENTITY * by.z + data.x_hat(pair[0]) * by.x_hat;
            z = (step.slope * z.0 + step.offset, step.slope.powi(2) * z.1 + by.noise.powi(2));
        }
        let last = levels[3];
        assert!((z.0 - last.alpha() * data.mean).abs() < 1e-12, "γ = {gamma}: mean {}", z.0);
        assert!((z.1 / data.spread(last).powi(2) - 1.0).abs() < 1e-12, "γ = {gamma}: variance {}", z.1);
    }
}

#[test]
fn gamma_interpolates_between_the_two_variances_in_the_logarithm() {
    let (t, s) = (level(-1.0), level(0.5));
    let variance = |gamma| Sampler::Ddpm { gamma }.coefficients(None, t, s).noise.powi(2);
    let added = t.sigma_squared() - (t.alpha() / s.alpha()).powi(2) * s.sigma_squared();
    assert!((variance(1.0) - added).abs() < 1e-12);
    assert!((variance(0.0) - added * s.sigma_squared() / t.sigma_squared()).abs() < 1e-12);
    assert!((variance(0.25).ln() - 0.75 * variance(0.0).ln() - 0.25 * variance(1.0).ln()).abs() < 1e-12);
}

#[test]
fn ddim_with_full_noise_is_the_ancestral_sampler() {
    for schedule in NoiseSchedule::ALL {
        for pair in even_times(schedule, 50).windows(2) {
            let ddim = Sampler::Ddim { eta: 1.0 }.coefficients(None, pair[0], pair[1]);
            let ddpm = Sampler::Ddpm { gamma: 0.0 }.coefficients(None, pair[0], pair[1]);
            for (a, b) in [(ddim.z, ddpm.z), (ddim.x_hat, ddpm.x_hat), (ddim.noise, ddpm.noise)] {
                assert!((a - b).abs() < 1e-12, "{schedule}, {pair:?}: {ddim:?}, {ddpm:?}");
            }
        }
    }
}

#[test]
fn the_first_step_of_dpm_solver_is_a_step_of_ddim() {
    for pair in even_times(NoiseSchedule::Cosine, 50).windows(2) {
        let solver = Sampler::DpmSolverPlusPlus2M.coefficients(None, pair[0], pair[1]);
        let ddim = Sampler::Ddim { eta: 0.0 }.coefficients(None, pair[0], pair[1]);
        assert!((solver.z - ddim.z).abs() < 1e-12 && (solver.x_hat - ddim.x_hat).abs() < 1e-12, "{pair:?}");
        assert_eq!(solver.previous, 0.0);
    }
}

#[test]
fn ddim_converges_in_first_order_and_dpm_solver_in_second() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let (from, to) = (-6.0, 6.0);
    let error = |sampler, steps: i32| {
        let levels: Vec<LogSnr> =
            (0..=steps).map(|i| level(from + (to - from) * f64::from(i) / f64::from(steps))).collect();
        follow(sampler, &levels, data).0.error(data.transport(level(from), level(to)))
    };
    for (sampler, order) in [(Sampler::Ddim { eta: 0.0 }, 1.0), (Sampler::DpmSolverPlusPlus2M, 2.0)] {
        for steps in [64, 128, 256] {
            let observed = (error(sampler, steps) / error(sampler, 2 * steps)).log2();
            assert!((observed - order).abs() < 0.15, "{sampler}, {steps} steps: order {observed}");
        }
    }
}

#[test]
fn dpm_solver_needs_fewer_steps_than_ddim() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    for schedule in NoiseSchedule::ALL {
        for steps in [20, 50, 100] {
            let levels = even_times(schedule, steps);
            let error = |sampler| follow(sampler, &levels, data).1.error(data.transport(levels[0], level(40.0)));
            let (solver, ddim) = (error(Sampler::DpmSolverPlusPlus2M), error(Sampler::Ddim { eta: 0.0 }));
            assert!(2.0 * solver < ddim, "{schedule}, {steps} steps: {solver} and {ddim}");
        }
    }
}

// --- trajectories ---

fn keys(pictures: std::ops::Range<u64>) -> Vec<Rng> {
    pictures.map(|picture| Rng::new(42).fold(picture)).collect()
}

fn first_z(keys: &[Rng], side: usize) -> Tensor<4> {
    let keys: Vec<Rng> = keys.iter().map(|key| key.fold(0)).collect();
    noise(&keys, [keys.len(), side, side, 3], &Device::flex())
}

/// The exact denoiser for normal data, on tensors.
fn exact(data: Normal) -> impl FnMut(Tensor<4>, LogSnr) -> Result<Tensor<4>> {
    move |z, level| {
        let map = data.x_hat(level);
        Ok(z.mul_scalar(map.slope).add_scalar(map.offset))
    }
}

fn picture(trajectory: impl Iterator<Item = Result<StepEvent>>) -> Tensor<4> {
    trajectory.last().unwrap().unwrap().x_hat
}

#[test]
fn a_trajectory_does_to_tensors_what_the_coefficients_say() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    for schedule in NoiseSchedule::ALL {
        for sampler in [Sampler::Ddim { eta: 0.0 }, Sampler::DpmSolverPlusPlus2M] {
            let z = first_z(&keys(0..2), 8);
            let (_, map) = follow(sampler, &even_times(schedule, 20), data);
            let expected = z.clone().mul_scalar(map.slope).add_scalar(map.offset);
            let found = picture(Trajectory::new(sampler, schedule, 20, z, keys(0..2), exact(data)).unwrap());
            assert!(close(found, expected, 1e-5), "{sampler}, {schedule}");
        }
    }
}

#[test]
fn an_ancestral_trajectory_has_the_moments_that_its_coefficients_say() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    for text in ["ddpm", "ddpm:1", "ddim:0.7"] {
        let (sampler, schedule) = (text.parse().unwrap(), NoiseSchedule::Cosine);
        let (mean, variance) = moments(sampler, &even_times(schedule, 30), data);
        let z = first_z(&keys(0..3), 64);
        let found = values(picture(Trajectory::new(sampler, schedule, 30, z, keys(0..3), exact(data)).unwrap()));
        let n = found.len() as f64;
        let found_mean = found.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let found_variance = found.iter().map(|x| (f64::from(*x) - found_mean).powi(2)).sum::<f64>() / n;
        // Five standard errors of 36,864 independent numbers.
        assert!((found_mean - mean).abs() < 5.0 * (variance / n).sqrt(), "{text}: {found_mean}, expected {mean}");
        assert!((found_variance / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{text}: {found_variance}");
    }
}

#[test]
fn a_picture_does_not_depend_on_the_batch_that_it_is_in() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let samplers = Sampler::ALL.into_iter().chain([Sampler::Ddim { eta: 0.5 }]);
    for sampler in samplers {
        let draw = |pictures: std::ops::Range<u64>| {
            let (keys, z) = (keys(pictures.clone()), first_z(&keys(pictures), 5));
            picture(Trajectory::new(sampler, NoiseSchedule::Linear, 7, z, keys, exact(data)).unwrap())
        };
        let whole = draw(0..4);
        for pictures in [0..1, 1..3, 3..4] {
            let part = whole.clone().narrow(0, pictures.start as usize, pictures.clone().count());
            assert_eq!(draw(pictures.clone()).into_data(), part.into_data(), "{sampler}, pictures {pictures:?}");
        }
    }
}

#[test]
fn steps_run_evenly_from_noise_towards_the_picture_and_only_when_pulled() {
    let mut calls = Vec::new();
    let trajectory = Trajectory::new(
        Sampler::default(),
        NoiseSchedule::Cosine,
        8,
        first_z(&keys(0..1), 4),
        keys(0..1),
        |z, level| {
            calls.push(level);
            Ok(z)
        },
    );
    let events: Vec<(usize, usize)> =
        trajectory.unwrap().take(5).map(|event| event.map(|event| (event.index, event.of)).unwrap()).collect();
    assert_eq!(events, [(0, 8), (1, 8), (2, 8), (3, 8), (4, 8)]);
    assert_eq!(calls, even_times(NoiseSchedule::Cosine, 8)[..5]);
}

#[test]
fn the_picture_is_the_last_prediction() {
    for sampler in Sampler::ALL {
        for steps in [1, 2, 5] {
            let z = first_z(&keys(0..1), 4);
            let denoise = |z: Tensor<4>, level: LogSnr| Ok(z.zeros_like().add_scalar(level.get()));
            let mut trajectory =
                Trajectory::new(sampler, NoiseSchedule::Linear, steps, z, keys(0..1), denoise).unwrap();
            let last = trajectory.by_ref().last().unwrap().unwrap();
            let lambda = even_times(NoiseSchedule::Linear, steps)[steps - 1];
            assert_eq!(last.index, sampler.evaluations(steps) - 1, "{sampler}, {steps} steps");
            assert!((last.level.get() - lambda.get()).abs() < 1e-12, "{sampler}, {steps} steps");
            assert!(values(last.x_hat).iter().all(|x| *x == last.level.get() as f32));
            assert!(trajectory.next().is_none());
        }
    }
}

#[test]
fn a_prediction_that_is_not_finite_ends_the_trajectory_and_names_the_step() {
    let mut step = 0;
    let denoise = |z: Tensor<4>, _: LogSnr| {
        step += 1;
        Ok(if step == 3 { z.mul_scalar(f32::NAN) } else { z })
    };
    let z = first_z(&keys(0..1), 4);
    let trajectory = Trajectory::new(Sampler::default(), NoiseSchedule::Cosine, 10, z, keys(0..1), denoise).unwrap();
    let events: Vec<_> = trajectory.collect();
    assert_eq!(events.len(), 3);
    let error = events[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let message = format!("{error:#}");
    assert!(message.starts_with("sampling step 3 of 10: x_hat has 48 of 48 numbers that are not finite"), "{message}");
}

#[test]
fn a_plan_can_be_followed_from_its_middle() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let (schedule, z) = (NoiseSchedule::Cosine, first_z(&keys(0..1), 4));
    let follow = |sampler: Sampler| {
        let plan = sampler.plan(schedule, 6).unwrap()[4..].to_vec();
        let mut exact = exact(data);
        let denoise = move |z, step: &PlannedStep| exact(z, step.level).map(Denoised::from);
        picture(Trajectory::follow(plan, z.clone(), None, noise_of(keys(0..1), Device::flex()), denoise))
    };
    // without a step before it, the solver of second order takes the first step as that of first order does
    let (solver, ddim) = (follow(Sampler::DpmSolverPlusPlus2M), follow(Sampler::Ddim { eta: 0.0 }));
    assert!(close(solver, ddim, 1e-6));
}

/// The finished picture where all of `picture` is kept but what `drawn` says.
fn kept(sampler: Sampler, picture: Tensor<4>, drawn: Option<f64>, outside: Outside, times: usize) -> Tensor<4> {
    let z = first_z(&keys(0..1), 4);
    let keep = drawn.map(|part| Keep { picture, drawn: Tensor::full([1, 4, 4, 1], part, &Device::flex()), outside });
    let denoise = |z: Tensor<4>, _: &PlannedStep| Ok(Denoised::from(z.mul_scalar(0.5)));
    let plan = repeated(&sampler.plan(NoiseSchedule::Cosine, 5).unwrap(), times);
    let noise = noise_of(keys(0..1), Device::flex());
    Trajectory::follow(plan, z, keep, noise, denoise).last().unwrap().unwrap().z
}

#[test]
fn a_mask_of_black_gives_the_picture_one_of_white_none_and_a_grey_one_their_mean() {
    let picture = noise(&[Rng::new(9)], [1, 4, 4, 3], &Device::flex());
    for sampler in Sampler::ALL {
        for outside in Outside::ALL {
            let with = |part| kept(sampler, picture.clone(), Some(part), outside, 1);
            let without = kept(sampler, picture.clone(), None, outside, 1);
            assert_eq!(with(0.0).into_data(), picture.clone().into_data(), "{sampler}, {outside}");
            assert_eq!(with(1.0).into_data(), without.clone().into_data(), "{sampler}, {outside}");
            let mean = (without + picture.clone()).mul_scalar(0.5);
            assert!(close(with(0.5), mean, 1e-6), "{sampler}, {outside}: any part drawn is drawn as all is");
        }
    }
}

#[test]
fn a_step_that_is_taken_again_returns_to_its_own_level() {
    for sampler in Sampler::ALL {
        for schedule in NoiseSchedule::ALL {
            let plan = sampler.plan(schedule, 7).unwrap();
            assert_eq!(repeated(&plan, 1), plan);
            let (again, begins) = (repeated(&plan, 3), beginnings(&plan));
            let each = begins[1];
            assert_eq!((begins.len(), again.len()), (7, 6 * 3 * each + 1));
            for k in 0..6 {
                let (here, next) = (&plan[begins[k]], &plan[begins[k + 1]]);
                let of_step = |time: usize| &again[(3 * k + time) * each..(3 * k + time + 1) * each];
                assert!((0..3).all(|time| of_step(time)[0].level == here.level));
                assert!(of_step(2)[each - 1].back.is_none());
                let [of_z, of_noise] = of_step(0)[each - 1].back.unwrap();
                // what was α_s x + σ_s ε becomes α_t x + σ_t ε
                let (alpha, variance) = (of_z * next.alpha, (of_z * next.sigma).powi(2) + of_noise.powi(2));
                assert!((alpha - here.alpha).abs() < 1e-12, "{sampler}, {schedule}, step {k}");
                assert!((variance - here.sigma.powi(2)).abs() < 1e-12, "{sampler}, {schedule}, step {k}");
            }
        }
    }
}

/// The levels, what z/α is before every step, and the picture, as k-diffusion has them (`golden/edm/make.py`).
#[derive(serde::Deserialize)]
struct Followed {
    sigmas: Vec<f64>,
    x: Vec<Vec<f64>>,
    picture: Vec<f64>,
}

#[test]
fn the_samplers_of_edm_take_the_steps_of_k_diffusion() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/edm/edm.json");
    let cases: std::collections::BTreeMap<String, Followed> =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(cases.len(), 6);
    for (name, Followed { sigmas, x, picture }) in cases {
        let (sampler, spacing) = name.split_once(' ').unwrap();
        let (sampler, spacing): (Sampler, Spacing) = (sampler.parse().unwrap(), spacing.parse().unwrap());
        let plan = sampler.spaced(NoiseSchedule::Cosine, sigmas.len(), spacing).unwrap();
        let begins = beginnings(&plan);
        assert_eq!((begins.len(), plan.len()), (sigmas.len(), sampler.evaluations(sigmas.len())), "{name}");
        for (begin, sigma) in begins.iter().zip(&sigmas) {
            assert!((plan[*begin].level.noise_ratio() / sigma - 1.0).abs() < 1e-6, "{name}");
        }
        // data of +1 and −1: x̂ = tanh(x/σ²)
        let mut seen = Vec::new();
        let denoise = |z: Tensor<4>, step: &PlannedStep| {
            let x = z.div_scalar(step.alpha);
            seen.push(values(x.clone()));
            Ok(Denoised::from(x.mul_scalar(step.level.noise_ratio().powi(-2)).tanh()))
        };
        let first: Vec<f32> = x[0].iter().map(|x| (x * plan[0].alpha) as f32).collect();
        let z = Tensor::from_data(burn::tensor::TensorData::new(first, [1, 2, 2, 1]), &Device::flex());
        let silent: Noise = Box::new(|_, _| unreachable!("these rules draw no noise"));
        let last = Trajectory::follow(plan, z, None, silent, denoise).last().unwrap().unwrap().z;
        let near = |found: &[f32], expected: &[f64]| {
            found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-5 * b.abs().max(1.0))
        };
        for (begin, x) in begins.iter().zip(&x) {
            assert!(near(&seen[*begin], x), "{name}: {:?}, expected {x:?}", seen[*begin]);
        }
        assert!(near(&values(last), &picture), "{name}");
    }
}

#[test]
fn euler_is_ddim_and_heun_is_of_second_order() {
    let data = Normal { mean: 0.3, deviation: 0.5 };
    let (from, to) = (level(-6.0), level(6.0));
    let levels =
        |steps: usize| -> Vec<LogSnr> { (0..=steps).map(|i| level(-6.0 + 12.0 * i as f64 / steps as f64)).collect() };
    let [euler, ddim] = [Sampler::Euler, Sampler::Ddim { eta: 0.0 }].map(|sampler| sampler.rules(&levels(9)));
    assert_eq!(euler, ddim);
    let error = |steps: usize| {
        let levels = levels(steps);
        let (mut z, mut previous) = (Affine::IDENTITY, Affine::IDENTITY);
        for (at, by) in Sampler::Heun.rules(&levels) {
            let Some(by) = by else { break };
            let x_hat = data.x_hat(levels[at]).after(z);
            z = z * by.z + x_hat * by.x_hat + previous * by.previous;
            previous = x_hat;
        }
        z.error(data.transport(from, to))
    };
    for steps in [64, 128, 256] {
        let observed = (error(steps) / error(2 * steps)).log2();
        assert!((observed - 2.0).abs() < 0.15, "{steps} steps: order {observed}");
    }
}

#[test]
fn a_guided_prediction_gets_the_spread_of_the_one_with_text_as_far_as_is_asked_for() {
    let deviation = |x: Tensor<4>| {
        let x = values(x);
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        (x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / x.len() as f32).sqrt()
    };
    let [asked, guided] = [1.0, 3.0].map(|scale| first_z(&keys(0..1), 8).mul_scalar(scale).add_scalar(0.2));
    let at = |part| rescale(guided.clone(), asked.clone(), part);
    assert_eq!(at(0.0).into_data(), guided.clone().into_data());
    assert!((deviation(at(1.0)) / deviation(asked.clone()) - 1.0).abs() < 1e-5);
    assert!((deviation(at(0.5)) / deviation(asked.clone()) - 2.0).abs() < 1e-4);
}

#[test]
fn a_step_is_taken_again_from_what_lay_before_it() {
    // the solver of second order draws its line through the level before, not through the step's own last try
    let plan = repeated(&Sampler::DpmSolverPlusPlus2M.plan(NoiseSchedule::Cosine, 3).unwrap(), 2);
    let mut said = Vec::new();
    let denoise = |z: Tensor<4>, _: &PlannedStep| {
        said.push(z.clone());
        Ok(Denoised::from(Tensor::full(z.dims(), said.len() as f64, &Device::flex())))
    };
    let silent: Noise = Box::new(|_, dims| Tensor::zeros(dims, &Device::flex()));
    Trajectory::follow(plan.clone(), first_z(&keys(0..1), 4), None, silent, denoise).for_each(drop);
    assert_eq!(said.len(), 5);
    let of = |k: usize, previous: f64| {
        let by = plan[k].update.unwrap().by;
        said[k].clone().mul_scalar(by.z).add_scalar(by.x_hat * (k + 1) as f64 + by.previous * previous)
    };
    // the steps 0, 0, 1, 1, 2: both tries of step 1 look back at the second of step 0, which said 2
    assert!(close(said[3].clone(), of(2, 2.0).mul_scalar(plan[2].back.unwrap()[0]), 1e-6));
    assert!(close(said[4].clone(), of(3, 2.0), 1e-6));
}

#[test]
fn noise_between_two_keys_is_noise_and_each_end_is_its_own() {
    let [a, b] = [Rng::new(1), Rng::new(2)];
    let normal = |key: Key| noise_of(vec![key], Device::flex())(Draw::Step(3), [1, 64, 64, 3]);
    let way = |part| normal(Key { from: a, toward: Some((b, part)) });
    let data = |x: Tensor<4>| x.into_data();
    assert_eq!(data(way(0.0)), data(normal(a.into())));
    assert_eq!(data(way(1.0)), data(normal(b.into())));
    for part in [0.1, 0.5, 0.9] {
        let numbers = values(way(part));
        let variance = numbers.iter().map(|x| f64::from(x * x)).sum::<f64>() / numbers.len() as f64;
        // its standard error is √(2/12288) = 0.013
        assert!((variance - 1.0).abs() < 0.05, "{part}: {variance}");
    }
    let near = values((way(0.01) - way(0.0)).abs().max().reshape([1, 1, 1, 1]))[0];
    assert!(near < 0.1, "the way is continuous: {near}");
}

#[test]
fn without_steps_z_is_the_picture() {
    let z = first_z(&keys(0..1), 4);
    let never = |_: Tensor<4>, _: &PlannedStep| -> Result<Denoised> { unreachable!("nothing is denoised") };
    let noise = noise_of(keys(0..1), Device::flex());
    let all: Vec<_> = Trajectory::follow(Vec::new(), z.clone(), None, noise, never).map(Result::unwrap).collect();
    assert_eq!((all.len(), all[0].index, all[0].of), (1, 0, 1));
    assert_eq!(all[0].z.clone().into_data(), z.into_data());
}

#[test]
fn a_rule_that_needs_variances_is_refused_where_there_are_none() {
    let error = Sampler::Learned.plan(NoiseSchedule::Cosine, 5).unwrap_err();
    assert!(error.to_string().contains("for networks that choose variances"), "{error}");
}

#[test]
fn a_trajectory_without_steps_or_keys_is_refused() {
    let new = |steps, keys| {
        let z = first_z(&self::keys(0..2), 4);
        Trajectory::new(Sampler::default(), NoiseSchedule::Cosine, steps, z, keys, |z, _| Ok(z)).err().unwrap()
    };
    assert_eq!(new(0, keys(0..2)).to_string(), "sampling takes 0 steps, expected at least 1");
    assert_eq!(new(5, keys(0..1)).to_string(), "2 pictures have 1 random keys, expected one each");
}

// --- names ---

/// Every value reads back what it writes, as text and through serde, which agree.
fn names<T>(all: &[T], with_settings: &[&str])
where
    T: Copy + Debug + Display + FromStr<Err = imagen::Error> + PartialEq + Serialize + DeserializeOwned,
{
    let set = with_settings.iter().map(|text| text.parse::<T>().unwrap());
    for value in all.iter().copied().chain(set) {
        let text = value.to_string();
        assert_eq!(text.parse::<T>().unwrap(), value);
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
    }
    for text in with_settings {
        assert_eq!(text.parse::<T>().unwrap().to_string(), *text);
    }
    let unknown = "no such name".parse::<T>().unwrap_err();
    assert!(all.iter().all(|value| unknown.to_string().contains(&value.to_string())), "{unknown}");
    assert!(serde_json::from_str::<T>("\"no such name\"").is_err());
}

#[test]
fn every_choice_has_one_name_in_text_and_serde() {
    names(&NoiseSchedule::ALL, &[]);
    names(&Parameterization::ALL, &[]);
    names(&TimeSampling::ALL, &[]);
    names(&LossWeight::ALL, &["min-snr:1.5"]);
    names(&Thresholding::ALL, &["dynamic:0.95"]);
    names(&Sampler::ALL, &["ddpm:0.3", "ddim:0.5"]);
    names(&Spacing::ALL, &["rho:3"]);
    names(&Outside::ALL, &[]);
}

#[test]
fn settings_out_of_range_or_out_of_place_are_refused() {
    for text in ["ddpm:2", "ddim:-1", "ddim:", "dpm++2m:1", "ddpm:NaN"] {
        assert_eq!(text.parse::<Sampler>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
    }
    for text in ["min-snr:0", "min-snr:x", "uniform:1"] {
        assert_eq!(text.parse::<LossWeight>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
    }
}
