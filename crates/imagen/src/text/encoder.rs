//! What every text encoder does, and what it makes of captions.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::error::{Error, Result};
use crate::models::unet::Text;

/// A batch of captions as a diffusion model sees them.
#[derive(Clone, Debug)]
pub struct TextEmbedding {
    /// One vector per token, `[b, t, d]`: hidden states. Where `mask` is 0 they are 0 with [`Padding::Longest`](super::Padding::Longest), and what the
    /// network makes of the padding with [`Padding::MaxLength`](super::Padding::MaxLength).
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
    /// The embeddings of a batch of captions, padded as [`TextOptions::padding`](super::TextOptions::padding) says. A caption longer than
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

    /// Where in a caption each token that is read came from, in bytes; of the tokenizer's own marks an empty place.
    ///
    /// # Errors
    /// `Usage` where an encoder does not know; `Model` when the tokenizer fails.
    fn token_places(&self, _caption: &str) -> Result<Vec<Range<usize>>> {
        Err(Error::usage("this text encoder does not say where its tokens come from, and so knows no weights of words"))
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

    /// Equal for encoders that give equal embeddings: a hash of weights, configuration and tokenizer,
    /// with the options.
    fn identity(&self) -> &str;
}
