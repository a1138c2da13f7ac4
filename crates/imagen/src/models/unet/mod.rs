//! The U-Nets of the cascade: one network, described by [`UnetConfig`] (sections 2.5, appendices B.1 and F).
//!
//! It maps a noised picture, its noise level and its conditions to a prediction of the picture's size; what the prediction
//! means (ε, v or x) and which schedule the noise follows is not its business.

mod attention;
mod conditioning;
mod config;
mod cost;
mod dblock;
mod embedder;
mod planner;
mod resnet_block;
mod ublock;

use burn::module::Module;
use burn::tensor::Tensor;
use tracing::debug_span;

pub use conditioning::{Conditioning, LowResolution, Text};
pub use config::{Heads, Layout, Level, Planner, SkipJoin, SkipScale, TextAttention, TextPooling, UnetConfig};
pub use cost::{LevelCost, TEXT_TOKENS, cost, cost_with_text};

use crate::error::{Error, Result};
use crate::nn::{Conv3x3, GroupNorm, Init, Linear, Tokens, ops};
use attention::Attention;
use dblock::DBlock;
use embedder::Embedder;
use resnet_block::{ResnetBlock, ResnetBlockConfig};
use ublock::UBlock;

/// The U-Net.
#[derive(Module, Debug)]
pub struct Unet {
    embedder: Embedder,
    /// What stands in for a dropped text ([`UnetConfig::null_text`]).
    null_text: Option<Tokens>,
    conv_in: Conv3x3,
    down: Vec<DBlock>,
    /// The auxiliary head ([`UnetConfig::things`]).
    naming: Option<Naming>,
    middle: Option<Middle>,
    /// Deepest level first.
    up: Vec<UBlock>,
    output: Option<Output>,
    head: Head,
    /// Whether the pictures' first convolution leaves a skip of its own.
    skip_input: bool,
    granularity: usize,
    /// The only side of pictures that a network with learned positions takes.
    side: Option<usize>,
    low_resolution: bool,
}

/// ADM's middle: residual block, attention, residual block at the coarsest resolution.
#[derive(Module, Debug)]
struct Middle {
    block1: ResnetBlock,
    attention: Vec<Attention>,
    block2: ResnetBlock,
}

/// Residual blocks at the pictures' own resolution ([`UnetConfig::output_blocks`]).
#[derive(Module, Debug)]
struct Output {
    blocks: Vec<ResnetBlock>,
    skip_scale: f32,
    concatenate: bool,
}

/// What is at each place of the coarsest level, from the plan or else from the features: GroupNorm, SiLU and a matrix.
#[derive(Module, Debug)]
struct Naming {
    norm: GroupNorm,
    dense: Linear,
}

/// The last layers: GroupNorm, SiLU and a 3×3 convolution, or one matrix per pixel (figure A.30, "Dense channels 3").
#[derive(Module, Debug)]
struct Head {
    norm: Option<GroupNorm>,
    conv: Option<Conv3x3>,
    dense: Option<Linear>,
}

impl Unet {
    /// A new network with random weights.
    ///
    /// # Errors
    /// [`UnetConfig::validate`]'s.
    pub fn new(config: &UnetConfig, init: &mut Init<'_>) -> Result<Self> {
        config.validate()?;
        let efficient = config.layout == Layout::Efficient;
        let embedder = Embedder::new(init, config);
        let null_text = (config.null_text > 0).then(|| Tokens::new(init, config.null_text, config.text_dim));
        let input = config.image_channels * if config.low_resolution { 2 } else { 1 };
        let conv_in = Conv3x3::new(init, input, config.channels, 1, 1.0);
        let mut width = config.channels;
        let skip_input = !efficient || config.output_blocks > 0;
        let mut skips = if skip_input { vec![width] } else { Vec::new() };
        let mut down = Vec::new();
        for (i, level) in config.levels.iter().enumerate() {
            down.push(DBlock::new(init, config, level, i + 1 == config.levels.len(), width, &mut skips));
            width = level.channels;
        }
        let deepest = config.levels.last().expect("validated: there is a level");
        let naming = (config.things > 0).then(|| {
            let width = config.planner.map_or(width, |planner| planner.channels);
            Naming {
                norm: GroupNorm::new(init, width, config.groups),
                dense: Linear::new(init, width, config.things, 1.0),
            }
        });
        let middle = (!efficient).then(|| {
            let block = ResnetBlockConfig {
                from: width,
                to: width,
                embedding: config.embedding,
                groups: config.groups,
                skip_scale: config.skip_scale,
                resample: None,
            };
            Middle {
                block1: ResnetBlock::new(init, &block),
                attention: Attention::of_level(init, config, deepest),
                block2: ResnetBlock::new(init, &block),
            }
        });
        if efficient {
            skips.pop(); // the deepest level's output goes straight up
        }
        let mut up = Vec::new();
        for i in (0..config.levels.len()).rev() {
            up.push(UBlock::new(init, config, i, width, &mut skips));
            width = UBlock::width_after(config, i);
        }
        let output = (efficient && skip_input).then(|| Output::new(init, config, &mut skips));
        let head = Head {
            norm: skip_input.then(|| GroupNorm::new(init, width, config.groups)),
            conv: skip_input.then(|| Conv3x3::new(init, width, config.image_channels, 1, 0.0)),
            dense: (!skip_input).then(|| Linear::new(init, width, config.image_channels, 0.0)),
        };
        Ok(Self {
            embedder,
            null_text,
            conv_in,
            down,
            naming,
            middle,
            up,
            output,
            head,
            skip_input,
            granularity: config.granularity(),
            side: config.side(),
            low_resolution: config.low_resolution,
        })
    }

    /// What stands in for a dropped text, `[t, d]`; nothing where that is zeros.
    pub fn null_text(&self) -> Option<Tensor<2>> {
        self.null_text.as_ref().map(Tokens::val)
    }

    /// The prediction `[n, h, w, c]` for noised pictures `z [n, h, w, c]`.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use imagen::models::unet::{Conditioning, Level, Unet, UnetConfig};
    /// use imagen::nn::Init;
    /// use imagen::rng::Rng;
    ///
    /// let device = Device::flex();
    /// let levels = vec![Level::plain(8), Level { self_attention: true, ..Level::plain(16) }];
    /// let config = UnetConfig { channels: 8, embedding: 16, levels, groups: 4, ..UnetConfig::base64(0) };
    /// let network = Unet::new(&config, &mut Init::new(&device, Rng::new(0)))?;
    /// let z = Tensor::ones([2, 16, 16, 3], &device);
    /// let prediction = network.forward(z, &Conditioning { log_snr: vec![0.0, -4.0], text: None, low_resolution: None })?;
    /// assert_eq!(prediction.dims(), [2, 16, 16, 3]);
    /// # Ok::<(), imagen::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Usage` where the sides are no multiples of the network's granularity, a super-resolution network is run
    /// without its low-resolution picture, or a condition is of another size than `z`.
    pub fn forward(&self, z: Tensor<4>, conditioning: &Conditioning) -> Result<Tensor<4>> {
        self.run(z, conditioning, false).map(|(prediction, _)| prediction)
    }

    /// The network without the auxiliary head, which only training needs.
    #[must_use]
    pub fn finished(self) -> Self {
        Self { naming: None, ..self }
    }

    /// [`Self::forward`], and of each place of the coarsest level how much speaks for each thing, `[n, h', w', things]`, as
    /// logits, where the network has the auxiliary head for it, and for a planner a text.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_naming(&self, z: Tensor<4>, conditioning: &Conditioning) -> Result<(Tensor<4>, Option<Tensor<4>>)> {
        self.run(z, conditioning, true)
    }

    fn run(&self, z: Tensor<4>, conditioning: &Conditioning, naming: bool) -> Result<(Tensor<4>, Option<Tensor<4>>)> {
        let [n, h, w, _] = z.dims();
        let unit = self.granularity;
        if h % unit != 0 || w % unit != 0 {
            return Err(Error::usage(format!("a picture of {w}×{h}: this network needs sides divisible by {unit}")));
        }
        if let Some(side) = self.side.filter(|side| [h, w] != [*side; 2]) {
            return Err(Error::usage(format!(
                "a picture of {w}×{h}: this network has learned positions of {side}×{side}"
            )));
        }
        conditioning.check([n, h, w])?;
        let span = debug_span!("embed conditions");
        let embedded = span.in_scope(|| self.embedder.forward(conditioning, &z.device()));
        let (embedding, text) = (&embedded.embedding, embedded.text.as_ref());
        let input = match (&conditioning.low_resolution, self.low_resolution) {
            (Some(low), true) => ops::concat(z, low.picture.clone()),
            (None, false) => z,
            (None, true) => {
                return Err(Error::usage("a super-resolution network needs a low-resolution picture"));
            }
            (Some(_), false) => return Err(Error::usage("this network takes no low-resolution picture")),
        };
        let mut x = debug_span!("first convolution").in_scope(|| self.conv_in.forward(input));
        let mut skips = Vec::new();
        if self.skip_input {
            skips.push(x.clone());
        }
        for (i, level) in self.down.iter().enumerate() {
            let _span = debug_span!("down", level = i).entered();
            x = level.forward(x, &embedded, &mut skips);
        }
        let naming = self.naming.as_ref().filter(|_| naming);
        let read = if self.embedder.plans() { embedded.plan.as_ref() } else { Some(&x) };
        let names =
            naming.zip(read).map(|(naming, read)| naming.dense.forward(naming.norm.forward_silu(read.clone(), None)));
        match &self.middle {
            Some(middle) => {
                let _span = debug_span!("middle").entered();
                x = middle.block1.forward(x, embedding);
                for layer in &middle.attention {
                    x = layer.forward(x, text);
                }
                x = middle.block2.forward(x, embedding);
            }
            None => drop(skips.pop()), // the deepest level's output goes straight up
        }
        for (i, level) in self.up.iter().enumerate() {
            let _span = debug_span!("up", level = self.up.len() - 1 - i).entered();
            x = level.forward(x, embedding, text, &mut skips);
        }
        if let Some(output) = &self.output {
            let _span = debug_span!("output").entered();
            x = output.forward(x, embedding, &mut skips);
        }
        Ok((debug_span!("head").in_scope(|| self.head.forward(x)), names))
    }
}

impl Output {
    fn new(init: &mut Init<'_>, config: &UnetConfig, skips: &mut Vec<usize>) -> Self {
        let (to, concatenate) = (config.channels, config.skip_join == SkipJoin::Concatenate);
        let skip = skips.pop().expect("the first convolution left a skip");
        let mut from = if concatenate { to + skip } else { to };
        let blocks = (0..config.output_blocks).map(|_| {
            let (embedding, groups, skip_scale) = (config.embedding, config.groups, config.skip_scale);
            let block = ResnetBlockConfig { from, to, embedding, groups, skip_scale, resample: None };
            from = to;
            ResnetBlock::new(init, &block)
        });
        Self { blocks: blocks.collect(), skip_scale: config.skip_scale.of_long_skips(), concatenate }
    }

    fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        let skip = skips.pop().expect("the first convolution left a skip");
        let x = ublock::join(x, skip, self.skip_scale, self.concatenate);
        self.blocks.iter().fold(x, |x, block| block.forward(x, embedding))
    }
}

impl Head {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.norm {
            Some(norm) => norm.forward_silu(x, None),
            None => x,
        };
        let x = match &self.conv {
            Some(conv) => conv.forward(x),
            None => x,
        };
        match &self.dense {
            Some(dense) => dense.forward(x),
            None => x,
        }
    }
}
