//! The residual block (figure A.27) with scale-shift norm: the conditional embedding enters at the second GroupNorm.
//!
//! ```text
//! x ─ GroupNorm ─ SiLU ─ [resample] ─ conv ─ GroupNorm·(1+scale)+shift ─ SiLU ─ conv ─ + ─
//! └──────────────────── [resample] ─ 1×1 conv where widths differ ────────────────────┘
//! ```

use std::f32::consts::FRAC_1_SQRT_2;

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::SkipScale;
use crate::nn::{Conv3x3, GroupNorm, Init, Linear, ops};

/// Resampling inside a block, on both branches before the first convolution ("biggan", F.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resample {
    Down,
    Up,
}

/// See the module's figure.
#[derive(Module, Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv3x3,
    modulation: Linear,
    norm2: GroupNorm,
    conv2: Conv3x3,
    shortcut: Option<Linear>,
    #[module(skip)]
    resample: Option<Resample>,
    /// Factor of the shortcut branch.
    shortcut_scale: f32,
    /// Factor of the sum.
    sum_scale: f32,
}

/// The shape of a residual block.
pub(super) struct ResnetBlockConfig {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) embedding: usize,
    pub(super) groups: usize,
    pub(super) skip_scale: SkipScale,
    pub(super) resample: Option<Resample>,
}

impl ResnetBlock {
    pub(super) fn new(init: &mut Init<'_>, c: &ResnetBlockConfig) -> Self {
        let (shortcut_scale, sum_scale) = match c.skip_scale {
            SkipScale::None | SkipScale::Long => (1.0, 1.0),
            SkipScale::Residual | SkipScale::Both => (1.0, FRAC_1_SQRT_2),
            SkipScale::Shortcut => (FRAC_1_SQRT_2, 1.0),
        };
        Self {
            norm1: GroupNorm::new(init, c.from, c.groups),
            conv1: Conv3x3::new(init, c.from, c.to, 1, 1.0),
            modulation: Linear::new(init, c.embedding, 2 * c.to, 1.0),
            norm2: GroupNorm::new(init, c.to, c.groups),
            conv2: Conv3x3::new(init, c.to, c.to, 1, 0.0),
            shortcut: (c.from != c.to).then(|| Linear::new(init, c.from, c.to, 1.0)),
            resample: c.resample,
            shortcut_scale,
            sum_scale,
        }
    }

    /// `x [n, h, w, from]`, `embedding [n, e]` already activated → `[n, h', w', to]`.
    pub(super) fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>) -> Tensor<4> {
        let resample = |x: Tensor<4>| match self.resample {
            None => x,
            Some(Resample::Down) => ops::average_pool2(x),
            Some(Resample::Up) => ops::upsample2(x),
        };
        let film = self.modulation.forward(embedding.clone());
        if self.resample.is_none() {
            return ops::residual_block(x, film, self.parameters());
        }
        let h = self.conv1.forward(resample(self.norm1.forward_silu(x.clone(), None)));
        let h = self.norm2.forward_silu(h, Some(film));
        self.conv2.forward_onto(h, self.shortcut(resample(x)), self.sum_scale)
    }

    /// The shortcut branch of `x`, scaled.
    fn shortcut(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        if self.shortcut_scale == 1.0 { x } else { x * self.shortcut_scale }
    }

    fn parameters(&self) -> ops::ResidualBlock {
        let ((norm1, groups1), (norm2, groups2)) = (self.norm1.parameters(), self.norm2.parameters());
        let ((weight1, bias1), (weight2, bias2)) = (self.conv1.parameters(), self.conv2.parameters());
        ops::ResidualBlock {
            norm1,
            weight1,
            bias1,
            norm2,
            weight2,
            bias2,
            groups: [groups1, groups2],
            activation: ops::Activation::Silu,
            shortcut: self.shortcut.as_ref().map(Linear::parameters),
            shortcut_scale: self.shortcut_scale,
            scale: self.sum_scale,
        }
    }
}
