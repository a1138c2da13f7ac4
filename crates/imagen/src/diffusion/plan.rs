//! A plan of sampling: noise levels with the update between each and the next.
//!
//! It is made before anything runs, by a continuous schedule ([`Sampler::plan`]) or by a format with a table of steps; all of a
//! rule's arithmetic is in it.

use burn::tensor::Tensor;

use super::{Coefficients, LogSnr, NoiseSchedule, Sampler, Spacing};
use crate::error::{Error, Result};

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
    /// What the new z and fresh noise are multiplied by to come back to this level, where the step is taken again.
    pub back: Option<[f64; 2]>,
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
        Self { level, alpha: level.alpha(), sigma: level.sigma(), timestep: None, update: None, back: None }
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
        self.spaced(schedule, steps, Spacing::Time)
    }

    /// The plan of `steps` levels of a schedule.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn spaced(self, schedule: NoiseSchedule, steps: usize, spacing: Spacing) -> Result<Vec<PlannedStep>> {
        if steps == 0 {
            return Err(Error::usage("sampling takes 0 steps, expected at least 1"));
        }
        if self == Self::Learned {
            return Err(Error::usage("the sampler `learned` is for networks that choose variances; this one does not"));
        }
        let levels = spacing.levels(schedule, steps);
        let planned = |(at, by): (usize, Option<Coefficients>)| PlannedStep {
            update: by.map(|by| Update { by, log_variances: None }),
            ..PlannedStep::at(levels[at])
        };
        Ok(self.rules(&levels).into_iter().map(planned).collect())
    }

    /// The evaluations on the way through some levels: at which of them the denoiser is asked, and the coefficients from there
    /// on; none after the last.
    pub fn rules(self, levels: &[LogSnr]) -> Vec<(usize, Option<Coefficients>)> {
        let mut rules = Vec::new();
        for (i, level) in levels.iter().enumerate() {
            let before = i.checked_sub(1).map(|before| levels[before]);
            let next = levels.get(i + 1);
            rules.push((i, next.map(|next| self.coefficients(before, *level, *next))));
            if let (Self::Heun, Some(next)) = (self, next) {
                rules.push((i + 1, Some(self.correction(*level, *next))));
            }
        }
        rules
    }

    /// How often the denoiser is asked on the way through so many levels.
    pub fn evaluations(self, levels: usize) -> usize {
        if self == Self::Heun { (2 * levels).saturating_sub(1) } else { levels }
    }
}

/// Where the steps of a plan begin: a rule that looks at the next level before it goes there has two evaluations a step.
pub fn beginnings(plan: &[PlannedStep]) -> Vec<usize> {
    // after a correction z stays where it is
    let corrects = |k: usize| plan.get(k + 1).is_some_and(|after| after.level == plan[k].level);
    (0..plan.len()).filter(|k| !corrects(*k)).collect()
}

/// A plan whose every step but the last is taken `times` times: from each next level back by the forward process, so that what
/// is drawn and what is kept have time to agree (RePaint, arXiv 2201.09865, algorithm 1).
pub fn repeated(plan: &[PlannedStep], times: usize) -> Vec<PlannedStep> {
    let (mut all, begins) = (Vec::new(), beginnings(plan));
    for (i, begin) in begins.iter().enumerate() {
        let Some(end) = begins.get(i + 1) else {
            all.extend_from_slice(&plan[*begin..]);
            break;
        };
        let (step, next) = (&plan[*begin], &plan[*end]);
        // z_t = α_t/α_s z_s + σ_{t|s} ε, with σ²_{t|s} = (1 − e^(λ_t − λ_s)) σ_t²
        let added = -(step.level.get() - next.level.get()).exp_m1();
        let back = [step.alpha / next.alpha, step.sigma * added.sqrt()];
        for k in 1..=times.max(1) {
            all.extend_from_slice(&plan[*begin..*end]);
            let last = all.last_mut().expect("just added");
            last.back = (k < times).then_some(back);
        }
    }
    all
}
