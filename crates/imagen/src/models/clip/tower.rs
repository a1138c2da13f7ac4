//! What both of CLIP's towers are made of: pre-norm blocks of attention and a two-layer perceptron.

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::Activation;
use crate::error::Result;
use crate::models::weights::{Storage, Weights};
use crate::nn::{StoredLinear, ops};

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
    norm1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
}

impl Block {
    /// `x [b, t, d]`, `bias [heads, t, t]` of the scores, `mask [b, t]` of the keys.
    pub(super) fn forward(&self, x: Tensor<3>, bias: Option<Tensor<3>>, mask: Option<Tensor<2>>) -> Tensor<3> {
        let Widths { d, heads, activation, .. } = self.widths;
        let normed = self.norm1.forward(x.clone());
        let apply = |linear: &Linear| linear.forward(normed.clone(), None);
        let (q, kv) = (apply(&self.query), ops::concat(apply(&self.key), apply(&self.value)));
        let mixed = match bias {
            Some(bias) => ops::biased_attention(q, kv, bias, mask, ((d / heads) as f32).powf(-0.5)),
            None => ops::attention(q, kv, mask, heads),
        };
        let x = self.output.forward(mixed, Some(x));
        let inner = self.up.forward(self.norm2.forward(x.clone()), None);
        let inner = match activation {
            Activation::QuickGelu => inner.clone() * activation::sigmoid(inner * 1.702),
            Activation::Gelu => ops::gelu(inner),
        };
        self.down.forward(inner, Some(x))
    }
}

#[derive(Debug)]
struct Linear {
    weight: StoredLinear,
    bias: Tensor<1>,
}

impl Linear {
    fn forward(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        self.weight.forward(x, Some(self.bias.clone()), residual)
    }
}

/// Layer normalisation, ε = 1e-5.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl Norm {
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::layer_norm(x, self.weight.clone(), self.bias.clone())
    }
}

/// Reads the parts of a tower.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a Weights,
    pub(super) storage: Storage,
    pub(super) device: &'a Device,
}

impl Loader<'_> {
    pub(super) fn vector(&self, name: &str, n: usize) -> Result<Tensor<1>> {
        Ok(Tensor::from_data(TensorData::new(self.weights.tensor_f32(name, &[n])?, [n]), self.device))
    }

    pub(super) fn norm(&self, name: &str, d: usize) -> Result<Norm> {
        let [weight, bias] = ["weight", "bias"].map(|part| self.vector(&format!("{name}.{part}"), d));
        Ok(Norm { weight: weight?, bias: bias? })
    }

    fn linear(&self, name: &str, [to, from]: [usize; 2]) -> Result<Linear> {
        let weight = self.weights.linear(&format!("{name}.weight"), [to, from], self.storage)?;
        Ok(Linear { weight, bias: self.vector(&format!("{name}.bias"), to)? })
    }

    /// The blocks of a tower whose names begin with `prefix`.
    pub(super) fn blocks(&self, prefix: &str, count: usize, widths: Widths) -> Result<Vec<Block>> {
        let block = |index: usize| {
            let name = |part: &str| format!("{prefix}encoder.layers.{index}.{part}");
            let linear = |part: &str| self.linear(&name(part), matrix(widths, part));
            Ok(Block {
                widths,
                norm1: self.norm(&name(NORM1), widths.d)?,
                query: linear(QUERY)?,
                key: linear(KEY)?,
                value: linear(VALUE)?,
                output: linear(OUTPUT)?,
                norm2: self.norm(&name(NORM2), widths.d)?,
                up: linear(UP)?,
                down: linear(DOWN)?,
            })
        };
        (0..count).map(block).collect()
    }
}

/// Name and shape of every tensor of the blocks.
pub(super) fn expected(prefix: &str, count: usize, widths: Widths) -> Vec<(String, Vec<usize>)> {
    let mut expected = Vec::new();
    for index in 0..count {
        for part in [QUERY, KEY, VALUE, OUTPUT, UP, DOWN] {
            let (name, [to, from]) = (format!("{prefix}encoder.layers.{index}.{part}"), matrix(widths, part));
            expected.extend([(format!("{name}.weight"), vec![to, from]), (format!("{name}.bias"), vec![to])]);
        }
        for part in [NORM1, NORM2] {
            expected.extend(norm(&format!("{prefix}encoder.layers.{index}.{part}"), widths.d));
        }
    }
    expected
}

/// Name and shape of a norm's tensors.
pub(super) fn norm(name: &str, d: usize) -> [(String, Vec<usize>); 2] {
    ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![d]))
}

/// A matrix as stored, `[to, from]`.
fn matrix(Widths { d, inner, .. }: Widths, part: &str) -> [usize; 2] {
    match part {
        UP => [inner, d],
        DOWN => [d, inner],
        _ => [d, d],
    }
}

const NORM1: &str = "layer_norm1";
const QUERY: &str = "self_attn.q_proj";
const KEY: &str = "self_attn.k_proj";
const VALUE: &str = "self_attn.v_proj";
const OUTPUT: &str = "self_attn.out_proj";
const NORM2: &str = "layer_norm2";
const UP: &str = "mlp.fc1";
const DOWN: &str = "mlp.fc2";
