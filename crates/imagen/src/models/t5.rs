//! T5's encoder (Raffel et al. 2019; v1.1: Shazeer 2020): token ids in, the last hidden state of every token
//! out.
//!
//! Before attention and before the feed-forward layer the input is divided by its root mean square (pre-norm); there are no
//! biases, scores are not scaled, and positions enter as a number per head and distance, which the first block's table
//! gives for all blocks. T5 v1.0 has a feed-forward layer with ReLU, v1.1 and Flan-T5 one that is gated by GELU (tanh). All
//! sizes come from the model's own `config.json`. The network is frozen: matrices stay as they are stored or as
//! [`Storage`] asks, and sums are in f32, so that half-precision weights cannot overflow.
//!
//! Deliberately not here: tokens from text (`text::t5`), the decoder (its tensors may be in the file), dropout.

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::frozen::{self, Linear, Loader, Words};
use super::tokens;
use super::weights::{Storage, Weights};
use crate::error::{Error, Result};
use crate::nn::ops;

/// No configuration has more blocks; a file that says so is damaged, and must not make a list of that length.
const MAX_BLOCKS: usize = 1024;

/// The sizes of the network, as its `config.json` names them. Other keys of that file do not concern the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct T5Config {
    /// The family; this reader knows `t5`, which is also Flan-T5's.
    pub model_type: String,
    /// How many tokens have a vector.
    pub vocab_size: usize,
    /// The width d of a token's vector.
    pub d_model: usize,
    /// The width of one attention head; heads · d_kv need not be d.
    pub d_kv: usize,
    /// The inner width of the feed-forward layer.
    pub d_ff: usize,
    /// How many blocks the encoder has.
    pub num_layers: usize,
    /// How many attention heads there are.
    pub num_heads: usize,
    /// How many classes of distances there are; half of them for what lies behind.
    #[serde(default = "buckets")]
    pub relative_attention_num_buckets: usize,
    /// From which distance on all are one class.
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    /// What is added to the mean square.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f32,
    /// The feed-forward layer: `relu` (v1.0) or `gated-gelu` (v1.1).
    #[serde(default)]
    pub feed_forward_proj: FeedForwardKind,
}

/// The two feed-forward layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForwardKind {
    /// `relu(x·wi)·wo`
    #[default]
    Relu,
    /// `(gelu(x·wi_0) ⊙ x·wi_1)·wo`, GELU by tanh
    GatedGelu,
}

fn buckets() -> usize {
    32
}

fn max_distance() -> usize {
    128
}

fn epsilon() -> f32 {
    1e-6
}

impl T5Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// `Model` when it is not JSON, lacks a size, or asks for what this network does not do.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(json).map_err(|e| Error::model("config.json is not a T5's").with_source(e))?;
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::model(format!("config.json: {what}")));
        if self.model_type != "t5" {
            return refuse(format!("model_type is `{}`; this T5 knows `t5`", self.model_type));
        }
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| *size == 0 || *size > 1 << 24) {
            return refuse(format!("{key} is {size}"));
        }
        if self.num_layers > MAX_BLOCKS {
            return refuse(format!("num_layers is {} (at most {MAX_BLOCKS})", self.num_layers));
        }
        let buckets = self.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(2) || buckets > 1 << 16 {
            return refuse(format!("relative_attention_num_buckets is {buckets}; expected an even number from 4 on"));
        }
        if self.relative_attention_max_distance <= buckets / 4 {
            let distance = self.relative_attention_max_distance;
            return refuse(format!("relative_attention_max_distance is {distance} for {buckets} buckets"));
        }
        if !(self.layer_norm_epsilon >= 0.0 && self.layer_norm_epsilon.is_finite()) {
            return refuse(format!("layer_norm_epsilon is {}", self.layer_norm_epsilon));
        }
        Ok(())
    }

    /// The width of all heads together.
    fn inner(&self) -> usize {
        self.num_heads * self.d_kv
    }

    /// The class of a key's distance from its query, `key - query`: exact for near ones, by logarithm for far ones, those
    /// ahead in the upper half.
    fn bucket(&self, distance: isize) -> usize {
        let half = self.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let (ahead, far) = (if distance > 0 { half } else { 0 }, distance.unsigned_abs());
        if far < exact {
            return ahead + far;
        }
        // In f32 and in this order, so that distances on the border of two classes fall as they did in training.
        let log =
            (far as f32 / exact as f32).ln() / ((self.relative_attention_max_distance as f32 / exact as f32).ln());
        let class = exact + (log * (half - exact) as f32) as usize;
        ahead + class.min(half - 1)
    }
}

/// The frozen encoder on a device.
#[derive(Debug)]
pub struct T5 {
    config: T5Config,
    device: Device,
    words: Words,
    /// A number for every class of distances and every head, `[buckets, heads]`, row-major.
    distances: Vec<f32>,
    blocks: Vec<Block>,
    norm: Tensor<1>,
}

#[derive(Debug)]
struct Block {
    attention_norm: Tensor<1>,
    /// `[d, heads·d_kv]` each.
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    inner_norm: Tensor<1>,
    /// Of the gated layer alone.
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl T5 {
    /// The encoder of this configuration with the weights of a file in transformers' layout, alone or beside a decoder.
    ///
    /// The network lives on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when the configuration is not one this network has, when tensors are missing or mis-shaped (all listed), or
    /// hold numbers that are not finite.
    pub fn new(config: T5Config, weights: &Weights, storage: Storage, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        let words = [WORDS, WORDS_OF_ENCODER].into_iter().find(|name| weights.shape(name).is_some()).unwrap_or(WORDS);
        frozen::read(weights, storage, &device, |loader| {
            let distances = [config.relative_attention_num_buckets, config.num_heads];
            Ok(Self {
                words: loader.words(words.to_owned(), [config.vocab_size, config.d_model])?,
                distances: loader.values(format!("{}.{DISTANCES}", block_name(0)), &distances)?,
                blocks: (0..config.num_layers).map(|i| Block::load(loader, i, &config)).collect::<Result<_>>()?,
                norm: loader.vector(NORM.to_owned(), config.d_model)?,
                device: device.clone(),
                config: config.clone(),
            })
        })
    }

    /// The sizes.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// The device that the network lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The last hidden states `[b, t, d]` of `batch` sequences of `t` token ids, row by row in `ids`, after the last norm.
    /// `mask` says which tokens are real: the others are attended to by none, but have states of their own.
    ///
    /// # Errors
    /// `Usage` when `ids` and `mask` do not form `batch` rows; `Model` when an id is not in the vocabulary.
    pub fn forward(&self, ids: &[u32], mask: &[bool], batch: usize) -> Result<Tensor<3>> {
        let (t, d) = (tokens::length(ids, mask, batch)?, self.config.d_model);
        let mut x: Tensor<3> = self.tensor(self.words.embed(ids)?, [batch, t, d]);
        let mask: Tensor<2> = self.tensor(mask.iter().map(|&real| f32::from(real)).collect(), [batch, t]);
        let bias = self.bias(t);
        for block in &self.blocks {
            x = block.forward(x, bias.clone(), mask.clone(), self.config.layer_norm_epsilon);
        }
        Ok(ops::rms_norm(x, self.norm.clone(), self.config.layer_norm_epsilon))
    }

    /// The bias of every head, query and key, `[heads, t, t]`.
    fn bias(&self, t: usize) -> Tensor<3> {
        let heads = self.config.num_heads;
        // one class for each of the distances 1 - t ..= t - 1
        let classes: Vec<usize> =
            (0..2 * t - 1).map(|i| self.config.bucket(i.cast_signed() - (t - 1).cast_signed())).collect();
        let mut bias = Vec::with_capacity(heads * t * t);
        for (head, query) in (0..heads).flat_map(|head| (0..t).map(move |query| (head, query))) {
            let keys = &classes[t - 1 - query..][..t]; // key 0 is `query` behind
            bias.extend(keys.iter().map(|class| self.distances[class * heads + head]));
        }
        self.tensor(bias, [heads, t, t])
    }

    fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

impl Block {
    fn load(loader: &mut Loader<'_>, index: usize, config: &T5Config) -> Result<Self> {
        let (d, inner, name) = (config.d_model, config.inner(), |part: &str| format!("{}.{part}", block_name(index)));
        let (gate, up) = match config.feed_forward_proj {
            FeedForwardKind::Relu => (None, UP),
            FeedForwardKind::GatedGelu => (Some(GATE), GATED),
        };
        let gate = gate.map(|gate| loader.matrix(&name(gate), d, config.d_ff)).transpose()?;
        Ok(Self {
            attention_norm: loader.vector(name(ATTENTION_NORM), d)?,
            query: loader.matrix(&name(QUERY), d, inner)?,
            key: loader.matrix(&name(KEY), d, inner)?,
            value: loader.matrix(&name(VALUE), d, inner)?,
            output: loader.matrix(&name(OUTPUT), inner, d)?,
            inner_norm: loader.vector(name(INNER_NORM), d)?,
            gate,
            up: loader.matrix(&name(up), d, config.d_ff)?,
            down: loader.matrix(&name(DOWN), config.d_ff, d)?,
        })
    }

    /// `x [b, t, d]`, `bias [heads, t, t]`, `mask [b, t]`.
    fn forward(&self, x: Tensor<3>, bias: Tensor<3>, mask: Tensor<2>, epsilon: f32) -> Tensor<3> {
        let normed = ops::rms_norm(x.clone(), self.attention_norm.clone(), epsilon);
        let apply = |linear: &Linear| linear.forward(normed.clone());
        let kv = ops::concat(apply(&self.key), apply(&self.value));
        let mixed = ops::biased_attention(apply(&self.query), kv, bias, Some(mask), 1.0);
        let x = self.output.forward_onto(mixed, x);
        let normed = ops::rms_norm(x.clone(), self.inner_norm.clone(), epsilon);
        let inner = match &self.gate {
            None => activation::relu(self.up.forward(normed)),
            Some(gate) => ops::gated_gelu_tanh(gate.forward(normed.clone()), self.up.forward(normed)),
        };
        self.down.forward_onto(inner, x)
    }
}

const WORDS: &str = "shared.weight";
const WORDS_OF_ENCODER: &str = "encoder.embed_tokens.weight";
const NORM: &str = "encoder.final_layer_norm.weight";
const ATTENTION_NORM: &str = "layer.0.layer_norm.weight";
const QUERY: &str = "layer.0.SelfAttention.q";
const KEY: &str = "layer.0.SelfAttention.k";
const VALUE: &str = "layer.0.SelfAttention.v";
const OUTPUT: &str = "layer.0.SelfAttention.o";
const DISTANCES: &str = "layer.0.SelfAttention.relative_attention_bias.weight";
const INNER_NORM: &str = "layer.1.layer_norm.weight";
const UP: &str = "layer.1.DenseReluDense.wi";
const GATE: &str = "layer.1.DenseReluDense.wi_0";
const GATED: &str = "layer.1.DenseReluDense.wi_1";
const DOWN: &str = "layer.1.DenseReluDense.wo";

fn block_name(index: usize) -> String {
    format!("encoder.block.{index}")
}
