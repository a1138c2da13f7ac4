//! The networks of DeepFloyd IF: `UNet2DConditionModel` with the blocks and embeddings that its two stages have.
//!
//! The layout is that of diffusers' folders; every size comes from `config.json` ([`IfUnetConfig`]), the weights from a
//! [`Weights`]. The network is frozen. It maps a noised picture, a step of the process, the text and, in the second
//! stage, the noised enlargement with its noise level to ε and the variance's choice; what these mean is not its business.
//!
//! What depends on the text alone (its pooled vector, keys and values of every layer) is computed once ([`IfText`]) and
//! not at every step.

mod blocks;
mod config;
mod cost;

use burn::tensor::{Device, Tensor};
use tracing::debug_span;

pub use config::{IfLevel, IfUnetConfig};

use super::frozen::{Conv, GroupNorm, LayerNorm, Linear, Loader, Pair, activate};
use super::weights::{Storage, Weights};
use crate::error::{Error, Result};
use crate::nn::{ops, timestep_embedding};
use blocks::{Attention, Resample, ResnetBlock};

/// The network of one stage.
#[derive(Debug)]
pub struct IfUnet {
    config: IfUnetConfig,
    device: Device,
    time: [Linear; 2],
    noise_level: Option<[Linear; 2]>,
    pooling: Pooling,
    text: Linear,
    conv_in: Conv,
    /// Finest first.
    down: Vec<Level>,
    middle: [ResnetBlock; 2],
    middle_attention: Attention,
    /// Deepest first.
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

/// The blocks of one resolution, each with its attention, and the change to the next.
#[derive(Debug)]
struct Level {
    blocks: Vec<(ResnetBlock, Option<Attention>)>,
    resample: Option<ResnetBlock>,
}

impl Level {
    fn attention(&self) -> impl Iterator<Item = &Attention> {
        self.blocks.iter().filter_map(|(_, attention)| attention.as_ref())
    }
}

/// One vector of a text (`TextTimeEmbedding`): its mean looks at all tokens and at itself.
#[derive(Debug)]
struct Pooling {
    norm1: LayerNorm,
    position: Tensor<2>,
    q: Linear,
    kv: Pair,
    project: Linear,
    norm2: LayerNorm,
    heads: usize,
}

/// What a network needs of a batch of texts.
#[derive(Clone, Debug)]
pub struct IfText {
    /// `[n, e]`
    pooled: Tensor<2>,
    /// Keys and values of each attention layer in the order of the forward pass.
    keys: Vec<Tensor<3>>,
}

impl IfUnet {
    /// The network of this configuration with the weights of a checkpoint, whose matrices and convolutions are kept as `storage`
    /// says.
    ///
    /// # Errors
    /// `Model` where tensors are missing, of another shape or type, not of this network, or not finite.
    pub fn new(config: IfUnetConfig, weights: &Weights, storage: Storage, device: &Device) -> Result<Self> {
        weights.require_exactly(&Self::tensors(&config, device))?;
        Self::load(config, &mut Loader::new(Some(weights), storage, device), device)
    }

    /// Name and shape, as in the file, of every tensor of a network of this configuration.
    pub fn tensors(config: &IfUnetConfig, device: &Device) -> Vec<(String, Vec<usize>)> {
        let mut loader = Loader::new(None, Storage::Stored, device);
        // a walk that reads nothing
        Self::load(config.clone(), &mut loader, device).map(|_| loader.listed).unwrap_or_default()
    }

    fn load(config: IfUnetConfig, loader: &mut Loader<'_>, device: &Device) -> Result<Self> {
        let (embedding, levels) = (config.embedding, config.levels.len());
        let first = config.levels[0].channels;
        let conv_in = loader.conv("conv_in", config.in_channels, first)?;
        let mut two_layers = |name: &str| -> Result<[Linear; 2]> {
            Ok([
                loader.linear(&format!("{name}.linear_1"), first, embedding)?,
                loader.linear(&format!("{name}.linear_2"), embedding, embedding)?,
            ])
        };
        let time = two_layers("time_embedding")?;
        let noise_level = config.noise_level.then(|| two_layers("class_embedding")).transpose()?;
        let text = loader.linear("encoder_hid_proj", config.text_dim, config.text_width)?;
        let pooling = Pooling::load(loader, &config)?;
        // what each level leaves for the way up, the first convolution's output included
        let mut skips = vec![first];
        let mut width = first;
        let mut down = Vec::new();
        for (i, level) in config.levels.iter().enumerate() {
            let name = format!("down_blocks.{i}");
            let mut blocks = Vec::new();
            for j in 0..level.layers {
                let sizes = (width, level.channels);
                blocks.push(block_and_attention(loader, &config, &name, j, sizes, i)?);
                width = level.channels;
                skips.push(width);
            }
            let resample = (i + 1 < levels).then(|| {
                let (name, sizes) = (format!("{name}.downsamplers.0"), (width, width));
                ResnetBlock::load(loader, &config, &name, sizes, Some(Resample::Down), config.out_scale)
            });
            let resample = resample.transpose()?;
            if resample.is_some() {
                skips.push(width);
            }
            down.push(Level { blocks, resample });
        }
        let deepest = &config.levels[levels - 1];
        let mut middle_block = |j: usize| {
            let name = format!("mid_block.resnets.{j}");
            ResnetBlock::load(loader, &config, &name, (width, width), None, config.middle_scale)
        };
        let middle = [middle_block(0)?, middle_block(1)?];
        let (head_dim, only_text) = (deepest.head_dim, config.middle_only_text);
        let middle_attention = Attention::load(loader, &config, "mid_block.attentions.0", width, head_dim, only_text)?;
        let mut up = Vec::new();
        for i in (0..levels).rev() {
            let level = &config.levels[i];
            let name = format!("up_blocks.{}", levels - 1 - i);
            let mut blocks = Vec::new();
            for j in 0..=level.layers {
                let skip = skips.pop().expect("the way down leaves one skip for each block of the way up");
                let sizes = (width + skip, level.channels);
                blocks.push(block_and_attention(loader, &config, &name, j, sizes, i)?);
                width = level.channels;
            }
            let resample = (i > 0).then(|| {
                let (name, sizes) = (format!("{name}.upsamplers.0"), (width, width));
                ResnetBlock::load(loader, &config, &name, sizes, Some(Resample::Up), config.out_scale)
            });
            up.push(Level { blocks, resample: resample.transpose()? });
        }
        let norm_out = loader.group_norm("conv_norm_out", width, config.groups)?;
        let conv_out = loader.conv("conv_out", width, config.out_channels)?;
        let device = device.clone();
        Ok(Self {
            config,
            device,
            time,
            noise_level,
            pooling,
            text,
            conv_in,
            down,
            middle,
            middle_attention,
            up,
            norm_out,
            conv_out,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &IfUnetConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the network needs of texts `[n, t, d]`.
    ///
    /// # Errors
    /// `Model` where the vectors have another width than the network was trained with.
    pub fn text(&self, texts: Tensor<3>) -> Result<IfText> {
        let _span = debug_span!("embed text").entered();
        let [_, _, d] = texts.dims();
        if d != self.config.text_dim {
            return Err(Error::model(format!(
                "the text's vectors have {d} numbers, and this network was trained with {} (encoder_hid_dim)",
                self.config.text_dim
            )));
        }
        let pooled = self.pooling.forward(texts.clone());
        let text = self.text.forward(texts);
        let down = self.down.iter().flat_map(Level::attention);
        let all = down.chain([&self.middle_attention]).chain(self.up.iter().flat_map(Level::attention));
        Ok(IfText { pooled, keys: all.map(|layer| layer.keys(text.clone())).collect() })
    }

    /// The prediction `[n, h, w, out_channels]` for `x [n, h, w, in_channels]` at step `step` of the process; `noise_level`
    /// is the step to which the enlarged picture was noised.
    ///
    /// # Errors
    /// `Usage` where the sides do not fit the levels, the channels are others, or the noise level is missing or not wanted.
    pub fn forward(&self, x: Tensor<4>, step: f32, noise_level: Option<f32>, text: &IfText) -> Result<Tensor<4>> {
        let [n, h, w, c] = x.dims();
        let unit = self.config.granularity();
        if h % unit != 0 || w % unit != 0 || h * w == 0 {
            return Err(Error::usage(format!("a picture of {w}×{h}: this network needs sides divisible by {unit}")));
        }
        if c != self.config.in_channels || text.pooled.dims()[0] != n {
            return Err(Error::usage(format!(
                "an input of {n} pictures of {c} channels: expected {} pictures of {} channels",
                text.pooled.dims()[0],
                self.config.in_channels
            )));
        }
        let embedding = self.embed(n, step, noise_level, text)?;
        let mut keys = text.keys.iter();
        let mut x = debug_span!("first convolution").in_scope(|| self.conv_in.forward(x));
        let mut skips = vec![x.clone()];
        for (i, level) in self.down.iter().enumerate() {
            let _span = debug_span!("down", level = i).entered();
            for (block, attention) in &level.blocks {
                x = attend(attention.as_ref(), block.forward(x, &embedding), &mut keys);
                skips.push(x.clone());
            }
            if let Some(resample) = &level.resample {
                x = resample.forward(x, &embedding);
                skips.push(x.clone());
            }
        }
        x = debug_span!("middle").in_scope(|| {
            let x = self.middle[0].forward(x, &embedding);
            let x = attend(Some(&self.middle_attention), x, &mut keys);
            self.middle[1].forward(x, &embedding)
        });
        for (i, level) in self.up.iter().enumerate() {
            let _span = debug_span!("up", level = self.up.len() - 1 - i).entered();
            for (block, attention) in &level.blocks {
                let skip = skips.pop().expect("the way down leaves one skip for each block of the way up");
                x = attend(attention.as_ref(), block.forward(ops::concat(x, skip), &embedding), &mut keys);
            }
            if let Some(resample) = &level.resample {
                x = resample.forward(x, &embedding);
            }
        }
        let _span = debug_span!("head").entered();
        Ok(self.conv_out.forward(self.norm_out.forward(x, None, self.config.activation)))
    }

    /// Time, noise level and text as one vector `[n, e]`, activated as the blocks take it.
    fn embed(&self, n: usize, step: f32, noise_level: Option<f32>, text: &IfText) -> Result<Tensor<2>> {
        let activation = self.config.activation;
        let width = self.config.levels[0].channels;
        let two_layers = |[first, second]: &[Linear; 2], step: f32| {
            let sinusoid = timestep_embedding(&vec![step; n], width, &self.device);
            second.forward(activate(activation, first.forward(sinusoid)))
        };
        let time = two_layers(&self.time, step);
        let embedding = match (&self.noise_level, noise_level) {
            (Some(layers), Some(level)) => time + two_layers(layers, level),
            (None, None) => time,
            (Some(_), None) => return Err(Error::usage("this network enlarges and needs a noise level")),
            (None, Some(_)) => return Err(Error::usage("this network takes no noise level")),
        };
        let embedding = embedding + text.pooled.clone();
        let embedding = match self.config.embedding_activation {
            Some(activation) => activate(activation, embedding),
            None => embedding,
        };
        Ok(if self.config.skip_time_activation { embedding } else { activate(activation, embedding) })
    }
}

fn block_and_attention(
    loader: &mut Loader<'_>,
    config: &IfUnetConfig,
    name: &str,
    j: usize,
    sizes: (usize, usize),
    level: usize,
) -> Result<(ResnetBlock, Option<Attention>)> {
    let level = &config.levels[level];
    let block = ResnetBlock::load(loader, config, &format!("{name}.resnets.{j}"), sizes, None, config.out_scale)?;
    let attention = level.attention.then(|| {
        let name = format!("{name}.attentions.{j}");
        Attention::load(loader, config, &name, sizes.1, level.head_dim, level.only_text)
    });
    Ok((block, attention.transpose()?))
}

fn attend<'a>(
    attention: Option<&Attention>,
    x: Tensor<4>,
    keys: &mut impl Iterator<Item = &'a Tensor<3>>,
) -> Tensor<4> {
    match attention {
        Some(attention) => attention.forward(x, keys.next().expect("keys of every layer").clone()),
        None => x,
    }
}

impl Pooling {
    fn load(loader: &mut Loader<'_>, config: &IfUnetConfig) -> Result<Self> {
        let d = config.text_dim;
        let name = |part: &str| format!("add_embedding.{part}");
        Ok(Self {
            norm1: loader.layer_norm(&name("norm1"), d)?,
            position: loader.row(name("pool.positional_embedding"), d)?,
            q: loader.linear(&name("pool.q_proj"), d, d)?,
            kv: loader.pair([name("pool.k_proj"), name("pool.v_proj")], d, d)?,
            project: loader.linear(&name("proj"), d, config.embedding)?,
            norm2: loader.layer_norm(&name("norm2"), config.embedding)?,
            heads: config.pooling_heads,
        })
    }

    fn forward(&self, text: Tensor<3>) -> Tensor<2> {
        let [n, _, d] = text.dims();
        let text = self.norm1.forward(text);
        let class = text.clone().mean_dim(1) + self.position.clone().unsqueeze::<3>(); // [n, 1, d]
        let q = self.q.forward(class.clone());
        let kv = self.kv.forward(Tensor::cat(vec![class, text], 1));
        let pooled = ops::attention(q, kv, None, self.heads).reshape([n, d]);
        self.norm2.forward(self.project.forward(pooled))
    }
}
