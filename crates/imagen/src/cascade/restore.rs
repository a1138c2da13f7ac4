//! Restoring a picture of which something was measured, by the prior that a base model has learned.
//!
//! The methods are [`crate::diffusion::inverse`]'s; here the base is their denoiser, under a text if one is given.

use std::ops::ControlFlow;
use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};

use super::config::StageName;
use super::model::Imagen;
use super::request::Request;
use super::settings::StageSettings;
use super::stage::{Conditions, Stage};
use super::texts::Texts;
use crate::diffusion::inverse::{Ascent, Differentiated, Inverse, InverseStep, Operator, ascend, guide};
use crate::diffusion::{Guidance, LogSnr};
use crate::error::{Error, Result};
use crate::names::named;
use crate::rng::Rng;

/// How a picture is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restorer {
    /// Kadkhodaie & Simoncelli's stochastic ascent (arXiv 2007.13640).
    #[default]
    Ascent,
    /// ΠGDM (Song et al., ICLR 2023), which differentiates the network.
    Guided,
}

named!(Restorer, "method", Ascent = "ascent", Guided = "guided");

/// What is restored, and how.
#[derive(Clone, Debug, Default)]
pub struct Restoration {
    /// What the picture shows; the model's own idea of pictures where it is empty.
    pub prompt: String,
    /// Guidance towards the prompt; 1 is none.
    pub guidance: Option<f64>,
    /// The method.
    pub method: Restorer,
    /// The ascent's numbers.
    pub ascent: Ascent,
    /// Steps of the guided method; 100 by default.
    pub steps: Option<usize>,
    /// Seed of the noise.
    pub seed: u64,
}

impl Restoration {
    /// Steps of the guided method.
    pub fn guided_steps(&self) -> usize {
        self.steps.unwrap_or(STEPS)
    }
}

/// Stream of the seed.
const RESTORE: u64 = 0x4e57;
/// Steps of the guided method.
const STEPS: usize = 100;

impl Imagen {
    /// Height, width and channels of the pictures that the base restores.
    ///
    /// # Errors
    /// `Usage` for models of DeepFloyd IF; `Model` where there is no base.
    pub fn restored_shape(&self) -> Result<[usize; 3]> {
        let config = self.base_stage()?.config.clone();
        Ok([config.size, config.size, config.unet.image_channels])
    }

    fn base_stage(&self) -> Result<Rc<Stage>> {
        self.own_network(StageName::Base)?.ok_or_else(|| {
            Error::usage(format!(
                "{} is DeepFloyd IF, and pictures are restored by models of this program's own format",
                self.label()
            ))
        })
    }

    /// Restores a picture of [`Self::restored_shape`] from what was measured of it.
    ///
    /// # Errors
    /// `Usage` where the operator is of another shape, or a number out of range; those of the network. Breaking ends it with what there
    /// is.
    pub fn restore(
        &self,
        wanted: &Restoration,
        operator: &dyn Operator,
        measured: &[f32],
        observe: &mut dyn FnMut(&InverseStep) -> ControlFlow<()>,
    ) -> Result<Inverse> {
        let shape = self.restored_shape()?;
        if operator.shape() != shape {
            return Err(Error::usage(format!(
                "an operator for {:?}, and the model restores {shape:?}",
                operator.shape()
            )));
        }
        let random = Rng::new(wanted.seed).fold(RESTORE);
        match wanted.method {
            Restorer::Ascent => {
                let (stage, conditions) = (self.base_stage()?, self.restoring_conditions(wanted)?);
                let mut denoise = |y: &[f32], sigma: f64| {
                    let level = LogSnr::new(-2.0 * sigma.ln());
                    let alpha = level.alpha() as f32;
                    let z: Vec<f32> = y.iter().map(|y| alpha * y).collect();
                    numbers(stage.denoise(self.picture(&z, shape), level, &conditions)?)
                };
                ascend(operator, measured, &wanted.ascent, random, &mut denoise, observe)
            }
            Restorer::Guided => {
                let stage = self.differentiable(StageName::Base)?;
                let conditions = self.restoring_conditions(wanted)?;
                let mut denoise = |z: &[f32], level: LogSnr, missing: &mut dyn FnMut(&[f32]) -> Vec<f32>| {
                    let z = Tensor::<4>::from_inner(self.picture(z, shape)).require_grad();
                    let x_hat = stage.denoise(z.clone(), level, &conditions)?;
                    let found = numbers(x_hat.clone().inner())?;
                    let v = Tensor::from_inner(self.picture(&missing(&found), shape));
                    let gradients = (x_hat * v).sum().backward();
                    let gradient =
                        z.grad(&gradients).ok_or_else(|| Error::model("the network has no gradient by its input"))?;
                    Ok(Differentiated { x_hat: found, gradient: numbers(gradient)? })
                };
                let steps = wanted.guided_steps();
                guide(operator, measured, stage.config.schedule, steps, random, &mut denoise, observe)
            }
        }
    }

    /// What the base is asked under.
    fn restoring_conditions(&self, wanted: &Restoration) -> Result<Conditions> {
        let settings: StageSettings = self.base_stage()?.config.sampling;
        let request = Request::new(vec![wanted.prompt.clone()], 1, 0);
        let texts = self.encode(&request, &[StageName::Base], 0..1)?;
        let text = texts.into_iter().find_map(|text| match text {
            Texts::Own(text) => Some(text),
            Texts::DeepFloyd(..) => None,
        });
        // without a prompt the network is asked as for a dropped text
        let guidance = if wanted.prompt.trim().is_empty() { 0.0 } else { wanted.guidance.unwrap_or(settings.guidance) };
        Ok(Conditions { text, guidance: Guidance::new(guidance)?, ..Conditions::default() })
    }

    fn picture(&self, values: &[f32], [h, w, c]: [usize; 3]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, h, w, c]), self.device())
    }
}

fn numbers(tensor: Tensor<4>) -> Result<Vec<f32>> {
    tensor.into_data().try_to_vec().map_err(|e| Error::model(format!("the picture's values cannot be read: {e:?}")))
}
