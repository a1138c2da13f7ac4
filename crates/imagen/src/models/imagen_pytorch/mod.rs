//! The U-Nets of imagen-pytorch (its releases with RMS norms over channels), so that what was trained with it can be drawn here.
//!
//! The weights keep that package's names and layouts. Its checkpoints need not say which options a network was made with, but
//! the names and shapes of the tensors do, all but one (whether long skips are scaled); [`describe`] reads them. The network
//! is frozen: it maps a noised picture, its log-SNR, the text and, in later stages, the noised enlargement with its log-SNR
//! to a prediction; what that means is not its business.
//!
//! Not here, and refused by name: networks of videos, linear attention, pictures as conditions, conditioning on the last
//! estimate, and releases whose blocks have GroupNorm.

mod attention;
mod blocks;
mod conditions;
mod cost;
mod describe;
mod norm;

use burn::tensor::{Device, Tensor};
use tracing::debug_span;

pub use cost::cost;
pub use describe::describe;

use super::frozen::{Conv, LayerNorm, Linear, Loader, Window};
use super::unet::{Conditioning, Level, SkipScale, UnetConfig};
use super::weights::{Storage, Weights};
use crate::error::{Error, Result};
use crate::nn::ops;
use attention::Transformer;
use blocks::{Block, ResnetBlock, Sizes};
use conditions::{NoiseLevel, TextConditions};

/// The network of one stage.
#[derive(Debug)]
pub struct ImagenPytorchUnet {
    config: UnetConfig,
    device: Device,
    noise_level: NoiseLevel,
    low_noise_level: Option<NoiseLevel>,
    text: Option<TextConditions>,
    norm_conditions: LayerNorm,
    /// Windows of several sizes, whose outputs follow each other.
    first: Vec<Window>,
    first_block: Option<ResnetBlock>,
    /// Finest first.
    down: Vec<Down>,
    middle: [ResnetBlock; 2],
    middle_attention: Option<Transformer>,
    /// Deepest first.
    up: Vec<Up>,
    /// One for the output of each level of the way up, where these are joined to the last.
    joined: Vec<Block>,
    /// Whether the first convolution's output is joined to the last level's.
    input_residual: bool,
    last_block: Option<ResnetBlock>,
    last: Window,
}

#[derive(Debug)]
struct Down {
    before: Option<Window>,
    block: ResnetBlock,
    blocks: Vec<ResnetBlock>,
    attention: Option<Transformer>,
    after: Option<After>,
}

/// How the way down leaves a level.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a handful of them")]
enum After {
    Halve(Window),
    /// The deepest level: a convolution and a matrix, added.
    Widen(Conv, Linear),
}

#[derive(Debug)]
struct Up {
    block: ResnetBlock,
    blocks: Vec<ResnetBlock>,
    attention: Option<Transformer>,
    double: Option<Double>,
}

#[derive(Debug)]
enum Double {
    SubPixel(Linear),
    Nearest(Conv),
}

impl ImagenPytorchUnet {
    /// The network whose tensors' names begin with `prefix`, which [`describe`] describes so; its matrices and convolutions
    /// are kept as `storage` says.
    ///
    /// # Errors
    /// `Model` where tensors are missing, of another shape, not of this network, or not finite.
    pub fn new(config: UnetConfig, weights: &Weights, prefix: &str, storage: Storage, device: &Device) -> Result<Self> {
        let mut loader = Loader::under(prefix, weights, storage, device);
        let unet = Self::load(config, &mut loader, device)?;
        let listed: std::collections::BTreeSet<&str> = loader.listed.iter().map(|(name, _)| name.as_str()).collect();
        let own = weights.names().filter(|name| name.starts_with(prefix));
        let extra: Vec<String> =
            own.filter(|name| !listed.contains(name)).take(8).map(|name| format!("`{name}`")).collect();
        if !extra.is_empty() {
            return Err(Error::model(format!(
                "{}: {} have no place in this network of imagen-pytorch",
                weights.label(),
                extra.join(", ")
            )));
        }
        Ok(unet)
    }

    fn load(config: UnetConfig, loader: &mut Loader<'_>, device: &Device) -> Result<Self> {
        let (channels, pictures, conditions) = (config.channels, config.image_channels, config.text_width);
        let sizes = Sizes { embedding: config.embedding, conditions };
        let low = if config.low_resolution { pictures } else { 0 };
        let windows = describe::first_windows(loader);
        let first_width = windows.iter().map(|window| window.1).sum();
        let first: Result<Vec<Window>> =
            windows.iter().map(|(name, width, side)| loader.window(name, [pictures + low, *width, *side])).collect();
        let first_block = sizes.block_if_there(loader, "init_resnet_block", [first_width, first_width])?;
        // each level's maps before it and within it
        let (mut width, mut skips, mut down) = (first_width, Vec::new(), Vec::new());
        for (i, level) in config.levels.iter().enumerate() {
            let halves_first = first_block.is_some();
            let deepest = i + 1 == config.levels.len();
            skips.push(if halves_first { level.channels } else { width });
            down.push(Down::load(loader, &format!("downs.{i}"), level, width, sizes, [halves_first, deepest])?);
            width = level.channels;
        }
        let middle = [
            ResnetBlock::load(loader, "mid_block1", [width; 2], sizes)?,
            ResnetBlock::load(loader, "mid_block2", [width; 2], sizes)?,
        ];
        let middle_attention = Transformer::load(loader, "mid_attn", width, None)?;
        let mut up = Vec::new();
        for (j, skip) in skips.into_iter().rev().enumerate() {
            let i = config.levels.len() - 1 - j;
            let next = match i {
                0 => first_block.is_some().then_some(first_width),
                _ => Some(config.levels[i - 1].channels),
            };
            up.push(Up::load(loader, &format!("ups.{j}"), &config.levels[i], skip, sizes, next)?);
            width = next.unwrap_or(config.levels[i].channels);
        }
        let joined = Block::load_joined(loader, &config)?;
        width += joined.len() * channels;
        let [last_width, _, side] = describe::last_convolution(loader)?;
        // what comes before the last convolution, or before the block in front of it
        let from = match loader.shape("final_res_block.block1.project.weight") {
            Some(&[_, from, ..]) => from,
            _ => last_width - low.min(last_width),
        };
        let input_residual = from == width + first_width;
        width += if input_residual { first_width } else { 0 };
        let last_block = sizes.block_if_there(loader, "final_res_block", [width, channels])?;
        let width = if last_block.is_some() { channels } else { width };
        Ok(Self {
            device: device.clone(),
            noise_level: NoiseLevel::load(loader, "to_time", sizes)?,
            low_noise_level: (low > 0).then(|| NoiseLevel::load(loader, "to_lowres_time", sizes)).transpose()?,
            text: TextConditions::load(loader, &config)?,
            norm_conditions: loader.layer_norm("norm_cond", conditions)?,
            first: first?,
            first_block,
            down,
            middle,
            middle_attention,
            up,
            joined,
            input_residual,
            last_block,
            last: loader.window("final_conv", [width + low, pictures, side])?,
            config,
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The prediction `[n, h, w, c]` for noised pictures `z [n, h, w, c]`; `dropped` says which pictures' texts the network's
    /// own stand-in replaces.
    ///
    /// # Errors
    /// `Usage` where the sides are no multiples of the network's granularity, or a condition is missing, not wanted or of
    /// another size than `z`; `Model` where the text's vectors have another width.
    pub fn forward(&self, z: Tensor<4>, conditioning: &Conditioning, dropped: &[bool]) -> Result<Tensor<4>> {
        let [n, h, w, _] = z.dims();
        let unit = self.config.granularity();
        if h % unit != 0 || w % unit != 0 || h * w == 0 {
            return Err(Error::usage(format!("a picture of {w}×{h}: this network needs sides divisible by {unit}")));
        }
        conditioning.check([n, h, w])?;
        let (time, context) = debug_span!("embed conditions").in_scope(|| self.embed(conditioning, dropped))?;
        let low = conditioning.low_resolution.as_ref().map(|low| low.picture.clone());
        let input = match &low {
            Some(low) => ops::concat(z, low.clone()),
            None => z,
        };
        let span = debug_span!("first convolution");
        let mut x = span.in_scope(|| {
            let maps = self.first.iter().map(|window| window.forward(input.clone()));
            maps.reduce(ops::concat).expect("there is a first convolution")
        });
        let input_residual = self.input_residual.then(|| x.clone());
        if let Some(block) = &self.first_block {
            x = block.forward(x, &time, None);
        }
        let mut skips = Vec::new();
        for (i, level) in self.down.iter().enumerate() {
            let _span = debug_span!("down", level = i).entered();
            x = level.forward(x, &time, &context, &mut skips);
        }
        x = debug_span!("middle").in_scope(|| {
            let x = self.middle[0].forward(x, &time, Some(&context));
            let x = match &self.middle_attention {
                Some(layer) => layer.forward(x, None),
                None => x,
            };
            self.middle[1].forward(x, &time, Some(&context))
        });
        let mut outputs = Vec::new();
        for (j, level) in self.up.iter().enumerate() {
            let _span = debug_span!("up", level = self.up.len() - 1 - j).entered();
            let (output, next) = level.forward(x, &time, &context, self.long_skips(), &mut skips);
            if !self.joined.is_empty() {
                outputs.push(output);
            }
            x = next;
        }
        let _span = debug_span!("head").entered();
        for (block, mut map) in self.joined.iter().zip(outputs) {
            while map.dims()[1] < h {
                map = ops::upsample2(map);
            }
            x = ops::concat(x, block.forward(map, None));
        }
        if let Some(residual) = input_residual {
            x = ops::concat(x, residual);
        }
        if let Some(block) = &self.last_block {
            x = block.forward(x, &time, None);
        }
        if let Some(low) = low {
            x = ops::concat(x, low);
        }
        Ok(self.last.forward(x))
    }

    /// Factor of a long skip where it is joined.
    fn long_skips(&self) -> f32 {
        if self.config.skip_scale == SkipScale::Long { std::f32::consts::FRAC_1_SQRT_2 } else { 1.0 }
    }

    /// The vector of every block, activated, `[n, e]`, and the sequence to which pictures attend, `[n, t, c]`.
    fn embed(&self, conditioning: &Conditioning, dropped: &[bool]) -> Result<(Tensor<2>, Tensor<3>)> {
        let (mut time, mut context) = self.noise_level.forward(&conditioning.log_snr, &self.device);
        match (&self.low_noise_level, &conditioning.low_resolution) {
            (Some(level), Some(low)) => {
                let (vector, tokens) = level.forward(&low.log_snr, &self.device);
                time = time + vector;
                context = Tensor::cat(vec![context, tokens], 1);
            }
            (None, None) => {}
            (Some(_), None) => return Err(Error::usage("a super-resolution network needs a low-resolution picture")),
            (None, Some(_)) => return Err(Error::usage("this network takes no low-resolution picture")),
        }
        if let (Some(layers), Some(text)) = (&self.text, &conditioning.text) {
            let (tokens, vector) = layers.forward(text, dropped)?;
            time = time + vector;
            context = Tensor::cat(vec![context, tokens], 1);
        }
        Ok((burn::tensor::activation::silu(time), self.norm_conditions.forward(context)))
    }
}

impl Down {
    /// From `width` channels; whether its maps are halved first and not last, and whether none is coarser.
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        level: &Level,
        width: usize,
        sizes: Sizes,
        [halves_first, deepest]: [bool; 2],
    ) -> Result<Self> {
        let to = level.channels;
        let halve = |loader: &mut Loader<'_>, part: &str| loader.four_pixels(&format!("{name}.{part}"), width, to);
        let before = halves_first.then(|| halve(loader, "0.1")).transpose()?;
        let inner = if halves_first { to } else { width };
        let block = ResnetBlock::load(loader, &format!("{name}.1"), [inner; 2], sizes)?;
        let blocks: Result<Vec<_>> =
            (0..level.blocks).map(|j| ResnetBlock::load(loader, &format!("{name}.2.{j}"), [inner; 2], sizes)).collect();
        let attention = Transformer::load(loader, &format!("{name}.3"), inner, Some(sizes.conditions))?;
        let after = match [halves_first, deepest] {
            [true, _] => None,
            [false, false] => Some(After::Halve(halve(loader, "4.1")?)),
            [false, true] => {
                let conv = loader.conv(&format!("{name}.4.fns.0"), inner, to)?;
                Some(After::Widen(conv, loader.pointwise(&format!("{name}.4.fns.1"), inner, to)?))
            }
        };
        Ok(Self { before, block, blocks: blocks?, attention, after })
    }

    fn forward(&self, x: Tensor<4>, time: &Tensor<2>, context: &Tensor<3>, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        let mut x = match &self.before {
            Some(halve) => halve.forward(x),
            None => x,
        };
        x = self.block.forward(x, time, Some(context));
        for block in &self.blocks {
            x = block.forward(x, time, None);
            skips.push(x.clone());
        }
        if let Some(attention) = &self.attention {
            x = attention.forward(x, Some(context));
        }
        skips.push(x.clone());
        match &self.after {
            None => x,
            Some(After::Halve(halve)) => halve.forward(x),
            Some(After::Widen(conv, matrix)) => conv.forward_onto(x.clone(), matrix.forward(x), 1.0),
        }
    }
}

impl Up {
    /// With skips of `skip` channels; its output is doubled in size with `next` channels.
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        level: &Level,
        skip: usize,
        sizes: Sizes,
        next: Option<usize>,
    ) -> Result<Self> {
        let to = level.channels;
        let block = ResnetBlock::load(loader, &format!("{name}.0"), [to + skip, to], sizes)?;
        let blocks: Result<Vec<_>> = (0..level.blocks)
            .map(|k| ResnetBlock::load(loader, &format!("{name}.1.{k}"), [to + skip, to], sizes))
            .collect();
        let attention = Transformer::load(loader, &format!("{name}.2"), to, Some(sizes.conditions))?;
        let sub_pixel = format!("{name}.3.net.0");
        let double = match next {
            None => None,
            Some(next) if loader.shape(&format!("{sub_pixel}.weight")).is_some() => {
                Some(Double::SubPixel(loader.before_pixel_shuffle(&sub_pixel, to, next)?))
            }
            Some(next) => Some(Double::Nearest(loader.conv(&format!("{name}.3.1"), to, next)?)),
        };
        Ok(Self { block, blocks: blocks?, attention, double })
    }

    /// The level's output before and after it is doubled.
    fn forward(
        &self,
        x: Tensor<4>,
        time: &Tensor<2>,
        context: &Tensor<3>,
        scale: f32,
        skips: &mut Vec<Tensor<4>>,
    ) -> (Tensor<4>, Tensor<4>) {
        let mut join = |x: Tensor<4>| {
            let skip = skips.pop().expect("the way down leaves one skip for each block of the way up");
            ops::concat(x, if scale == 1.0 { skip } else { skip.mul_scalar(scale) })
        };
        let mut x = self.block.forward(join(x), time, Some(context));
        for block in &self.blocks {
            x = block.forward(join(x), time, None);
        }
        if let Some(attention) = &self.attention {
            x = attention.forward(x, Some(context));
        }
        let doubled = match &self.double {
            None => x.clone(),
            Some(Double::SubPixel(matrix)) => {
                ops::pixel_shuffle(burn::tensor::activation::silu(matrix.forward(x.clone())))
            }
            Some(Double::Nearest(conv)) => conv.forward(ops::upsample2(x.clone())),
        };
        (x, doubled)
    }
}
