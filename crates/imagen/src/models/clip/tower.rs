//! What both of CLIP's towers are made of: pre-norm blocks of attention and a two-layer perceptron.

use burn::tensor::{Tensor, activation};

use super::Activation;
use crate::error::Result;
use crate::models::frozen::{LayerNorm, Linear, Loader};
use crate::nn::ops;

/// The widths of a tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    pub(super) d: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
}

#[derive(Debug)]
pub(super) struct Block {
    widths: Widths,
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    /// `x [b, t, d]`, `bias [heads, t, t]` of the scores, `mask [b, t]` of the keys.
    pub(super) fn forward(&self, x: Tensor<3>, bias: Option<Tensor<3>>, mask: Option<Tensor<2>>) -> Tensor<3> {
        let Widths { d, heads, activation, .. } = self.widths;
        let normed = self.norm1.forward(x.clone());
        let apply = |linear: &Linear| linear.forward(normed.clone());
        let (q, kv) = (apply(&self.query), ops::concat(apply(&self.key), apply(&self.value)));
        let mixed = match bias {
            Some(bias) => ops::biased_attention(q, kv, bias, mask, ((d / heads) as f32).powf(-0.5)),
            None => ops::attention(q, kv, mask, heads),
        };
        let x = self.output.forward_onto(mixed, x);
        let inner = self.up.forward(self.norm2.forward(x.clone()));
        let inner = match activation {
            Activation::QuickGelu => inner.clone() * activation::sigmoid(inner * 1.702),
            Activation::Gelu => ops::gelu(inner),
        };
        self.down.forward_onto(inner, x)
    }
}

/// The blocks of a tower whose names begin with `prefix`.
pub(super) fn blocks(loader: &mut Loader<'_>, prefix: &str, count: usize, widths: Widths) -> Result<Vec<Block>> {
    let Widths { d, inner, .. } = widths;
    let block = |index: usize| {
        let name = |part: &str| format!("{prefix}encoder.layers.{index}.{part}");
        Ok(Block {
            widths,
            norm1: loader.layer_norm(&name("layer_norm1"), d)?,
            query: loader.linear(&name("self_attn.q_proj"), d, d)?,
            key: loader.linear(&name("self_attn.k_proj"), d, d)?,
            value: loader.linear(&name("self_attn.v_proj"), d, d)?,
            output: loader.linear(&name("self_attn.out_proj"), d, d)?,
            norm2: loader.layer_norm(&name("layer_norm2"), d)?,
            up: loader.linear(&name("mlp.fc1"), d, inner)?,
            down: loader.linear(&name("mlp.fc2"), inner, d)?,
        })
    };
    (0..count).map(block).collect()
}
