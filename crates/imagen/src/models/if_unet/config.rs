//! The `config.json` of a `UNet2DConditionModel`, as far as the networks of DeepFloyd IF go.
//!
//! Sizes are read, never assumed: every published size of both stages is only another file. A key that chooses a class or
//! a behaviour is held against what this network does, and refused by its name where it asks for something else. Keys
//! that begin with `_` and those that only concern training say nothing about the result and are passed over.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::nn::ops::Activation;

/// No network has more; a file that says so is damaged and must not make lists of that length.
const MAX_LEVELS: usize = 16;
const MAX_LAYERS: usize = 256;
const MAX_WIDTH: usize = 1 << 20;

/// The groups of the text's normalisation, which no configuration names.
pub(super) const TEXT_GROUPS: usize = 32;

/// One resolution, the pictures' own first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfLevel {
    /// Channels (`block_out_channels`).
    pub channels: usize,
    /// Residual blocks on the way down; one more on the way up (`layers_per_block`).
    pub layers: usize,
    /// Attention after each block: `SimpleCrossAttn…` instead of `Resnet…`.
    pub attention: bool,
    /// Features of one head (`attention_head_dim`).
    pub head_dim: usize,
    /// Whether pixels do not look at each other (`only_cross_attention`).
    pub only_text: bool,
}

/// The network of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct IfUnetConfig {
    /// Side of the pictures that it was trained on.
    pub sample_size: usize,
    /// Channels in: 3, or 6 with the enlarged picture of the stage before.
    pub in_channels: usize,
    /// Channels out: ε, and as many that choose the variance.
    pub out_channels: usize,
    /// The levels, finest first.
    pub levels: Vec<IfLevel>,
    /// Attention of the middle sees the text alone.
    pub middle_only_text: bool,
    /// Groups of the normalisations.
    pub groups: usize,
    /// The activation of blocks and embeddings (`act_fn`).
    pub activation: Activation,
    /// Width of the embedding of time, text and noise level.
    pub embedding: usize,
    /// Activates that embedding once, before the blocks (`time_embedding_act_fn`).
    pub embedding_activation: Option<Activation>,
    /// Blocks take the embedding as it is (`resnet_skip_time_act`).
    pub skip_time_activation: bool,
    /// What the sums of blocks are divided by.
    pub out_scale: f32,
    /// What the sums of the middle blocks are divided by.
    pub middle_scale: f32,
    /// Width of the text encoder's vectors (`encoder_hid_dim`).
    pub text_dim: usize,
    /// Width of those that attention sees (`cross_attention_dim`).
    pub text_width: usize,
    /// Heads of the attention that pools the text.
    pub pooling_heads: usize,
    /// Whether the noise level of the enlarged picture is embedded (`class_embed_type` = `timestep`).
    pub noise_level: bool,
}

impl IfUnetConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// `Model`, naming the key, where the file is no such configuration or asks for what this network does not do.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|e| Error::model("config.json is not JSON").with_source(e))?;
        let mut keys = Keys { map };
        let config = Self::read(&mut keys)?;
        keys.finish()?;
        config.check().map(|()| config)
    }

    fn read(keys: &mut Keys) -> Result<Self> {
        keys.only("_class_name", &["UNet2DConditionModel"])?;
        let channels = keys.list("block_out_channels")?;
        let levels = channels.len();
        if levels == 0 || levels > MAX_LEVELS {
            return Err(refuse(format!("block_out_channels has {levels} entries (expected 1 to {MAX_LEVELS})")));
        }
        let down = keys.classes("down_block_types", ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"])?;
        let mut up = keys.classes("up_block_types", ["ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"])?;
        up.reverse();
        if down != up {
            return Err(refuse(
                "up_block_types are not down_block_types in reverse: attention belongs to a level".into(),
            ));
        }
        keys.only("mid_block_type", &["UNetMidBlock2DSimpleCrossAttn"])?;
        let layers = keys.per_level("layers_per_block", levels, Some(2))?;
        let head_dim = keys.per_level("attention_head_dim", levels, Some(8))?;
        let only_text = keys.flags("only_cross_attention", levels)?;
        let middle_only_text = match keys.take("mid_block_only_cross_attention") {
            None => only_text.iter().all(|only| *only),
            Some(value) => boolean("mid_block_only_cross_attention", &value)?,
        };
        let widths = keys.per_level("cross_attention_dim", levels, None)?;
        if widths.iter().any(|width| *width != widths[0]) {
            return Err(refuse(
                "cross_attention_dim differs between levels; this network projects the text once".into(),
            ));
        }
        if down.len() != levels {
            return Err(refuse(format!("down_block_types has {} entries, block_out_channels {levels}", down.len())));
        }
        let level = |i: usize| IfLevel {
            channels: channels[i],
            layers: layers[i],
            attention: down[i],
            head_dim: head_dim[i],
            only_text: only_text[i],
        };
        let activation = keys.activation("act_fn")?.unwrap_or(Activation::Silu);
        let noise_level = match keys.take("class_embed_type") {
            None => false,
            Some(Value::String(kind)) if kind == "timestep" => true,
            Some(other) => return Err(unknown("class_embed_type", &other, "null or \"timestep\"")),
        };
        Ok(Self {
            sample_size: keys.number("sample_size", None)?,
            in_channels: keys.number("in_channels", Some(4))?,
            out_channels: keys.number("out_channels", Some(4))?,
            embedding: keys.number("time_embedding_dim", Some(4 * channels[0]))?,
            levels: (0..levels).map(level).collect(),
            middle_only_text,
            groups: keys.number("norm_num_groups", Some(32))?,
            activation,
            embedding_activation: keys.activation("time_embedding_act_fn")?,
            skip_time_activation: keys.flag("resnet_skip_time_act")?,
            out_scale: keys.factor("resnet_out_scale_factor")?,
            middle_scale: keys.factor("mid_block_scale_factor")?,
            text_dim: keys.number("encoder_hid_dim", None)?,
            text_width: widths[0],
            pooling_heads: keys.number("addition_embed_type_num_heads", Some(64))?,
            noise_level,
        })
    }

    fn check(&self) -> Result<()> {
        let widths = self.levels.iter().map(|level| ("block_out_channels", level.channels));
        let others = [
            ("sample_size", self.sample_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("time_embedding_dim", self.embedding),
            ("encoder_hid_dim", self.text_dim),
            ("cross_attention_dim", self.text_width),
            ("addition_embed_type_num_heads", self.pooling_heads),
            ("norm_num_groups", self.groups),
        ];
        for (key, width) in widths.chain(others) {
            if width == 0 || width > MAX_WIDTH {
                return Err(refuse(format!("{key} is {width} (expected 1 to {MAX_WIDTH})")));
            }
        }
        let divides = |key: &str, whole: usize, of: &str, part: usize| {
            if part > 0 && whole % part == 0 {
                Ok(())
            } else {
                Err(refuse(format!("{key} {whole} is not divisible by {of} {part}")))
            }
        };
        for (i, level) in self.levels.iter().enumerate() {
            if level.layers == 0 || level.layers > MAX_LAYERS {
                return Err(refuse(format!("layers_per_block is {} (expected 1 to {MAX_LAYERS})", level.layers)));
            }
            divides("block_out_channels", level.channels, "norm_num_groups", self.groups)?;
            if level.attention || i + 1 == self.levels.len() {
                divides("block_out_channels", level.channels, "attention_head_dim", level.head_dim)?;
            }
        }
        divides("cross_attention_dim", self.text_width, "the groups of norm_cross", TEXT_GROUPS)?;
        divides("encoder_hid_dim", self.text_dim, "addition_embed_type_num_heads", self.pooling_heads)?;
        divides("block_out_channels", self.levels[0].channels, "the halves of the time embedding", 2)?;
        let picture = if self.noise_level { self.in_channels / 2 } else { self.in_channels };
        if self.noise_level && self.in_channels % 2 != 0 {
            return Err(refuse(format!(
                "in_channels is {} with class_embed_type timestep (expected an even number: the noised picture and the enlarged one)",
                self.in_channels
            )));
        }
        if self.out_channels != picture && self.out_channels != 2 * picture {
            let expected = format!("{picture}, or {} with variances", 2 * picture);
            return Err(refuse(format!("out_channels is {} (expected {expected})", self.out_channels)));
        }
        Ok(())
    }

    /// Channels of the pictures that it draws.
    pub fn picture_channels(&self) -> usize {
        if self.noise_level { self.in_channels / 2 } else { self.in_channels }
    }

    /// What sides of pictures must be divisible by.
    pub fn granularity(&self) -> usize {
        1 << (self.levels.len() - 1)
    }
}

fn refuse(what: String) -> Error {
    Error::model(format!("config.json: {what}"))
}

fn unknown(key: &str, value: &Value, expected: &str) -> Error {
    refuse(format!("{key} is {value}; this network knows {expected}"))
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| unknown(key, value, "true and false"))
}

/// Keys with the only value that this network has; each may also be absent.
const ONLY: [(&str, &[&str]); 14] = [
    ("addition_embed_type", &["\"text\""]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["\"group_norm\""]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim_type", &["\"text_proj\""]),
    ("flip_sin_to_cos", &["true"]),
    ("freq_shift", &["0"]),
    ("norm_eps", &["1e-5"]),
    ("resnet_time_scale_shift", &["\"scale_shift\""]),
    ("time_embedding_type", &["\"positional\""]),
];

/// Of those, the ones whose absence means something else.
const NEEDED: [&str; 4] =
    ["addition_embed_type", "cross_attention_norm", "encoder_hid_dim_type", "resnet_time_scale_shift"];

/// Keys that cannot change the result of these blocks.
const WITHOUT_EFFECT: [&str; 5] =
    ["downsample_padding", "dropout", "transformer_layers_per_block", "upcast_attention", "use_linear_projection"];

/// The keys of a file, each taken once.
struct Keys {
    map: Map<String, Value>,
}

impl Keys {
    /// The value of a key; null is as good as none.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    fn only(&mut self, key: &str, known: &[&str]) -> Result<()> {
        let list = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(" and ");
        match self.take(key) {
            Some(Value::String(value)) if known.contains(&value.as_str()) => Ok(()),
            Some(other) => Err(unknown(key, &other, &list)),
            None => Err(refuse(format!("{key} is missing; this network knows {list}"))),
        }
    }

    fn needed(&mut self, key: &str) -> Result<Value> {
        self.take(key).ok_or_else(|| refuse(format!("{key} is missing")))
    }

    fn number(&mut self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.take(key), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(refuse(format!("{key} is missing"))),
            (Some(value), _) => size(key, &value),
        }
    }

    fn list(&mut self, key: &str) -> Result<Vec<usize>> {
        let value = self.needed(key)?;
        let items = value.as_array().ok_or_else(|| unknown(key, &value, "a list of numbers"))?;
        items.iter().map(|item| size(key, item)).collect()
    }

    /// One number for all levels, or one for each.
    fn per_level(&mut self, key: &str, levels: usize, default: Option<usize>) -> Result<Vec<usize>> {
        match self.take(key) {
            Some(Value::Array(items)) if items.len() == levels => items.iter().map(|item| size(key, item)).collect(),
            Some(Value::Array(items)) => {
                Err(refuse(format!("{key} has {} entries, block_out_channels {levels}", items.len())))
            }
            Some(value) => Ok(vec![size(key, &value)?; levels]),
            None => default.map(|d| vec![d; levels]).ok_or_else(|| refuse(format!("{key} is missing"))),
        }
    }

    fn flags(&mut self, key: &str, levels: usize) -> Result<Vec<bool>> {
        match self.take(key) {
            None => Ok(vec![false; levels]),
            Some(Value::Array(items)) if items.len() == levels => items.iter().map(|item| boolean(key, item)).collect(),
            Some(value) => Ok(vec![boolean(key, &value)?; levels]),
        }
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        self.take(key).map_or(Ok(false), |value| boolean(key, &value))
    }

    fn factor(&mut self, key: &str) -> Result<f32> {
        let Some(value) = self.take(key) else { return Ok(1.0) };
        match value.as_f64() {
            Some(factor) if factor > 0.0 && factor.is_finite() => Ok(factor as f32),
            _ => Err(unknown(key, &value, "numbers above 0")),
        }
    }

    fn activation(&mut self, key: &str) -> Result<Option<Activation>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(name)) if name == "gelu" => Ok(Some(Activation::Gelu)),
            Some(Value::String(name)) if name == "silu" || name == "swish" => Ok(Some(Activation::Silu)),
            Some(other) => Err(unknown(key, &other, "`gelu` and `silu`")),
        }
    }

    /// For each level whether it is the second of two classes.
    fn classes(&mut self, key: &str, known: [&str; 2]) -> Result<Vec<bool>> {
        let value = self.needed(key)?;
        let names = value.as_array().ok_or_else(|| unknown(key, &value, "a list of classes"))?;
        let class = |name: &Value| {
            known.iter().position(|known| name.as_str() == Some(known)).map(|at| at == 1).ok_or_else(|| {
                refuse(format!("{key} names the class {name}; this network knows `{}` and `{}`", known[0], known[1]))
            })
        };
        names.iter().map(class).collect()
    }

    /// Holds what is left against what this network does.
    fn finish(mut self) -> Result<()> {
        for (key, known) in ONLY {
            let value = self.take(key);
            let fits = |value: &Value| {
                let text = value.to_string();
                known.iter().any(|known| match (known.parse::<f64>(), value.as_f64()) {
                    (Ok(known), Some(value)) => known == value,
                    _ => text == *known,
                })
            };
            match value {
                Some(value) if !fits(&value) => return Err(unknown(key, &value, &known.join(" and "))),
                None if NEEDED.contains(&key) => {
                    return Err(refuse(format!("{key} is missing; this network knows {}", known.join(" and "))));
                }
                _ => {}
            }
        }
        for key in WITHOUT_EFFECT {
            self.take(key);
        }
        let left = self
            .map
            .iter()
            .find(|(key, value)| !key.starts_with('_') && !matches!(value, Value::Null | Value::Bool(false)));
        match left {
            Some((key, value)) => {
                Err(refuse(format!("{key} is {value}, and this network does not know what that changes")))
            }
            None => Ok(()),
        }
    }
}

fn size(key: &str, value: &Value) -> Result<usize> {
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| unknown(key, value, "whole numbers from 0"))
}
