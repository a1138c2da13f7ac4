//! Text to embeddings: a tokenizer and a frozen language model behind one trait (spec A2).
//!
//! [`load`] makes a [`TextEncoder`] from the files that such models are published as; [`cache`] keeps the
//! embeddings of a training set, so that the language model runs once per caption and not once per step.
//!
//! Deliberately not here: pooling, projection and dropping of the text, which belong to the diffusion models.

mod bert;
mod byte_pairs;
pub mod cache;
mod clip;
mod files;
mod frozen;
mod hash;
pub mod known;
mod sentencepiece;
mod t5;
mod tokens;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::models::unet::Text;
use crate::models::weights::Storage;

pub use bert::BertEncoder;
pub use cache::{CacheEvent, EmbeddingCache};
pub use clip::ClipTextEncoder;
pub use files::EncoderFiles;
pub use frozen::{FrozenEncoder, LanguageModel};
pub(crate) use hash::content_hash;
pub use known::{KnownCaptions, Nearness};
pub use t5::T5Encoder;
pub(crate) use t5::cut_texts as cut_t5_texts;

/// A batch of captions as a diffusion model sees them.
#[derive(Clone, Debug)]
pub struct TextEmbedding {
    /// One vector per token, `[b, t, d]`: hidden states. Where `mask` is 0 they are 0 with [`Padding::Longest`], and what the
    /// network makes of the padding with [`Padding::MaxLength`].
    pub sequence: Tensor<3>,
    /// 1 where a token is, 0 where a shorter caption was padded, `[b, t]`. No token attends to padding within the encoder;
    /// whether a diffusion model does is its own affair (DeepFloyd's do).
    pub mask: Tensor<2>,
}

impl From<TextEmbedding> for Text {
    fn from(TextEmbedding { sequence, mask }: TextEmbedding) -> Self {
        Self { sequence, mask }
    }
}

/// A frozen text encoder.
pub trait TextEncoder: Send + Sync {
    /// The embeddings of a batch of captions, padded as [`TextOptions::padding`] says. A caption longer than
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

    /// The parts of a caption that the encoder has no token for, such as emoji or letters of other scripts.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    fn unknown_text<'a>(&self, _caption: &'a str) -> Result<Vec<&'a str>> {
        Ok(Vec::new())
    }

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
    /// with the options.
    fn identity(&self) -> &str;
}

/// What the user may choose about a text encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// The largest number of tokens per caption (the paper does not state its own; spec A2).
    pub max_length: usize,
    /// How far captions are padded.
    pub padding: Padding,
    /// How the matrices are kept in memory.
    pub storage: Storage,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { max_length: 64, padding: Padding::Longest, storage: Storage::Stored }
    }
}

impl TextOptions {
    /// What names an encoder of this family, with files of this hash, under these options.
    fn identity(&self, family: &str, hash: u64) -> String {
        let mut identity = format!("{family}-{hash:016x}-{}", self.max_length);
        if self.padding == Padding::MaxLength {
            identity += "-padded";
        }
        if self.storage != Storage::Stored {
            identity += "-";
            identity += self.storage.name();
        }
        identity
    }
}

/// How far the captions of a batch are padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// To the longest of them; embeddings are 0 there.
    #[default]
    Longest,
    /// To [`TextOptions::max_length`]; the padding has the embeddings that the network gives it.
    MaxLength,
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
    let label = files.label().to_owned();
    let load = || -> Result<Box<dyn TextEncoder>> {
        let family: Family = serde_json::from_slice(files.file("config.json")?)
            .map_err(|e| Error::model("config.json does not say of which family (model_type) it is").with_source(e))?;
        Ok(match family.model_type.as_str() {
            "bert" | "roberta" | "xlm-roberta" | "camembert" => Box::new(BertEncoder::new(files, options, device)?),
            "clip" | "clip_text_model" => Box::new(ClipTextEncoder::new(&files, options, device)?),
            "t5" => Box::new(T5Encoder::new(files, options, device)?),
            other => {
                return Err(Error::model(format!(
                    "config.json names a text encoder `{other}`; known: bert, roberta, xlm-roberta, camembert, \
                     clip, t5"
                )));
            }
        })
    };
    load().context(|| label)
}

/// The tokenizer of a `tokenizer.json`.
fn tokenizer(files: &EncoderFiles) -> Result<tokenizers::Tokenizer> {
    /// The part of the file that may hold tables.
    #[derive(Deserialize)]
    struct Tables {
        normalizer: Option<serde_json::Value>,
    }
    let name = "tokenizer.json";
    let bytes: &[u8] = files.file(name)?;
    // what is no JSON, the tokenizer's own reader refuses
    if let Ok(Tables { normalizer: Some(normalizer) }) = serde_json::from_slice(bytes) {
        check_charsmaps(name, &normalizer)?;
    }
    tokens::tokenizer_of(name, || tokenizers::Tokenizer::from_bytes(bytes).map_err(tokens::broken(name)))
}

/// Checks every table of characters in a normalizer.
fn check_charsmaps(file: &str, value: &serde_json::Value) -> Result<()> {
    use serde_json::Value;
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(text) if name == "precompiled_charsmap" => {
                let charsmap = BASE64_STANDARD.decode(text).map_err(|e| tokens::broken(file)(e.into()))?;
                tokens::check_charsmap(file, &charsmap)
            }
            value => check_charsmaps(file, value),
        }),
        Value::Array(values) => values.iter().try_for_each(|value| check_charsmaps(file, value)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_family_that_is_not_known_is_refused_by_name() {
        for (config, expected) in [
            (&br#"{"model_type":"umt5"}"#[..], "my/t5: config.json names a text encoder `umt5`; known: bert,"),
            (b"{}", "my/t5: config.json does not say"),
        ] {
            let files = EncoderFiles::new("my/t5", [("config.json", config.to_vec().into())]);
            let error = load(files, &TextOptions::default(), &Device::flex()).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(format!("{error:#}").starts_with(expected), "{error:#}");
        }
    }

    #[test]
    fn every_option_that_changes_embeddings_is_part_of_the_identity() {
        let options = TextOptions::default();
        assert_eq!(options.identity("t5", 7), "t5-0000000000000007-64");
        let options = TextOptions { max_length: 77, padding: Padding::MaxLength, storage: Storage::Int8 };
        assert_eq!(options.identity("t5", 7), "t5-0000000000000007-77-padded-int8");
    }

    #[test]
    fn options_are_read_by_their_names() {
        let options: TextOptions = serde_json::from_str(r#"{"padding":"max_length","storage":"bf16"}"#).unwrap();
        assert_eq!(options, TextOptions { max_length: 64, padding: Padding::MaxLength, storage: Storage::Bf16 });
        assert!(serde_json::from_str::<TextOptions>(r#"{"length":1}"#).is_err());
    }

    #[test]
    fn a_tokenizer_whose_parts_do_not_fit_is_refused_and_panics_nowhere() {
        let charsmap = |bytes: &[u8]| {
            serde_json::json!({ "type": "Sequence", "normalizers": [
                { "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes) }
            ] })
        };
        let template = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "nowhere", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "</s>", "type_id": 0 } }],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } }
        });
        let none = serde_json::Value::Null;
        let cases = [
            ("four zero bytes", charsmap(&[0; 4]), none.clone(), false),
            ("a length of 4 GiB", charsmap(&[255; 4]), none.clone(), false),
            (
                "no base64",
                serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": "?" }),
                none.clone(),
                false,
            ),
            ("a mark that is nowhere", none.clone(), template, false),
            ("nothing", none.clone(), none, true),
        ];
        for (what, normalizer, processor, usable) in cases {
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
                "pre_tokenizer": null, "post_processor": processor, "decoder": null,
                "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["a", -1.0]] }
            });
            let files = EncoderFiles::new("t5", [("tokenizer.json", json.to_string().into_bytes().into())]);
            let tokens =
                tokenizer(&files).and_then(|tokenizer| tokens::Tokens::new(tokenizer, &TextOptions::default(), 512, 0));
            match tokens.and_then(|tokens| tokens.ids("a")) {
                Ok(_) => assert!(usable, "{what}"),
                Err(error) => assert!(!usable && error.kind() == ErrorKind::Model, "{what}: {error:#}"),
            }
        }
    }
}
