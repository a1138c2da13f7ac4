//! Captions as batches of token ids: what all tokenizers here have in common.
//!
//! The tokenizer's own file says how text is normalised, cut into pieces and marked; its padding and truncation settings are
//! replaced by ours. A text that is too long is cut so that the marks stay.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::encoder::TextEmbedding;
use super::files::EncoderFiles;
use super::options::{Padding, TextOptions};
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

/// The tokenizer of a `tokenizer.json`.
pub(super) fn tokenizer(files: &EncoderFiles) -> Result<Tokenizer> {
    /// The part of the file that may hold tables.
    #[derive(Deserialize)]
    struct Tables {
        normalizer: Option<Value>,
    }
    let name = "tokenizer.json";
    let bytes: &[u8] = files.file(name)?;
    // what is no JSON, the tokenizer's own reader refuses
    if let Ok(Tables { normalizer: Some(normalizer) }) = serde_json::from_slice(bytes) {
        check_charsmaps(name, &normalizer)?;
    }
    tokenizer_of(name, || Tokenizer::from_bytes(bytes).map_err(broken(name)))
}

/// Checks every table of characters in a normalizer.
fn check_charsmaps(file: &str, value: &Value) -> Result<()> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(text) if name == "precompiled_charsmap" => {
                let charsmap = BASE64_STANDARD.decode(text).map_err(|e| broken(file)(e.into()))?;
                check_charsmap(file, &charsmap)
            }
            value => check_charsmaps(file, value),
        }),
        Value::Array(values) => values.iter().try_for_each(|value| check_charsmaps(file, value)),
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

/// Rows that pass through a network together where rows are of several lengths, or more of them so that there are not more than so
/// many groups; the last group takes what is left.
const TOGETHER: usize = 8;
const GROUPS: usize = 4;

impl Batch {
    /// The rows in groups of similar length, each with the places of its rows in the whole: padding is work for nothing. One
    /// group where the network sees the padding.
    pub(super) fn groups(&self) -> Vec<(Vec<usize>, Self)> {
        let length = |row: &usize| self.real[row * self.t..][..self.t].iter().filter(|real| **real).count();
        let mut order: Vec<usize> = (0..self.rows).collect();
        let parted = self.padding == Padding::Longest && order.iter().any(|row| length(row) != self.t);
        if parted {
            order.sort_by_key(length);
        }
        let size = if parted { self.rows.div_ceil(GROUPS).max(TOGETHER) } else { self.rows };
        let group = |rows: &[usize]| {
            let t = rows.iter().map(length).max().filter(|_| parted).unwrap_or(self.t).max(1);
            let ids = rows.iter().flat_map(|row| &self.ids[row * self.t..][..t]).copied().collect();
            let real = rows.iter().flat_map(|row| &self.real[row * self.t..][..t]).copied().collect();
            (rows.to_vec(), Self { ids, real, rows: rows.len(), t, padding: self.padding })
        };
        order.chunks(size).map(group).collect()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_whose_parts_do_not_fit_is_refused_and_panics_nowhere() {
        let charsmap = |bytes: &[u8]| {
            serde_json::json!({ "type": "Sequence", "normalizers": [
                { "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes) }
            ] })
        };
        let template = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "nowhere", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "</s>", "type_id": 0 } }],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } }
        });
        let none = serde_json::Value::Null;
        let cases = [
            ("four zero bytes", charsmap(&[0; 4]), none.clone(), false),
            ("a length of 4 GiB", charsmap(&[255; 4]), none.clone(), false),
            (
                "no base64",
                serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": "?" }),
                none.clone(),
                false,
            ),
            ("a mark that is nowhere", none.clone(), template, false),
            ("nothing", none.clone(), none, true),
        ];
        for (what, normalizer, processor, usable) in cases {
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
                "pre_tokenizer": null, "post_processor": processor, "decoder": null,
                "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["a", -1.0]] }
            });
            let files = EncoderFiles::new("t5", [("tokenizer.json", json.to_string().into_bytes().into())]);
            let tokens =
                tokenizer(&files).and_then(|tokenizer| Tokens::new(tokenizer, &TextOptions::default(), 512, 0));
            match tokens.and_then(|tokens| tokens.ids("a")) {
                Ok(_) => assert!(usable, "{what}"),
                Err(error) => assert!(!usable && error.kind() == ErrorKind::Model, "{what}: {error:#}"),
            }
        }
    }
}
