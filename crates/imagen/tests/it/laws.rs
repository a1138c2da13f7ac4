//! The laws of `diffusion/`: identities that hold for every schedule, parameterization and sampler.
//!
//! The samplers are judged on normal data N(μ, s²), for which everything is known: the exact denoiser is affine, so a
//! deterministic sampler is an affine map of the first noise, and an ancestral one is a recursion of mean and variance.
//! Both are followed in f64 without a tensor; that the `Trajectory` does the same to tensors is a law of its own.

mod samplers;
mod schedules;
mod trajectories;

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
