//! The way down through one level (DBlock, figure A.28; or ADM's level).

use burn::module::Module;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::config::{Layout, Level, UnetConfig};
use super::embedder::{Embedded, TextMap};
use super::planner::Planned;
use super::resnet_block::{Resample, ResnetBlock, ResnetBlockConfig};
use crate::nn::{Conv3x3, Init, Position};

/// Efficient: strided convolution → maps → residual blocks → attention. ADM: maps → (residual block → attention)… →
/// down-sampling block. The maps (of position, of the text, of the planner) are there where the level asks for them.
#[derive(Module, Debug)]
pub(super) struct DBlock {
    down_first: Option<Conv3x3>,
    position: Option<Position>,
    text_map: Option<TextMap>,
    planned: Option<Planned>,
    blocks: Vec<ResnetBlock>,
    /// Attention layers after each residual block.
    attention: Vec<Vec<Attention>>,
    down_last: Option<ResnetBlock>,
    /// Whether every block leaves a skip, or only the level.
    skip_per_block: bool,
}

impl DBlock {
    /// `width` is the number of channels that come in; the widths of the skips that this level leaves are appended to `skips`.
    pub(super) fn new(
        init: &mut Init<'_>,
        config: &UnetConfig,
        level: &Level,
        deepest: bool,
        width: usize,
        skips: &mut Vec<usize>,
    ) -> Self {
        let block = |init: &mut Init<'_>, from, resample| {
            let to = level.channels;
            let (embedding, groups, skip_scale) = (config.embedding, config.groups, config.skip_scale);
            ResnetBlock::new(init, &ResnetBlockConfig { from, to, embedding, groups, skip_scale, resample })
        };
        let efficient = config.layout == Layout::Efficient;
        let down_first = efficient.then(|| Conv3x3::new(init, width, level.channels, 2, 1.0));
        let mut from = if efficient { level.channels } else { width };
        let position = (level.position > 0).then(|| Position::new(init, level.position, from));
        let text_map = (level.text_map > 0).then(|| TextMap::new(init, config, [level.position, level.text_map, from]));
        let planned = (level.position > 0).then(|| Planned::of(init, config, level.position, from)).flatten();
        let (mut blocks, mut attention) = (Vec::new(), Vec::new());
        for index in 0..level.blocks {
            blocks.push(block(init, from, None));
            from = level.channels;
            let attend = !efficient || index + 1 == level.blocks;
            attention.push(if attend { Attention::of_level(init, config, level) } else { Vec::new() });
            if !efficient {
                skips.push(from);
            }
        }
        if efficient {
            skips.push(from);
        }
        let down_last = (!efficient && !deepest).then(|| {
            skips.push(from);
            block(init, from, Some(Resample::Down))
        });
        Self { down_first, position, text_map, planned, blocks, attention, down_last, skip_per_block: !efficient }
    }

    /// The level's output; what the way up will need is pushed on `skips`.
    pub(super) fn forward(&self, mut x: Tensor<4>, conditions: &Embedded, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        let (embedding, text) = (&conditions.embedding, conditions.text.as_ref());
        if let Some(down) = &self.down_first {
            x = down.forward(x);
        }
        if let Some(position) = &self.position {
            x = position.forward(x);
        }
        if let (Some(map), Some(text)) = (&self.text_map, &conditions.encoded) {
            x = map.forward(x, text);
        }
        if let (Some(planned), Some(plan)) = (&self.planned, &conditions.plan) {
            x = planned.forward(x, plan);
        }
        for (block, attention) in self.blocks.iter().zip(&self.attention) {
            x = block.forward(x, embedding);
            for layer in attention {
                x = layer.forward(x, text);
            }
            if self.skip_per_block {
                skips.push(x.clone());
            }
        }
        if !self.skip_per_block {
            skips.push(x.clone());
        }
        if let Some(down) = &self.down_last {
            x = down.forward(x, embedding);
            skips.push(x.clone());
        }
        x
    }
}
