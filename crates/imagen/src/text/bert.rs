//! The BERT family as text encoder: tokens from `tokenizer.json` (or RoBERTa's `vocab.json` with `merges.txt`), states from
//! [`crate::models::bert`].
//!
//! The embeddings are the last hidden states, as `last_hidden_state` of transformers.

use burn::tensor::{Device, Tensor};
use tracing::debug_span;

use super::byte_pairs::{self, BYTE_PAIRS};
use super::frozen::{FrozenEncoder, LanguageModel};
use super::tokens::{Tokens, tokenizer, tokenizer_of};
use super::{EncoderFiles, TextOptions};
use crate::error::Result;
use crate::models::bert::{Bert, BertConfig};

/// A BERT with its tokenizer.
pub type BertEncoder = FrozenEncoder<Bert>;

impl FrozenEncoder<Bert> {
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
                    Some(_) if config.model_type == "roberta" => {
                        tokenizer_of(BYTE_PAIRS, || byte_pairs::roberta(&files))?
                    }
                    _ => tokenizer(&files)?,
                };
                Tokens::new(tokenizer, options, positions, pad)
            },
            || {
                let _span = debug_span!("build language model").entered();
                Bert::new(config.clone(), &files.weights()?, options.storage, device)
            },
        );
        Ok(Self::of(tokens?, network?, identity))
    }
}

impl LanguageModel for Bert {
    fn states(&self, ids: &[u32], real: &[bool], rows: usize) -> Result<Tensor<3>> {
        self.forward(ids, real, rows)
    }

    fn device(&self) -> &Device {
        self.device()
    }

    fn dim(&self) -> usize {
        self.config().hidden_size
    }
}
