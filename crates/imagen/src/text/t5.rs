//! T5 as text encoder: unigram tokens from `tokenizer.json` or `spiece.model`, states from [`crate::models::t5`].
//!
//! A caption ends with `</s>`, also when it is cut. The embeddings are the last hidden states after the last norm, as
//! `last_hidden_state` of transformers. With [`super::Padding::MaxLength`] the padding has states too, made by the network
//! with the padding hidden from all tokens: DeepFloyd's models see them.

use burn::tensor::Device;
use tracing::{debug_span, info_span};

use super::tokens::Tokens;
use super::{EncoderFiles, TextEmbedding, TextEncoder, TextOptions, sentencepiece};
use crate::error::Result;
use crate::models::t5::{T5, T5Config};

/// The longest text: positions are distances, so that nothing but the memory for t² biases bounds it.
const LONGEST: usize = 2048;
/// T5's `<pad>`.
const PAD: u32 = 0;

/// A T5 with its tokenizer.
#[derive(Debug)]
pub struct T5Encoder {
    tokens: Tokens,
    network: T5,
    identity: String,
}

impl T5Encoder {
    /// The encoder of these files, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room for text
    /// or is above 2048.
    pub fn new(files: EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = T5Config::from_json(files.file("config.json")?)?;
        let tokenizer = debug_span!("read tokenizer").in_scope(|| match files.get("spiece.model") {
            Some(model) => sentencepiece::t5_tokenizer(model),
            None => super::tokenizer(&files),
        })?;
        let tokens = Tokens::new(tokenizer, options, LONGEST, PAD)?;
        let identity = options.identity("t5", debug_span!("hash files").in_scope(|| files.hash()));
        let _span = debug_span!("build language model").entered();
        let network = T5::new(config, &files.weights()?, options.storage, device)?;
        Ok(Self { tokens, network, identity })
    }

    /// The token ids of a caption, at most `max_length`, the end mark included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        self.tokens.ids(caption)
    }
}

impl TextEncoder for T5Encoder {
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
        self.network.config().d_model
    }

    fn max_length(&self) -> usize {
        self.tokens.max_length()
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}
