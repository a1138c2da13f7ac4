//! The planner: what is to be where, read from the text alone.
//!
//! A denoiser has to find out from the loss of pixels that "a cat to the left of a house" speaks of places, and does so late:
//! at most noise levels the picture tells more than the text. The planner sees no picture. It draws a map of the coarsest
//! level's places from the text, which is added to the features of every level that has positions; the auxiliary head asks it
//! directly what is where ([`UnetConfig::things`]). Not in the paper.

use burn::module::Module;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::conditioning::Text;
use super::config::{Planner as PlannerConfig, UnetConfig};
use super::resnet_block::{ResnetBlock, ResnetBlockConfig};
use crate::nn::{Init, Linear, Position, ops};

/// Learned places → (residual block → attention to places and text)….
#[derive(Module, Debug)]
pub(super) struct Planner {
    places: Position,
    blocks: Vec<ResnetBlock>,
    /// Attention layers after each residual block.
    attention: Vec<Vec<Attention>>,
    side: usize,
    channels: usize,
}

/// Bound of the learned places at first.
const PLACES: f32 = 0.5;

impl Planner {
    /// The planner of a network, if it has one.
    pub(super) fn of(init: &mut Init<'_>, config: &UnetConfig) -> Option<Self> {
        let planner = config.planner?;
        let side = config.levels.last().map_or(0, |level| level.position);
        let level = planner.level();
        let block = ResnetBlockConfig {
            from: planner.channels,
            to: planner.channels,
            embedding: config.embedding,
            groups: config.groups,
            skip_scale: config.skip_scale,
            resample: None,
        };
        Some(Self {
            places: Position::random(init, side, planner.channels, PLACES),
            blocks: (0..planner.blocks).map(|_| ResnetBlock::new(init, &block)).collect(),
            attention: (0..planner.blocks).map(|_| Attention::of_level(init, config, &level)).collect(),
            side,
            channels: planner.channels,
        })
    }

    /// The map `[n, side, side, channels]` of `n` texts.
    pub(super) fn forward(&self, pooled: &Tensor<2>, text: &Text) -> Tensor<4> {
        let n = pooled.dims()[0];
        let empty = Tensor::zeros([n, self.side, self.side, self.channels], &pooled.device());
        let mut x = self.places.forward(empty);
        for (block, attention) in self.blocks.iter().zip(&self.attention) {
            x = block.forward(x, pooled);
            for layer in attention {
                x = layer.forward(x, Some(text));
            }
        }
        x
    }
}

/// A plan at a level: stretched to its places, and a matrix of its channels.
#[derive(Module, Debug)]
pub(super) struct Planned {
    widen: Linear,
    /// How often the plan's side is doubled.
    doublings: usize,
}

impl Planned {
    /// For features of `side`×`side` places and `c` channels, where the network plans; it adds nothing at first.
    pub(super) fn of(init: &mut Init<'_>, config: &UnetConfig, side: usize, c: usize) -> Option<Self> {
        let PlannerConfig { channels, .. } = config.planner?;
        let coarsest = config.levels.last().map_or(side, |level| level.position);
        let widen = Linear::new(init, channels, c, 0.0);
        Some(Self { widen, doublings: (side / coarsest).ilog2() as usize })
    }

    /// `x` plus what the plan says of its places.
    pub(super) fn forward(&self, x: Tensor<4>, plan: &Tensor<4>) -> Tensor<4> {
        let plan = (0..self.doublings).fold(plan.clone(), |plan, _| ops::upsample2(plan));
        self.widen.forward_onto(plan, x, 1.0)
    }
}
