//! The stochastic ascent of Kadkhodaie & Simoncelli: from noise to a picture that agrees with what was measured.
//!
//! Their denoiser is blind, and they estimate the noise from the length of each step. Here a denoiser is told the noise, which
//! follows from the steps: each leaves (1 − β h) of it. The estimate is too low where the prior is wide, and on normal
//! pictures leads past the posterior, where the known noise leads to it.

use std::ops::ControlFlow;

use super::{Inverse, InverseStep, Operator, difference, missing};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// How the ascent is taken (arXiv 2007.13640, algorithm 2); pictures there are in [0, 1], here in [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    /// The size of the first step, h₀; the t-th is h₀ t / (1 + h₀ (t − 1)).
    pub first: f64,
    /// The part β of a step by which the noise becomes less: 1 adds none, near 0 adds most. The smaller, the slower, and the
    /// nearer to a sample of what the prior and the measurement say together.
    pub noise: f64,
    /// Standard deviation of the noise that it begins with.
    pub from: f64,
    /// Standard deviation at which it ends.
    pub until: f64,
    /// The most steps.
    pub most: usize,
}

impl Default for Ascent {
    fn default() -> Self {
        Self { first: 0.02, noise: 0.1, from: 2.0, until: 0.02, most: 1000 }
    }
}

impl Ascent {
    /// How many steps it takes.
    pub fn steps(&self) -> usize {
        self.schedule().count()
    }

    /// Each step's size and the noise before it, until that is little enough.
    fn schedule(self) -> impl Iterator<Item = (f64, f64)> {
        let mut sigma = self.from;
        let mut ended = false;
        (1..=self.most).map_while(move |step| {
            let before = sigma;
            let h = self.first * step as f64 / (1.0 + self.first * (step as f64 - 1.0));
            sigma *= 1.0 - self.noise * h;
            let over = std::mem::replace(&mut ended, before <= self.until);
            (!over).then_some((h, before))
        })
    }

    /// # Errors
    /// `Usage` where a number is out of range.
    fn check(&self) -> Result<()> {
        let part = |x: f64| x > 0.0 && x <= 1.0;
        if part(self.first) && part(self.noise) && self.until > 0.0 && self.from > self.until && self.most > 0 {
            Ok(())
        } else {
            Err(Error::usage(
                "an ascent needs 0 < first step <= 1, 0 < noise <= 1, and a noise to begin with above that to end with",
            ))
        }
    }
}

/// A denoiser: the estimate of the picture behind y, which is it plus noise of a standard deviation.
pub type DenoiseAt<'a> = dyn FnMut(&[f32], f64) -> Result<Vec<f32>> + 'a;

/// Restores a picture. `denoise(y, σ)` is the estimate of the picture behind y, which is it plus noise of standard deviation σ.
/// Breaking ends the ascent where it is.
///
/// # Errors
/// What `denoise` fails with; `Usage` where a number of `ascent` is out of range.
pub fn ascend(
    operator: &dyn Operator,
    measured: &[f32],
    ascent: &Ascent,
    random: Rng,
    denoise: &mut DenoiseAt<'_>,
    observe: &mut dyn FnMut(&InverseStep) -> ControlFlow<()>,
) -> Result<Inverse> {
    ascent.check()?;
    let noise = |step: usize| random.fold(step as u64).normal(operator.shape().iter().product());
    // what was measured, the middle grey elsewhere, and noise over both
    let known = operator.pseudo_inverse(measured);
    let mut y: Vec<f32> = known.iter().zip(noise(0)).map(|(x, n)| x + (ascent.from as f32) * n).collect();
    let last = ascent.steps();
    for (step, (h, sigma)) in (1..).zip(ascent.schedule()) {
        let x_hat = denoise(&y, sigma)?;
        // the denoiser's way where nothing was measured, the measured way elsewhere: (1 − M†M) f + M†(y₀ − M y)
        let f: Vec<f32> = difference(&x_hat, &y).collect();
        let seen = operator.pseudo_inverse(&operator.measure(&f));
        let back = missing(operator, measured, &y);
        let d: Vec<f32> = f.iter().zip(&seen).zip(&back).map(|((f, seen), back)| f - seen + back).collect();
        let stop = observe(&InverseStep { step, sigma, x_hat }).is_break();
        if stop || step == last {
            let picture = y.iter().zip(&d).map(|(y, d)| y + d).collect();
            return Ok(Inverse::of(picture, step, operator, measured));
        }
        let kept = 1.0 - ascent.noise * h;
        let fresh = ((kept * kept - (1.0 - h) * (1.0 - h)).max(0.0)).sqrt() * sigma;
        for ((y, d), n) in y.iter_mut().zip(&d).zip(noise(step)) {
            *y += h as f32 * d + fresh as f32 * n;
        }
    }
    unreachable!("the last step returns")
}
