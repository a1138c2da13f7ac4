//! ΠGDM: DDIM whose every step is led by what the denoiser's estimate lacks of the measurement.

use std::ops::ControlFlow;

use super::{Inverse, InverseStep, Operator, missing};
use crate::diffusion::{LogSnr, NoiseSchedule, Sampler};
use crate::error::Result;
use crate::rng::Rng;

/// What a denoiser that can be differentiated makes of z.
#[derive(Clone, Debug)]
pub struct Differentiated {
    /// x̂.
    pub x_hat: Vec<f32>,
    /// (∂x̂/∂z)ᵀ v, where v is what is missing of the measurement in x̂.
    pub gradient: Vec<f32>,
}

/// A denoiser that can be differentiated: of z at a level, and of what makes v of x̂.
pub type Denoise<'a> = dyn FnMut(&[f32], LogSnr, &mut dyn FnMut(&[f32]) -> Vec<f32>) -> Result<Differentiated> + 'a;

/// Restores a picture in so many steps of a schedule: z_s = DDIM with η = 1, plus α_t (∂x̂/∂z)ᵀ M†(y − M x̂). Breaking ends it
/// with the estimate that there is.
///
/// # Errors
/// What `denoise` fails with; `Usage` without steps.
pub fn guide(
    operator: &dyn Operator,
    measured: &[f32],
    schedule: NoiseSchedule,
    steps: usize,
    random: Rng,
    denoise: &mut Denoise<'_>,
    observe: &mut dyn FnMut(&InverseStep) -> ControlFlow<()>,
) -> Result<Inverse> {
    let plan = Sampler::Ddim { eta: 1.0 }.plan(schedule, steps)?;
    let noise = |step: usize| random.fold(step as u64).normal(operator.shape().iter().product());
    let mut z = noise(0);
    let mut taken = 0;
    let mut x_hat = Vec::new();
    for (i, at) in plan.iter().enumerate() {
        let found = denoise(&z, at.level, &mut |x_hat| missing(operator, measured, x_hat))?;
        x_hat = found.x_hat;
        taken = i + 1;
        let step = InverseStep { step: taken, sigma: at.sigma / at.alpha, x_hat: x_hat.clone() };
        let stop = observe(&step).is_break();
        let Some(update) = at.update.filter(|_| !stop) else { break };
        let (by, fresh) = (update.by, noise(i + 1));
        for (k, z) in z.iter_mut().enumerate() {
            let led = by.z * f64::from(*z) + by.x_hat * f64::from(x_hat[k]) + by.noise * f64::from(fresh[k]);
            *z = (led + at.alpha * f64::from(found.gradient[k])) as f32;
        }
    }
    // what was measured is known for certain
    let rest = missing(operator, measured, &x_hat);
    let picture = x_hat.iter().zip(&rest).map(|(x, rest)| x + rest).collect();
    Ok(Inverse::of(picture, taken, operator, measured))
}
