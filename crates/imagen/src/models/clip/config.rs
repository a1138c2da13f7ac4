//! The sizes of CLIP's towers, as `config.json` names them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The perceptrons' activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(1.702·x)`, of OpenAI's weights.
    #[default]
    QuickGelu,
    /// Exact GELU, of later ones.
    Gelu,
}

/// The text tower.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// How many tokens have a vector.
    pub vocab_size: usize,
    /// The width d.
    pub hidden_size: usize,
    /// The inner width of the perceptron.
    pub intermediate_size: usize,
    /// How many blocks there are.
    pub num_hidden_layers: usize,
    /// How many attention heads there are.
    pub num_attention_heads: usize,
    /// The longest input.
    pub max_position_embeddings: usize,
    /// The activation.
    pub hidden_act: Activation,
    /// What LayerNorm adds to the variance; this reader knows 1e-5.
    pub layer_norm_eps: f64,
    /// The token at which a text is summed up. 2 stands in old files for the largest id of a text.
    pub eos_token_id: Option<u32>,
    /// The width of the projection.
    pub projection_dim: usize,
}

/// The image tower.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipImageConfig {
    /// The width d.
    pub hidden_size: usize,
    /// The inner width of the perceptron.
    pub intermediate_size: usize,
    /// How many blocks there are.
    pub num_hidden_layers: usize,
    /// How many attention heads there are.
    pub num_attention_heads: usize,
    /// Side of a picture in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of a picture; this reader knows 3.
    pub num_channels: usize,
    /// The activation.
    pub hidden_act: Activation,
    /// What LayerNorm adds to the variance; this reader knows 1e-5.
    pub layer_norm_eps: f64,
    /// The width of the projection.
    pub projection_dim: usize,
}

// Files leave out what equals transformers' defaults, which are ViT-B/32's.
impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: Some(49407),
            projection_dim: 512,
        }
    }
}

impl Default for ClipImageConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            num_channels: 3,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            projection_dim: 512,
        }
    }
}

/// What a `config.json` of the family describes: both towers (`clip`) or one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// The text tower, where the file describes one.
    pub text: Option<ClipTextConfig>,
    /// The image tower, where the file describes one.
    pub image: Option<ClipImageConfig>,
}

impl ClipConfig {
    /// Reads a `config.json` of `clip`, `clip_text_model` or `clip_vision_model`.
    ///
    /// # Errors
    /// `Model` when it is not JSON or asks for what these towers do not do.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let broken = |e| Error::model("config.json is not a CLIP's").with_source(e);
        let whole: serde_json::Value = serde_json::from_slice(json).map_err(broken)?;
        let part = |key: &str| match whole.get("model_type").and_then(|family| family.as_str()) {
            Some("clip") => {
                let mut part = whole.get(key).cloned().unwrap_or_else(|| serde_json::json!({}));
                // one width for both towers, which stands outside them
                if let (Some(part), Some(width)) = (part.as_object_mut(), whole.get("projection_dim")) {
                    part.insert("projection_dim".into(), width.clone());
                }
                Some(part)
            }
            Some("clip_text_model") if key == "text_config" => Some(whole.clone()),
            Some("clip_vision_model") if key == "vision_config" => Some(whole.clone()),
            _ => None,
        };
        fn read<T: DeserializeOwned>(part: Option<serde_json::Value>) -> serde_json::Result<Option<T>> {
            part.map(serde_json::from_value).transpose()
        }
        let text: Option<ClipTextConfig> = read(part("text_config")).map_err(broken)?;
        let image: Option<ClipImageConfig> = read(part("vision_config")).map_err(broken)?;
        if text.is_none() && image.is_none() {
            let message = "config.json: model_type is none of `clip`, `clip_text_model` and `clip_vision_model`";
            return Err(Error::model(message));
        }
        text.iter().try_for_each(ClipTextConfig::check)?;
        image.iter().try_for_each(ClipImageConfig::check)?;
        Ok(Self { text, image })
    }
}

impl ClipTextConfig {
    pub(super) fn check(&self) -> Result<()> {
        check_tower(
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("max_position_embeddings", self.max_position_embeddings),
                ("projection_dim", self.projection_dim),
            ],
            (self.hidden_size, self.num_attention_heads),
            self.layer_norm_eps,
        )
    }
}

impl ClipImageConfig {
    pub(super) fn check(&self) -> Result<()> {
        check_tower(
            &[
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("image_size", self.image_size),
                ("patch_size", self.patch_size),
                ("projection_dim", self.projection_dim),
            ],
            (self.hidden_size, self.num_attention_heads),
            self.layer_norm_eps,
        )?;
        if self.num_channels != 3 || !self.image_size.is_multiple_of(self.patch_size) {
            let Self { image_size, patch_size, num_channels, .. } = self;
            return Err(Error::model(format!(
                "config.json: num_channels is {num_channels} (expected 3), image_size {image_size} for patch_size {patch_size}"
            )));
        }
        Ok(())
    }

    /// Patches along a side.
    pub(super) fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

fn check_tower(sizes: &[(&str, usize)], (width, heads): (usize, usize), epsilon: f64) -> Result<()> {
    let refuse = |what: String| Err(Error::model(format!("config.json: {what}")));
    if let Some((key, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 24) {
        return refuse(format!("{key} is {size}"));
    }
    if let Some((key, size)) = sizes.iter().find(|(key, size)| *key == "num_hidden_layers" && *size > 1024) {
        return refuse(format!("{key} is {size} (at most 1024)"));
    }
    if !width.is_multiple_of(heads) {
        return refuse(format!("hidden_size {width} is not divisible by num_attention_heads {heads}"));
    }
    if (epsilon - 1e-5).abs() > 1e-9 {
        return refuse(format!("layer_norm_eps is {epsilon}; this CLIP knows 1e-5"));
    }
    Ok(())
}
