//! What a run is at one moment: weights, their moving averages, the optimizer's moments, the step, and what happened.
//!
//! Nothing else has memory: the data's order, the noise and the dropped captions are functions of (seed, step). So a run
//! that is stopped and resumed from this state goes on as if it had never stopped, bit for bit. How states are kept as
//! files is `checkpoint`'s business.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ema::{self, Average};
use super::flat::flat;
use super::freeze;
use super::gradients::GradientSum;
use super::init::InitFrom;
use super::lora::{Adapters, LoraConfig};
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
    /// Adapters that are learned in place of the weights.
    pub lora: Option<LoraConfig>,
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
        Ok(Self { optimizer, averages, freeze, lora: config.lora.clone() })
    }
}

impl Default for Learning {
    /// Adam, one average of decay 0.999, nothing frozen, no adapters.
    fn default() -> Self {
        let averages = vec![Average { name: "0.999".to_owned(), decay: 0.999 }];
        Self { optimizer: Optimizer::default(), averages, freeze: Vec::new(), lora: None }
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
    /// The set of pictures, by a digest; absent in states of programs that did not write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<String>,
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
    /// Everything else that a learned parameter has, by its name.
    pub(super) slots: BTreeMap<String, Slot>,
    /// What is learned in place of the network's weights, which are the folded ones then.
    pub(super) adapters: Option<Adapters>,
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
        Self::of(random(config, seed, device)?, learning, seed, device)
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
        if let (Some(_), Some(name)) = (&learning.lora, report.missing.iter().chain(&report.misshapen).next()) {
            return Err(Error::usage(format!(
                "train.lora adapts a network as it is, and this recipe's differs from it in {name}; `imagen recipe new --from \
                 MODEL` writes a recipe for the model's own network"
            )));
        }
        let mut state = Self::of(unet, learning, seed, device)?;
        state.log.history.clone_from(&stage.record.history);
        Ok((state, report))
    }

    /// The state of a network that no step was taken with.
    fn of(unet: Unet, learning: &Learning, seed: u64, device: &Device) -> Result<Self> {
        let mut frozen = freeze::frozen(&unet, &learning.freeze)?;
        let mut slots = BTreeMap::new();
        let mut slot = |name: String, shape: Vec<usize>, values: Vec<f32>, frozen: bool| -> Result<()> {
            let len = values.len();
            let average = || Tensor::from_data(TensorData::new(values.clone(), [len]), device);
            let moments = if frozen {
                Moments::default()
            } else {
                Moments::new(&learning.optimizer, &shape, device, |_, len| Ok(vec![0.0; len]))?
            };
            let averages = learning.averages.iter().map(|_| average()).collect();
            slots.insert(name, Slot { shape, averages, moments });
            Ok(())
        };
        let adapters = match &learning.lora {
            None => {
                for (name, tensor) in nn::export(&unet) {
                    let frozen = frozen.contains(&name);
                    slot(name, tensor.shape, tensor.values, frozen)?;
                }
                None
            }
            Some(config) => {
                let adapters = Adapters::new(&unet, config, &frozen, Rng::new(seed).fold(ADAPTERS), device)?;
                adapters.learned().try_for_each(|(name, shape, value)| slot(name, shape, flat(&value), false))?;
                let adapted: BTreeSet<&str> = adapters.parameters().map(String::as_str).collect();
                nn::visit(&unet, |name, _| {
                    if !adapted.contains(name) {
                        frozen.insert(name.to_owned());
                    }
                });
                Some(adapters)
            }
        };
        let unet = freeze::freeze(unet, &frozen);
        let (learning, device) = (learning.clone(), device.clone());
        Ok(Self { unet, slots, adapters, step: 0, log: Log::default(), learning, frozen, device })
    }

    /// A state whose every number comes from `values(name, shape)`: `w.NAME` is what is learned, `ema.NAME` and so on averages,
    /// `m.NAME` and so on moments. Adapters are those of `base`.
    pub(super) fn read(
        config: &StageConfig,
        learning: &Learning,
        base: Option<&StageFile>,
        device: &Device,
        mut values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut state = match base {
            Some(base) => Self::from_stage(config, learning, 0, base, device)?.0,
            None => {
                let unet = nn::import(random(config, 0, device)?, |name, shape| values(&format!("w.{name}"), shape))?;
                Self::of(unet, learning, 0, device)?
            }
        };
        if let Some(adapters) = &mut state.adapters {
            adapters.replace(|name, shape, old| {
                let values = values(&format!("w.{name}"), shape)?;
                let len = values.len();
                Ok(Tensor::from_data(TensorData::new(values, [len]), &old.device()))
            })?;
            state.unet = adapters.fold(state.unet);
        }
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
        for (name, value) in self.learned() {
            let slot = &self.slots[&name];
            let len = slot.shape.iter().product::<usize>();
            let mut push = |kind: &str, tensor: Tensor<1>| {
                let here = tensor.dims();
                let shape = if here == [len] { slot.shape.clone() } else { here.to_vec() };
                all.push((format!("{kind}.{name}"), shape, tensor));
            };
            push("w", value);
            for (i, average) in slot.averages.iter().enumerate() {
                push(&ema::prefix(&self.learning.averages, i), average.clone());
            }
            for (kind, moment) in slot.moments.named(&self.learning.optimizer, &slot.shape) {
                push(kind, moment);
            }
        }
        // in the order of names, like every file of weights
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What is learned, by name, `[len]` each.
    fn learned(&self) -> Vec<(String, Tensor<1>)> {
        if let Some(adapters) = &self.adapters {
            return adapters.learned().map(|(name, _, value)| (name, value)).collect();
        }
        let mut all = Vec::new();
        nn::visit(&self.unet, |name, parameter| all.push((name.to_owned(), parameter.flat().inner())));
        all
    }

    /// The gradients of what is learned that a backward pass of its network left.
    pub(super) fn gradients(&self, gradients: &Gradients) -> GradientSum {
        let mut sum = GradientSum::default();
        sum.add(&self.unet, gradients);
        match &self.adapters {
            Some(adapters) => adapters.project(sum),
            None => sum,
        }
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
        let mut update = Update { slots: &mut self.slots, gradients, step, learning: &self.learning };
        match &mut self.adapters {
            None => self.unet = nn::change(self.unet, &mut update),
            Some(adapters) => {
                let stepped = adapters.replace(|name, _, value| Ok(update.step(name, value)));
                stepped.expect("a step of the optimizer has no errors");
                self.unet = adapters.fold(self.unet);
            }
        }
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
        self.averaged_by(0)
    }

    /// [`Self::averaged`] with another of the averages.
    pub(super) fn averaged_by(&self, average: usize) -> Result<Unet> {
        match self.averaged_adapters(average) {
            Some(adapters) => Ok(adapters.fold(self.unet.valid())),
            None => nn::import(self.unet.valid(), |name, _| Ok(flat(&self.slots[name].averages[average]))),
        }
    }

    /// The adapters of one of the averages, where adapters are learned.
    pub(super) fn averaged_adapters(&self, average: usize) -> Option<Adapters> {
        let mut adapters = self.adapters.clone()?;
        let averaged = adapters.replace(|name, _, _| Ok(self.slots[name].averages[average].clone()));
        averaged.expect("to look up an average has no errors");
        Some(adapters)
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
        Ok(Self { log, ..Self::of(unet, &learning, 0, &device)? })
    }

    /// The device of the averages and moments.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Streams of the run's seed.
const INIT: u64 = 0x1417;
const ADAPTERS: u64 = 0x10ea;
/// What the names of the parameters that stand in for a dropped text begin with.
const NULL_TEXT: &str = "null_text.";

fn random(config: &StageConfig, seed: u64, device: &Device) -> Result<Unet> {
    let autodiff = device.clone().autodiff();
    Unet::new(&config.unet, &mut Init::new(&autodiff, Rng::new(seed).fold(INIT)))
}

/// Steps what is learned.
struct Update<'a> {
    slots: &'a mut BTreeMap<String, Slot>,
    gradients: GradientSum,
    step: UpdateStep,
    learning: &'a Learning,
}

impl Update<'_> {
    /// The value `[len]` of this name after the step; as it is where it has no gradient.
    fn step(&mut self, name: &str, value: Tensor<1>) -> Tensor<1> {
        let Some(gradient) = self.gradients.take(name) else { return value };
        let (name, Slot { shape, averages, moments }) =
            self.slots.remove_entry(name).expect("whatever is learned has a slot");
        let decay = |i: usize| self.learning.averages[i].decay_at(self.step.number);
        let mut averages = averages.into_iter();
        let first = averages.next().expect("there is always an average");
        let (value, first, moments) =
            self.learning.optimizer.step(&shape, [value, gradient, first], moments, &self.step, decay(0));
        let others = averages.enumerate().map(|(i, average)| ops::average(average, value.clone(), decay(i + 1)));
        let averages = std::iter::once(first).chain(others).collect();
        self.slots.insert(name, Slot { shape, averages, moments });
        value
    }
}

impl Change for Update<'_> {
    fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.gradients.has(name) {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let w = self.step(name, tensor.inner().reshape([shape.iter().product::<usize>()]));
        Param::from_mapped_value(id, Tensor::<D>::from_inner(w.reshape(shape)).require_grad(), mapper)
    }
}
