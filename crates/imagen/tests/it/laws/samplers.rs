//! Samplers on normal data, by their coefficients: mean, variance and order, and the steps of k-diffusion.

use super::*;

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
