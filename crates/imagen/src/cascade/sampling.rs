//! Drawing as an iterator: the caller pulls, one evaluation of a network per event.
//!
//! Pictures are drawn in batches; a batch passes through all stages before the next begins, so that a picture is there as
//! soon as it is ready. Every random number is keyed by (the picture's seed, the stage, its use), so that a batch's size and
//! neighbours do not matter.

use std::collections::VecDeque;
use std::ops::Range;

use burn::tensor::Tensor;
use tracing::{debug_span, info_span};

use super::config::{SamplingDefaults, StageName};
use super::stage::{Conditions, Stage};
use super::upsample::upsample;
use super::{Imagen, Request};
use crate::diffusion::{Guidance, LogSnr, StepEvent, Trajectory, augment, noise};
use crate::error::{Context, Error, Result};
use crate::image::{FloatPicture, Picture};
use crate::models::unet::{LowResolution, Text};
use crate::nn::ops;
use crate::rng::Rng;

/// What happens while pictures are drawn.
#[derive(Clone, Debug)]
// one event a step: a box would cost more lines than the moved bytes cost time
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// A network was evaluated once for a batch of pictures.
    Step {
        /// The stage that runs.
        stage: StageName,
        /// This step, from 0.
        index: usize,
        /// Steps of the stage.
        of: usize,
        /// Which pictures of the request.
        pictures: Range<usize>,
        /// The current estimate of the clean pictures, `[n, h, w, c]`.
        x_hat: Tensor<4>,
    },
    /// A stage has finished a picture.
    Image {
        /// The stage.
        stage: StageName,
        /// Whether it is the request's last stage.
        last: bool,
        /// Which picture of the request.
        index: usize,
        /// Its prompt.
        prompt: String,
        /// Its seed.
        seed: u64,
        /// The picture.
        picture: Picture,
    },
}

/// A request in progress; see [`Imagen::sample`].
pub struct Sampling<'a> {
    imagen: &'a Imagen,
    stages: Vec<(StageName, SamplingDefaults)>,
    /// (prompt, seed) of every picture.
    pictures: Vec<(String, u64)>,
    batch: usize,
    /// First picture that has not been begun.
    next: usize,
    running: Option<Running<'a>>,
    ready: VecDeque<Event>,
    failed: bool,
}

/// A batch on its way through a stage.
struct Running<'a> {
    pictures: Range<usize>,
    text: Text,
    /// Index into `Sampling::stages`.
    stage: usize,
    trajectory: Steps<'a>,
}

type Steps<'a> = Box<dyn Iterator<Item = Result<StepEvent>> + 'a>;

impl<'a> Sampling<'a> {
    pub(super) fn new(
        imagen: &'a Imagen,
        request: &Request,
        stages: Vec<(StageName, SamplingDefaults)>,
    ) -> Result<Self> {
        if request.prompts.is_empty() || request.count == 0 {
            return Err(Error::usage("nothing to draw: give at least one prompt and a count of at least 1"));
        }
        let seed = |k: usize| request.seed.wrapping_add(k as u64);
        let pictures = request.prompts.iter().flat_map(|p| (0..request.count).map(move |k| (p.clone(), seed(k))));
        Ok(Self {
            imagen,
            stages,
            pictures: pictures.collect(),
            batch: request.batch.max(1),
            next: 0,
            running: None,
            ready: VecDeque::new(),
            failed: false,
        })
    }

    /// How many pictures the request asks for.
    pub fn pictures(&self) -> usize {
        self.pictures.len()
    }

    /// The stages that run, each with its options.
    pub fn stages(&self) -> &[(StageName, SamplingDefaults)] {
        &self.stages
    }

    /// Encodes the next batch's prompts and enters the first stage.
    fn begin(&mut self) -> Result<Option<Running<'a>>> {
        let pictures = self.next..(self.next + self.batch).min(self.pictures.len());
        if pictures.is_empty() {
            return Ok(None);
        }
        self.next = pictures.end;
        let prompts: Vec<&str> = self.pictures[pictures.clone()].iter().map(|(p, _)| p.as_str()).collect();
        let text = self.imagen.encoder.encode(&prompts)?.into();
        self.enter(0, pictures, text, None).map(Some)
    }

    fn enter(
        &self,
        stage: usize,
        pictures: Range<usize>,
        text: Text,
        low_resolution: Option<Tensor<4>>,
    ) -> Result<Running<'a>> {
        // buffers of the sizes that the stage before worked with
        ops::release_buffers();
        let (name, options) = self.stages[stage];
        let seeds: Vec<u64> = self.pictures[pictures.clone()].iter().map(|(_, seed)| *seed).collect();
        let text_for_stage = Some(text.clone());
        let trajectory = trajectory(self.imagen.stage(name)?, &options, &seeds, text_for_stage, low_resolution)?;
        Ok(Running { pictures, text, stage, trajectory: Box::new(trajectory) })
    }

    /// Hands out the pictures of a finished stage and enters the next one.
    fn finish(&mut self, done: Running<'a>, x_hat: Tensor<4>) -> Result<()> {
        let name = self.stages[done.stage].0;
        let last = done.stage + 1 == self.stages.len();
        for (picture, index) in to_pictures(&x_hat)?.into_iter().zip(done.pictures.clone()) {
            let (prompt, seed) = self.pictures[index].clone();
            self.ready.push_back(Event::Image { stage: name, last, index, prompt, seed, picture });
        }
        if !last {
            self.running = Some(self.enter(done.stage + 1, done.pictures, done.text, Some(x_hat))?);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(mut running) = self.running.take() else {
                match self.begin()? {
                    Some(running) => self.running = Some(running),
                    None => return Ok(None),
                }
                continue;
            };
            let stage = self.stages[running.stage].0;
            let span = info_span!("step", stage = %stage).entered();
            let step = running
                .trajectory
                .next()
                .unwrap_or_else(|| Err(Error::usage("the trajectory has no steps")))
                .context(|| format!("stage {stage}"))?;
            drop(span);
            let (index, of, x_hat) = (step.index, step.of, step.x_hat);
            let pictures = running.pictures.clone();
            let event = Event::Step { stage, index, of, pictures, x_hat: x_hat.clone() };
            if index + 1 == of {
                self.finish(running, x_hat)?;
            } else {
                self.running = Some(running);
            }
            return Ok(Some(event));
        }
    }
}

impl Iterator for Sampling<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.advance().transpose();
        self.failed = matches!(event, Some(Err(_)));
        event
    }
}

/// Uses of a picture's random numbers within a stage.
mod stream {
    pub(super) const INITIAL: u64 = 0;
    pub(super) const STEPS: u64 = 1;
    pub(super) const AUGMENTATION: u64 = 2;
}

/// The steps of one stage for a batch of pictures, one seed each.
///
/// `low_resolution [n, l, l, c]` is what a super-resolution stage enlarges: it is up-sampled and noised once (A6).
///
/// # Errors
/// `Usage` where an option is out of range.
pub fn trajectory<'a>(
    stage: &'a Stage,
    options: &SamplingDefaults,
    seeds: &[u64],
    text: Option<Text>,
    low_resolution: Option<Tensor<4>>,
) -> Result<impl Iterator<Item = Result<StepEvent>> + 'a> {
    let config = &stage.config;
    let key = |seed: u64| Rng::new(seed).fold(config.stage as u64);
    let keys = |stream: u64| -> Vec<Rng> { seeds.iter().map(|seed| key(*seed).fold(stream)).collect() };
    let device = stage.device();
    let low_resolution = low_resolution.map(|low| {
        let level = options.aug_level.log_snr(config.aug_schedule);
        let _span = debug_span!("enlarge and noise the low resolution").entered();
        let enlarged = upsample(low, config.size, config.enlargement);
        let picture = augment(enlarged, &vec![level; seeds.len()], &keys(stream::AUGMENTATION));
        LowResolution { picture, log_snr: vec![level.get(); seeds.len()] }
    });
    let conditions = Conditions {
        text,
        low_resolution,
        guidance: Guidance::new(options.guidance)?,
        thresholding: options.thresholding,
    };
    let z = noise(&keys(stream::INITIAL), [seeds.len(), config.size, config.size, config.unet.image_channels], &device);
    let denoise = move |z: Tensor<4>, log_snr: LogSnr| stage.denoise(z, log_snr, &conditions);
    Trajectory::new(options.sampler, config.schedule, options.steps, z, keys(stream::STEPS), denoise)
}

/// Pictures from `[n, h, w, c]` in [-1, 1], of 1 to 4 channels.
///
/// # Errors
/// `Usage` where the tensor has other channels.
pub fn to_pictures(x: &Tensor<4>) -> Result<Vec<Picture>> {
    let _span = debug_span!("to pictures").entered();
    let [n, h, w, c] = x.dims();
    let values =
        x.clone().into_data().try_to_vec::<f32>().map_err(|e| Error::model(format!("pictures are f32: {e:?}")))?;
    let picture = |values: &[f32]| FloatPicture::new(w, h, c, values.to_vec())?.to_picture();
    (0..n).map(|i| picture(&values[i * h * w * c..(i + 1) * h * w * c])).collect()
}
