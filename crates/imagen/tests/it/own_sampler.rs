//! A sampler that the library does not have, written with its public items alone: a plan of coefficients that a trajectory
//! follows, over any denoiser, a stage's network among them.

use burn::tensor::{Device, Tensor};
use imagen::cascade::{Conditions, StageConfig, StageName, StageSettings, random_stage, trajectory};
use imagen::diffusion::{
    Coefficients, Denoised, Draw, Guidance, LogSnr, NoiseSchedule, Parameterization, PlannedStep, Sampler,
    Thresholding, Time, Trajectory, Update, noise_of,
};
use imagen::models::unet::{Level, UnetConfig};
use imagen::rng::Rng;

/// SDE-DPM-Solver++(2M) at the midpoint (Lu et al., arXiv 2211.01095, section 6; Katherine Crowson's k-diffusion): the
/// second-order rule of DPM-Solver++ along the stochastic equation. Its λ is log(α/σ), half of a log-SNR.
fn sde_dpm_solver(previous: Option<LogSnr>, t: LogSnr, s: LogSnr) -> Coefficients {
    let h = (s.get() - t.get()) / 2.0;
    let forgotten = -(-2.0 * h).exp_m1();
    let weight = s.alpha() * forgotten;
    let slope = previous.map_or(0.0, |before| h / (t.get() - before.get()));
    Coefficients {
        z: s.sigma() / t.sigma() * (-h).exp(),
        x_hat: weight * (1.0 + slope),
        previous: -weight * slope,
        noise: s.sigma() * forgotten.sqrt(),
    }
}

/// The plan of a rule at evenly spaced times t = 1, 1 − 1/N, …, 1/N.
fn plan(
    steps: usize,
    schedule: NoiseSchedule,
    rule: impl Fn(Option<LogSnr>, LogSnr, LogSnr) -> Coefficients,
) -> Vec<PlannedStep> {
    let time = |i: usize| Time::new((steps - i) as f64 / steps as f64).unwrap();
    let levels: Vec<LogSnr> = (0..steps).map(|i| schedule.log_snr(time(i))).collect();
    let step = |i: usize| {
        let before = i.checked_sub(1).map(|before| levels[before]);
        let by = levels.get(i + 1).map(|next| rule(before, levels[i], *next));
        PlannedStep { update: by.map(|by| Update { by, log_variances: None }), ..PlannedStep::at(levels[i]) }
    };
    (0..steps).map(step).collect()
}

fn values(x: Tensor<4>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

#[test]
fn a_rule_from_outside_draws_normal_data_with_their_mean_and_deviation() {
    let (mean, deviation) = (0.3, 0.25);
    let device = Device::flex();
    // E[x | z] of pixels that are normal and independent
    let denoise = |z: Tensor<4>, step: &PlannedStep| {
        let variance = deviation * deviation;
        let gain = step.alpha * variance / (step.alpha * step.alpha * variance + step.sigma * step.sigma);
        Ok(Denoised::from(z.sub_scalar(step.alpha * mean).mul_scalar(gain).add_scalar(mean)))
    };
    let mut noise = noise_of((0..16).map(|k| Rng::new(5).fold(k)).collect(), device);
    let z = noise(Draw::Initial, [16, 32, 32, 1]);
    let steps = Trajectory::follow(plan(400, NoiseSchedule::Cosine, sde_dpm_solver), z, None, noise, denoise);
    let drawn = values(steps.last().unwrap().unwrap().z);
    let count = drawn.len() as f64;
    let found = drawn.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let spread = (drawn.iter().map(|x| (f64::from(*x) - found).powi(2)).sum::<f64>() / count).sqrt();
    assert!((found - mean).abs() < 0.01, "mean {found}");
    assert!((spread / deviation - 1.0).abs() < 0.02, "deviation {spread}");
}

/// A base of 8×8 pixels with random weights, that predicts v without a text.
fn stage() -> imagen::cascade::Stage {
    let unet = UnetConfig {
        channels: 8,
        embedding: 16,
        levels: vec![Level::plain(8), Level::plain(8)],
        groups: 2,
        ..UnetConfig::base64(0)
    };
    let config = StageConfig::new(StageName::Base, 8, None, unet);
    random_stage(&StageConfig { parameterization: Parameterization::V, ..config }, 3, &Device::flex()).unwrap()
}

#[test]
fn a_rule_from_outside_draws_with_a_stage_as_the_library_s_own_do() {
    let stage = stage();
    let seeds = [7, 8];
    let (steps, guidance, thresholding) = (5, 1.0, Thresholding::Static);
    let draw = |rule: fn(Option<LogSnr>, LogSnr, LogSnr) -> Coefficients| {
        let key = |seed: u64| Rng::new(seed).fold(StageName::Base as u64);
        let mut noise = noise_of(seeds.map(key).to_vec(), stage.device());
        let z = noise(Draw::Initial, [2, 8, 8, 3]);
        let conditions =
            Conditions { guidance: Guidance::new(guidance).unwrap(), thresholding, ..Conditions::default() };
        let denoise = |z: Tensor<4>, step: &PlannedStep| stage.denoise(z, step.level, &conditions).map(Denoised::from);
        let drawing = Trajectory::follow(plan(steps, stage.config.schedule, rule), z, None, noise, denoise);
        values(drawing.last().unwrap().unwrap().z)
    };
    let settings = StageSettings {
        steps,
        guidance,
        thresholding,
        sampler: Sampler::DpmSolverPlusPlus2M,
        ..StageSettings::default()
    };
    let known = trajectory(&stage, &settings, &seeds, None, None).unwrap().last().unwrap().unwrap().z;
    let known = values(known);
    assert_eq!(draw(|before, t, s| Sampler::DpmSolverPlusPlus2M.coefficients(before, t, s)), known);
    let other = draw(sde_dpm_solver);
    assert!(other != known && other.iter().all(|x| (-1.0..=1.0).contains(x)), "another rule draws another picture");
}
