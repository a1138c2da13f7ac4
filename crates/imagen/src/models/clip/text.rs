//! CLIP's text tower: a token sees those before it alone, and the text is summed up where it ends.

use burn::tensor::{Device, Tensor, TensorData};

use super::ClipTextConfig;
use super::tower::{self, Block, Widths};
use crate::error::{Error, Result};
use crate::models::frozen::{self, LayerNorm, Linear, Words};
use crate::models::tokens;
use crate::models::weights::{Storage, Weights};

/// The frozen text tower on a device.
#[derive(Debug)]
pub struct ClipText {
    config: ClipTextConfig,
    device: Device,
    words: Words,
    /// `[max_position_embeddings, d]`, row-major.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Option<Linear>,
}

/// What the tower makes of a batch.
#[derive(Clone, Debug)]
pub struct ClipTextStates {
    /// The states after all blocks but the last, without a norm, `[b, t, d]`: `hidden_states[-2]` of transformers.
    pub penultimate: Tensor<3>,
    /// The states after all blocks and the norm, `[b, t, d]`: `last_hidden_state`.
    pub last: Tensor<3>,
}

impl ClipText {
    /// The text tower with the weights of a file in transformers' layout, with or without the prefix `text_model.`, with or
    /// without a projection.
    ///
    /// The network lives on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when the configuration is not one this network has, or tensors are missing or mis-shaped (all listed).
    pub fn new(config: ClipTextConfig, weights: &Weights, storage: Storage, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        let prefixes = ["text_model.", ""];
        let prefix = prefixes.into_iter().find(|prefix| weights.shape(&format!("{prefix}{WORDS}")).is_some());
        let prefix = prefix.unwrap_or(prefixes[0]);
        let (d, layers) = (config.hidden_size, config.num_hidden_layers);
        let widths = Widths {
            d,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        };
        let name = |part: &str| format!("{prefix}{part}");
        let projects = weights.shape(&format!("{PROJECTION}.weight")).is_some();
        frozen::read(weights, storage, &device, |loader| {
            let projection = projects.then(|| loader.matrix(PROJECTION, d, config.projection_dim)).transpose()?;
            Ok(Self {
                words: loader.words(name(WORDS), [config.vocab_size, d])?,
                positions: loader.values(name(POSITIONS), &[config.max_position_embeddings, d])?,
                blocks: tower::blocks(loader, prefix, layers, widths)?,
                norm: loader.layer_norm(&name(NORM), d)?,
                projection,
                device: device.clone(),
                config: config.clone(),
            })
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The device that the network lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The states of `batch` sequences of `t` token ids, row by row in `ids`. `mask` says which tokens are real: no other
    /// token attends to the rest.
    ///
    /// # Errors
    /// `Usage` when `ids` and `mask` do not form `batch` rows, or a row is longer than the network's positions; `Model` when
    /// an id is not in the vocabulary.
    pub fn forward(&self, ids: &[u32], mask: &[bool], batch: usize) -> Result<ClipTextStates> {
        let (t, d) = (tokens::length(ids, mask, batch)?, self.config.hidden_size);
        let most = self.config.max_position_embeddings;
        if t > most {
            return Err(Error::usage(format!("a sequence of {t} tokens is longer than the {most} of this model")));
        }
        let mut embedded = self.words.embed(ids)?;
        for row in embedded.chunks_mut(t * d) {
            row.iter_mut().zip(&self.positions).for_each(|(x, p)| *x += p);
        }
        let mut x: Tensor<3> = Tensor::from_data(TensorData::new(embedded, [batch, t, d]), &self.device);
        let mask: Vec<f32> = mask.iter().map(|&real| f32::from(real)).collect();
        let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, [batch, t]), &self.device);
        let causal = self.causal(t);
        let mut penultimate = x.clone();
        for block in &self.blocks {
            penultimate = x.clone();
            x = block.forward(x, Some(causal.clone()), Some(mask.clone()));
        }
        Ok(ClipTextStates { penultimate, last: self.norm.forward(x) })
    }

    /// The embeddings `[b, p]` of whole texts: the last state of the token that ends each, projected.
    ///
    /// # Errors
    /// As [`ClipText::forward`]; `Model` when the file has no `text_projection`.
    pub fn embed(&self, ids: &[u32], mask: &[bool], batch: usize) -> Result<Tensor<2>> {
        let Some(projection) = &self.projection else {
            return Err(Error::model(format!(
                "the weights have no `{PROJECTION}.weight`: this CLIP has no embedding of texts"
            )));
        };
        let last = self.forward(ids, mask, batch)?.last;
        let [_, t, d] = last.dims();
        let ends = ids.chunks(t).enumerate().map(|(row, ids)| {
            let end = self.end(ids);
            last.clone().slice([row..row + 1, end..end + 1, 0..d]).reshape([1, d])
        });
        Ok(projection.forward(Tensor::cat(ends.collect(), 0)))
    }

    /// Where a text ends: at the first mark, or in old configurations at the largest id, which is the mark.
    fn end(&self, ids: &[u32]) -> usize {
        let mark = match self.config.eos_token_id {
            None | Some(2) => ids.iter().max().copied().unwrap_or_default(),
            Some(mark) => mark,
        };
        ids.iter().position(|&id| id == mark).unwrap_or(0)
    }

    /// The bias that hides from each token those behind it, `[heads, t, t]`.
    fn causal(&self, t: usize) -> Tensor<3> {
        let heads = self.config.num_attention_heads;
        let one = (0..t * t).map(|i| if i % t > i / t { -1e9 } else { 0.0 });
        let all: Vec<f32> = one.clone().cycle().take(heads * t * t).collect();
        Tensor::from_data(TensorData::new(all, [heads, t, t]), &self.device)
    }
}

const WORDS: &str = "embeddings.token_embedding.weight";
const POSITIONS: &str = "embeddings.position_embedding.weight";
const NORM: &str = "final_layer_norm";
const PROJECTION: &str = "text_projection";
