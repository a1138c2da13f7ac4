//! BERT's encoder (Devlin et al. 2018) and RoBERTa's (Liu et al. 2019), which differs in names and in where
//! positions begin: token ids in, the last hidden state of every token out.
//!
//! Embeddings of word, position and type are summed and normalised; then each block adds self-attention and a
//! two-layer perceptron with exact GELU to its input and normalises *after* each sum (post-norm). All sizes come from
//! the model's own `config.json`. The network is frozen: it never takes part in differentiation, and its tables and
//! matrices stay as small as they are in the file.
//!
//! Deliberately not here: tokens from text (`text::bert`), the pooler, masked-word heads, decoder use, dropout.

use burn::tensor::{Device, Tensor, TensorData, module};
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
pub struct BertConfig {
    /// The family; this reader knows `bert`, and `roberta`, `xlm-roberta` and `camembert`, which are one network.
    pub model_type: String,
    /// How many tokens the vocabulary has.
    pub vocab_size: usize,
    /// The width d of a token's vector.
    pub hidden_size: usize,
    /// How many transformer blocks there are.
    pub num_hidden_layers: usize,
    /// How many attention heads share the width.
    pub num_attention_heads: usize,
    /// The inner width of the perceptron.
    pub intermediate_size: usize,
    /// How many positions have an embedding: the longest input.
    pub max_position_embeddings: usize,
    /// How many token types have an embedding; a caption uses type 0.
    pub type_vocab_size: usize,
    /// The perceptron's activation; this reader knows `gelu` (exact).
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// How positions enter; this reader knows `absolute`.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// What LayerNorm adds to the variance.
    #[serde(default = "bert_epsilon")]
    pub layer_norm_eps: f64,
    /// The token that fills up rows; RoBERTa counts positions from the one behind it.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
}

/// The families that count positions from behind the padding token.
const ROBERTAS: [&str; 3] = ["roberta", "xlm-roberta", "camembert"];

fn gelu() -> String {
    "gelu".into()
}

fn absolute() -> String {
    "absolute".into()
}

fn bert_epsilon() -> f64 {
    1e-12
}

impl BertConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// `Model` when it is not JSON, lacks a size, or asks for what this network does not do.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(json).map_err(|e| Error::model("config.json is not a BERT's").with_source(e))?;
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::model(format!("config.json: {what}")));
        if self.model_type != "bert" && !self.is_roberta() {
            return refuse(format!("model_type is `{}`; this BERT knows `bert` and {ROBERTAS:?}", self.model_type));
        }
        for (key, value, known) in [
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ] {
            if value != known {
                return refuse(format!("{key} is `{value}`; this BERT knows `{known}`"));
            }
        }
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((key, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return refuse(format!("{key} is 0"));
        }
        if self.num_hidden_layers > MAX_BLOCKS {
            return refuse(format!("num_hidden_layers is {} (at most {MAX_BLOCKS})", self.num_hidden_layers));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (width, heads) = (self.hidden_size, self.num_attention_heads);
            return refuse(format!("hidden_size {width} is not divisible by num_attention_heads {heads}"));
        }
        if self.is_roberta() && self.max_position_embeddings <= self.padding() as usize + 1 {
            let (most, padding) = (self.max_position_embeddings, self.padding());
            return refuse(format!("max_position_embeddings {most} leaves no position behind pad_token_id {padding}"));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps.is_finite()) {
            return refuse(format!("layer_norm_eps is {}", self.layer_norm_eps));
        }
        Ok(())
    }
}

impl BertConfig {
    fn is_roberta(&self) -> bool {
        ROBERTAS.contains(&self.model_type.as_str())
    }

    /// The token that fills up rows.
    pub fn padding(&self) -> u32 {
        self.pad_token_id.unwrap_or(u32::from(self.is_roberta()))
    }

    /// The longest input.
    pub fn positions(&self) -> usize {
        let taken = if self.is_roberta() { self.padding() as usize + 1 } else { 0 };
        self.max_position_embeddings - taken
    }
}

/// The frozen network on a device.
#[derive(Debug)]
pub struct Bert {
    config: BertConfig,
    device: Device,
    words: Words,
    /// Position plus type 0, `[max_position_embeddings, d]`, row-major.
    positions: Vec<f32>,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
}

impl Bert {
    /// The network of this configuration with the weights of a file in transformers' layout, with or without the
    /// prefix `bert.` or `roberta.`, LayerNorm as `weight`/`bias` or as `gamma`/`beta`.
    ///
    /// The network lives on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when the configuration is not one this network has, or when tensors are missing or mis-shaped (all
    /// listed).
    pub fn new(config: BertConfig, weights: &Weights, storage: Storage, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        let names = Names::of(weights);
        frozen::read(weights, storage, &device, |loader| Self::load(&config, &names, loader, &device))
    }

    fn load(config: &BertConfig, names: &Names, loader: &mut Loader<'_>, device: &Device) -> Result<Self> {
        let (d, prefix) = (config.hidden_size, names.prefix);
        let words = loader.words(format!("{prefix}{WORDS}"), [config.vocab_size, d])?;
        let mut positions = loader.values(format!("{prefix}{POSITIONS}"), &[config.max_position_embeddings, d])?;
        let types = loader.values(format!("{prefix}{TYPES}"), &[config.type_vocab_size, d])?;
        for position in positions.chunks_mut(d) {
            position.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
        }
        let norm = names.norm(loader, NORM, config)?;
        let blocks = (0..config.num_hidden_layers).map(|index| names.block(loader, index, config));
        let blocks = blocks.collect::<Result<_>>()?;
        Ok(Self { words, positions, norm, blocks, device: device.clone(), config: config.clone() })
    }

    /// The sizes.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The device that the network lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The last hidden states `[b, t, d]` of `batch` sequences of `t` token ids, row by row in `ids`. `mask` says
    /// which tokens are real: the others are attended to by none, and their own states mean nothing.
    ///
    /// # Errors
    /// `Usage` when `ids` and `mask` do not form `batch` rows, or a row is longer than the network's positions;
    /// `Model` when an id is not in the vocabulary.
    pub fn forward(&self, ids: &[u32], mask: &[bool], batch: usize) -> Result<Tensor<3>> {
        let d = self.config.hidden_size;
        let t = tokens::length(ids, mask, batch)?;
        let most = self.config.positions();
        if t > most {
            return Err(Error::usage(format!("a sequence of {t} tokens is longer than the {most} of this model")));
        }
        let x = self.tensor(self.embed(ids, t)?, [ids.len(), d]); // [b*t, d]
        let mask: Tensor<2> = self.tensor(mask.iter().map(|&real| f32::from(real)).collect(), [batch, t]);
        let mut x = self.norm.forward(x);
        for block in &self.blocks {
            x = block.forward(x, mask.clone(), self.config.num_attention_heads);
        }
        Ok(x.reshape([batch, t, d]))
    }

    /// Where each token of a row stands. RoBERTa counts the tokens that are not padding, from behind the number of the
    /// padding token, which is also where padding stands.
    fn places<'a>(&self, row: &'a [u32]) -> impl Iterator<Item = usize> + use<'a> {
        let padding = self.config.is_roberta().then_some(self.config.padding());
        let mut count = 0;
        row.iter().map(move |&id| match padding {
            Some(padding) if id == padding => padding as usize,
            _ => {
                count += 1;
                count - 1 + padding.map_or(0, |padding| padding as usize + 1)
            }
        })
    }

    /// Word + position + type 0 for every id, `[b*t, d]` row-major.
    fn embed(&self, ids: &[u32], t: usize) -> Result<Vec<f32>> {
        let d = self.config.hidden_size;
        let mut embedded = self.words.embed(ids)?;
        let places = ids.chunks(t).flat_map(|row| self.places(row));
        for (row, place) in embedded.chunks_mut(d).zip(places) {
            let position = &self.positions[place * d..][..d];
            row.iter_mut().zip(position).for_each(|(x, p)| *x += p);
        }
        Ok(embedded)
    }

    fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

impl Block {
    /// One post-norm transformer block on `x` `[b*t, d]`; `mask [b, t]` is 1 where there is a token.
    fn forward(&self, x: Tensor<2>, mask: Tensor<2>, heads: usize) -> Tensor<2> {
        let ([rows, d], [batch, t]) = (x.dims(), mask.dims());
        let apply = |linear: &Linear| linear.forward(x.clone()).reshape([batch, t, d]);
        let kv = ops::concat(apply(&self.key), apply(&self.value));
        let mixed = ops::attention(apply(&self.query), kv, Some(mask), heads).reshape([rows, d]);
        let x = self.attention_norm.forward(self.output.forward_onto(mixed, x));
        let inner = ops::gelu(self.up.forward(x.clone()));
        self.output_norm.forward(self.down.forward_onto(inner, x))
    }
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
}

impl LayerNorm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        module::layer_norm(x, self.weight.clone(), Some(self.bias.clone()), self.epsilon)
    }
}

/// What a file calls the tensors of a BERT, in whichever of the layouts in use.
struct Names {
    /// `bert.` or `roberta.` when the file holds a model with a head around the encoder.
    prefix: &'static str,
    /// What LayerNorm calls its factor and its summand.
    norm_parts: [&'static str; 2],
}

impl Names {
    fn of(weights: &Weights) -> Self {
        let has = |name: &str| weights.shape(name).is_some();
        let prefix = ["bert.", "roberta."].into_iter().find(|prefix| has(&format!("{prefix}{WORDS}")));
        let prefix = prefix.unwrap_or_default();
        let old = has(&format!("{prefix}{NORM}.gamma"));
        Self { prefix, norm_parts: if old { ["gamma", "beta"] } else { ["weight", "bias"] } }
    }

    fn norm(&self, loader: &mut Loader<'_>, name: &str, config: &BertConfig) -> Result<LayerNorm> {
        let [weight, bias] =
            self.norm_parts.map(|part| loader.vector(format!("{}{name}.{part}", self.prefix), config.hidden_size));
        Ok(LayerNorm { weight: weight?, bias: bias?, epsilon: config.layer_norm_eps })
    }

    fn block(&self, loader: &mut Loader<'_>, index: usize, config: &BertConfig) -> Result<Block> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let within = |part: &str| format!("encoder.layer.{index}.{part}");
        let mut linear = |part: &str, from, to| loader.linear(&format!("{}{}", self.prefix, within(part)), from, to);
        let [query, key, value] = ["query", "key", "value"].map(|part| linear(&format!("attention.self.{part}"), d, d));
        let output = linear("attention.output.dense", d, d)?;
        let (up, down) = (linear("intermediate.dense", d, inner)?, linear("output.dense", inner, d)?);
        Ok(Block {
            query: query?,
            key: key?,
            value: value?,
            output,
            attention_norm: self.norm(loader, &within("attention.output.LayerNorm"), config)?,
            up,
            down,
            output_norm: self.norm(loader, &within("output.LayerNorm"), config)?,
        })
    }
}

const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";
const NORM: &str = "embeddings.LayerNorm";
