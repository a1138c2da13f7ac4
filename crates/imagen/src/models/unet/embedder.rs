//! How the conditions become one embedding per picture.
//!
//! Noise level, augmentation level and pooled text are embedded and summed ("similar to class embedding", section 2.5);
//! every residual block modulates its features by the sum (CombineEmbs of figures A.27–A.29, as scale-shift norm).

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::conditioning::{Conditioning, Text};
use super::config::{TextPooling, UnetConfig};
use super::planner::Planner;
use crate::nn::{Init, LayerNorm, Linear, noise_embedding, ops};

/// Sinusoid → Linear → SiLU → Linear.
#[derive(Module, Debug)]
struct LevelEmbedding {
    linear1: Linear,
    linear2: Linear,
    width: usize,
}

impl LevelEmbedding {
    fn new(init: &mut Init<'_>, width: usize, embedding: usize) -> Self {
        Self {
            linear1: Linear::new(init, width, embedding, 1.0),
            linear2: Linear::new(init, embedding, embedding, 1.0),
            width,
        }
    }

    fn forward(&self, log_snr: &[f64], device: &Device) -> Tensor<2> {
        let x = noise_embedding(log_snr, self.width, device);
        self.linear2.forward(silu(self.linear1.forward(x)))
    }
}

/// Text → one vector: LayerNorm, pooling, LayerNorm, projection.
#[derive(Module, Debug)]
struct TextPool {
    norm: LayerNorm,
    q: Option<Linear>,
    kv: Option<Linear>,
    pooled_norm: LayerNorm,
    projection: Linear,
    heads: usize,
}

impl TextPool {
    fn new(init: &mut Init<'_>, config: &UnetConfig) -> Self {
        let (width, attention) = (config.text_width, config.text_pooling == TextPooling::Attention);
        let heads = (1..=8).rev().find(|h| width % h == 0).unwrap_or(1);
        Self {
            norm: LayerNorm::new(init, width),
            q: attention.then(|| Linear::new(init, width, width, 1.0)),
            kv: attention.then(|| Linear::new(init, width, 2 * width, 1.0)),
            pooled_norm: LayerNorm::new(init, width),
            projection: Linear::new(init, width, config.embedding, 1.0),
            heads,
        }
    }

    fn forward(&self, text: &Text) -> Tensor<2> {
        let [n, _, width] = text.sequence.dims();
        let x = self.norm.forward(text.sequence.clone());
        let mean = mean_token(x.clone(), &text.mask);
        let pooled = match (&self.q, &self.kv) {
            // the mean token asks; every token answers
            (Some(q), Some(kv)) => {
                ops::attention(q.forward(mean.clone()), kv.forward(x), Some(text.mask.clone()), self.heads) + mean
            }
            _ => mean,
        };
        self.projection.forward(self.pooled_norm.forward(pooled).reshape([n, width]))
    }
}

/// The mean of the tokens that are there, `[n, 1, width]`; zeros where there is none.
fn mean_token(sequence: Tensor<3>, mask: &Tensor<2>) -> Tensor<3> {
    let [n, t, _] = sequence.dims();
    let weights = mask.clone().reshape([n, t, 1]);
    let count = weights.clone().sum_dim(1).clamp_min(1.0); // [n, 1, 1]
    (sequence * weights).sum_dim(1) / count
}

/// The conditions as the blocks take them.
pub(super) struct Embedded {
    /// Noise, augmentation and pooled text, summed and activated: `[n, e]`.
    pub(super) embedding: Tensor<2>,
    /// The text at the network's own width.
    pub(super) text: Option<Text>,
    /// The text as the encoder gave it.
    pub(super) encoded: Option<Text>,
    /// What is to be where ([`UnetConfig::planner`]).
    pub(super) plan: Option<Tensor<4>>,
}

/// What the text says of places: mean vector → LayerNorm → Linear → SiLU → Linear → a narrow map → Linear over its
/// channels.
///
/// The weights of the first two matrices are kept [`MAP_GAIN`] times smaller than they act (the equalised learning rate of
/// Karras et al., 2018): under Adam they learn as many times faster, and what is learned here by heart is learned in a
/// fraction of the passes.
#[derive(Module, Debug)]
pub(super) struct TextMap {
    norm: LayerNorm,
    hidden: Linear,
    map: Linear,
    widen: Linear,
    side: usize,
}

/// How much faster than the rest the matrices of a [`TextMap`] learn.
const MAP_GAIN: f32 = 8.0;

impl TextMap {
    /// A map of `side`×`side` and `narrow` channels for features of `c` channels; it adds nothing at first.
    pub(super) fn new(init: &mut Init<'_>, config: &UnetConfig, [side, narrow, c]: [usize; 3]) -> Self {
        let hidden = text_map_hidden(config);
        Self {
            norm: LayerNorm::new(init, config.text_dim),
            hidden: Linear::new(init, config.text_dim, hidden, 1.0 / MAP_GAIN),
            map: Linear::new(init, hidden, side * side * narrow, 1.0 / MAP_GAIN),
            widen: Linear::new(init, narrow, c, 0.0),
            side,
        }
    }

    /// `x [n, side, side, c]` plus the map that the encoder's `text` draws.
    pub(super) fn forward(&self, x: Tensor<4>, text: &Text) -> Tensor<4> {
        let [n, _, d] = text.sequence.dims();
        let mean = mean_token(text.sequence.clone(), &text.mask).reshape([n, d]);
        let hidden = silu(self.hidden.forward(self.norm.forward(mean) * MAP_GAIN));
        let map = self.map.forward(hidden * MAP_GAIN);
        let narrow = map.dims()[1] / (self.side * self.side);
        self.widen.forward_onto(map.reshape([n, self.side, self.side, narrow]), x, 1.0)
    }
}

/// Hidden width of a [`TextMap`].
pub(super) fn text_map_hidden(config: &UnetConfig) -> usize {
    4 * config.text_width
}

/// Embeds everything in [`Conditioning`].
#[derive(Module, Debug)]
pub(super) struct Embedder {
    noise: LevelEmbedding,
    augmentation: Option<LevelEmbedding>,
    text_projection: Option<Linear>,
    pool: Option<TextPool>,
    planner: Option<Planner>,
}

impl Embedder {
    pub(super) fn new(init: &mut Init<'_>, config: &UnetConfig) -> Self {
        let text = config.text_dim > 0;
        Self {
            noise: LevelEmbedding::new(init, config.channels, config.embedding),
            augmentation: config.low_resolution.then(|| LevelEmbedding::new(init, config.channels, config.embedding)),
            text_projection: text.then(|| Linear::new(init, config.text_dim, config.text_width, 1.0)),
            pool: (text && config.text_pooling != TextPooling::None).then(|| TextPool::new(init, config)),
            planner: Planner::of(init, config),
        }
    }

    /// Whether a planner reads what is to be where.
    pub(super) fn plans(&self) -> bool {
        self.planner.is_some()
    }

    /// The conditions, embedded.
    pub(super) fn forward(&self, conditioning: &Conditioning, device: &Device) -> Embedded {
        let mut embedding = self.noise.forward(&conditioning.log_snr, device);
        if let (Some(augmentation), Some(low)) = (&self.augmentation, &conditioning.low_resolution) {
            embedding = embedding + augmentation.forward(&low.log_snr, device);
        }
        let text = self.text_projection.as_ref().zip(conditioning.text.as_ref()).map(|(projection, text)| Text {
            sequence: projection.forward(text.sequence.clone()),
            mask: text.mask.clone(),
        });
        let pooled = self.pool.as_ref().zip(text.as_ref()).map(|(pool, text)| pool.forward(text));
        if let Some(pooled) = &pooled {
            embedding = embedding + pooled.clone();
        }
        let plan = self.planner.as_ref().zip(pooled.zip(text.as_ref()));
        let plan = plan.map(|(planner, (pooled, text))| planner.forward(&silu(pooled), text));
        Embedded { embedding: silu(embedding), text, encoded: conditioning.text.clone(), plan }
    }
}
