//! The networks of `imagen bench`: named, described by a recipe or read from a file, run forward or trained on random
//! pictures.
//!
//! Weights of what is not a file are random and none is zero, so that every layer takes part in a comparison of results.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Map, Value, json};
use tracing::debug_span;

use imagen::cascade::{StageConfig, StageFile, StageName};
use imagen::diffusion::{Parameterization, weighted_loss};
use imagen::models::unet::{
    Conditioning, Heads, Layout, Level, LowResolution, SkipScale, Text, TextAttention, TextPooling, Unet, UnetConfig,
    cost_with_text,
};
use imagen::models::weights::{NamedTensor, Precision, write_safetensors};
use imagen::nn::{self, Init};
use imagen::rng::Rng;
use imagen::said;
use imagen::train::{GradientSum, Learning, Recipe, TrainState};

use super::work::Work;
use crate::cli::shared;
use crate::failure::{Exit, Failure, Result};
use crate::system;

/// A network's name, the side of its pictures and its description.
type Named = (&'static str, usize, fn() -> UnetConfig);

/// Names of networks that come with the program, and their sides.
const NAMES: [Named; 5] = [
    ("mini", 128, mini),
    ("if-i-m", 64, if_i_m),
    ("paper-base64", 64, || UnetConfig::base64(4096)),
    ("paper-sr256", 256, || UnetConfig::sr256(4096)),
    ("paper-sr1024", 1024, || UnetConfig::sr1024(4096)),
];

/// The help of `--network`.
pub(super) fn help() -> String {
    let names = NAMES.map(|(name, ..)| name).join(", ");
    format!(
        "What to run: base (the default), sr256 or sr1024 of the built-in model; a network by name ({names}); a recipe \
         (.toml) or a stage (.safetensors)"
    )
}

/// Residual blocks of 64, 128 and 256 channels on 64², 32² and 16² maps, two a level and side; self- and cross-attention
/// on 16².
fn mini() -> UnetConfig {
    let level = |channels, attention| Level {
        blocks: 2,
        self_attention: attention,
        text_attention: attention,
        ..Level::plain(channels)
    };
    UnetConfig {
        layout: Layout::Efficient,
        channels: 16,
        embedding: 256,
        text_width: 512,
        levels: vec![level(64, false), level(128, false), level(256, true)],
        heads: Heads::Count(4),
        text_attention: TextAttention::Separate,
        text_pooling: TextPooling::None,
        skip_scale: SkipScale::None,
        ..UnetConfig::base64(512)
    }
}

/// The shape of the medium base model of DeepFloyd IF, in the paper's layout.
fn if_i_m() -> UnetConfig {
    let level = |channels, attention| Level {
        blocks: 3,
        self_attention: attention,
        text_attention: attention,
        ..Level::plain(channels)
    };
    UnetConfig {
        channels: 192,
        embedding: 768,
        text_width: 768,
        levels: vec![level(192, false), level(384, true), level(576, true), level(768, true)],
        ..UnetConfig::base64(4096)
    }
}

/// What of a network is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) train: bool,
    pub(super) batch: usize,
    pub(super) size: Option<usize>,
    pub(super) tokens: usize,
}

/// A network that was asked for.
struct Network {
    name: String,
    config: StageConfig,
    /// Its weights, unless they are to be random.
    trained: Option<Unet>,
    /// What a training step sees of a picture.
    crop: Option<usize>,
}

impl Network {
    fn find(what: Option<&str>, device: &Device) -> Result<Self> {
        let built_in = crate::builtin::model().is_some();
        let what = what.unwrap_or(if built_in { "base" } else { "mini" });
        if let Some((name, size, unet)) = NAMES.into_iter().find(|(name, ..)| *name == what) {
            return Ok(Self { name: name.to_owned(), config: named(size, unet()), trained: None, crop: None });
        }
        let path = Path::new(what);
        if path.extension().is_some_and(|extension| extension == "toml") {
            let recipe = Recipe::read(path)?;
            return Ok(Self { name: what.to_owned(), config: recipe.stage, trained: None, crop: recipe.data.crop });
        }
        let file = match what.parse::<StageName>() {
            Ok(stage) => shared::named_model(None)?
                .stage(stage)?
                .ok_or_else(|| Failure::new(Exit::Model, format_args!("the built-in model has no stage {stage}")))?,
            Err(_) if path.exists() => StageFile::open(path)?,
            Err(_) => return Err(Failure::usage(format_args!("there is no network {what}")).hint(help())),
        };
        let stage = file.build(device)?;
        Ok(Self { name: what.to_owned(), config: file.config, trained: Some(stage.unet()?.clone()), crop: None })
    }
}

fn named(size: usize, unet: UnetConfig) -> StageConfig {
    let stage = match size {
        _ if !unet.low_resolution => StageName::Base,
        ..=256 => StageName::Sr256,
        _ => StageName::Sr1024,
    };
    let low_size = unet.low_resolution.then_some(size / 4);
    StageConfig { parameterization: Parameterization::V, ..StageConfig::new(stage, size, low_size, unet) }
}

/// Streams of the one seed of all random numbers here.
mod stream {
    pub(super) const WEIGHTS: u64 = 0;
    pub(super) const INPUTS: u64 = 1;
}

/// Weights of about the variance that keeps activations where they are; norms near one, biases near zero.
fn random_weights(unet: Unet) -> Result<Unet> {
    let mut stream = 0;
    let import = nn::import(unet, |name, shape| {
        stream += 1;
        let len = shape.iter().product::<usize>();
        let inputs: usize = shape[..shape.len() - 1].iter().product();
        let (mean, deviation) = match (shape.len(), name.ends_with("weight")) {
            (1, true) => (1.0, 0.2),
            (1, false) => (0.0, 0.2),
            _ => (0.0, 1.0 / (inputs as f32).sqrt()),
        };
        // uniform numbers of this width have the deviation 1
        let width = 12f32.sqrt() * deviation;
        let numbers = Rng::new(1).fold(stream::WEIGHTS).fold(stream).uniform(len);
        Ok(numbers.into_iter().map(|u| mean + (u - 0.5) * width).collect())
    })?;
    Ok(import)
}

/// What the network is given.
struct Inputs {
    z: Tensor<4>,
    conditioning: Conditioning,
}

impl Inputs {
    fn new(config: &UnetConfig, [n, side, tokens]: [usize; 3], device: &Device) -> Self {
        let rng = Rng::new(1).fold(stream::INPUTS);
        let picture = |stream: u64| normal(rng.fold(stream), [n, side, side, config.image_channels], device);
        let level = |i: usize| 3.0 - 6.0 * (i as f64 + 0.5) / n as f64;
        let text = (config.text_dim > 0).then(|| Text {
            sequence: normal(rng.fold(1), [n, tokens, config.text_dim], device),
            mask: Tensor::ones([n, tokens], device),
        });
        let low_resolution = config
            .low_resolution
            .then(|| LowResolution { picture: picture(2), log_snr: (0..n).map(|i| level(i) + 1.0).collect() });
        let log_snr = (0..n).map(level).collect();
        Self { z: picture(0), conditioning: Conditioning { log_snr, text, low_resolution } }
    }

    fn tensors(&self) -> Vec<NamedTensor<'static>> {
        let c = &self.conditioning;
        let levels = |name, levels: &[f64]| row(name, levels.iter().map(|&level| level as f32).collect());
        let mut tensors = vec![named_tensor("z", &self.z), levels("log_snr", &c.log_snr)];
        tensors.extend(c.text.iter().map(|text| named_tensor("text", &text.sequence)));
        if let Some(low) = &c.low_resolution {
            tensors.extend([named_tensor("low", &low.picture), levels("low_log_snr", &low.log_snr)]);
        }
        tensors
    }
}

fn normal<const D: usize>(rng: Rng, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(rng.normal(shape.iter().product()), shape), device)
}

fn named_tensor<const D: usize>(name: &str, tensor: &Tensor<D>) -> NamedTensor<'static> {
    let values = tensor.to_data().try_to_vec().expect("networks compute in f32");
    NamedTensor { name: name.to_owned(), shape: tensor.dims().to_vec(), values: Cow::Owned(values) }
}

fn row(name: &str, values: Vec<f32>) -> NamedTensor<'static> {
    NamedTensor { name: name.to_owned(), shape: vec![values.len()], values: Cow::Owned(values) }
}

fn parameters(unet: &Unet) -> impl Iterator<Item = NamedTensor<'static>> {
    let tensor = |(name, t): (String, nn::Values)| NamedTensor {
        name: format!("param.{name}"),
        shape: t.shape,
        values: Cow::Owned(t.values),
    };
    nn::export(unet).into_iter().map(tensor)
}

/// What is known of a network's work, whichever it is.
struct About {
    name: String,
    config: StageConfig,
    options: Options,
    side: usize,
    /// Of a forward pass of all pictures.
    multiply_adds: u64,
    parameters: u64,
}

impl About {
    fn new(network: &Network, options: Options) -> Self {
        let crop = network.crop.filter(|_| options.train);
        let side = options.size.or(crop).unwrap_or(network.config.size);
        let levels = cost_with_text(&network.config.unet, side, options.tokens);
        Self {
            name: network.name.clone(),
            config: network.config.clone(),
            options,
            side,
            multiply_adds: options.batch as u64 * levels.iter().map(|level| level.multiply_adds).sum::<u64>(),
            parameters: levels.iter().map(|level| level.parameters).sum(),
        }
    }

    /// Refuses what memory cannot hold, before the system kills the program without a word.
    fn check_memory(&self) -> Result<()> {
        let Some(memory) = system::memory() else { return Ok(()) };
        let kept = if self.options.train { 5 } else { 1 };
        let needed = 4 * kept * self.parameters;
        if needed <= memory.total {
            return Ok(());
        }
        let (needed, total) = (said::bytes(needed), said::bytes(memory.total));
        let message = format!("{} has weights of {needed}, and there are {total} of memory", self.name);
        Err(Failure::new(Exit::Memory, message).hint("measure a smaller network"))
    }

    fn title(&self) -> String {
        let what = if self.options.train { "training step" } else { "forward" };
        let (batch, side) = (self.options.batch, self.side);
        let pictures = said::counted(batch, "picture");
        format!("{}, {what}, {pictures} of {side}×{side}", self.name)
    }

    fn details(&self) -> Map<String, Value> {
        let details = json!({
            "network": self.name,
            "train": self.options.train,
            "batch": self.options.batch,
            "size": self.side,
            "tokens": self.options.tokens,
            "parameters": self.parameters,
        });
        details.as_object().expect("just made").clone()
    }

    fn write(&self, path: &Path, tensors: &[NamedTensor<'_>]) -> Result<()> {
        let unet = serde_json::to_string(&self.config.unet).expect("a description is plain data");
        let metadata = HashMap::from([("unet".to_owned(), unet)]);
        Ok(write_safetensors(path, tensors, &metadata, Precision::F32)?)
    }
}

/// The work that was asked for, ready to run.
pub(super) fn work(what: Option<&str>, options: &Options, device: &Device) -> Result<Box<dyn Work>> {
    work_of(Network::find(what, device)?, options, device)
}

/// Training steps of a stage with random weights.
pub(super) fn training(config: &StageConfig, options: &Options, device: &Device) -> Result<Box<dyn Work>> {
    let network = Network { name: config.stage.to_string(), config: config.clone(), trained: None, crop: None };
    work_of(network, options, device)
}

fn work_of(network: Network, options: &Options, device: &Device) -> Result<Box<dyn Work>> {
    let about = About::new(&network, *options);
    about.check_memory()?;
    let shape = [options.batch, about.side, options.tokens];
    let unet = match network.trained {
        Some(unet) => unet,
        None => random_weights(Unet::new(&network.config.unet, &mut Init::zeros(device))?)?,
    };
    if !options.train {
        let inputs = Inputs::new(&network.config.unet, shape, device);
        return Ok(Box::new(Forward { about, unet, inputs, output: None }));
    }
    let mut state = TrainState::new(&network.config, &Learning::default(), 1, device)?;
    let mut weights = nn::export(&unet);
    state.unet = nn::import(state.unet, |name, _| Ok(weights.remove(name).expect("the same network").values))?;
    let device = device.clone().autodiff();
    let inputs = Inputs::new(&network.config.unet, shape, &device);
    let target = normal(Rng::new(1).fold(stream::INPUTS).fold(3), inputs.z.dims(), &device);
    Ok(Box::new(Training { about, state: Some(state), inputs, target, losses: Vec::new() }))
}

/// Waits until a device has done what it was given.
fn finished(device: &Device) -> Result<()> {
    device.sync().map_err(|error| Failure::new(Exit::Runtime, error.reason()))
}

/// A forward pass without gradients.
struct Forward {
    about: About,
    unet: Unet,
    inputs: Inputs,
    output: Option<Tensor<4>>,
}

impl Work for Forward {
    fn title(&self) -> String {
        self.about.title()
    }

    fn details(&self) -> Map<String, Value> {
        self.about.details()
    }

    fn multiply_adds(&self) -> u64 {
        self.about.multiply_adds
    }

    fn run(&mut self) -> Result<()> {
        self.output = Some(self.unet.forward(self.inputs.z.clone(), &self.inputs.conditioning)?);
        finished(&self.inputs.z.device())
    }

    fn dump(&mut self, path: &Path) -> Result<()> {
        self.run()?;
        let mut tensors = self.inputs.tensors();
        tensors.extend(self.output.iter().map(|output| named_tensor("output", output)));
        tensors.extend(parameters(&self.unet));
        self.about.write(path, &tensors)
    }
}

/// Training steps that reduce the squared distance to random pictures.
struct Training {
    about: About,
    /// Absent only while it is moved through a step.
    state: Option<TrainState>,
    inputs: Inputs,
    target: Tensor<4>,
    losses: Vec<f32>,
}

/// Learning rate of the measured steps.
const LR: f64 = 1e-4;

impl Work for Training {
    fn title(&self) -> String {
        self.about.title()
    }

    fn details(&self) -> Map<String, Value> {
        self.about.details()
    }

    fn multiply_adds(&self) -> u64 {
        3 * self.about.multiply_adds
    }

    fn run(&mut self) -> Result<()> {
        let state = self.state.take().expect("every step gives it back");
        let prediction = state.unet.forward(self.inputs.z.clone(), &self.inputs.conditioning)?;
        let loss = weighted_loss(prediction, self.target.clone(), &vec![1.0; self.about.options.batch]).mean;
        self.losses.push(loss.clone().into_scalar::<f32>());
        let mut gradients = GradientSum::default();
        gradients.add(&state.unet, &debug_span!("backward").in_scope(|| loss.backward()));
        self.state = Some(state.updated(gradients, LR, 1.0));
        finished(&self.target.device())
    }

    fn dump(&mut self, path: &Path) -> Result<()> {
        let mut tensors = self.inputs.tensors();
        tensors.push(named_tensor("target", &self.target));
        tensors.extend(self.state.iter().flat_map(|state| parameters(&state.unet)));
        for _ in 0..3 {
            self.run()?;
        }
        tensors.push(row("losses", self.losses.clone()));
        self.about.write(path, &tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_network_whose_description_is_in_order() {
        for (name, size, unet) in NAMES {
            named(size, unet()).validate().unwrap_or_else(|e| panic!("{name}: {e:#}"));
        }
    }
}
