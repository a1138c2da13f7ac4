//! The BERT family as text encoder: tokens from `tokenizer.json` (or RoBERTa's `vocab.json` with `merges.txt`), states from
//! [`crate::models::bert`].
//!
//! The embeddings are the last hidden states, as `last_hidden_state` of transformers.

use burn::tensor::Device;
use tracing::{debug_span, info_span};

use super::tokens::Tokens;
use super::{EncoderFiles, TextEmbedding, TextEncoder, TextOptions, byte_pairs};
use crate::error::Result;
use crate::models::bert::{Bert, BertConfig};

/// A BERT with its tokenizer.
#[derive(Debug)]
pub struct BertEncoder {
    tokens: Tokens,
    network: Bert,
    identity: String,
}

impl BertEncoder {
    /// The encoder of these files, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room
    /// for text or exceeds the positions of the network.
    pub fn new(files: EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = BertConfig::from_json(files.file("config.json")?)?;
        let identity = options.identity("bert", debug_span!("hash files").in_scope(|| files.hash()));
        let (positions, pad) = (config.positions(), config.padding());
        // Reading the vocabulary takes as long as converting the weights.
        let (tokens, network) = rayon::join(
            || {
                let _span = debug_span!("read tokenizer").entered();
                let tokenizer = match files.get("vocab.json") {
                    Some(_) if config.model_type == "roberta" => byte_pairs::roberta(&files)?,
                    _ => super::tokenizer(&files)?,
                };
                Tokens::new(tokenizer, options, positions, pad)
            },
            || {
                let _span = debug_span!("build language model").entered();
                Bert::new(config.clone(), &files.weights()?, options.storage, device)
            },
        );
        Ok(Self { tokens: tokens?, network: network?, identity })
    }

    /// The token ids of a caption, at most `max_length`, start and end marks included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        self.tokens.ids(caption)
    }
}

impl TextEncoder for BertEncoder {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        let _span = info_span!("encode text", captions = captions.len()).entered();
        let batch = self.tokens.batch(captions)?;
        let states = self.network.forward(&batch.ids, &batch.real, batch.rows)?;
        batch.embedding(states, self.network.device())
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
