//! The layers of a frozen network and how they come out of a checkpoint in PyTorch's layouts.
//!
//! Convolutions `[k, c, 3, 3]` become `[3, 3, c, k]`, matrices `[k, c]` become `[c, k]`, one tensor at a time. The same
//! walk without a checkpoint only lists what it would ask for: names and shapes are written down once.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::models::weights::Checkpoint;
use crate::nn::ops::{self, Activation};

/// Finds, or only lists, the tensors of a network.
pub(super) struct Loader<'a> {
    source: Option<&'a Checkpoint>,
    device: &'a Device,
    /// Name and shape of everything that was asked for.
    pub(super) listed: Vec<(String, Vec<usize>)>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(source: Option<&'a Checkpoint>, device: &'a Device) -> Self {
        Self { source, device, listed: Vec::new() }
    }

    /// A tensor, with its values turned by `turn`; a placeholder of no numbers where nothing is read.
    fn tensor<const D: usize>(
        &mut self,
        name: String,
        shape: &[usize],
        to: [usize; D],
        turn: impl FnOnce(Vec<f32>) -> Vec<f32>,
    ) -> Result<Tensor<D>> {
        let tensor = match self.source {
            Some(source) => TensorData::new(turn(source.tensor_f32(&name, shape)?), to),
            None => TensorData::new(Vec::<f32>::new(), [0; D]),
        };
        self.listed.push((name, shape.to_vec()));
        Ok(Tensor::from_data(tensor, self.device))
    }

    pub(super) fn vector(&mut self, name: String, n: usize) -> Result<Tensor<1>> {
        self.tensor(name, &[n], [n], |values| values)
    }

    /// `[1, n]` in the file.
    pub(super) fn row(&mut self, name: String, n: usize) -> Result<Tensor<2>> {
        self.tensor(name, &[1, n], [1, n], |values| values)
    }

    pub(super) fn linear(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        let weight = self.tensor(format!("{name}.weight"), &[k, c], [c, k], |values| turned(&values, k, c, 1))?;
        Ok(Linear { weight, bias: self.vector(format!("{name}.bias"), k)? })
    }

    /// Two maps from the same input as one, `[c, 2k]`.
    pub(super) fn pair(&mut self, names: [String; 2], c: usize, k: usize) -> Result<Linear> {
        let [first, second] = names;
        let (a, b) = (self.linear(&first, c, k)?, self.linear(&second, c, k)?);
        Ok(Linear { weight: Tensor::cat(vec![a.weight, b.weight], 1), bias: Tensor::cat(vec![a.bias, b.bias], 0) })
    }

    /// A 1×1 convolution, which is a matrix.
    pub(super) fn pointwise(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        let weight = self.tensor(format!("{name}.weight"), &[k, c, 1, 1], [c, k], |values| turned(&values, k, c, 1))?;
        Ok(Linear { weight, bias: self.vector(format!("{name}.bias"), k)? })
    }

    pub(super) fn conv(&mut self, name: &str, c: usize, k: usize) -> Result<Conv> {
        let (from, to) = ([k, c, 3, 3], [3, 3, c, k]);
        let weight = self.tensor(format!("{name}.weight"), &from, to, |values| turned(&values, k, c, 9))?;
        Ok(Conv { weight, bias: self.vector(format!("{name}.bias"), k)? })
    }

    pub(super) fn group_norm(&mut self, name: &str, c: usize, groups: usize) -> Result<GroupNorm> {
        let weight = self.vector(format!("{name}.weight"), c)?;
        Ok(GroupNorm { weight, bias: self.vector(format!("{name}.bias"), c)?, groups })
    }

    pub(super) fn layer_norm(&mut self, name: &str, c: usize) -> Result<LayerNorm> {
        let weight = self.vector(format!("{name}.weight"), c)?;
        Ok(LayerNorm { weight, bias: self.vector(format!("{name}.bias"), c)? })
    }
}

/// `[k, c, taps]` → `[taps, c, k]`, a few input channels at a time: what is read lies side by side, and the rows that are
/// written stay in cache.
fn turned(values: &[f32], k: usize, c: usize, taps: usize) -> Vec<f32> {
    const CHANNELS: usize = 8;
    let mut out = vec![0.0; values.len()];
    for first in (0..c).step_by(CHANNELS) {
        let channels = CHANNELS.min(c - first);
        for column in 0..k {
            let from = &values[(column * c + first) * taps..][..channels * taps];
            for (channel, taps_of) in from.chunks_exact(taps).enumerate() {
                for (tap, value) in taps_of.iter().enumerate() {
                    out[(tap * c + first + channel) * k + column] = *value;
                }
            }
        }
    }
    out
}

#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Linear {
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::linear(x, self.weight.clone(), self.bias.clone(), None, 1.0)
    }

    /// The same plus `residual`.
    pub(super) fn forward_onto<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        ops::linear(x, self.weight.clone(), self.bias.clone(), Some(residual), 1.0)
    }
}

#[derive(Debug)]
pub(super) struct Conv {
    pub(super) weight: Tensor<4>,
    pub(super) bias: Tensor<1>,
}

impl Conv {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::conv3x3(x, self.weight.clone(), self.bias.clone(), None, 1, 1.0)
    }

    /// `(conv(x) + residual) · scale`.
    pub(super) fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>, scale: f32) -> Tensor<4> {
        ops::conv3x3(x, self.weight.clone(), self.bias.clone(), Some(residual), 1, scale)
    }
}

#[derive(Debug)]
pub(super) struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    pub(super) groups: usize,
}

impl GroupNorm {
    pub(super) fn forward(&self, x: Tensor<4>, film: Option<Tensor<2>>, activation: Activation) -> Tensor<4> {
        ops::group_norm(x, self.weight.clone(), self.bias.clone(), film, self.groups, activation)
    }

    /// Scale and shift.
    pub(super) fn parameters(&self) -> [Tensor<1>; 2] {
        [self.weight.clone(), self.bias.clone()]
    }
}

#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl LayerNorm {
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::layer_norm(x, self.weight.clone(), self.bias.clone())
    }
}

/// The activation of a small tensor, an embedding's.
pub(super) fn activate(activation: Activation, x: Tensor<2>) -> Tensor<2> {
    match activation {
        Activation::None => x,
        Activation::Silu => burn::tensor::activation::silu(x),
        Activation::Gelu => ops::gelu(x),
    }
}
