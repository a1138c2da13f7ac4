//! Captions as batches of token ids: what all tokenizers here have in common.
//!
//! The tokenizer's own file says how text is normalised, cut into pieces and marked; its padding and truncation settings are
//! replaced by ours. A text that is too long is cut so that the marks stay.

use burn::tensor::{Device, Tensor, TensorData};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::{Padding, TextEmbedding, TextOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::input;

/// What tokenizers call the token for what is unknown.
const UNKNOWN: [&str; 2] = ["[UNK]", "<unk>"];

/// A tokenizer with a maximum length.
#[derive(Debug)]
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    max_length: usize,
    padding: Padding,
    /// The id that fills up a row.
    pad: u32,
}

/// Rows of token ids, all `t` long.
pub(super) struct Batch {
    pub(super) ids: Vec<u32>,
    /// Which of them are of a caption.
    pub(super) real: Vec<bool>,
    pub(super) rows: usize,
    pub(super) t: usize,
    padding: Padding,
}

/// What a broken tokenizer says.
pub(super) fn broken(file: &str) -> impl Fn(tokenizers::Error) -> Error + '_ {
    move |e| Error::model(format!("{file} is not a usable tokenizer")).with_source(e)
}

/// The tokens of a caption. A table that sends the tokenizer out of bounds makes it panic only when a character leads there.
fn encode(tokenizer: &Tokenizer, caption: &str) -> Result<Encoding> {
    let unreadable = || Error::model(format!("the tokenizer cannot read the caption {caption:?}"));
    match input::guarded(|| tokenizer.encode(caption, true)) {
        Ok(encoding) => encoding.map_err(|e| unreadable().with_source(e)),
        Err(said) => Err(unreadable().with_source(said)),
    }
}

/// A tokenizer that `read` makes of `file`, whose parser may panic.
pub(super) fn tokenizer_of(file: &str, read: impl FnOnce() -> Result<Tokenizer>) -> Result<Tokenizer> {
    input::guarded(read).unwrap_or_else(|said| Err(broken(file)(said.into())))
}

/// Checks a table that normalises characters, as SentencePiece compiles it, before its parser believes it: a trie of 32-bit
/// units behind its length in bytes, then texts.
pub(super) fn check_charsmap(file: &str, charsmap: &[u8]) -> Result<()> {
    let refuse = |why: &str| Error::model(format!("{file} is not a usable tokenizer: its table of characters {why}"));
    let (length, rest) = charsmap.split_first_chunk::<4>().ok_or_else(|| refuse("is cut"))?;
    match u32::from_le_bytes(*length) as usize {
        0 => Err(refuse("is empty")),
        length if length % 4 != 0 || length > rest.len() => Err(refuse("claims to be longer than it is")),
        _ => Ok(()),
    }
}

impl Tokens {
    /// The tokenizer, cutting at `options.max_length`; the network reads at most `positions`.
    ///
    /// # Errors
    /// `Usage` when the maximum leaves no room for text or exceeds the positions of the network; `Model` when the tokenizer
    /// fails.
    pub(super) fn new(mut tokenizer: Tokenizer, options: &TextOptions, positions: usize, pad: u32) -> Result<Self> {
        let broken = broken("the text encoder's tokenizer");
        let max_length = options.max_length;
        tokenizer.with_padding(None).with_truncation(None).map_err(&broken)?;
        let marks = encode(&tokenizer, "")?.len();
        if max_length <= marks || max_length > positions {
            return Err(Error::usage(format!(
                "max_length is {max_length}; this text encoder takes {} (its {marks} marks and one token) to {positions}",
                marks + 1
            )));
        }
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(&broken)?;
        Ok(Self { tokenizer, max_length, padding: options.padding, pad })
    }

    /// The most tokens of a caption, marks included.
    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokens of a caption.
    pub(super) fn encode(&self, caption: &str) -> Result<Encoding> {
        encode(&self.tokenizer, caption)
    }

    /// The token ids of a caption.
    pub(super) fn ids(&self, caption: &str) -> Result<Vec<u32>> {
        Ok(self.encode(caption)?.get_ids().to_vec())
    }

    /// The rows of these captions, filled up as the options say.
    pub(super) fn batch(&self, captions: &[&str]) -> Result<Batch> {
        if captions.is_empty() {
            return Err(Error::usage("there is no caption to encode"));
        }
        let rows = captions.iter().map(|caption| self.ids(caption)).collect::<Result<Vec<_>>>()?;
        let t = match self.padding {
            // A tokenizer without marks makes no token of an empty caption; a network needs one to pad.
            Padding::Longest => rows.iter().map(Vec::len).max().unwrap_or(0).max(1),
            Padding::MaxLength => self.max_length,
        };
        let mut ids = vec![self.pad; rows.len() * t];
        let mut real = vec![false; rows.len() * t];
        for (index, row) in rows.iter().enumerate() {
            ids[index * t..][..row.len()].copy_from_slice(row);
            real[index * t..][..row.len()].fill(true);
        }
        Ok(Batch { ids, real, rows: rows.len(), t, padding: self.padding })
    }

    /// The parts of a caption that became the token for what is unknown.
    pub(super) fn unknown_text<'a>(&self, caption: &'a str) -> Result<Vec<&'a str>> {
        let Some(unknown) = UNKNOWN.iter().find_map(|token| self.tokenizer.token_to_id(token)) else {
            return Ok(Vec::new());
        };
        let encoding = self.encode(caption)?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        let parts = tokens.filter(|(id, (start, end))| **id == unknown && start < end);
        Ok(parts.filter_map(|(_, &(start, end))| caption.get(start..end)).collect())
    }

    /// The part of a caption behind the last token that is read.
    pub(super) fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
        let encoding = self.encode(caption)?;
        if encoding.get_overflowing().is_empty() {
            return Ok(None);
        }
        let last = encoding.get_offsets().iter().map(|&(_, end)| end).max().unwrap_or(0);
        Ok(Some(&caption[caption.ceil_char_boundary(last)..]))
    }
}

impl Batch {
    /// The embedding whose states `[rows, t, d]` these are.
    pub(super) fn embedding(&self, states: Tensor<3>, device: &Device) -> Result<TextEmbedding> {
        let mask: Vec<f32> = self.real.iter().map(|&r| f32::from(u8::from(r))).collect();
        let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, [self.rows, self.t]), device);
        let sequence = match self.padding {
            Padding::Longest => states * mask.clone().unsqueeze_dim(2),
            Padding::MaxLength => states,
        };
        // One number is enough to see all: a sum with an infinity or a NaN in it is one of them.
        if !sequence.clone().abs().sum().into_scalar::<f32>().is_finite() {
            let message = "an embedding is not a finite number; the text encoder's weights are unusable";
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        Ok(TextEmbedding { sequence, mask })
    }
}
