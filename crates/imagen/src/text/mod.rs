//! Text to embeddings: a tokenizer and a frozen language model behind one trait (spec A2).
//!
//! [`load`] makes a [`TextEncoder`] from the three files that such models are published as; [`cache`] keeps the
//! embeddings of a training set, so that the language model runs once per caption and not once per step.
//!
//! Deliberately not here: pooling, projection and dropping of the text, which belong to the diffusion models.

mod bert;
pub mod cache;
mod hash;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::models::unet::Text;
use crate::models::weights::FileBytes;

pub use bert::BertEncoder;
pub use cache::{CacheEvent, EmbeddingCache};

/// A batch of captions as a diffusion model sees them.
#[derive(Clone, Debug)]
pub struct TextEmbedding {
    /// One vector per token, `[b, t, d]`: the last hidden states; zero where `mask` is.
    pub sequence: Tensor<3>,
    /// 1 where a token is, 0 where a shorter caption was padded to the longest, `[b, t]`.
    pub mask: Tensor<2>,
}

impl From<TextEmbedding> for Text {
    fn from(TextEmbedding { sequence, mask }: TextEmbedding) -> Self {
        Self { sequence, mask }
    }
}

/// A frozen text encoder.
pub trait TextEncoder: Send + Sync {
    /// The embeddings of a batch of captions, padded to the longest of them. A caption longer than
    /// [`TextEncoder::max_length`] is cut; [`TextEncoder::cut_text`] says where.
    ///
    /// # Errors
    /// `Usage` when there are no captions; `Model` when tokenizer and network do not belong together; `NonFinite`
    /// when a state is infinite or not a number.
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding>;

    /// The part of a caption that the encoder does not read because it lies beyond the maximum length.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>>;

    /// How many tokens of a caption are read, the tokenizer's own marks included. Encoders count without running the network;
    /// what stands here does not.
    ///
    /// # Errors
    /// As [`TextEncoder::encode`].
    fn token_count(&self, caption: &str) -> Result<usize> {
        Ok(self.encode(&[caption])?.mask.sum().into_scalar::<f32>() as usize)
    }

    /// The width d of a token's vector.
    fn dim(&self) -> usize;

    /// The largest number of tokens per caption, the tokenizer's own start and end marks included.
    fn max_length(&self) -> usize;

    /// The same text for encoders that give the same embeddings: a hash of weights, configuration and tokenizer,
    /// with the maximum length.
    fn identity(&self) -> &str;
}

/// What the user may choose about a text encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// The largest number of tokens per caption (the paper does not state its own; spec A2).
    pub max_length: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { max_length: 64 }
    }
}

/// The three files of a published language model, as bytes: mapped from a folder or compiled in.
#[derive(Clone)]
pub struct EncoderFiles {
    /// What names these files in errors: the folder.
    pub label: String,
    /// `config.json`
    pub config: FileBytes,
    /// `tokenizer.json`
    pub tokenizer: FileBytes,
    /// `model.safetensors`
    pub weights: FileBytes,
}

impl EncoderFiles {
    /// The `config.json`, `tokenizer.json` and `model.safetensors` of a folder, mapped.
    ///
    /// # Errors
    /// `Model` when there is no such folder; `Io` when a file is missing or cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::model(format!(
                "there is no text encoder at {}: expected a folder with config.json, tokenizer.json and model.safetensors",
                folder.display()
            )));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            FileBytes::map(&path).map_err(|e| Error::io("read", &path, e))
        };
        Ok(Self {
            label: folder.display().to_string(),
            config: read("config.json")?,
            tokenizer: read("tokenizer.json")?,
            weights: read("model.safetensors")?,
        })
    }
}

impl std::fmt::Debug for EncoderFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncoderFiles").field("label", &self.label).finish_non_exhaustive()
    }
}

/// The text encoder that these files hold, on `device`.
///
/// # Errors
/// `Model` when a file is damaged, the files do not fit each other, or `config.json` names a family that is not
/// known here; `Usage` when the options do not fit the model.
pub fn load(files: EncoderFiles, options: &TextOptions, device: &Device) -> Result<Box<dyn TextEncoder>> {
    #[derive(Deserialize)]
    struct Family {
        model_type: String,
    }
    let _span = tracing::info_span!("open text encoder").entered();
    let label = files.label.clone();
    let family: Family = serde_json::from_slice(&files.config).map_err(|e| {
        Error::model("config.json does not say of which family (model_type) it is")
            .with_source(e)
            .context(label.clone())
    })?;
    match family.model_type.as_str() {
        "bert" => BertEncoder::new(files, options, device).map(|encoder| Box::new(encoder) as _),
        other => Err(Error::model(format!("config.json names a text encoder `{other}`; known: bert"))),
    }
    .context(|| label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_family_that_is_not_known_is_refused_by_name() {
        let empty = FileBytes::from(&b""[..]);
        for (config, expected) in [
            (&br#"{"model_type":"t5"}"#[..], "my/t5: config.json names a text encoder `t5`; known: bert"),
            (b"{}", "my/t5: config.json does not say"),
        ] {
            let files = EncoderFiles {
                label: "my/t5".into(),
                config: FileBytes::from(config),
                tokenizer: empty.clone(),
                weights: empty.clone(),
            };
            let error = load(files, &TextOptions::default(), &Device::flex()).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(format!("{error:#}").starts_with(expected), "{error:#}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_says_what_was_expected() {
        let error = EncoderFiles::open(Path::new("/nowhere")).unwrap_err();
        assert!(format!("{error:#}").contains("expected a folder with config.json"), "{error:#}");
    }
}
