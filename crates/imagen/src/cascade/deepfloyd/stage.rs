//! One stage of DeepFloyd IF: a network with its process, and the steps of a batch of pictures.
//!
//! Here prediction, guidance and the process meet, as `Stage::denoise` has it for this library's own stages. Guidance is of ε
//! alone; the variance is that of the branch with text. A stage starts from noise, from a noised picture (`strength`), or
//! keeps what lies outside a mask. All noise comes from the caller, by use.

use std::rc::Rc;

use burn::tensor::Tensor;
use tracing::{debug_span, info_span};

use super::super::upsample::upsample_aligned;
use super::ddpm::{Ddpm, Stepped};
use super::timesteps::Timesteps;
use crate::diffusion::{Guidance, check_finite};
use crate::error::{Context, Error, Result};
use crate::models::if_unet::{IfText, IfUnet};

/// A network with its process.
#[derive(Debug)]
pub struct IfStage {
    /// The network.
    pub unet: IfUnet,
    /// The process that it reverses.
    pub process: Ddpm,
    /// The process that noises the enlarged picture; of the second stage.
    pub noising: Option<Ddpm>,
}

/// How a stage is run.
#[derive(Clone, Debug, PartialEq)]
pub struct IfOptions {
    /// Which steps.
    pub timesteps: Timesteps,
    /// Guidance weight; 1 is none.
    pub guidance: f64,
    /// The step to which the enlarged picture is noised (second stage).
    pub noise_level: usize,
}

/// The texts of a batch.
#[derive(Clone, Debug)]
pub struct IfTexts {
    /// Of the prompts, `[n, t, d]`.
    pub prompts: Tensor<3>,
    /// Of the empty text, `[n, t, d]`.
    pub empty: Tensor<3>,
}

/// Where a stage starts, if not from noise.
#[derive(Clone, Debug)]
pub struct Start {
    /// `[n, h, w, c]` in [-1, 1].
    pub pictures: Tensor<4>,
    /// Which part of the steps is run, the last ones; in (0, 1].
    pub strength: f64,
    /// 1 where the picture is drawn anew, 0 where it stays, `[n, h, w, 1]`; everywhere where absent.
    pub mask: Option<Tensor<4>>,
}

/// What normal noise is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The first z, or what the starting picture meets.
    Initial,
    /// The enlarged picture.
    Enlarged,
    /// The step of this number, from 0.
    Step(usize),
}

/// Gives noise of a shape.
pub type Noise = Box<dyn FnMut(Draw, [usize; 4]) -> Tensor<4>>;

/// After a step.
#[derive(Clone, Debug)]
pub struct IfStep {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// Its place in the process.
    pub timestep: usize,
    /// The estimate of the clean pictures, `[n, h, w, c]`.
    pub x_hat: Tensor<4>,
    /// z after the step; after the last one the picture.
    pub z: Tensor<4>,
}

/// The steps of a batch, as an iterator: each `next` evaluates the network once.
pub struct IfSteps {
    stage: Rc<IfStage>,
    steps: Vec<usize>,
    index: usize,
    z: Tensor<4>,
    text: IfText,
    guidance: Guidance,
    enlarged: Option<(Tensor<4>, f32)>,
    mask: Option<Tensor<4>>,
    noise: Noise,
}

impl std::fmt::Debug for IfSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IfSteps").field("index", &self.index).field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl IfStage {
    /// The steps of a batch of pictures of `size` (height, width), of which there is one for each text. `low` is what the
    /// second stage enlarges, `[n, h', w', c]` in [-1, 1].
    ///
    /// # Errors
    /// `Usage` where an option is out of range, a picture is missing, not wanted, or of another size; `Model` where the texts
    /// do not fit the network.
    pub fn steps(
        self: &Rc<Self>,
        options: &IfOptions,
        texts: &IfTexts,
        size: [usize; 2],
        low: Option<Tensor<4>>,
        start: Option<Start>,
        mut noise: Noise,
    ) -> Result<IfSteps> {
        let guidance = Guidance::new(options.guidance)?;
        let n = texts.prompts.dims()[0];
        let shape = [n, size[0], size[1], self.unet.config().picture_channels()];
        let mut steps = self.process.timesteps(&options.timesteps)?;
        let z = match &start {
            None => noise(Draw::Initial, shape),
            Some(start) => {
                if start.pictures.dims() != shape {
                    let found = start.pictures.dims();
                    return Err(Error::usage(format!("the starting pictures are {found:?}: expected {shape:?}")));
                }
                let run = (steps.len() as f64 * start.strength) as usize;
                if !(start.strength > 0.0 && start.strength <= 1.0) || run == 0 {
                    return Err(Error::usage(format!(
                        "strength {} of {} steps: expected a number above 0, at most 1, that leaves a step",
                        start.strength,
                        steps.len()
                    )));
                }
                steps.drain(..steps.len() - run);
                let noised = self.process.noised(start.pictures.clone(), noise(Draw::Initial, shape), steps[0])?;
                blend(start.mask.as_ref(), start.pictures.clone(), noised)
            }
        };
        let enlarged = match (&self.noising, low) {
            (Some(noising), Some(low)) => {
                let _span = debug_span!("enlarge and noise the low resolution").entered();
                let [_, h, w, c] = low.dims();
                if low.dims()[0] != n || c != shape[3] {
                    return Err(Error::usage(format!(
                        "a low resolution of {:?}: expected [{n}, {h}, {w}, {}]",
                        low.dims(),
                        shape[3]
                    )));
                }
                let large = upsample_aligned(low, size[0], size[1]);
                let level = options.noise_level;
                Some((noising.noised(large, noise(Draw::Enlarged, shape), level)?, level as f32))
            }
            (None, None) => None,
            (Some(_), None) => return Err(Error::usage("the second stage needs a picture to enlarge")),
            (None, Some(_)) => return Err(Error::usage("the first stage enlarges nothing")),
        };
        let all = match guidance.is_none() {
            true => texts.prompts.clone(),
            false => Tensor::cat(vec![texts.prompts.clone(), texts.empty.clone()], 0),
        };
        let text = self.unet.text(all)?;
        let mask = start.and_then(|start| start.mask);
        Ok(IfSteps { stage: self.clone(), steps, index: 0, z, text, guidance, enlarged, mask, noise })
    }
}

/// `new` where the mask is 1, `old` where it is 0.
fn blend(mask: Option<&Tensor<4>>, old: Tensor<4>, new: Tensor<4>) -> Tensor<4> {
    match mask {
        Some(mask) => old * mask.clone().neg().add_scalar(1.0) + new * mask.clone(),
        None => new,
    }
}

impl IfSteps {
    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Never: there is a step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The guided prediction at step t of the process.
    fn predict(&self, t: usize) -> Result<Tensor<4>> {
        let _span = debug_span!("network").entered();
        let (input, level) = match &self.enlarged {
            Some((enlarged, level)) => (Tensor::cat(vec![self.z.clone(), enlarged.clone()], 3), Some(*level)),
            None => (self.z.clone(), None),
        };
        if self.guidance.is_none() {
            return self.stage.unet.forward(input, t as f32, level, &self.text);
        }
        let [n, _, _, c] = self.z.dims();
        let both = Tensor::cat(vec![input.clone(), input], 0);
        let both = self.stage.unet.forward(both, t as f32, level, &self.text)?;
        let channels = both.dims()[3];
        let with_text = both.clone().narrow(0, 0, n);
        let eps = self.guidance.combine(with_text.clone().narrow(3, 0, c), both.narrow(0, n, n).narrow(3, 0, c));
        Ok(if channels > c { Tensor::cat(vec![eps, with_text.narrow(3, c, channels - c)], 3) } else { eps })
    }

    fn step(&mut self) -> Result<IfStep> {
        let (index, of, t) = (self.index, self.steps.len(), self.steps[self.index]);
        let shape = self.z.dims();
        let output = self.predict(t)?;
        check_finite(&output, "the network's output")?;
        let next = self.steps.get(index + 1).copied();
        let draw = || (self.noise)(Draw::Step(index), shape);
        let Stepped { z, x_hat } = self.stage.process.step(output, self.z.clone(), t, next, draw)?;
        self.z = blend(self.mask.as_ref(), self.z.clone(), z);
        self.index += 1;
        Ok(IfStep { index, of, timestep: t, x_hat, z: self.z.clone() })
    }
}

impl Iterator for IfSteps {
    type Item = Result<IfStep>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.steps.len() {
            return None;
        }
        let (index, of) = (self.index, self.steps.len());
        let step =
            info_span!("step").in_scope(|| self.step()).context(|| format!("sampling step {} of {of}", index + 1));
        if step.is_err() {
            self.index = of;
        }
        Some(step)
    }
}
