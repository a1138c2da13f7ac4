//! What a run is at one moment: weights, their moving averages, the optimizer's moments, the step, and what happened.
//!
//! Nothing else has memory: the data's order, the noise and the dropped captions are functions of (seed, step). So a run
//! that is stopped and resumed from this state goes on as if it had never stopped, bit for bit. How states are kept as
//! files is `checkpoint`'s business.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ema::{self, Average};
use super::flat::flat;
use super::freeze;
use super::gradients::GradientSum;
use super::init::InitFrom;
use super::optimizer::{Moments, Optimizer, UpdateStep};
use super::recipe::Recipe;
use crate::cascade::{NullText, PartialLoad, StageConfig, StageFile, Training};
use tracing::debug_span;

use crate::error::{Error, Result};
use crate::models::unet::Unet;
use crate::nn::{self, Change, Init, ops};
use crate::rng::Rng;

/// How parameters are learned.
#[derive(Clone, Debug)]
pub struct Learning {
    /// What moves them.
    pub optimizer: Optimizer,
    /// Their moving averages, at least one; the first is drawn with.
    pub averages: Vec<Average>,
    /// Patterns over the names of those that stay as they are.
    pub freeze: Vec<String>,
}

impl Learning {
    /// What a recipe asks for.
    ///
    /// # Errors
    /// `Data` where its numbers contradict each other.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        let config = &recipe.train;
        let (optimizer, averages) = (Optimizer::of(config)?, Average::of(config)?);
        let mut freeze = config.freeze.clone();
        if recipe.stage.null_text == NullText::Empty {
            freeze.push(format!("{NULL_TEXT}*"));
        }
        Ok(Self { optimizer, averages, freeze })
    }
}

impl Default for Learning {
    /// Adam, one average of decay 0.999, nothing frozen.
    fn default() -> Self {
        let averages = vec![Average { name: "0.999".to_owned(), decay: 0.999 }];
        Self { optimizer: Optimizer::default(), averages, freeze: Vec::new() }
    }
}

/// What a run remembers besides numbers that are learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Steps that were skipped because something was not finite.
    pub skipped: u64,
    /// How many of them came one after the other, up to now.
    pub skipped_in_a_row: u64,
    /// Examples that were dealt: where the data go on.
    pub dealt: u64,
    /// The best validation so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// What the run began with, as it was named; absent where it began at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_with: Option<String>,
    /// The text encoder, by its identity; absent in states of programs that did not write it, and of unconditional stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<String>,
    /// What the weights were trained with, oldest first; the last entry grows.
    pub history: Vec<Training>,
}

impl Log {
    /// A new run, after what it begins with.
    pub(super) fn begin(&mut self, recipe: &Recipe, text_encoder: &str, init_from: Option<&InitFrom>) {
        self.text_encoder = (recipe.stage.unet.text_dim > 0).then(|| text_encoder.to_owned());
        self.begun_with = init_from.map(InitFrom::given);
        let init_from = init_from.map(InitFrom::name);
        self.history.push(Training { recipe: recipe.digest(), init_from, steps: 0 });
    }

    /// The run goes on, perhaps under another recipe.
    ///
    /// # Errors
    /// `Usage` where it would go on with another text encoder.
    pub(super) fn resume(&mut self, recipe: &Recipe, text_encoder: &str, step: u64) -> Result<()> {
        if let Some(before) = self.text_encoder.as_ref().filter(|before| *before != text_encoder) {
            return Err(Error::usage(format!(
                "the run was trained with the text encoder {before}, and this one is {text_encoder}: go on with that one \
                 (--text-encoder), or begin another run"
            )));
        }
        let digest = recipe.digest();
        if self.history.is_empty() && step > 0 {
            // a state of version 1 says no more than its step
            self.dealt = step * recipe.train.batch as u64;
            self.history.push(Training { recipe: digest, init_from: None, steps: step });
        } else if self.history.last().is_none_or(|last| last.recipe != digest) {
            self.history.push(Training { recipe: digest, init_from: None, steps: 0 });
        }
        Ok(())
    }

    /// A step's examples are dealt.
    pub(super) fn deal(&mut self, examples: usize) {
        self.dealt += examples as u64;
        if let Some(last) = self.history.last_mut() {
            last.steps += 1;
        }
    }
}

/// The best validation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After this step.
    pub step: u64,
    /// The loss.
    pub loss: f64,
}

/// Weights, moving averages, moments, step.
#[derive(Debug)]
pub struct TrainState {
    /// The network that is trained, on an autodiff device.
    pub unet: Unet,
    /// Everything else that a parameter has, by its name.
    pub(super) slots: BTreeMap<String, Slot>,
    /// Steps taken, skipped ones included.
    pub step: u64,
    /// What happened on the way.
    pub log: Log,
    pub(super) learning: Learning,
    frozen: BTreeSet<String>,
    device: Device,
}

/// A parameter's companions, flat `[len]`.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) shape: Vec<usize>,
    /// In the order of [`Learning::averages`].
    pub(super) averages: Vec<Tensor<1>>,
    pub(super) moments: Moments,
}

impl TrainState {
    /// A fresh run: random weights from `seed`, on `device` (an inner device; the state adds autodiff itself).
    ///
    /// # Errors
    /// The configuration's; `Data` where a pattern of frozen parameters matches none.
    pub fn new(config: &StageConfig, learning: &Learning, seed: u64, device: &Device) -> Result<Self> {
        Self::of(random(config, seed, device)?, learning, device)
    }

    /// A fresh run that begins with the weights of another stage where they fit, and random ones elsewhere.
    ///
    /// # Errors
    /// As [`Self::new`] and of [`StageFile::load_matching`].
    pub fn from_stage(
        config: &StageConfig,
        learning: &Learning,
        seed: u64,
        stage: &StageFile,
        device: &Device,
    ) -> Result<(Self, PartialLoad)> {
        let (unet, report) = stage.load_matching(random(config, seed, device)?)?;
        let mut state = Self::of(unet, learning, device)?;
        state.log.history.clone_from(&stage.record.history);
        Ok((state, report))
    }

    /// The state of a network that no step was taken with.
    fn of(unet: Unet, learning: &Learning, device: &Device) -> Result<Self> {
        let frozen = freeze::frozen(&unet, &learning.freeze)?;
        let unet = freeze::freeze(unet, &frozen);
        let mut slots = BTreeMap::new();
        for (name, tensor) in nn::export(&unet) {
            let len = tensor.values.len();
            let average = || Tensor::from_data(TensorData::new(tensor.values.clone(), [len]), device);
            let moments = if frozen.contains(&name) {
                Moments::default()
            } else {
                Moments::new(&learning.optimizer, &tensor.shape, device, |_, len| Ok(vec![0.0; len]))?
            };
            let averages = learning.averages.iter().map(|_| average()).collect();
            slots.insert(name, Slot { shape: tensor.shape, averages, moments });
        }
        let (learning, device) = (learning.clone(), device.clone());
        Ok(Self { unet, slots, step: 0, log: Log::default(), learning, frozen, device })
    }

    /// A state whose every number comes from `values(name, shape)`: `w.NAME` are weights, `ema.NAME` and so on averages,
    /// `m.NAME` and so on moments.
    pub(super) fn read(
        config: &StageConfig,
        learning: &Learning,
        device: &Device,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let unet = nn::import(random(config, 0, device)?, |name, shape| values(&format!("w.{name}"), shape))?;
        let mut state = Self::of(unet, learning, device)?;
        for (name, slot) in &mut state.slots {
            for (i, average) in slot.averages.iter_mut().enumerate() {
                let values = values(&format!("{}.{name}", ema::prefix(&learning.averages, i)), &slot.shape)?;
                let len = values.len();
                *average = Tensor::from_data(TensorData::new(values, [len]), device);
            }
            if !state.frozen.contains(name) {
                let shape = slot.shape.clone();
                slot.moments = Moments::new(&learning.optimizer, &shape, device, |kind, len| {
                    // what is not of the weights' shape is stored flat
                    let whole = len == shape.iter().product::<usize>();
                    values(&format!("{kind}.{name}"), if whole { &shape } else { std::slice::from_ref(&len) })
                })?;
            }
        }
        Ok(state)
    }

    /// Bytes of a file of this state, but for its header.
    pub(super) fn bytes(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|(_, shape, _)| size_of::<f32>() as u64 * shape.iter().product::<usize>() as u64)
            .sum()
    }

    /// Everything that [`Self::read`] asks for: name, shape, values `[len]`.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>, Tensor<1>)> {
        let mut all = Vec::new();
        nn::visit(&self.unet, |name, parameter| {
            let slot = &self.slots[name];
            let len = slot.shape.iter().product::<usize>();
            let mut push = |kind: &str, tensor: Tensor<1>| {
                let here = tensor.dims();
                let shape = if here == [len] { slot.shape.clone() } else { here.to_vec() };
                all.push((format!("{kind}.{name}"), shape, tensor));
            };
            push("w", parameter.flat().inner());
            for (i, average) in slot.averages.iter().enumerate() {
                push(&ema::prefix(&self.learning.averages, i), average.clone());
            }
            for (kind, moment) in slot.moments.named(&self.learning.optimizer, &slot.shape) {
                push(kind, moment);
            }
        });
        // in the order of names, like every file of weights
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// One step of the optimizer with these gradients, their factor `scale` (clipping) and this learning rate; the moving
    /// averages follow.
    ///
    /// The state is moved through, so that every tensor has one owner and is updated in place.
    #[must_use]
    pub fn updated(mut self, gradients: GradientSum, lr: f64, scale: f64) -> Self {
        let _span = debug_span!("update").entered();
        self.step += 1;
        self.log.skipped_in_a_row = 0;
        let step = UpdateStep { lr, scale, number: self.step - self.log.skipped };
        let learning = &self.learning;
        let mut update = Update { slots: &mut self.slots, gradients, step, learning };
        self.unet = nn::change(self.unet, &mut update);
        self
    }

    /// The step counts as taken, but changed nothing: something in it was not finite.
    pub(super) fn skip(&mut self) {
        self.step += 1;
        self.log.skipped += 1;
        self.log.skipped_in_a_row += 1;
    }

    /// The network with the averaged weights, on the inner device.
    ///
    /// # Errors
    /// None in practice; those of [`nn::import`].
    pub fn averaged(&self) -> Result<Unet> {
        nn::import(self.unet.valid(), |name, _| Ok(flat(&self.slots[name].averages[0])))
    }

    /// The state with these vectors in place of a dropped text.
    ///
    /// # Errors
    /// `Data` where the network has another number of them.
    pub(super) fn with_null_text(self, values: &[f32]) -> Result<Self> {
        let (learning, device, log) = (self.learning, self.device, self.log);
        let mut own = nn::export(&self.unet);
        let unet = nn::import(self.unet, |name, shape| {
            if !name.starts_with(NULL_TEXT) {
                return Ok(own.remove(name).expect("exported above").values);
            }
            if shape[0] * shape[1] == values.len() {
                Ok(values.to_vec())
            } else {
                Err(Error::data(format!(
                    "stage.unet.null_text = {}, but the text encoder makes {} tokens of an empty text; set it to that",
                    shape[0],
                    values.len() / shape[1]
                )))
            }
        })?;
        Ok(Self { log, ..Self::of(unet, &learning, &device)? })
    }

    /// The device of the averages and moments.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Streams of the run's seed.
const INIT: u64 = 0x1417;
/// What the names of the parameters that stand in for a dropped text begin with.
const NULL_TEXT: &str = "null_text.";

fn random(config: &StageConfig, seed: u64, device: &Device) -> Result<Unet> {
    let autodiff = device.clone().autodiff();
    Unet::new(&config.unet, &mut Init::new(&autodiff, Rng::new(seed).fold(INIT)))
}

/// Walks the parameters and steps each.
struct Update<'a> {
    slots: &'a mut BTreeMap<String, Slot>,
    gradients: GradientSum,
    step: UpdateStep,
    learning: &'a Learning,
}

impl Change for Update<'_> {
    fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.take(name) else { return param };
        let (name, Slot { shape: extents, averages, moments }) =
            self.slots.remove_entry(name).expect("every parameter has a slot");
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let w = tensor.inner().reshape([shape.iter().product::<usize>()]);
        let decay = |i: usize| self.learning.averages[i].decay_at(self.step.number);
        let mut averages = averages.into_iter();
        let first = averages.next().expect("there is always an average");
        let (w, first, moments) =
            self.learning.optimizer.step(&extents, [w, gradient, first], moments, &self.step, decay(0));
        let others = averages.enumerate().map(|(i, average)| ops::average(average, w.clone(), decay(i + 1)));
        let averages = std::iter::once(first).chain(others).collect();
        self.slots.insert(name, Slot { shape: extents, averages, moments });
        let w = Tensor::<D>::from_inner(w.reshape(shape)).require_grad();
        Param::from_mapped_value(id, w, mapper)
    }
}
