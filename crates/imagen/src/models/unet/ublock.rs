//! The way up through one level (UBlock, figure A.29; or ADM's level).

use burn::module::Module;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::conditioning::Text;
use super::config::{Layout, SkipJoin, UnetConfig};
use super::resnet_block::{Resample, ResnetBlock, ResnetBlockConfig};
use crate::nn::{Init, Linear, ops};

/// Efficient: join the level's skip → residual blocks → attention → sub-pixel up-sampling.
/// ADM: (join a skip → residual block → attention)… → up-sampling block.
#[derive(Module, Debug)]
pub(super) struct UBlock {
    blocks: Vec<ResnetBlock>,
    attention: Vec<Vec<Attention>>,
    /// To the next level's channels, four times: one for each pixel of a 2×2 block.
    up_last: Option<Linear>,
    up_block: Option<ResnetBlock>,
    /// How many skips this level takes: one per block, one, or (deepest Efficient level) none.
    skips: usize,
    skip_scale: f32,
    concatenate: bool,
}

impl UBlock {
    /// `index` is the level's; `width` the channels that come in; `skips` the widths that the way down left, last one first out.
    pub(super) fn new(
        init: &mut Init<'_>,
        config: &UnetConfig,
        index: usize,
        width: usize,
        skips: &mut Vec<usize>,
    ) -> Self {
        let level = &config.levels[index];
        let deepest = index + 1 == config.levels.len();
        let efficient = config.layout == Layout::Efficient;
        let concatenate = config.skip_join == SkipJoin::Concatenate;
        let block = |init: &mut Init<'_>, from, resample| {
            let to = level.channels;
            let (embedding, groups, skip_scale) = (config.embedding, config.groups, config.skip_scale);
            ResnetBlock::new(init, &ResnetBlockConfig { from, to, embedding, groups, skip_scale, resample })
        };
        let count = if efficient { level.blocks } else { level.blocks + 1 };
        let taken = match (efficient, deepest) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => count,
        };
        let mut from = width;
        let (mut blocks, mut attention) = (Vec::new(), Vec::new());
        for i in 0..count {
            if i < taken {
                let skip = skips.pop().expect("the way down left a skip for every join");
                from += if concatenate { skip } else { 0 };
            }
            blocks.push(block(init, from, None));
            from = level.channels;
            let attend = !efficient || i + 1 == count;
            attention.push(if attend { Attention::of_level(init, config, level) } else { Vec::new() });
        }
        let finer = if index == 0 { config.channels } else { config.levels[index - 1].channels };
        Self {
            blocks,
            attention,
            up_last: efficient.then(|| Linear::new(init, from, 4 * finer, 1.0)),
            up_block: (!efficient && index > 0).then(|| block(init, from, Some(Resample::Up))),
            skips: taken,
            skip_scale: config.skip_scale.of_long_skips(),
            concatenate,
        }
    }

    /// Channels that leave this level.
    pub(super) fn width_after(config: &UnetConfig, index: usize) -> usize {
        match (config.layout, index) {
            (Layout::Efficient, 0) => config.channels,
            (Layout::Efficient, _) => config.levels[index - 1].channels,
            (Layout::Adm, _) => config.levels[index].channels,
        }
    }

    /// The level's output; its skips are popped from `skips`.
    pub(super) fn forward(
        &self,
        mut x: Tensor<4>,
        embedding: &Tensor<2>,
        text: Option<&Text>,
        skips: &mut Vec<Tensor<4>>,
    ) -> Tensor<4> {
        for (i, (block, attention)) in self.blocks.iter().zip(&self.attention).enumerate() {
            if i < self.skips {
                let skip = skips.pop().expect("the way down left a skip for every join");
                x = join(x, skip, self.skip_scale, self.concatenate);
            }
            x = block.forward(x, embedding);
            for layer in attention {
                x = layer.forward(x, text);
            }
        }
        if let Some(up) = &self.up_last {
            x = ops::pixel_shuffle(up.forward(x));
        }
        if let Some(up) = &self.up_block {
            x = up.forward(x, embedding);
        }
        x
    }
}

/// A long skip, scaled, beside or onto `x`.
pub(super) fn join(x: Tensor<4>, skip: Tensor<4>, scale: f32, concatenate: bool) -> Tensor<4> {
    let skip = if scale == 1.0 { skip } else { skip * scale };
    if concatenate { ops::concat(x, skip) } else { ops::add(x, skip, 1.0) }
}
