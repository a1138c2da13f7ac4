//! A frozen network behind its tokenizer: what all text encoders here have in common.
//!
//! How the two are read from files is each family's own matter (`bert`, `clip`, `t5`).

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use tracing::info_span;

use super::tokens::Tokens;
use super::{TextEmbedding, TextEncoder};
use crate::error::Result;

/// A network that gives each token of a batch a vector.
pub trait LanguageModel: Send + Sync {
    /// The vectors `[rows, t, d]` of token ids `[rows, t]`; `real` says which are of a text.
    ///
    /// # Errors
    /// `Model` when the ids do not fit the network.
    fn states(&self, ids: &[u32], real: &[bool], rows: usize) -> Result<Tensor<3>>;

    /// Where it runs.
    fn device(&self) -> &Device;

    /// The width d of a token's vector.
    fn dim(&self) -> usize;
}

/// A language model with its tokenizer.
#[derive(Debug)]
pub struct FrozenEncoder<N> {
    pub(super) tokens: Tokens,
    pub(super) network: N,
    pub(super) identity: String,
}

impl<N> FrozenEncoder<N> {
    /// The token ids of a caption, at most `max_length`, the tokenizer's own marks included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        self.tokens.ids(caption)
    }
}

impl<N: LanguageModel> TextEncoder for FrozenEncoder<N> {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        let _span = info_span!("encode text", captions = captions.len()).entered();
        let batch = self.tokens.batch(captions)?;
        let states = self.network.states(&batch.ids, &batch.real, batch.rows)?;
        batch.embedding(states, self.network.device())
    }

    fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
        self.tokens.cut_text(caption)
    }

    fn unknown_text<'a>(&self, caption: &'a str) -> Result<Vec<&'a str>> {
        self.tokens.unknown_text(caption)
    }

    fn token_places(&self, caption: &str) -> Result<Vec<Range<usize>>> {
        Ok(self.tokens.encode(caption)?.get_offsets().iter().map(|&(start, end)| start..end).collect())
    }

    fn token_count(&self, caption: &str) -> Result<usize> {
        Ok(self.tokens.encode(caption)?.len())
    }

    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn max_length(&self) -> usize {
        self.tokens.max_length()
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}
