//! One stage: a network and its description, as the denoiser x̂(z_t, t, conditioning).
//!
//! [`Stage::denoise`] is the only place where prediction, guidance, parameterization and thresholding meet, in the paper's
//! order (sections 2.2, 2.3). Which times it is asked at is the sampler's business.

use std::borrow::Borrow;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use tracing::debug_span;

use super::config::{NullText, StageConfig};
use super::prompt_text::PromptText;
use super::settings::StageSettings;
use super::start::{self, Begun, Start};
use super::tiles;
use super::upsample::upsample_to;
use crate::diffusion::{
    Denoised, Draw, Guidance, Interval, LogSnr, Noise, PlannedStep, StepEvent, Thresholding, Trajectory, between,
    diffuse, noise_of, rescale,
};
use crate::error::{Error, Result};
use crate::models::imagen_pytorch::ImagenPytorchUnet;
use crate::models::unet::{Conditioning, LowResolution, Text, Unet};
use crate::rng::Rng;

/// A network with its description.
#[derive(Debug)]
pub struct Stage {
    /// What it is.
    pub config: StageConfig,
    network: Network,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a cascade has three of them")]
enum Network {
    Own(Unet),
    /// Converted, and frozen.
    ImagenPytorch(ImagenPytorchUnet),
}

/// The steps of a batch of pictures through one stage.
pub(super) type Steps = Box<dyn Iterator<Item = Result<StepEvent>>>;

/// What a batch of pictures is drawn under.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The encoded prompts.
    pub text: Option<PromptText>,
    /// The resized, noised low-resolution pictures (super-resolution stages).
    pub low_resolution: Option<LowResolution>,
    /// Guidance weight.
    pub guidance: Guidance,
    /// The levels of noise at which it is guided; all of them by default.
    pub guidance_interval: Option<Interval>,
    /// How far a guided prediction is brought back to the spread of the one with text, from 0 to 1.
    pub guidance_rescale: f64,
    /// What happens to x̂ beyond [-1, 1].
    pub thresholding: Thresholding,
}

impl NullText {
    /// The texts with those that are `dropped` replaced by what stands in for them in this network; training and drawing
    /// share it. The sequences may become longer, the new places masked.
    pub fn replace(self, unet: &Unet, text: Text, dropped: &[bool]) -> Text {
        let [n, t, d] = text.sequence.dims();
        let device = text.sequence.device();
        let column = |of: bool| {
            let values: Vec<f32> = dropped.iter().map(|dropped| if *dropped == of { 1.0 } else { 0.0 }).collect();
            Tensor::<2>::from_data(TensorData::new(values, [n, 1]), &device)
        };
        let kept = column(false);
        let (Self::Learned | Self::Empty, Some(null)) = (self, unet.null_text()) else {
            return Text { sequence: text.sequence * kept.unsqueeze_dim(2), mask: text.mask };
        };
        let [own, _] = null.dims();
        let all = t.max(own);
        let pad = |x: Tensor<3>| {
            let [n, length, _] = x.dims();
            if length == all { x } else { Tensor::cat(vec![x, Tensor::zeros([n, all - length, d], &device)], 1) }
        };
        let mask_of = |mask: Tensor<2>| {
            let [n, length] = mask.dims();
            if length == all { mask } else { Tensor::cat(vec![mask, Tensor::zeros([n, all - length], &device)], 1) }
        };
        let gone = column(true);
        let null_mask = mask_of(Tensor::ones([1, own], &device));
        let null = pad(null.unsqueeze_dim(0)); // [1, all, d]
        Text {
            sequence: pad(text.sequence) * kept.clone().unsqueeze_dim(2) + null * gone.clone().unsqueeze_dim(2),
            mask: mask_of(text.mask) * kept + null_mask * gone,
        }
    }
}

impl Stage {
    /// A stage from its parts.
    pub fn new(config: StageConfig, unet: Unet) -> Self {
        Self { config, network: Network::Own(unet) }
    }

    /// A stage of imagen-pytorch.
    pub(super) fn converted(config: StageConfig, unet: ImagenPytorchUnet) -> Self {
        Self { config, network: Network::ImagenPytorch(unet) }
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        match &self.network {
            Network::Own(unet) => unet.devices().into_iter().next().unwrap_or_default(),
            Network::ImagenPytorch(unet) => unet.device().clone(),
        }
    }

    /// Its network, as far as it can be trained.
    ///
    /// # Errors
    /// `Usage` where it was converted from imagen-pytorch.
    pub fn unet(&self) -> Result<&Unet> {
        match &self.network {
            Network::Own(unet) => Ok(unet),
            Network::ImagenPytorch(_) => Err(Error::usage(format!(
                "stage {} was converted from imagen-pytorch: it can be drawn from, but neither trained nor measured",
                self.config.stage
            ))),
        }
    }

    /// x̂: the guided, thresholded estimate of the clean pictures behind `z [n, h, w, c]` at log-SNR λ. Super-resolution of
    /// pictures larger than those of the training goes window by window.
    ///
    /// # Errors
    /// The network's.
    pub fn denoise(&self, z: Tensor<4>, log_snr: LogSnr, conditions: &Conditions) -> Result<Tensor<4>> {
        let prediction = debug_span!("network").in_scope(|| match &conditions.low_resolution {
            None => self.guided(z.clone(), log_snr, conditions, None),
            Some(low) => {
                let window = [self.config.size, self.config.unet.granularity()];
                tiles::windows(z.clone(), Some(low.picture.clone()), window, |z, picture| {
                    let low = picture.map(|picture| LowResolution { picture, log_snr: low.log_snr.clone() });
                    self.guided(z, log_snr, conditions, low)
                })
            }
        })?;
        let _span = debug_span!("threshold").entered();
        let levels = vec![log_snr; z.dims()[0]];
        let x_hat = self.config.parameterization.x_hat(prediction, z, &levels);
        conditions.thresholding.apply(x_hat)
    }

    /// The guided prediction. ε, v and x are affine in one another at a given z, so guidance of any of them is guidance of
    /// ε (section 2.2); all branches pass through the network in one batch.
    fn guided(
        &self,
        z: Tensor<4>,
        log_snr: LogSnr,
        c: &Conditions,
        low_resolution: Option<LowResolution>,
    ) -> Result<Tensor<4>> {
        let n = z.dims()[0];
        let guided = !c.guidance.is_none() && c.guidance_interval.is_none_or(|interval| interval.holds(log_snr));
        let Some(text) = &c.text else {
            return self.predict(z, log_snr, None, &vec![false; n], low_resolution);
        };
        let mut branches = vec![(&text.prompts, false)];
        branches.extend(text.toward.as_ref().map(|(toward, _)| (toward, false)));
        if guided {
            branches.push(text.negative.as_ref().map_or((&text.prompts, true), |negative| (negative, false)));
        }
        let count = branches.len();
        let times = |t: &Tensor<4>| Tensor::cat(vec![t.clone(); count], 0);
        let low = low_resolution
            .map(|low| LowResolution { picture: times(&low.picture), log_snr: vec![low.log_snr; count].concat() });
        let dropped: Vec<bool> = branches.iter().flat_map(|(_, dropped)| vec![*dropped; n]).collect();
        let texts = Text::together(branches.into_iter().map(|(text, _)| text));
        let all = self.predict(times(&z), log_snr, Some(texts), &dropped, low)?;
        let branch = |k: usize| all.clone().narrow(0, k * n, n);
        let asked = match &text.toward {
            None => branch(0),
            Some((_, parts)) => between(branch(0), branch(1), parts),
        };
        if !guided {
            return Ok(asked);
        }
        let prediction = c.guidance.combine(asked.clone(), branch(count - 1));
        Ok(rescale(prediction, asked, c.guidance_rescale))
    }

    fn predict(
        &self,
        z: Tensor<4>,
        log_snr: LogSnr,
        text: Option<Text>,
        dropped: &[bool],
        low_resolution: Option<LowResolution>,
    ) -> Result<Tensor<4>> {
        let log_snr = vec![log_snr.get(); z.dims()[0]];
        match &self.network {
            Network::Own(unet) => {
                let replace = |text| {
                    if dropped.contains(&true) { self.config.null_text.replace(unet, text, dropped) } else { text }
                };
                unet.forward(z, &Conditioning { log_snr, text: text.map(replace), low_resolution })
            }
            Network::ImagenPytorch(unet) => unet.forward(z, &Conditioning { log_snr, text, low_resolution }, dropped),
        }
    }
}

/// The steps of one stage for a batch of pictures, one seed each.
///
/// `low_resolution [n, l, l, c]` is what a super-resolution stage enlarges: it is up-sampled and noised once (section 2.4).
///
/// # Errors
/// `Usage` where a setting is out of range.
pub fn trajectory<S: Borrow<Stage>>(
    stage: S,
    settings: &StageSettings,
    seeds: &[u64],
    text: Option<Text>,
    low_resolution: Option<Tensor<4>>,
) -> Result<impl Iterator<Item = Result<StepEvent>> + use<S>> {
    let config = &stage.borrow().config;
    let keys: Vec<Rng> = seeds.iter().map(|seed| Rng::new(*seed).fold(config.stage as u64)).collect();
    let (noise, shape) = (noise_of(keys, stage.borrow().device()), [seeds.len(), config.size, config.size]);
    steps(stage, settings, shape, text.map(PromptText::from), low_resolution, None, noise)
}

/// The steps of `n` pictures of `h`×`w` pixels with all that they are drawn under.
pub(super) fn steps<S: Borrow<Stage>>(
    stage: S,
    settings: &StageSettings,
    [n, h, w]: [usize; 3],
    text: Option<PromptText>,
    low_resolution: Option<Tensor<4>>,
    start: Option<Start>,
    mut noise: Noise,
) -> Result<impl Iterator<Item = Result<StepEvent>> + use<S>> {
    let config = &stage.borrow().config;
    let shape = [n, h, w, config.unet.image_channels];
    let plan = settings.sampler.spaced(config.schedule, settings.steps, settings.spacing)?;
    let Begun { plan, z, keep } = start::begin(plan, start, shape, &mut noise)?;
    let low_resolution = low_resolution.map(|low| {
        let level = settings.aug_level.log_snr(config.aug_schedule);
        let _span = debug_span!("enlarge and noise the low resolution").entered();
        let enlarged = upsample_to(low, [h, w], config.enlargement);
        let eps = noise(Draw::LowResolution, enlarged.dims());
        let picture = diffuse(enlarged, eps, &vec![level; n]);
        LowResolution { picture, log_snr: vec![level.get(); n] }
    });
    let conditions = Conditions {
        text,
        low_resolution,
        guidance: Guidance::new(settings.guidance)?,
        guidance_interval: settings.guidance_interval,
        guidance_rescale: settings.guidance_rescale,
        thresholding: settings.thresholding,
    };
    let denoise =
        move |z: Tensor<4>, step: &PlannedStep| stage.borrow().denoise(z, step.level, &conditions).map(Denoised::from);
    Ok(Trajectory::follow(plan, z, keep, noise, denoise))
}
