//! CLIP's text tower as text encoder: byte pairs from `tokenizer.json` or `vocab.json` with `merges.txt`, states from
//! [`crate::models::clip`].
//!
//! The embeddings are those of the penultimate layer, as in the paper: the states after all blocks but the last, without
//! the final norm (`hidden_states[-2]` of transformers). [`ClipTextEncoder::embed`] gives the vector of a whole text that is
//! compared with pictures. Padding is the end mark, hidden from all tokens.

use burn::tensor::{Device, Tensor};
use tracing::debug_span;

use super::byte_pairs::{self, BYTE_PAIRS};
use super::frozen::{FrozenEncoder, LanguageModel};
use super::tokens::{Tokens, tokenizer, tokenizer_of};
use super::{EncoderFiles, TextOptions};
use crate::error::{Error, Result};
use crate::models::clip::{ClipConfig, ClipText};

/// CLIP's text tower with its tokenizer.
pub type ClipTextEncoder = FrozenEncoder<ClipText>;

impl FrozenEncoder<ClipText> {
    /// The encoder of these files, of both towers or of the text tower, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room for text
    /// or exceeds the positions of the network.
    pub fn new(files: &EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = ClipConfig::from_json(files.file("config.json")?)?;
        let config = config.text.ok_or_else(|| Error::model("config.json describes no text tower"))?;
        let tokenizer = match files.get("tokenizer.json") {
            Some(_) => tokenizer(files)?,
            None => tokenizer_of(BYTE_PAIRS, || byte_pairs::clip(files))?,
        };
        let pad = tokenizer.token_to_id("<|endoftext|>").unwrap_or_default();
        let tokens = Tokens::new(tokenizer, options, config.max_position_embeddings, pad)?;
        let identity = options.identity("clip", debug_span!("hash files").in_scope(|| files.hash()));
        let _span = debug_span!("build language model").entered();
        let network = ClipText::new(config, &files.weights()?, options.storage, device)?;
        Ok(Self::of(tokens, network, identity))
    }

    /// The projected embeddings `[b, p]` of whole captions; [`crate::models::clip::similarity`] compares them with pictures'.
    ///
    /// # Errors
    /// As [`super::TextEncoder::encode`]; `Model` when the weights have no projection.
    pub fn embed(&self, captions: &[&str]) -> Result<Tensor<2>> {
        let batch = self.tokens.batch(captions)?;
        self.network.embed(&batch.ids, &batch.real, batch.rows)
    }
}

impl LanguageModel for ClipText {
    fn states(&self, ids: &[u32], real: &[bool], rows: usize) -> Result<Tensor<3>> {
        Ok(self.forward(ids, real, rows)?.penultimate)
    }

    fn device(&self) -> &Device {
        self.device()
    }

    fn dim(&self) -> usize {
        self.config().hidden_size
    }
}
