//! The layers: parameters and the operation that uses them. Networks are written in these.
//!
//! Initial values are drawn by this project's counter-based generator, so that a run is a function of its seed alone.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use imagen_kernels::resample::Bilinear;

use super::ops;
use crate::rng::Rng;

/// Where the parameters of a new network come from: a device, and one random stream per layer in construction order.
#[derive(Debug)]
pub struct Init<'a> {
    device: &'a Device,
    /// Absent where the weights will be replaced anyway.
    rng: Option<Rng>,
    layers: u64,
}

impl<'a> Init<'a> {
    /// Parameters on `device`, drawn from `rng`.
    pub fn new(device: &'a Device, rng: Rng) -> Self {
        Self { device, rng: Some(rng), layers: 0 }
    }

    /// Zero weights on `device`, to be replaced by those of a file.
    pub fn zeros(device: &'a Device) -> Self {
        Self { device, rng: None, layers: 0 }
    }

    /// Uniform in ±1/√fan_in, as PyTorch initialises convolutions and matrices; `gain` 0 gives zeros.
    fn weights<const D: usize>(&mut self, shape: [usize; D], fan_in: usize, gain: f32) -> Param<Tensor<D>> {
        self.layers += 1;
        let bound = gain / (fan_in as f32).sqrt();
        let count = shape.iter().product();
        let values: Vec<f32> = match self.rng {
            Some(rng) if gain > 0.0 => {
                rng.fold(self.layers).uniform(count).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect()
            }
            _ => vec![0.0; count],
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn constant(&self, n: usize, value: f32) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(vec![value; n], [n]), self.device))
    }
}

/// A 3×3 convolution with padding 1: `[n, h, w, c]` → `[n, ⌈h/stride⌉, ⌈w/stride⌉, k]`.
#[derive(Module, Debug)]
pub struct Conv3x3 {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    stride: usize,
}

impl Conv3x3 {
    /// `c` channels in, `k` out. `gain` scales the initial weights; 0 makes the layer's output vanish at first.
    pub fn new(init: &mut Init<'_>, c: usize, k: usize, stride: usize, gain: f32) -> Self {
        Self { weight: init.weights([3, 3, c, k], 9 * c, gain), bias: init.constant(k, 0.0), stride }
    }

    /// The convolution of `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::conv3x3(x, self.weight.val(), self.bias.val(), None, self.stride, 1.0)
    }

    /// Weights and bias.
    pub fn parameters(&self) -> (Tensor<4>, Tensor<1>) {
        (self.weight.val(), self.bias.val())
    }

    /// `(conv(x) + residual) · scale`.
    pub fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>, scale: f32) -> Tensor<4> {
        ops::conv3x3(x, self.weight.val(), self.bias.val(), Some(residual), self.stride, scale)
    }
}

/// A matrix over the last axis, `[.., c]` → `[.., k]`; on `[n, h, w, c]` it is a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// `c` channels in, `k` out. `gain` scales the initial weights; 0 makes the layer's output vanish at first.
    pub fn new(init: &mut Init<'_>, c: usize, k: usize, gain: f32) -> Self {
        Self { weight: init.weights([c, k], c, gain), bias: init.constant(k, 0.0) }
    }

    /// Weights and bias.
    pub fn parameters(&self) -> (Tensor<2>, Tensor<1>) {
        (self.weight.val(), self.bias.val())
    }

    /// `x·W + b`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::linear(x, self.weight.val(), self.bias.val(), None, 1.0)
    }

    /// `(x·W + b + residual) · scale`.
    pub fn forward_onto<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>, scale: f32) -> Tensor<D> {
        ops::linear(x, self.weight.val(), self.bias.val(), Some(residual), scale)
    }
}

/// A learned map `[side, side, c]` that is added to every picture's features; zero at first.
#[derive(Module, Debug)]
pub struct Position {
    map: Param<Tensor<3>>,
}

impl Position {
    /// For maps of `side`×`side` pixels and `c` channels.
    pub fn new(init: &Init<'_>, side: usize, c: usize) -> Self {
        let zeros = TensorData::new(vec![0.0f32; side * side * c], [side, side, c]);
        Self { map: Param::from_tensor(Tensor::from_data(zeros, init.device)) }
    }

    /// [`Self::new`], uniform in ±`bound` and not zero at first.
    pub fn random(init: &mut Init<'_>, side: usize, c: usize, bound: f32) -> Self {
        Self { map: init.weights([side, side, c], 1, bound) }
    }

    /// `x [n, side, side, c]` plus the map.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        x + self.map.val().unsqueeze()
    }

    /// A learned map's values `[from, from, c]` stretched to `[to, to, c]`, so that weights of one picture side can
    /// begin the training of another; `None` where the shapes are not those of two maps of as many channels.
    pub fn stretched(values: &[f32], from: &[usize], to: &[usize]) -> Option<Vec<f32>> {
        let (&[h, w, c], &[out_h, out_w, out_c]) = (from, to) else { return None };
        if h == 0 || h != w || out_h != out_w || c != out_c || values.len() != h * w * c {
            return None;
        }
        let mut out = vec![0.0; out_h * out_w * c];
        Bilinear { n: 1, h, w, out_h, out_w, c, align_corners: false }.forward(values, &mut out);
        Some(out)
    }
}

/// Vectors that stand where a text's would, `[t, d]`; zero at first.
#[derive(Module, Debug)]
pub struct Tokens {
    tokens: Param<Tensor<2>>,
}

impl Tokens {
    /// `t` vectors of width `d`.
    pub fn new(init: &Init<'_>, t: usize, d: usize) -> Self {
        let zeros = TensorData::new(vec![0.0f32; t * d], [t, d]);
        Self { tokens: Param::from_tensor(Tensor::from_data(zeros, init.device)) }
    }

    /// The vectors.
    pub fn val(&self) -> Tensor<2> {
        self.tokens.val()
    }
}

/// Group normalisation with optional feature-wise modulation and SiLU.
#[derive(Module, Debug)]
pub struct GroupNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    groups: usize,
}

impl GroupNorm {
    /// `c` channels in `groups` groups; `groups` is lowered to the greatest divisor of `c` that is not above it.
    pub fn new(init: &Init<'_>, c: usize, groups: usize) -> Self {
        let groups = (1..=groups.min(c)).rev().find(|g| c % g == 0).unwrap_or(1);
        Self { weight: init.constant(c, 1.0), bias: init.constant(c, 0.0), groups }
    }

    /// Scale and shift, and the number of groups.
    pub fn parameters(&self) -> ([Tensor<1>; 2], usize) {
        ([self.weight.val(), self.bias.val()], self.groups)
    }

    /// GroupNorm alone.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::group_norm(x, self.weight.val(), self.bias.val(), None, self.groups, ops::Activation::None)
    }

    /// GroupNorm, modulation by `film [n, 2c]` (scale, shift) if given, SiLU.
    pub fn forward_silu(&self, x: Tensor<4>, film: Option<Tensor<2>>) -> Tensor<4> {
        ops::group_norm(x, self.weight.val(), self.bias.val(), film, self.groups, ops::Activation::Silu)
    }
}

/// Layer normalisation over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl LayerNorm {
    /// Over `c` channels.
    pub fn new(init: &Init<'_>, c: usize) -> Self {
        Self { weight: init.constant(c, 1.0), bias: init.constant(c, 0.0) }
    }

    /// The normalised `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::layer_norm(x, self.weight.val(), self.bias.val())
    }
}
