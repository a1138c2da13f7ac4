//! One stage of DeepFloyd IF: a network with its process, and the steps of a batch of pictures.
//!
//! Here prediction, guidance and the process meet, as `Stage::denoise` has it for this library's own stages. Guidance is of ε
//! alone; the variance is that of the branch with text.

use std::rc::Rc;

use burn::tensor::Tensor;
use tracing::debug_span;

use super::super::start::{self, Start};
use super::super::upsample::upsample_aligned;
use super::process::Process;
use crate::cascade::settings::StageSettings;
use crate::diffusion::{Denoised, Draw, Guidance, Noise, PlannedStep, StepEvent, Trajectory, check_finite};
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
    /// Of the empty text, `[n, t, d]`.
    pub empty: Tensor<3>,
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
        let (plan, z, mask) = start::begin(plan, start, shape, &mut noise)?;
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
        let all = match guidance.is_none() {
            true => texts.prompts.clone(),
            false => Tensor::cat(vec![texts.prompts.clone(), texts.empty.clone()], 0),
        };
        let text = self.unet.text(all)?;
        let denoise = move |z: Tensor<4>, step: &PlannedStep| {
            let t = step.timestep.expect("a step of the process");
            let output = self.predict(&z, t, &text, guidance, enlarged.as_ref())?;
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
        Ok(Trajectory::follow(plan, z, mask, noise, denoise))
    }

    /// The guided output of the network at step t of the process.
    fn predict(
        &self,
        z: &Tensor<4>,
        t: usize,
        text: &IfText,
        guidance: Guidance,
        enlarged: Option<&(Tensor<4>, f32)>,
    ) -> Result<Tensor<4>> {
        let _span = debug_span!("network").entered();
        let (input, level) = match enlarged {
            Some((enlarged, level)) => (Tensor::cat(vec![z.clone(), enlarged.clone()], 3), Some(*level)),
            None => (z.clone(), None),
        };
        if guidance.is_none() {
            return self.unet.forward(input, t as f32, level, text);
        }
        let [n, _, _, c] = z.dims();
        let both = Tensor::cat(vec![input.clone(), input], 0);
        let both = self.unet.forward(both, t as f32, level, text)?;
        let channels = both.dims()[3];
        let with_text = both.clone().narrow(0, 0, n);
        let eps = guidance.combine(with_text.clone().narrow(3, 0, c), both.narrow(0, n, n).narrow(3, 0, c));
        Ok(if channels > c { Tensor::cat(vec![eps, with_text.narrow(3, c, channels - c)], 3) } else { eps })
    }
}
