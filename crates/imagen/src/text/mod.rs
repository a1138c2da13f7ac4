//! Text to embeddings: a tokenizer and a frozen language model behind one trait.
//!
//! [`load`] makes a [`TextEncoder`] from the files that such models are published as; [`cache`] keeps the
//! embeddings of a training set, so that the language model runs once per caption and not once per step.
//!
//! Deliberately not here: pooling, projection and dropping of the text, which belong to the diffusion models.

mod bert;
mod byte_pairs;
pub mod cache;
mod clip;
mod encoder;
mod files;
mod frozen;
mod hash;
pub mod known;
mod options;
mod sentencepiece;
mod t5;
mod tokens;
mod weighted;

use burn::tensor::Device;
use serde::Deserialize;

use crate::error::{Context, Error, Result};

pub use bert::BertEncoder;
pub use cache::{CacheEvent, EmbeddingCache};
pub use clip::ClipTextEncoder;
pub use encoder::{TextEmbedding, TextEncoder};
pub use files::EncoderFiles;
pub use frozen::{FrozenEncoder, LanguageModel};
pub(crate) use hash::content_hash;
pub use known::{KnownCaptions, Nearness};
pub use options::{Padding, TextOptions};
pub use t5::T5Encoder;
pub(crate) use t5::cut_texts as cut_t5_texts;
pub use weighted::{WeightedText, encode_weighted};

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
}
