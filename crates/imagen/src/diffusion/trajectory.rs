//! Sampling as an iterator: the [`Trajectory`] follows a plan of noise levels, which was made before anything runs.
//!
//! Predicting, guiding and thresholding are the closure's; the picture is the last step's x̂.

use std::fmt;

use burn::tensor::{Device, Tensor, TensorData};

use super::{Keep, LogSnr, NoiseSchedule, PlannedStep, Sampler, Update, check_finite, noise};
use crate::error::{Context, Error, Result};
use crate::rng::Rng;

/// What a denoiser makes of z.
#[derive(Clone, Debug)]
pub struct Denoised {
    /// x̂ `[n, h, w, c]`, guided and thresholded.
    pub x_hat: Tensor<4>,
    /// v of the same shape, about −1 to 1, where the network chooses variances.
    pub variance: Option<Tensor<4>>,
}

impl From<Tensor<4>> for Denoised {
    fn from(x_hat: Tensor<4>) -> Self {
        Self { x_hat, variance: None }
    }
}

/// What normal noise is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The first z, or what the starting picture meets.
    Initial,
    /// The low-resolution picture.
    LowResolution,
    /// The step of this number, from 0.
    Step(usize),
    /// What stays of a picture at the step of this number.
    Kept(usize),
    /// Going back after the step of this number.
    Back(usize),
}

/// Gives normal noise of a shape.
pub type Noise = Box<dyn FnMut(Draw, [usize; 4]) -> Tensor<4>>;

/// One step of a [`Trajectory`].
#[derive(Clone, Debug)]
pub struct StepEvent {
    /// The step's number, from 0.
    pub index: usize,
    /// How many steps there are; after step `of - 1` the picture is done.
    pub of: usize,
    /// The noise level at which x̂ was predicted.
    pub level: LogSnr,
    /// The denoiser's prediction `[n, h, w, c]`: a preview, and at the last step the picture.
    pub x_hat: Tensor<4>,
    /// z after the step; after the last one the picture.
    pub z: Tensor<4>,
}

/// A plan on its way: each `next` calls the denoiser once and yields its prediction. Nothing runs before the first `next`;
/// dropping the trajectory cancels the rest; after an error there are no more steps.
pub struct Trajectory<F> {
    plan: Vec<PlannedStep>,
    index: usize,
    z: Tensor<4>,
    previous: Option<Tensor<4>>,
    /// What stays of a picture.
    keep: Option<Keep>,
    noise: Noise,
    denoise: F,
}

impl<F> fmt::Debug for Trajectory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trajectory").field("index", &self.index).field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<'a> Trajectory<Box<dyn FnMut(Tensor<4>, &PlannedStep) -> Result<Denoised> + 'a>> {
    /// The trajectory of `steps` evenly spaced steps from `z` `[n, h, w, c]`, which is noise of mean 0 and variance 1.
    ///
    /// Picture i draws the noise of step k from `keys[i].fold(k + 1)`; `keys[i].fold(0)` is left for z itself.
    /// `denoise` gives x̂ `[n, h, w, c]`, guided and thresholded, for z at a level.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor, TensorData};
    /// use imagen::diffusion::{NoiseSchedule, Sampler, Trajectory, noise};
    /// use imagen::rng::Rng;
    ///
    /// // of grey pictures and no others, every z comes from the grey one
    /// let (device, keys) = (Device::flex(), vec![Rng::new(7)]);
    /// let z = noise(&keys, [1, 8, 8, 3], &device);
    /// let denoise = |z: Tensor<4>, _| Ok(z.zeros_like());
    /// let steps = Trajectory::new(Sampler::default(), NoiseSchedule::Cosine, 10, z, keys, denoise)?;
    /// let picture = steps.last().expect("ten steps")?.z;
    /// assert!(picture.abs().max().into_scalar::<f32>() < 1e-6);
    /// # Ok::<(), imagen::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Sampler::plan`]; [`Usage`](crate::error::ErrorKind::Usage) where there is not one key per picture.
    pub fn new(
        sampler: Sampler,
        schedule: NoiseSchedule,
        steps: usize,
        z: Tensor<4>,
        keys: Vec<Rng>,
        mut denoise: impl FnMut(Tensor<4>, LogSnr) -> Result<Tensor<4>> + 'a,
    ) -> Result<Self> {
        let plan = sampler.plan(schedule, steps)?;
        if keys.len() != z.dims()[0] {
            let message = format!("{} pictures have {} random keys, expected one each", z.dims()[0], keys.len());
            return Err(Error::usage(message));
        }
        let device = z.device();
        let of_step = move |draw, dims| {
            let Draw::Step(index) = draw else { unreachable!("a trajectory draws the noise of its steps") };
            let keys: Vec<Rng> = keys.iter().map(|key| key.fold(index as u64 + 1)).collect();
            noise(&keys, dims, &device)
        };
        let denoise = move |z: Tensor<4>, step: &PlannedStep| denoise(z, step.level).map(Denoised::from);
        Ok(Self::follow(plan, z, None, Box::new(of_step), Box::new(denoise)))
    }
}

impl<F: FnMut(Tensor<4>, &PlannedStep) -> Result<Denoised>> Trajectory<F> {
    /// The trajectory of a plan from `z` `[n, h, w, c]`, which lies at its first level; `keep` is what stays of a picture.
    /// Without levels z is the picture already, and the only step gives it.
    pub fn follow(plan: Vec<PlannedStep>, z: Tensor<4>, keep: Option<Keep>, noise: Noise, denoise: F) -> Self {
        Self { plan, index: 0, z, previous: None, keep, noise, denoise }
    }

    fn step(&mut self) -> Result<StepEvent> {
        let (index, of) = (self.index, self.plan.len());
        let step = self.plan[index];
        if let Some(keep) = &self.keep {
            let (noise, shape) = (&mut self.noise, self.z.dims());
            self.z = keep.put_into(self.z.clone(), &step, || noise(Draw::Kept(index), shape));
        }
        let denoised = (self.denoise)(self.z.clone(), &step)
            .and_then(|denoised| check_finite(&denoised.x_hat, "x_hat").map(|()| denoised))
            .and_then(|denoised| self.advance(&step, denoised));
        let x_hat = denoised.context(|| format!("sampling step {} of {of}", index + 1))?;
        self.index += 1;
        Ok(StepEvent { index, of, level: step.level, x_hat, z: self.z.clone() })
    }

    /// z_t becomes z_s, or the picture; returns x̂.
    fn advance(&mut self, step: &PlannedStep, denoised: Denoised) -> Result<Tensor<4>> {
        let _span = tracing::debug_span!("update z").entered();
        let Denoised { x_hat, variance } = denoised;
        let previous = self.previous.clone();
        // a step that comes again has the same one before it
        if step.back.is_none() {
            self.previous = Some(x_hat.clone());
        }
        let Some(Update { by, log_variances }) = step.update else {
            self.z = match &self.keep {
                Some(keep) => keep.finish(x_hat.clone()),
                None => x_hat.clone(),
            };
            return Ok(x_hat);
        };
        let mut z = self.z.clone().mul_scalar(by.z) + x_hat.clone().mul_scalar(by.x_hat);
        if by.previous != 0.0 {
            // a trajectory that begins in the middle of a plan has no x̂ before: the line through both is flat
            z = z + previous.unwrap_or_else(|| x_hat.clone()).mul_scalar(by.previous);
        }
        let draw = Draw::Step(self.index);
        if let Some([small, large]) = log_variances {
            let v =
                variance.ok_or_else(|| Error::model("the sampler `learned` needs a network that chooses variances"))?;
            // log σ² = (1 + v)/2 · log β + (1 − v)/2 · log β̃
            let part = v.add_scalar(1.0).div_scalar(2.0);
            let log_variance = part.clone().mul_scalar(large) + part.neg().add_scalar(1.0).mul_scalar(small);
            z = z.clone() + log_variance.mul_scalar(0.5).exp() * (self.noise)(draw, z.dims());
        } else if by.noise != 0.0 {
            z = z.clone() + (self.noise)(draw, z.dims()).mul_scalar(by.noise);
        }
        if let Some([of_z, of_noise]) = step.back {
            z = z.clone().mul_scalar(of_z) + (self.noise)(Draw::Back(self.index), z.dims()).mul_scalar(of_noise);
        }
        self.z = z;
        Ok(x_hat)
    }
}

impl<F: FnMut(Tensor<4>, &PlannedStep) -> Result<Denoised>> Iterator for Trajectory<F> {
    type Item = Result<StepEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.plan.is_empty() && self.index == 0 {
            self.index = 1;
            let (level, z) = (LogSnr::new(LogSnr::LIMIT), self.z.clone());
            return Some(Ok(StepEvent { index: 0, of: 1, level, x_hat: z.clone(), z }));
        }
        if self.index >= self.plan.len() {
            return None;
        }
        let event = self.step();
        if event.is_err() {
            self.index = self.plan.len();
        }
        Some(event)
    }
}

/// Where a picture's noise comes from: one key, or a place between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The key.
    pub from: Rng,
    /// Another key, and how far the noise is on the way there, from 0 to 1.
    pub toward: Option<(Rng, f64)>,
}

impl From<Rng> for Key {
    fn from(from: Rng) -> Self {
        Self { from, toward: None }
    }
}

impl Key {
    /// Normal noise of a purpose: between two keys on the arc cos θ a + sin θ b, whose every point is normal noise.
    fn normal(&self, of: impl Fn(Rng) -> Rng, n: usize) -> Vec<f32> {
        let from = || of(self.from).normal(n);
        match self.toward {
            None | Some((_, 0.0)) => from(),
            Some((other, 1.0)) => of(other).normal(n),
            Some((other, part)) => {
                let (sin, cos) = (part * std::f64::consts::FRAC_PI_2).sin_cos();
                let between = |(a, b): (f32, f32)| (cos * f64::from(a) + sin * f64::from(b)) as f32;
                from().into_iter().zip(of(other).normal(n)).map(between).collect()
            }
        }
    }
}

/// Noise of a batch of pictures, one key for each: the first z, the low resolution and each step have streams of their own, so
/// that a picture's noise depends on neither its batch nor its neighbours.
pub fn noise_of<K: Into<Key>>(keys: Vec<K>, device: Device) -> Noise {
    let keys: Vec<Key> = keys.into_iter().map(K::into).collect();
    const INITIAL: u64 = 0;
    const STEPS: u64 = 1;
    const LOW_RESOLUTION: u64 = 2;
    const KEPT: u64 = 3;
    const BACK: u64 = 4;
    Box::new(move |draw, dims| {
        assert_eq!(dims[0], keys.len(), "one key per picture");
        let of = |key: Rng| match draw {
            Draw::Initial => key.fold(INITIAL),
            Draw::LowResolution => key.fold(LOW_RESOLUTION),
            // 0 is left for z itself
            Draw::Step(index) => key.fold(STEPS).fold(index as u64 + 1),
            Draw::Kept(index) => key.fold(KEPT).fold(index as u64),
            Draw::Back(index) => key.fold(BACK).fold(index as u64),
        };
        let size = dims[1..].iter().product();
        let values: Vec<f32> = keys.iter().flat_map(|key| key.normal(of, size)).collect();
        Tensor::from_data(TensorData::new(values, dims), &device)
    })
}
