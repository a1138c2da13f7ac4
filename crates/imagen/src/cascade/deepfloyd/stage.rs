//! One stage of DeepFloyd IF: a network with its process, and the steps of a batch of pictures.
//!
//! Here prediction, guidance and the process meet, as `Stage::denoise` has it for this library's own stages. Guidance is of ε
//! alone; the variance is that of the branch with text.

use std::rc::Rc;

use burn::tensor::Tensor;
use tracing::debug_span;

use super::super::start::{self, Begun, Start};
use super::super::upsample::upsample_aligned;
use super::process::Process;
use crate::cascade::settings::StageSettings;
use crate::diffusion::{
    Denoised, Draw, Guidance, Noise, PlannedStep, StepEvent, Trajectory, between, check_finite, rescale,
};
use crate::error::{Error, Result};
use crate::models::if_unet::{IfText, IfUnet};

/// A network with its process.
#[derive(Debug)]
pub struct IfStage {
    /// The network.
    pub unet: IfUnet,
    /// The process that it reverses.
    pub process: Process,
    /// The process that noises the enlarged picture; of the second stage.
    pub noising: Option<Process>,
}

/// The texts of a batch.
#[derive(Clone, Debug)]
pub struct IfTexts {
    /// Of the prompts, `[n, t, d]`.
    pub prompts: Tensor<3>,
    /// What guidance leads away from: of the empty text, or of what is said in its place, `[n, t, d]`.
    pub empty: Tensor<3>,
    /// Of prompts that the pictures are on the way to, `[n, t, d]`, and how far each is, from 0 to 1.
    pub toward: Option<(Tensor<3>, Vec<f64>)>,
}

impl IfStage {
    /// The steps of a batch of pictures of `size` (height, width), of which there is one for each text. `low` is what the
    /// second stage enlarges, `[n, h', w', c]` in [-1, 1].
    ///
    /// # Errors
    /// `Usage` where a setting is out of range, a picture is missing, not wanted, or of another size; `Model` where the texts
    /// do not fit the network.
    pub fn steps(
        self: Rc<Self>,
        settings: &StageSettings,
        texts: &IfTexts,
        size: [usize; 2],
        low: Option<Tensor<4>>,
        start: Option<Start>,
        mut noise: Noise,
    ) -> Result<impl Iterator<Item = Result<StepEvent>> + use<>> {
        let guidance = Guidance::new(settings.guidance)?;
        let thresholding = settings.thresholding;
        let n = texts.prompts.dims()[0];
        let c = self.unet.config().picture_channels();
        let shape = [n, size[0], size[1], c];
        let plan = self.process.plan(settings.sampler, &self.process.timesteps(settings)?)?;
        let Begun { plan, z, keep } = start::begin(plan, start, shape, &mut noise)?;
        let enlarged = match (&self.noising, low) {
            (Some(noising), Some(low)) => {
                let _span = debug_span!("enlarge and noise the low resolution").entered();
                let [m, h, w, channels] = low.dims();
                if m != n || channels != c {
                    let found = low.dims();
                    return Err(Error::usage(format!("a low resolution of {found:?}: expected [{n}, {h}, {w}, {c}]")));
                }
                let large = upsample_aligned(low, size[0], size[1]);
                let level = noising.noise_level(settings.aug_level);
                Some((noising.at(level).noised(large, noise(Draw::LowResolution, shape)), level as f32))
            }
            (None, None) => None,
            (Some(_), None) => return Err(Error::usage("the second stage needs a picture to enlarge")),
            (None, Some(_)) => return Err(Error::usage("the first stage enlarges nothing")),
        };
        let (interval, part) = (settings.guidance_interval, settings.guidance_rescale);
        let mut all = vec![texts.prompts.clone()];
        all.extend(texts.toward.as_ref().map(|(toward, _)| toward.clone()));
        let unguided = interval.map(|_| self.unet.text(Tensor::cat(all.clone(), 0))).transpose()?;
        if !guidance.is_none() {
            all.push(texts.empty.clone());
        }
        let text = self.unet.text(Tensor::cat(all, 0))?;
        let parts = texts.toward.as_ref().map(|(_, parts)| parts.clone());
        let denoise = move |z: Tensor<4>, step: &PlannedStep| {
            let t = step.timestep.expect("a step of the process");
            let outside = unguided.as_ref().filter(|_| interval.is_some_and(|interval| !interval.holds(step.level)));
            let (text, guided) = outside.map_or((&text, (guidance, part)), |text| (text, (Guidance::NONE, 0.0)));
            let output = self.predict(&z, t, text, (guided.0, guided.1, parts.as_deref()), enlarged.as_ref())?;
            check_finite(&output, "the network's output")?;
            let channels = output.dims()[3];
            if channels != 2 * c && (channels != c || self.process.learned_variance()) {
                return Err(Error::model(format!(
                    "the network gives {channels} channels for pictures of {c}: expected {}, with variances, for this scheduler",
                    2 * c
                )));
            }
            let eps = output.clone().narrow(3, 0, c);
            let x_hat = (z - eps.mul_scalar(step.sigma)).div_scalar(step.alpha);
            let variance = (channels == 2 * c).then(|| output.narrow(3, c, c));
            Ok(Denoised { x_hat: thresholding.apply(x_hat)?, variance })
        };
        Ok(Trajectory::follow(plan, z, keep, noise, denoise))
    }

    /// The guided output of the network at step t of the process.
    fn predict(
        &self,
        z: &Tensor<4>,
        t: usize,
        text: &IfText,
        (guidance, part, parts): (Guidance, f64, Option<&[f64]>),
        enlarged: Option<&(Tensor<4>, f32)>,
    ) -> Result<Tensor<4>> {
        let _span = debug_span!("network").entered();
        let (input, level) = match enlarged {
            Some((enlarged, level)) => (Tensor::cat(vec![z.clone(), enlarged.clone()], 3), Some(*level)),
            None => (z.clone(), None),
        };
        let [n, _, _, c] = z.dims();
        let count = 1 + usize::from(parts.is_some()) + usize::from(!guidance.is_none());
        if count == 1 {
            return self.unet.forward(input, t as f32, level, text);
        }
        let all = self.unet.forward(Tensor::cat(vec![input; count], 0), t as f32, level, text)?;
        let branch = |k: usize| all.clone().narrow(0, k * n, n);
        let with_text = match parts {
            Some(parts) => between(branch(0), branch(1), parts),
            None => branch(0),
        };
        if guidance.is_none() {
            return Ok(with_text);
        }
        let channels = with_text.dims()[3];
        let asked = with_text.clone().narrow(3, 0, c);
        let eps = rescale(guidance.combine(asked.clone(), branch(count - 1).narrow(3, 0, c)), asked, part);
        Ok(if channels > c { Tensor::cat(vec![eps, with_text.narrow(3, c, channels - c)], 3) } else { eps })
    }
}
