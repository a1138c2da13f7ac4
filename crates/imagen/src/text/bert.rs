//! The BERT family as text encoder: WordPiece tokens from `tokenizer.json`, states from [`crate::models::bert`].
//!
//! The tokenizer's own file says how text is normalised and marked; its padding and truncation settings are replaced
//! by ours (no padding but to the longest of a batch; cut at `max_length`). The embeddings are the last hidden
//! states, as `last_hidden_state` of transformers.

use burn::tensor::{Device, Tensor, TensorData};
use tokenizers::{Encoding, Tokenizer, TruncationParams};
use tracing::{debug_span, info_span};

use super::hash::xxh64;
use super::{EncoderFiles, TextEmbedding, TextEncoder, TextOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::models::bert::{Bert, BertConfig};
use crate::models::weights::Weights;

/// A BERT with its tokenizer.
#[derive(Debug)]
pub struct BertEncoder {
    tokenizer: Tokenizer,
    network: Bert,
    max_length: usize,
    identity: String,
}

impl BertEncoder {
    /// The encoder of these files, on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when a file is damaged or the files do not fit each other; `Usage` when `max_length` leaves no room
    /// for text or exceeds the positions of the network.
    pub fn new(files: EncoderFiles, options: &TextOptions, device: &Device) -> Result<Self> {
        let config = BertConfig::from_json(&files.config)?;
        let hash = debug_span!("hash files").in_scope(|| {
            [&files.config, &files.tokenizer, &files.weights].iter().fold(0, |seed, file| xxh64(file, seed))
        });
        let identity = format!("bert-{hash:016x}-{}", options.max_length);
        let positions = config.max_position_embeddings;
        // Reading the vocabulary takes as long as converting the weights.
        let (tokenizer, network) = rayon::join(
            || debug_span!("read tokenizer").in_scope(|| tokenizer(&files.tokenizer, options.max_length, positions)),
            || {
                let _span = debug_span!("build language model").entered();
                Bert::new(config, &Weights::from_bytes(files.weights, "model.safetensors")?, device)
            },
        );
        let (tokenizer, network) = (tokenizer?, network?);
        Ok(Self { tokenizer, network, max_length: options.max_length, identity })
    }

    /// The token ids of a caption, at most `max_length`, start and end marks included.
    ///
    /// # Errors
    /// `Model` when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<u32>> {
        Ok(self.tokenize(caption)?.get_ids().to_vec())
    }

    fn tokenize(&self, caption: &str) -> Result<Encoding> {
        let encoding = self.tokenizer.encode(caption, true);
        encoding.map_err(|e| Error::model(format!("the tokenizer cannot read the caption {caption:?}")).with_source(e))
    }
}

/// The tokenizer of a `tokenizer.json`, cutting at `max_length` tokens.
fn tokenizer(json: &[u8], max_length: usize, positions: usize) -> Result<Tokenizer> {
    let broken = |e| Error::model("tokenizer.json is not a tokenizer").with_source(e);
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(broken)?;
    tokenizer.with_padding(None).with_truncation(None).map_err(broken)?;
    let marks = tokenizer.encode("", true).map_err(broken)?.len();
    if max_length <= marks || max_length > positions {
        return Err(Error::usage(format!(
            "max_length is {max_length}; this text encoder takes {} (its {marks} marks and one token) to {positions}",
            marks + 1
        )));
    }
    let truncation = TruncationParams { max_length, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(broken)?;
    Ok(tokenizer)
}

impl TextEncoder for BertEncoder {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        if captions.is_empty() {
            return Err(Error::usage("there is no caption to encode"));
        }
        let _span = info_span!("encode text", captions = captions.len()).entered();
        let rows = captions.iter().map(|caption| self.tokens(caption)).collect::<Result<Vec<_>>>()?;
        let (b, t) = (rows.len(), rows.iter().map(Vec::len).max().unwrap_or(0));
        let mut ids = vec![0; b * t];
        let mut real = vec![false; b * t];
        for (index, row) in rows.iter().enumerate() {
            ids[index * t..][..row.len()].copy_from_slice(row);
            real[index * t..][..row.len()].fill(true);
        }
        let states = self.network.forward(&ids, &real, b)?;
        let mask: Vec<f32> = real.iter().map(|&r| f32::from(u8::from(r))).collect();
        let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, [b, t]), self.network.device());
        let sequence = states * mask.clone().unsqueeze_dim(2); // padding becomes 0
        // One number is enough to see all: a sum with an infinity or a NaN in it is one of them.
        if !sequence.clone().abs().sum().into_scalar::<f32>().is_finite() {
            let message = "an embedding is not a finite number; the text encoder's weights are unusable";
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        Ok(TextEmbedding { sequence, mask })
    }

    fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
        let encoding = self.tokenize(caption)?;
        if encoding.get_overflowing().is_empty() {
            return Ok(None);
        }
        let last = encoding.get_offsets().iter().map(|&(_, end)| end).max().unwrap_or(0);
        Ok(Some(&caption[caption.ceil_char_boundary(last)..]))
    }

    fn token_count(&self, caption: &str) -> Result<usize> {
        Ok(self.tokenize(caption)?.len())
    }

    fn dim(&self) -> usize {
        self.network.config().hidden_size
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}
