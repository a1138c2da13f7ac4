//! A frozen network behind its tokenizer: what all text encoders here have in common.
//!
//! How the two are read from files is each family's own matter (`bert`, `clip`, `t5`).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Int, Tensor, TensorData};
use tracing::info_span;

use super::tokens::{Batch, Tokens};
use super::{TextEmbedding, TextEncoder};
use crate::error::Result;
use crate::nn::Precision;

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

/// Captions of a batch up to which it is remembered, and batches that are: a drawing's, not a training set's.
const FEW: usize = 16;
const REMEMBERED: usize = 4;

/// A language model with its tokenizer.
#[derive(Debug)]
pub struct FrozenEncoder<N> {
    pub(super) tokens: Tokens,
    pub(super) network: N,
    identity: String,
    /// What was encoded last: who looks at prompts before they are drawn does not run the network twice.
    recent: Mutex<VecDeque<(Precision, Vec<String>, TextEmbedding)>>,
}

impl<N> FrozenEncoder<N> {
    pub(super) fn of(tokens: Tokens, network: N, identity: String) -> Self {
        Self { tokens, network, identity, recent: Mutex::default() }
    }

    /// The token ids of a caption, at most `max_length`, the tokenizer's own marks included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        self.tokens.ids(caption)
    }
}

impl<N: LanguageModel> FrozenEncoder<N> {
    /// The states `[rows, t, d]` of a batch.
    fn states(&self, batch: &Batch) -> Result<Tensor<3>> {
        let groups = batch.groups();
        if let [_] = groups[..] {
            return self.network.states(&batch.ids, &batch.real, batch.rows);
        }
        let mut places = vec![0; batch.rows];
        for (place, row) in groups.iter().flat_map(|(rows, _)| rows).enumerate() {
            places[*row] = place as i64;
        }
        let padded = |(_, group): &(Vec<usize>, Batch)| {
            let states = self.network.states(&group.ids, &group.real, group.rows)?;
            let [rows, t, d] = states.dims();
            let padding = Tensor::zeros([rows, batch.t - t, d], &states.device());
            Ok(if t == batch.t { states } else { Tensor::cat(vec![states, padding], 1) })
        };
        let states = Tensor::cat(groups.iter().map(padded).collect::<Result<_>>()?, 0);
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [batch.rows]), &states.device());
        Ok(states.select(0, places))
    }
}

impl<N: LanguageModel> TextEncoder for FrozenEncoder<N> {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let precision = Precision::current();
        if let Some((.., embedding)) = recent().iter().find(|(of, texts, _)| *of == precision && texts == captions) {
            return Ok(embedding.clone());
        }
        let _span = info_span!("encode text", captions = captions.len()).entered();
        let batch = self.tokens.batch(captions)?;
        let states = self.states(&batch)?;
        let embedding = batch.embedding(states, self.network.device())?;
        if captions.len() <= FEW {
            let mut recent = recent();
            recent.truncate(REMEMBERED - 1);
            let captions = captions.iter().copied().map(str::to_owned).collect();
            recent.push_front((precision, captions, embedding.clone()));
        }
        Ok(embedding)
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::tokens::tokenizer;
    use super::super::{EncoderFiles, TextOptions};
    use super::*;

    /// A network that counts how often it runs.
    struct Counting(AtomicUsize, Device);

    impl LanguageModel for Counting {
        fn states(&self, ids: &[u32], _: &[bool], rows: usize) -> Result<Tensor<3>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Tensor::ones([rows, ids.len() / rows, 1], &self.1))
        }

        fn device(&self) -> &Device {
            &self.1
        }

        fn dim(&self) -> usize {
            1
        }
    }

    #[test]
    fn captions_of_many_lengths_are_encoded_as_each_is_alone() {
        let files = EncoderFiles::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm")).unwrap();
        let encoder = super::super::load(files, &TextOptions::default(), &Device::flex()).unwrap();
        let captions: Vec<String> =
            (0..30).map(|k| format!("{}a cat", "a very, very small ".repeat(k * 7 % 5))).collect();
        let captions: Vec<&str> = captions.iter().map(String::as_str).chain([""]).collect();
        let numbers = |tensor: Tensor<3>| tensor.into_data().try_to_vec::<f32>().unwrap();
        let together = encoder.encode(&captions).unwrap();
        let [rows, t, d] = together.sequence.dims();
        assert_eq!((rows, t), (captions.len(), 24));
        let (all, mask) = (numbers(together.sequence), together.mask.into_data().try_to_vec::<f32>().unwrap());
        for (row, caption) in captions.iter().enumerate() {
            let alone = encoder.encode(&[caption]).unwrap();
            let length = alone.sequence.dims()[1];
            let alone = numbers(alone.sequence);
            let here = &all[row * t * d..][..t * d];
            let far = alone.iter().zip(here).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{caption:?}: {far:e}");
            assert!(here[length * d..].iter().all(|x| *x == 0.0), "{caption:?}: padding is nothing");
            let read = mask[row * t..][..t].iter().sum::<f32>();
            assert_eq!(read, length as f32, "{caption:?}");
        }
    }

    #[test]
    fn captions_that_were_just_encoded_are_not_encoded_again() {
        let files = EncoderFiles::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm")).unwrap();
        let tokens = Tokens::new(tokenizer(&files).unwrap(), &TextOptions::default(), 512, 0).unwrap();
        let encoder = FrozenEncoder::of(tokens, Counting(AtomicUsize::new(0), Device::flex()), String::new());
        let runs = |captions: &[&str]| {
            encoder.encode(captions).unwrap();
            encoder.network.0.load(Ordering::Relaxed)
        };
        assert_eq!([runs(&["a cat"]), runs(&["a cat"]), runs(&["a cat", "a cat"]), runs(&["a cat"])], [1, 1, 2, 2]);
        let others: Vec<String> = (0..REMEMBERED).map(|k| format!("{k} cats")).collect();
        assert_eq!(others.iter().map(|caption| runs(&[caption])).max(), Some(2 + REMEMBERED));
        assert_eq!([runs(&[&others[0]]), runs(&["a cat"])], [2 + REMEMBERED, 3 + REMEMBERED]);
        // what was rounded is not handed out as what was not
        Precision::Bf16.during(|| runs(&["a cat"]));
        assert_eq!([runs(&["a cat"]), runs(&["a cat"])], [4 + REMEMBERED; 2]);
        // many are a training set's, of which nothing comes again
        let many = ["a cat"; FEW + 1];
        assert_eq!([runs(&many), runs(&many)], [5 + REMEMBERED, 6 + REMEMBERED]);
    }
}
