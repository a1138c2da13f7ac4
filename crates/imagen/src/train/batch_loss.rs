//! From a batch to its loss and gradients: noise, dropped texts, noised low resolution, the network, backward.
//!
//! Everything random here is a function of (key, step, place in the batch), so that micro-batches are the whole batch in
//! parts.

use std::ops::Range;
use std::rc::Rc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::gradients::GradientTree;
use super::recipe::Recipe;
use super::state::TrainState;
use super::texts::Texts;
use crate::cascade::{StageConfig, upsample};
use crate::data::{Batch, Pixels};
use crate::diffusion::{AugLevel, LogSnr, Loss, Objective, Time, augment};
use crate::error::{Error, Result};
use crate::models::unet::{Conditioning, LowResolution, Text, Unet};
use crate::nn::{self, Precision, ops};
use crate::rng::Rng;

/// Streams of the run's seed; each is folded with the step. The loader's streams of the same seed lie below them.
mod stream {
    pub(super) const DIFFUSION: u64 = 0x100;
    pub(super) const TEXT_DROP: u64 = 0x101;
    pub(super) const AUG_LEVEL: u64 = 0x102;
    pub(super) const AUG_NOISE: u64 = 0x103;
}

/// What the loss of a batch needs besides the network.
pub(super) struct BatchLoss<'a> {
    recipe: &'a Recipe,
    objective: Objective,
    key: Rng,
    texts: Option<Rc<Texts<'a>>>,
    text_drop_prob: f64,
}

/// The training objective of a recipe.
pub(super) fn objective(recipe: &Recipe) -> Objective {
    Objective {
        schedule: recipe.stage.schedule,
        parameterization: recipe.stage.parameterization,
        weight: recipe.train.loss_weight,
        times: recipe.train.times,
    }
}

/// Examples with their places in the whole batch of a step.
#[derive(Clone, Copy)]
pub(super) struct Dealt<'a> {
    batch: &'a Batch,
    first: usize,
    of: usize,
}

impl<'a> Dealt<'a> {
    /// All of a batch.
    pub(super) fn whole(batch: &'a Batch) -> Self {
        Self { batch, first: 0, of: batch.examples.len() }
    }

    /// The examples of a batch of `of` from place `first` on.
    pub(super) fn stretch(batch: &'a Batch, first: usize, of: usize) -> Self {
        Self { batch, first, of }
    }

    /// Where the batch has the examples in these places.
    fn within(&self, places: &Range<usize>) -> Range<usize> {
        places.start - self.first..places.end - self.first
    }
}

/// What a part of a batch came to.
struct PartLoss {
    loss: Loss,
    /// The cross-entropy of the auxiliary head's names, `[1]`, where they are asked for.
    naming: Option<Tensor<1>>,
    /// The times that its pictures were seen at.
    times: Vec<Time>,
}

/// What the passes over some parts of a batch came to.
pub(super) enum Passes {
    /// The direction in which the loss grows.
    Gradients {
        /// Of each part's share of the mean loss.
        tree: GradientTree,
        /// The parts' mean losses, from left to right.
        losses: Vec<f64>,
        /// The parts' mean cross-entropies of the auxiliary head's names; empty where it is not trained.
        naming: Vec<f64>,
        /// Each picture's time and loss.
        pictures: Vec<(Time, f64)>,
    },
    /// A number is infinite or none; this says which.
    NotFinite(String),
}

impl<'a> BatchLoss<'a> {
    /// With the randomness of `key` and this share of texts dropped.
    pub(super) fn new(recipe: &'a Recipe, key: Rng, texts: Option<Rc<Texts<'a>>>, text_drop_prob: f64) -> Self {
        Self { recipe, objective: objective(recipe), key, texts, text_drop_prob }
    }

    /// Gradients and losses of the parts of a batch that are here.
    pub(super) fn gradients(&self, state: &TrainState, dealt: Dealt<'_>) -> Result<Passes> {
        let many = self.part_size(dealt.of) < dealt.of;
        let pass = || self.passes(state, dealt);
        if many { ops::keeping_weights(pass) } else { pass() }
    }

    /// One pass forward and back for each part.
    fn passes(&self, state: &TrainState, dealt: Dealt<'_>) -> Result<Passes> {
        let device = state.device().clone().autodiff();
        let precision = self.recipe.train.precision;
        let (mut tree, mut losses, mut pictures) = (GradientTree::default(), Vec::new(), Vec::new());
        let mut names = Vec::new();
        for (part, share) in self.parts(dealt) {
            let place = part.start / self.part_size(dealt.of);
            let PartLoss { loss: Loss { mean, per_picture }, naming, times } =
                self.loss(&state.unet, dealt, part, state.step, precision, &device)?;
            let value = f64::from(mean.clone().into_scalar::<f32>());
            if !value.is_finite() {
                return Ok(Passes::NotFinite(blame(&state.unet).unwrap_or_else(|| format!("the loss is {value}"))));
            }
            losses.push(value);
            pictures.extend(times.into_iter().zip(per_picture.into_data().iter::<f64>()));
            let total = match naming {
                Some(naming) => {
                    names.push(f64::from(naming.clone().into_scalar::<f32>()));
                    mean + naming * self.recipe.train.naming_weight as f32
                }
                None => mean,
            };
            tree.add(place, state.gradients(&(total * share as f32).backward()));
        }
        Ok(Passes::Gradients { tree, losses, naming: names, pictures })
    }

    /// Mean loss of one batch in f32, nothing recorded.
    pub(super) fn value(&self, unet: &Unet, batch: &Batch, step: u64, device: &Device) -> Result<f64> {
        let (mut total, dealt) = (0.0, Dealt::whole(batch));
        for (part, share) in self.parts(dealt) {
            let part = self.loss(unet, dealt, part, step, Precision::F32, device)?;
            total += share * f64::from(part.loss.mean.into_scalar::<f32>());
        }
        Ok(total)
    }

    /// Pictures that go through the network at once.
    fn part_size(&self, batch: usize) -> usize {
        self.recipe.train.micro_batch.unwrap_or(batch).min(batch).max(1)
    }

    /// The parts that go through the network at once, as places in the whole batch, each with its share of that.
    fn parts(&self, dealt: Dealt<'_>) -> impl Iterator<Item = (Range<usize>, f64)> {
        let (size, of) = (self.part_size(dealt.of), dealt.of);
        let end = dealt.first + dealt.batch.examples.len();
        (dealt.first..end).step_by(size).map(move |first| {
            let part = first..(first + size).min(end);
            let share = part.len() as f64 / of as f64;
            (part, share)
        })
    }

    /// The loss of a part of a batch.
    fn loss(
        &self,
        unet: &Unet,
        dealt: Dealt<'_>,
        part: Range<usize>,
        step: u64,
        precision: Precision,
        device: &Device,
    ) -> Result<PartLoss> {
        let key = self.key.fold(stream::DIFFUSION).fold(step);
        let shown = pictures(&dealt.batch.pictures, &dealt.within(&part), device);
        let noised = self.objective.q_sample(shown, key, part.clone(), dealt.of);
        let things = named(dealt.batch, &dealt.within(&part));
        let conditioning = Conditioning {
            log_snr: noised.levels().iter().map(|level| level.get()).collect(),
            text: precision.during(|| self.text(unet, dealt, part.clone(), step, device))?,
            low_resolution: self.low_resolution(dealt, part, step, device)?,
        };
        let forward = || {
            precision.during(|| match things {
                Some(_) => unet.forward_naming(noised.z(), &conditioning),
                None => Ok((unet.forward(noised.z(), &conditioning)?, None)),
            })
        };
        let (prediction, names) =
            if self.recipe.train.checkpoint_blocks { ops::recomputing(forward) } else { forward() }?;
        let naming = names.zip(things).map(|(names, things)| cross_entropy(names, things));
        let times = noised.times().to_vec();
        Ok(PartLoss { loss: noised.loss(prediction), naming, times })
    }

    /// The captions of a part of the batch, some of them dropped.
    fn text(
        &self,
        unet: &Unet,
        dealt: Dealt<'_>,
        part: Range<usize>,
        step: u64,
        device: &Device,
    ) -> Result<Option<Text>> {
        let Some(texts) = &self.texts else { return Ok(None) };
        let (batch, here) = (dealt.batch, dealt.within(&part));
        let captions = batch.captions[here.clone()].iter().zip(&batch.examples[here]);
        let said = captions.map(|(caption, example)| {
            caption.as_deref().ok_or_else(|| Error::data(format!("picture {example} has no caption")))
        });
        let embedding = texts.embed(&said.collect::<Result<Vec<_>>>()?, device)?;
        let key = self.key.fold(stream::TEXT_DROP).fold(step);
        let dropped: Vec<bool> = part.map(|i| key.fold(i as u64).unit() < self.text_drop_prob).collect();
        Ok(Some(self.recipe.stage.null_text.replace(unet, embedding.into(), &dropped)))
    }

    /// The condition that the low-resolution pictures of a part of the batch are.
    fn low_resolution(
        &self,
        dealt: Dealt<'_>,
        part: Range<usize>,
        step: u64,
        device: &Device,
    ) -> Result<Option<LowResolution>> {
        let (batch, here) = (dealt.batch, dealt.within(&part));
        let Some(low) = batch.low_res.as_ref().map(|low| pictures(low, &here, device)) else { return Ok(None) };
        let keys = [stream::AUG_LEVEL, stream::AUG_NOISE].map(|stream| self.key.fold(stream).fold(step));
        Ok(Some(low_resolution(low, &self.recipe.stage, batch.pictures.shape[2], keys, part)))
    }
}

/// The condition of super-resolution: `low` up-sampled to `side` and noised at a random level each (A6). The keys of level
/// and noise are folded with each picture's place in its batch, of which these are a part.
pub(super) fn low_resolution(
    low: Tensor<4>,
    stage: &StageConfig,
    side: usize,
    keys: [Rng; 2],
    part: Range<usize>,
) -> LowResolution {
    let [level, noise] = keys.map(|key| part.clone().map(move |i| key.fold(i as u64)));
    let draw = |key| AugLevel::draw(key, stage.max_aug_level).log_snr(stage.aug_schedule);
    let levels: Vec<LogSnr> = level.map(draw).collect();
    let picture = augment(upsample(low, side, stage.enlargement), &levels, &noise.collect::<Vec<_>>());
    LowResolution { picture, log_snr: levels.into_iter().map(LogSnr::get).collect() }
}

/// The first parameter that holds a number that is not finite.
fn blame(unet: &Unet) -> Option<String> {
    let broken = |(name, t): (String, nn::Values)| t.values.iter().any(|x| !x.is_finite()).then_some(name);
    nn::export(unet).into_iter().find_map(broken).map(|name| format!("the parameter {name} is not finite"))
}

/// What is at the places of a part of a batch's pictures, if the batch says so.
fn named<'a>(batch: &'a Batch, part: &Range<usize>) -> Option<&'a [usize]> {
    let places = batch.things.len() / batch.examples.len();
    (places > 0).then(|| &batch.things[part.start * places..part.end * places])
}

/// Mean over all places of the cross-entropy of `logits [n, h, w, k]` with what is there.
fn cross_entropy(logits: Tensor<4>, things: &[usize]) -> Tensor<1> {
    let classes = logits.dims()[3];
    let right: Vec<i64> = things.iter().map(|&thing| thing as i64).collect();
    let right = Tensor::<2, Int>::from_data(TensorData::new(right, [things.len(), 1]), &logits.device());
    let likelihoods = log_softmax(logits.reshape([things.len(), classes]), 1);
    likelihoods.gather(1, right).mean().neg()
}

/// A part of a batch's pictures as a tensor.
pub(super) fn pictures(pixels: &Pixels, part: &Range<usize>, device: &Device) -> Tensor<4> {
    let [_, h, w, c] = pixels.shape;
    let values = pixels.values[part.start * h * w * c..part.end * h * w * c].to_vec();
    Tensor::from_data(TensorData::new(values, [part.len(), h, w, c]), device)
}
