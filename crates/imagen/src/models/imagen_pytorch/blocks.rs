//! The residual block of imagen-pytorch: RMS norms over the channels of a pixel, attention to the conditions between its two
//! convolutions, and a factor for each channel that its whole map decides.

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu, softmax};

use super::attention::CrossAttention;
use super::norm::rms_norm;
use crate::error::Result;
use crate::models::frozen::{Conv, Linear, Loader};
use crate::models::unet::UnetConfig;

/// What the conditions of every block have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Width of the vector of noise levels and text.
    pub(super) embedding: usize,
    /// Width of the tokens that are attended to.
    pub(super) conditions: usize,
}

impl Sizes {
    /// A block that not every network has.
    pub(super) fn block_if_there(
        self,
        loader: &mut Loader<'_>,
        name: &str,
        channels: [usize; 2],
    ) -> Result<Option<ResnetBlock>> {
        let there = loader.shape(&format!("{name}.block1.project.weight")).is_some();
        there.then(|| ResnetBlock::load(loader, name, channels, self)).transpose()
    }
}

/// `conv(silu(norm(x)·(1 + scale) + shift))`.
#[derive(Debug)]
pub(super) struct Block {
    gamma: Tensor<1>,
    conv: Conv,
}

impl Block {
    pub(super) fn load(loader: &mut Loader<'_>, name: &str, from: usize, to: usize) -> Result<Self> {
        Ok(Self {
            gamma: loader.tensor(format!("{name}.norm.gamma"), [from, 1, 1])?.reshape([from]),
            conv: loader.conv(&format!("{name}.project"), from, to)?,
        })
    }

    /// One for the output of each level of the way up, deepest first, where the network joins these.
    pub(super) fn load_joined(loader: &mut Loader<'_>, config: &UnetConfig) -> Result<Vec<Self>> {
        let name = |i: usize| format!("upsample_combiner.fmap_convs.{i}");
        if loader.shape(&format!("{}.project.weight", name(0))).is_none() {
            return Ok(Vec::new());
        }
        let levels = config.levels.iter().rev().enumerate();
        levels.map(|(i, level)| Self::load(loader, &name(i), level.channels, config.channels)).collect()
    }

    /// `x [n, h, w, from]`, `film [n, 2 from]` (scale, shift) → `[n, h, w, to]`.
    pub(super) fn forward(&self, x: Tensor<4>, film: Option<Tensor<2>>) -> Tensor<4> {
        self.conv.forward(self.activated(x, film))
    }

    fn activated(&self, x: Tensor<4>, film: Option<Tensor<2>>) -> Tensor<4> {
        let [n, _, _, c] = x.dims();
        let y = rms_norm(x, &self.gamma);
        let y = match film {
            Some(film) => {
                let part = |from: usize| film.clone().narrow(1, from, c).reshape([n, 1, 1, c]);
                y * part(0).add_scalar(1.0) + part(c)
            }
            None => y,
        };
        silu(y)
    }
}

#[derive(Debug)]
pub(super) struct ResnetBlock {
    modulation: Linear,
    block1: Block,
    cross_attention: Option<CrossAttention>,
    block2: Block,
    global_context: Option<GlobalContext>,
    shortcut: Option<Linear>,
}

impl ResnetBlock {
    /// From `from` to `to` channels; what the file has of the optional parts is taken.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        name: &str,
        [from, to]: [usize; 2],
        Sizes { embedding, conditions }: Sizes,
    ) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let has = |loader: &Loader<'_>, tensor: &str| loader.shape(&part(tensor)).is_some();
        let attends = has(loader, "cross_attn.to_q.weight");
        let looks_at_all = has(loader, "gca.to_k.weight");
        Ok(Self {
            modulation: loader.linear(&part("time_mlp.1"), embedding, 2 * to)?,
            block1: Block::load(loader, &part("block1"), from, to)?,
            cross_attention: attends
                .then(|| CrossAttention::load(loader, &part("cross_attn"), to, conditions))
                .transpose()?,
            block2: Block::load(loader, &part("block2"), to, to)?,
            global_context: looks_at_all.then(|| GlobalContext::load(loader, &part("gca"), to)).transpose()?,
            shortcut: (from != to).then(|| loader.pointwise(&part("res_conv"), from, to)).transpose()?,
        })
    }

    /// `x [n, h, w, from]`, `time [n, e]` activated, `context [n, t, c]` → `[n, h, w, to]`.
    pub(super) fn forward(&self, x: Tensor<4>, time: &Tensor<2>, context: Option<&Tensor<3>>) -> Tensor<4> {
        let film = self.modulation.forward(time.clone());
        let mut h = self.block1.forward(x.clone(), None);
        if let (Some(attention), Some(context)) = (&self.cross_attention, context) {
            let [n, height, width, c] = h.dims();
            h = attention.forward(h.reshape([n, height * width, c]), context.clone()).reshape([n, height, width, c]);
        }
        let shortcut = match &self.shortcut {
            Some(matrix) => matrix.forward(x),
            None => x,
        };
        let h = self.block2.activated(h, Some(film));
        match &self.global_context {
            None => self.block2.conv.forward_onto(h, shortcut, 1.0),
            Some(context) => {
                let h = self.block2.conv.forward(h);
                let factor = context.forward(&h);
                h * factor + shortcut
            }
        }
    }
}

/// A factor for each channel, from a mean of the map whose weights the map decides.
#[derive(Debug)]
struct GlobalContext {
    weight: Linear,
    hidden: Linear,
    factor: Linear,
}

impl GlobalContext {
    fn load(loader: &mut Loader<'_>, name: &str, c: usize) -> Result<Self> {
        let hidden = (c / 2).max(3);
        Ok(Self {
            weight: loader.pointwise(&format!("{name}.to_k"), c, 1)?,
            hidden: loader.pointwise(&format!("{name}.net.0"), c, hidden)?,
            factor: loader.pointwise(&format!("{name}.net.2"), hidden, c)?,
        })
    }

    /// `[n, h, w, c]` → `[n, 1, 1, c]`.
    fn forward(&self, x: &Tensor<4>) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let pixels = x.clone().reshape([n, h * w, c]);
        let weights = softmax(self.weight.forward(pixels.clone()).reshape([n, 1, h * w]), 2);
        let mean = weights.matmul(pixels).reshape([n, c]);
        sigmoid(self.factor.forward(silu(self.hidden.forward(mean)))).reshape([n, 1, 1, c])
    }
}
