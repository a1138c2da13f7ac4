//! The embeddings of captions while a run goes on: from its cache, or encoded as they come where a set is endless.

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::text::{EmbeddingCache, TextEmbedding, TextEncoder};

/// Where embeddings come from.
pub(super) enum Texts<'a> {
    /// A cache that has every caption of the run.
    Cached {
        /// The cache.
        cache: EmbeddingCache,
        /// The largest number of tokens.
        max_tokens: usize,
    },
    /// The frozen language model itself.
    Encoded(&'a dyn TextEncoder),
}

impl Texts<'_> {
    /// These captions as a batch on `device`, padded to the longest of them.
    ///
    /// # Errors
    /// `Data` where the cache lacks a caption; the encoder's.
    pub(super) fn embed<S: AsRef<str>>(&self, captions: &[S], device: &Device) -> Result<TextEmbedding> {
        match self {
            Self::Cached { cache, max_tokens } => {
                let id = |caption: &S| {
                    let caption = caption.as_ref();
                    cache.id(caption).ok_or_else(|| Error::data(format!("{caption:?} was not encoded")))
                };
                cache.batch(&captions.iter().map(id).collect::<Result<Vec<_>>>()?, *max_tokens, device)
            }
            Self::Encoded(encoder) => {
                let captions: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
                let TextEmbedding { sequence, mask } = encoder.encode(&captions)?;
                Ok(TextEmbedding { sequence: sequence.to_device(device), mask: mask.to_device(device) })
            }
        }
    }
}
