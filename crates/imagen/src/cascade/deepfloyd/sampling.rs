//! Pictures on their way through both stages, as an iterator of events.
//!
//! Stage by stage, so that one network is in memory at a time; within a stage in batches. A picture's noise depends on its
//! seed, the stage and the use alone, as in `cascade::sampling`.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use tracing::info_span;

use super::safety::Verdict;
use super::stage::{Draw, IfOptions, IfStage, IfSteps, IfTexts, Noise, Start};
use super::texts::Embeddings;
use super::{DeepFloyd, IfRequest};
use crate::cascade::StageName;
use crate::cascade::sampling::to_pictures;
use crate::diffusion::noise;
use crate::error::{Context, Error, Result};
use crate::image::{Filter, FloatPicture, Picture};
use crate::nn::ops;
use crate::rng::Rng;

/// What happens while a request is drawn.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one event lives at a time")]
pub enum IfEvent {
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
        /// The picture; black where the safety checker withholds it.
        picture: Picture,
        /// What the safety checker found, where the model has one.
        verdict: Option<Verdict>,
    },
}

/// A request in progress; see [`DeepFloyd::sample`].
pub struct IfSampling<'a> {
    model: &'a DeepFloyd,
    request: IfRequest,
    stages: Vec<(StageName, IfOptions)>,
    embeddings: Option<Embeddings>,
    /// Index into `stages`.
    stage: usize,
    network: Option<Rc<IfStage>>,
    /// First picture of this stage that has not been begun.
    next: usize,
    running: Option<(Range<usize>, IfSteps)>,
    /// What each picture is after the last stage, `[1, h, w, c]`.
    drawn: Vec<Tensor<4>>,
    /// The same before this stage.
    low: Vec<Tensor<4>>,
    ready: VecDeque<IfEvent>,
    failed: bool,
}

impl std::fmt::Debug for IfSampling<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IfSampling").field("stages", &self.stages).field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Uses of a picture's random numbers within a stage.
mod stream {
    pub(super) const INITIAL: u64 = 0;
    pub(super) const STEPS: u64 = 1;
    pub(super) const ENLARGED: u64 = 2;
}

impl<'a> IfSampling<'a> {
    pub(super) fn new(model: &'a DeepFloyd, request: IfRequest, stages: Vec<(StageName, IfOptions)>) -> Result<Self> {
        if request.prompts.is_empty() || request.count == 0 {
            return Err(Error::usage("nothing to draw: give at least one prompt and a count of at least 1"));
        }
        if let Some(embeddings) = &request.embeddings
            && embeddings.len() != request.prompts.len()
        {
            let (given, prompts) = (embeddings.len(), request.prompts.len());
            return Err(Error::usage(format!("{given} embeddings for {prompts} prompts: expected one each")));
        }
        let embeddings = request.embeddings.clone();
        let (low, drawn) = (Vec::new(), Vec::new());
        let mut sampling = Self {
            model,
            request,
            stages,
            embeddings,
            stage: 0,
            network: None,
            next: 0,
            running: None,
            drawn,
            low,
            ready: VecDeque::new(),
            failed: false,
        };
        if model.first.is_none() {
            let start = sampling.request.start.take().expect("resolved: there is a picture to enlarge");
            let low = tensor(&start.to_rgb([255; 3]).to_float(), &model.device);
            sampling.low = vec![low; sampling.pictures()];
        }
        Ok(sampling)
    }

    /// How many pictures the request asks for.
    pub fn pictures(&self) -> usize {
        self.request.prompts.len() * self.request.count
    }

    /// The stages that run, each with its options.
    pub fn stages(&self) -> &[(StageName, IfOptions)] {
        &self.stages
    }

    fn seed(&self, picture: usize) -> u64 {
        self.request.seed.wrapping_add((picture % self.request.count) as u64)
    }

    /// The prompts' embeddings; the encoder is there only while it runs.
    fn embed(&self) -> Result<Embeddings> {
        let model = self.model;
        let (folder, cache) = (model.encoder_folder(), model.text_cache.as_ref());
        let (prompts, clean) = (&self.request.prompts, self.request.clean);
        Embeddings::of_folder(folder, model.text_storage, cache, prompts, clean, &model.device)
    }

    /// Enters the next batch of this stage, or the next stage; `false` at the end.
    fn begin(&mut self) -> Result<bool> {
        if self.embeddings.is_none() {
            self.embeddings = Some(info_span!("encode text").in_scope(|| self.embed())?);
        }
        if self.next == self.pictures() {
            if self.stage + 1 == self.stages.len() {
                return Ok(false);
            }
            self.stage += 1;
            self.next = 0;
            // the old network goes before the new one comes, with what its maps were in
            self.network = None;
            ops::release_buffers();
            self.low = std::mem::take(&mut self.drawn);
        }
        let (name, options) = self.stages[self.stage].clone();
        let folder = self.model.folder(name).expect("resolved: a stage of this model");
        let network = match &self.network {
            Some(network) => network.clone(),
            None => self.network.insert(Rc::new(folder.build(self.model.storage, &self.model.device)?)).clone(),
        };
        let pictures = self.next..(self.next + self.request.batch.max(1)).min(self.pictures());
        self.next = pictures.end;
        let embeddings = self.embeddings.as_ref().expect("just made");
        let pairs: Vec<_> = pictures.clone().map(|picture| embeddings.pair(picture / self.request.count)).collect();
        let (prompts, empty) = pairs.into_iter().unzip();
        let texts = IfTexts { prompts: Tensor::cat(prompts, 0), empty: Tensor::cat(empty, 0) };
        let low = match self.low.is_empty() {
            true => None,
            false => Some(Tensor::cat(pictures.clone().map(|picture| self.low[picture].clone()).collect(), 0)),
        };
        let side = folder.config.sample_size;
        let size = match (&self.request.start, &low) {
            (Some(start), _) => sides([start.height(), start.width()], side),
            (None, Some(low)) => sides([low.dims()[1], low.dims()[2]], side),
            (None, None) => [side; 2],
        };
        let start = self.start(name, size, pictures.len())?;
        let keys = pictures.clone().map(|picture| Rng::new(self.seed(picture)).fold(name as u64)).collect();
        let noise = noise_of(keys, self.model.device.clone());
        let steps = network.steps(&options, &texts, size, low, start, noise)?;
        self.running = Some((pictures, steps));
        Ok(true)
    }

    /// The picture that a stage starts from, if there is one.
    fn start(&self, stage: StageName, [h, w]: [usize; 2], n: usize) -> Result<Option<Start>> {
        let Some(start) = &self.request.start else { return Ok(None) };
        let repeat = |x: Tensor<4>| Tensor::cat(vec![x; n], 0);
        let picture = start.to_rgb([255; 3]).resize(w, h, Filter::Bicubic)?;
        let mask = match &self.request.mask {
            None => None,
            Some(mask) => {
                let mask = grey(mask)?.resize(w, h, Filter::Bicubic)?;
                let values: Vec<f32> =
                    mask.pixels().iter().map(|value| if f32::from(*value) / 255.0 < 0.5 { 0.0 } else { 1.0 }).collect();
                Some(repeat(Tensor::from_data(TensorData::new(values, [1, h, w, 1]), &self.model.device)))
            }
        };
        let pictures = repeat(tensor(&picture.to_float(), &self.model.device));
        Ok(Some(Start { pictures, strength: self.request.strength(stage), mask }))
    }

    /// Hands out the pictures of a finished batch.
    fn finish(&mut self, pictures: Range<usize>, z: Tensor<4>) -> Result<()> {
        let stage = self.stages[self.stage].0;
        let last = self.stage + 1 == self.stages.len();
        if last && self.next == self.pictures() {
            // the network goes before the safety checker comes
            self.network = None;
            ops::release_buffers();
        }
        for (i, (picture, index)) in to_pictures(&z)?.into_iter().zip(pictures).enumerate() {
            let (picture, verdict) = self.model.check(picture)?;
            self.drawn.push(z.clone().narrow(0, i, 1));
            self.ready.push_back(IfEvent::Image { stage, last, index, picture, verdict });
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<IfEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some((pictures, mut steps)) = self.running.take() else {
                match self.begin()? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let stage = self.stages[self.stage].0;
            let step = steps.next().unwrap_or_else(|| Err(Error::usage("there are no steps")));
            let step = step.context(|| format!("stage {stage}"))?;
            let (index, of, x_hat) = (step.index, step.of, step.x_hat);
            let event = IfEvent::Step { stage, index, of, pictures: pictures.clone(), x_hat };
            if index + 1 == of {
                drop(steps);
                self.finish(pictures, step.z)?;
            } else {
                self.running = Some((pictures, steps));
            }
            return Ok(Some(event));
        }
    }
}

impl Iterator for IfSampling<'_> {
    type Item = Result<IfEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.advance().transpose();
        self.failed = matches!(event, Some(Err(_)));
        event
    }
}

/// Noise of a batch, one key per picture.
fn noise_of(keys: Vec<Rng>, device: Device) -> Noise {
    Box::new(move |draw, dims| {
        let of = |key: &Rng| match draw {
            Draw::Initial => key.fold(stream::INITIAL),
            Draw::Enlarged => key.fold(stream::ENLARGED),
            // 0 is left for z itself, as everywhere
            Draw::Step(index) => key.fold(stream::STEPS).fold(index as u64 + 1),
        };
        noise(&keys.iter().map(of).collect::<Vec<_>>(), dims, &device)
    })
}

/// Height and width of a picture of this shape whose shorter side is `side`; the longer one is rounded to eights.
fn sides([h, w]: [usize; 2], side: usize) -> [usize; 2] {
    let eights = |ratio: f64| ((side as f64 / 8.0 * ratio).round_ties_even() as usize).max(1) * 8;
    let ratio = w as f64 / h as f64;
    match ratio {
        1.0 => [side; 2],
        ratio if ratio > 1.0 => [side, eights(ratio)],
        ratio => [eights(1.0 / ratio), side],
    }
}

fn tensor(picture: &FloatPicture, device: &Device) -> Tensor<4> {
    let shape = [1, picture.height(), picture.width(), picture.channels()];
    Tensor::from_data(TensorData::new(picture.values().to_vec(), shape), device)
}

/// One channel: luma as Pillow has it.
fn grey(picture: &Picture) -> Result<Picture> {
    let rgb = picture.to_rgb([0; 3]);
    let luma = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    let pixels = rgb.pixels().chunks_exact(3).map(luma).collect();
    Picture::with_channels(rgb.width(), rgb.height(), 1, pixels)
}
