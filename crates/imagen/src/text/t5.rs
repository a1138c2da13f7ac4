//! T5 as text encoder: unigram tokens from `tokenizer.json` or `spiece.model`, states from [`crate::models::t5`].
//!
//! A caption ends with `</s>`, also when it is cut. The embeddings are the last hidden states after the last norm, as
//! `last_hidden_state` of transformers. With [`super::Padding::MaxLength`] the padding has states too, made by the network
//! with the padding hidden from all tokens: DeepFloyd's models see them.

use burn::tensor::{Device, Tensor};
use tracing::debug_span;

use super::frozen::{FrozenEncoder, LanguageModel};
use super::tokens::{Tokens, tokenizer};
use super::{EncoderFiles, TextOptions, sentencepiece};
use crate::error::Result;
use crate::models::t5::{T5, T5Config};

/// The longest text: positions are distances, so that nothing but the memory for t² biases bounds it.
const LONGEST: usize = 2048;
/// T5's `<pad>`.
const PAD: u32 = 0;

/// A T5 with its tokenizer.
pub type T5Encoder = FrozenEncoder<T5>;

impl FrozenEncoder<T5> {
    /// The encoder of these files, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room for text
    /// or is above 2048.
    pub fn new(files: EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = T5Config::from_json(files.file("config.json")?)?;
        let tokens = tokens(&files, options)?;
        let identity = options.identity("t5", debug_span!("hash files").in_scope(|| files.hash()));
        let _span = debug_span!("build language model").entered();
        let network = T5::new(config, &files.weights()?, options.storage, device)?;
        Ok(Self::of(tokens, network, identity))
    }
}

fn tokens(files: &EncoderFiles, options: &TextOptions) -> Result<Tokens> {
    let tokenizer = debug_span!("read tokenizer").in_scope(|| match files.get("spiece.model") {
        Some(model) => sentencepiece::t5_tokenizer(model),
        None => tokenizer(files),
    })?;
    Tokens::new(tokenizer, options, LONGEST, PAD)
}

/// The part of each caption that an encoder of these files would not read; its network is not opened.
///
/// # Errors
/// As [`T5Encoder::new`]'s of the tokenizer.
pub(crate) fn cut_texts<'a>(
    files: &EncoderFiles,
    options: &TextOptions,
    captions: &'a [String],
) -> Result<Vec<Option<&'a str>>> {
    let tokens = tokens(files, options)?;
    captions.iter().map(|caption| tokens.cut_text(caption)).collect()
}

impl LanguageModel for T5 {
    fn states(&self, ids: &[u32], real: &[bool], rows: usize) -> Result<Tensor<3>> {
        self.forward(ids, real, rows)
    }

    fn device(&self) -> &Device {
        self.device()
    }

    fn dim(&self) -> usize {
        self.config().d_model
    }
}
