//! Sampling as an iterator: a plan of noise levels with the update between each and the next, and the [`Trajectory`] that
//! follows it.
//!
//! A plan is made before anything runs, by a continuous schedule ([`Sampler::plan`]) or by a format with a table of steps;
//! all of a rule's arithmetic is in it. Predicting, guiding and thresholding are the closure's; the picture is the last
//! step's x̂.

use std::fmt;

use burn::tensor::{Device, Tensor};

use super::{Coefficients, LogSnr, NoiseSchedule, Sampler, Time, check_finite, noise};
use crate::error::{Context, Error, Result};
use crate::rng::Rng;

/// A level at which the denoiser is asked, and how z goes on from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedStep {
    /// The level of z.
    pub level: LogSnr,
    /// α of z = α x + σ ε, as the process has it.
    pub alpha: f64,
    /// σ of z = α x + σ ε.
    pub sigma: f64,
    /// The number of this step in a process that is a table; absent where time is continuous.
    pub timestep: Option<usize>,
    /// To the level of the next step; absent where x̂ is the picture.
    pub update: Option<Update>,
}

/// From a level to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// What z, x̂, the x̂ before, and noise are multiplied by.
    pub by: Coefficients,
    /// Logarithms of the smallest and the largest variance, between which the network chooses ([`Sampler::Learned`]); in
    /// place of `by.noise`.
    pub log_variances: Option<[f64; 2]>,
}

impl PlannedStep {
    /// At a level, without an update.
    pub fn at(level: LogSnr) -> Self {
        Self { level, alpha: level.alpha(), sigma: level.sigma(), timestep: None, update: None }
    }

    /// A picture at this level: α x + σ ε.
    pub fn noised(&self, x: Tensor<4>, eps: Tensor<4>) -> Tensor<4> {
        x.mul_scalar(self.alpha) + eps.mul_scalar(self.sigma)
    }
}

impl Sampler {
    /// The plan of `steps` evenly spaced times t = 1, 1 − 1/N, …, 1/N, as in the paper.
    ///
    /// # Errors
    /// [`Usage`](crate::error::ErrorKind::Usage) without steps, and where the rule needs a network's variances.
    pub fn plan(self, schedule: NoiseSchedule, steps: usize) -> Result<Vec<PlannedStep>> {
        if steps == 0 {
            return Err(Error::usage("sampling takes 0 steps, expected at least 1"));
        }
        if self == Self::Learned {
            return Err(Error::usage("the sampler `learned` is for networks that choose variances; this one does not"));
        }
        let time = |index: usize| Time::new((steps - index) as f64 / steps as f64).expect("in [0, 1]");
        let levels: Vec<LogSnr> = (0..steps).map(|index| schedule.log_snr(time(index))).collect();
        Ok(self
            .updates(&levels)
            .into_iter()
            .zip(levels)
            .map(|(by, level)| PlannedStep {
                update: by.map(|by| Update { by, log_variances: None }),
                ..PlannedStep::at(level)
            })
            .collect())
    }

    /// The coefficients from each level to the next; none after the last.
    pub fn updates(self, levels: &[LogSnr]) -> Vec<Option<Coefficients>> {
        let update = |i: usize| {
            let before = i.checked_sub(1).map(|before| levels[before]);
            levels.get(i + 1).map(|next| self.coefficients(before, levels[i], *next))
        };
        (0..levels.len()).map(update).collect()
    }
}

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
    /// 1 where z moves, 0 where it stays, `[n, h, w, 1]`; everywhere by default.
    mask: Option<Tensor<4>>,
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
    /// use burn::tensor::{Device, Tensor};
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
    /// The trajectory of a plan from `z` `[n, h, w, c]`, which lies at its first level. `mask` is 1 where z moves and 0
    /// where it stays what it was, `[n, h, w, 1]`.
    pub fn follow(plan: Vec<PlannedStep>, z: Tensor<4>, mask: Option<Tensor<4>>, noise: Noise, denoise: F) -> Self {
        Self { plan, index: 0, z, previous: None, mask, noise, denoise }
    }

    fn step(&mut self) -> Result<StepEvent> {
        let (index, of) = (self.index, self.plan.len());
        let step = self.plan[index];
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
        let previous = self.previous.replace(x_hat.clone());
        let Some(Update { by, log_variances }) = step.update else {
            self.z = self.masked(x_hat.clone());
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
        self.z = self.masked(z);
        Ok(x_hat)
    }

    /// The new z where the mask is 1, the old one where it is 0.
    fn masked(&self, new: Tensor<4>) -> Tensor<4> {
        match &self.mask {
            Some(mask) => self.z.clone() * mask.clone().neg().add_scalar(1.0) + new * mask.clone(),
            None => new,
        }
    }
}

impl<F: FnMut(Tensor<4>, &PlannedStep) -> Result<Denoised>> Iterator for Trajectory<F> {
    type Item = Result<StepEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.plan.len() {
            return None;
        }
        let event = self.step();
        if event.is_err() {
            self.index = self.plan.len();
        }
        Some(event)
    }
}

/// Noise of a batch of pictures, one key for each: the first z, the low resolution and each step have streams of their own, so
/// that a picture's noise depends on neither its batch nor its neighbours.
pub fn noise_of(keys: Vec<Rng>, device: Device) -> Noise {
    const INITIAL: u64 = 0;
    const STEPS: u64 = 1;
    const LOW_RESOLUTION: u64 = 2;
    Box::new(move |draw, dims| {
        let of = |key: &Rng| match draw {
            Draw::Initial => key.fold(INITIAL),
            Draw::LowResolution => key.fold(LOW_RESOLUTION),
            // 0 is left for z itself
            Draw::Step(index) => key.fold(STEPS).fold(index as u64 + 1),
        };
        noise(&keys.iter().map(of).collect::<Vec<_>>(), dims, &device)
    })
}
