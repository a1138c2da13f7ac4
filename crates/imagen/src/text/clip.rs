//! CLIP's text tower as text encoder: byte pairs from `tokenizer.json` or `vocab.json` with `merges.txt`, states from
//! [`crate::models::clip`].
//!
//! The embeddings are those of the penultimate layer, as in the paper: the states after all blocks but the last, without
//! the final norm (`hidden_states[-2]` of transformers). [`ClipTextEncoder::embed`] gives the vector of a whole text that is
//! compared with pictures. Padding is the end mark, hidden from all tokens.

use burn::tensor::{Device, Tensor};
use tracing::{debug_span, info_span};

use super::tokens::Tokens;
use super::{EncoderFiles, TextEmbedding, TextEncoder, TextOptions, byte_pairs};
use crate::error::{Error, Result};
use crate::models::clip::{ClipConfig, ClipText};

/// CLIP's text tower with its tokenizer.
#[derive(Debug)]
pub struct ClipTextEncoder {
    tokens: Tokens,
    network: ClipText,
    identity: String,
}

impl ClipTextEncoder {
    /// The encoder of these files, of both towers or of the text tower, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room for text
    /// or exceeds the positions of the network.
    pub fn new(files: &EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = ClipConfig::from_json(files.file("config.json")?)?;
        let config = config.text.ok_or_else(|| Error::model("config.json describes no text tower"))?;
        let tokenizer = match files.get("tokenizer.json") {
            Some(_) => super::tokenizer(files)?,
            None => byte_pairs::clip(files)?,
        };
        let pad = tokenizer.token_to_id("<|endoftext|>").unwrap_or_default();
        let tokens = Tokens::new(tokenizer, options, config.max_position_embeddings, pad)?;
        let identity = options.identity("clip", debug_span!("hash files").in_scope(|| files.hash()));
        let _span = debug_span!("build language model").entered();
        let network = ClipText::new(config, &files.weights()?, options.storage, device)?;
        Ok(Self { tokens, network, identity })
    }

    /// The token ids of a caption, at most `max_length`, start and end marks included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        self.tokens.ids(caption)
    }

    /// The projected embeddings `[b, p]` of whole captions; [`crate::models::clip::similarity`] compares them with pictures'.
    ///
    /// # Errors
    /// As [`TextEncoder::encode`]; `Model` when the weights have no projection.
    pub fn embed(&self, captions: &[&str]) -> Result<Tensor<2>> {
        let batch = self.tokens.batch(captions)?;
        self.network.embed(&batch.ids, &batch.real, batch.rows)
    }
}

impl TextEncoder for ClipTextEncoder {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        let _span = info_span!("encode text", captions = captions.len()).entered();
        let batch = self.tokens.batch(captions)?;
        let states = self.network.forward(&batch.ids, &batch.real, batch.rows)?;
        batch.embedding(states.penultimate, self.network.device())
    }

    fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
        self.tokens.cut_text(caption)
    }

    fn token_count(&self, caption: &str) -> Result<usize> {
        Ok(self.tokens.encode(caption)?.len())
    }

    fn dim(&self) -> usize {
        self.network.config().hidden_size
    }

    fn max_length(&self) -> usize {
        self.tokens.max_length()
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}
