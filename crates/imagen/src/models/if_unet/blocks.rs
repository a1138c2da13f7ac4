//! The residual block and the attention layer of DeepFloyd IF's networks.
//!
//! The block resamples before its first convolution, on both branches: by means of 2×2 pixels on the way down, by repeating
//! pixels on the way up. The attention has one softmax over the text's keys and the picture's; the text has no mask, its
//! padding takes part.

use burn::tensor::Tensor;

use super::config::{IfUnetConfig, TEXT_GROUPS};
use crate::error::Result;
use crate::models::frozen::{Conv, GroupNorm, Linear, Loader, Pair};
use crate::nn::ops::{self, Activation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resample {
    Down,
    Up,
}

/// `(conv2(act(GN(conv1(↕act(GN(x))))·(1 + scale) + shift)) + shortcut(↕x)) / out_scale`.
#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv,
    modulation: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Linear>,
    resample: Option<Resample>,
    activation: Activation,
    scale: f32,
}

impl ResnetBlock {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        config: &IfUnetConfig,
        name: &str,
        (from, to): (usize, usize),
        resample: Option<Resample>,
        out_scale: f32,
    ) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm1: loader.group_norm(&part("norm1"), from, config.groups)?,
            conv1: loader.conv(&part("conv1"), from, to)?,
            modulation: loader.linear(&part("time_emb_proj"), config.embedding, 2 * to)?,
            norm2: loader.group_norm(&part("norm2"), to, config.groups)?,
            conv2: loader.conv(&part("conv2"), to, to)?,
            shortcut: (from != to).then(|| loader.pointwise(&part("conv_shortcut"), from, to)).transpose()?,
            resample,
            activation: config.activation,
            scale: 1.0 / out_scale,
        })
    }

    /// `x [n, h, w, from]`, `embedding [n, e]` as the blocks take it → `[n, h', w', to]`.
    pub(super) fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>) -> Tensor<4> {
        let film = self.modulation.forward(embedding.clone());
        let resampled = |x: Tensor<4>| match self.resample {
            None => x,
            Some(Resample::Down) => ops::average_pool2(x),
            Some(Resample::Up) => ops::upsample2(x),
        };
        let h = self.conv1.forward(resampled(self.norm1.forward(x.clone(), None, self.activation)));
        let h = self.norm2.forward(h, Some(film), self.activation);
        let x = resampled(x);
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        self.conv2.forward_onto(h, shortcut, self.scale)
    }
}

/// Attention of pixels to the text and to each other.
#[derive(Debug)]
pub(super) struct Attention {
    norm: GroupNorm,
    q: Linear,
    /// Keys and values of the picture.
    kv: Option<Pair>,
    text_norm: GroupNorm,
    text_kv: Pair,
    out: Linear,
    heads: usize,
}

impl Attention {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        config: &IfUnetConfig,
        name: &str,
        channels: usize,
        head_dim: usize,
        only_text: bool,
    ) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let both = |a: &str, b: &str| [part(a), part(b)];
        let text = config.text_width;
        Ok(Self {
            norm: loader.group_norm(&part("group_norm"), channels, config.groups)?,
            q: loader.linear(&part("to_q"), channels, channels)?,
            kv: (!only_text).then(|| loader.pair(both("to_k", "to_v"), channels, channels)).transpose()?,
            text_norm: loader.group_norm(&part("norm_cross"), text, TEXT_GROUPS)?,
            text_kv: loader.pair(both("add_k_proj", "add_v_proj"), text, channels)?,
            out: loader.linear(&part("to_out.0"), channels, channels)?,
            heads: channels / head_dim,
        })
    }

    /// Keys and values `[n, t, 2 channels]` of the text `[n, t, text_width]`; they do not change from step to step.
    pub(super) fn keys(&self, text: Tensor<3>) -> Tensor<3> {
        let [n, t, width] = text.dims();
        // groups of channels over all tokens: a picture of one row
        let normal = self.text_norm.forward(text.reshape([n, 1, t, width]), None, Activation::None);
        self.text_kv.forward(normal.reshape([n, t, width]))
    }

    /// `x [n, h, w, c]` → the same shape, with `text` from [`Attention::keys`].
    pub(super) fn forward(&self, x: Tensor<4>, text: Tensor<3>) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let tokens = self.norm.forward(x.clone(), None, Activation::None).reshape([n, h * w, c]);
        let q = self.q.forward(tokens.clone());
        let kv = match &self.kv {
            Some(kv) => {
                let own = kv.forward(tokens);
                let [_, t, width] = text.dims();
                // a picture's tokens as one row
                let joined = ops::concat(text.reshape([n, t * width]), own.reshape([n, h * w * width]));
                joined.reshape([n, t + h * w, width])
            }
            None => text,
        };
        let attended = ops::attention(q, kv, None, self.heads);
        self.out.forward_onto(attended, x.reshape([n, h * w, c])).reshape([n, h, w, c])
    }
}
