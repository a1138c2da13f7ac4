//! SentencePiece's unigram models (`spiece.model`; Kudo & Richardson 2018) as tokenizers of this library's kind, the way
//! transformers converts T5's.
//!
//! The file is a protocol buffer: pieces with their log-probabilities, and a table that normalises characters. What T5 adds
//! is not in it: the mark at the end, and one hundred sentinels behind the vocabulary.
//!
//! Deliberately not here: models of byte pairs, words or characters, and bytes for unknown characters.

use prost::Message;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::tokens::{broken, check_charsmap, tokenizer_of};
use crate::error::{Error, Result};

/// T5's sentinels `<extra_id_0>` to `<extra_id_99>`, whose ids run down.
const SENTINELS: usize = 100;
const FILE: &str = "spiece.model";
/// T5's mark at the end.
const END: &str = "</s>";

/// The parts of SentencePiece's `ModelProto` that concern a reader.
#[derive(Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Message)]
struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
}

const UNIGRAM: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The tokenizer of a `spiece.model` with T5's mark and sentinels.
///
/// # Errors
/// `Model` when it is damaged or not a unigram model.
pub(super) fn t5_tokenizer(bytes: &[u8]) -> Result<Tokenizer> {
    tokenizer_of(FILE, || read(bytes))
}

fn read(bytes: &[u8]) -> Result<Tokenizer> {
    let refuse = |why: &str| Error::model(format!("spiece.model {why}"));
    let model = Model::decode(bytes).map_err(|e| refuse("is not a SentencePiece model").with_source(e))?;
    let trainer = model.trainer.unwrap_or_default();
    if trainer.model_type.unwrap_or(UNIGRAM) != UNIGRAM || trainer.byte_fallback == Some(true) {
        return Err(refuse("is no unigram model without byte fallback, which is what T5 has"));
    }
    let unknown = model.pieces.iter().position(|piece| piece.kind == Some(UNKNOWN));
    let unknown = unknown.ok_or_else(|| refuse("has no piece for what is unknown"))?;
    let mut marks = Vec::new();
    let mut vocabulary: Vec<(String, f64)> = Vec::with_capacity(model.pieces.len() + SENTINELS);
    for Piece { piece, score, kind } in model.pieces {
        let (piece, score) = (piece.unwrap_or_default(), score.unwrap_or_default());
        if !score.is_finite() {
            return Err(refuse(&format!("gives {piece:?} a score that is not finite")));
        }
        if matches!(kind, Some(UNKNOWN | CONTROL | USER_DEFINED)) {
            marks.push(AddedToken::from(piece.clone(), kind != Some(USER_DEFINED)).normalized(false));
        }
        vocabulary.push((piece, f64::from(score)));
    }
    let end = vocabulary.iter().position(|(piece, _)| piece == END);
    let end = end.ok_or_else(|| refuse(&format!("has no {END}")))?;
    for index in (0..SENTINELS).rev() {
        let sentinel = format!("<extra_id_{index}>");
        marks.push(AddedToken::from(sentinel.clone(), true).normalized(false));
        vocabulary.push((sentinel, 0.0));
    }
    let broken = broken(FILE);
    let mut tokenizer = Tokenizer::new(Unigram::from(vocabulary, Some(unknown), false).map_err(&broken)?);
    if let Some(charsmap) = model.normalizer.and_then(|n| n.charsmap).filter(|map| !map.is_empty()) {
        check_charsmap(FILE, &charsmap)?;
        let table = Precompiled::from(&charsmap).map_err(|e| broken(Box::new(e)))?;
        tokenizer.with_normalizer(Some(table)).map_err(&broken)?;
    }
    let words = Metaspace::new('▁', PrependScheme::Always, true);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![WhitespaceSplit.into(), words.into()])));
    let template = TemplateProcessing::builder()
        .try_single(format!("$A {END}"))
        .map_err(|e| refuse(&e))?
        .special_tokens(vec![(END.to_owned(), u32::try_from(end).unwrap_or(u32::MAX))])
        .build()
        .map_err(|e| broken(Box::new(e)))?;
    tokenizer.with_post_processor(Some(template));
    tokenizer.add_special_tokens(marks).map_err(&broken)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn file(pieces: &[(&str, f32, i32)], model_type: i32, charsmap: &[u8]) -> Vec<u8> {
        let piece = |&(piece, score, kind): &_| Piece {
            piece: Some(str::to_owned(piece)),
            score: Some(score),
            kind: Some(kind),
        };
        let model = Model {
            pieces: pieces.iter().map(piece).collect(),
            trainer: Some(Trainer { model_type: Some(model_type), byte_fallback: None }),
            normalizer: Some(Normalizer { charsmap: Some(charsmap.to_vec()) }),
        };
        model.encode_to_vec()
    }

    const PIECES: [(&str, f32, i32); 5] =
        [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("▁a", -1.0, 1), ("▁", -2.0, 1)];

    #[test]
    fn what_is_no_unigram_model_is_refused() {
        assert!(t5_tokenizer(&file(&PIECES, 1, &[])).is_ok());
        let without = |name: &str| PIECES.into_iter().filter(|p| p.0 != name).collect::<Vec<_>>();
        let mut endless = PIECES;
        endless[3].1 = f32::NEG_INFINITY;
        for (bytes, expected) in [
            (b"no protocol buffer".to_vec(), "is not a SentencePiece model"),
            (file(&PIECES, 2, &[]), "is no unigram model"),
            (file(&without("<unk>"), 1, &[]), "has no piece for what is unknown"),
            (file(&without("</s>"), 1, &[]), "has no </s>"),
            (file(&endless, 1, &[]), "a score that is not finite"),
            (file(&PIECES, 1, &[7]), "its table of characters is cut"),
            (file(&PIECES, 1, &[0; 4]), "its table of characters is empty"),
            (file(&PIECES, 1, &[255; 4]), "claims to be longer than it is"),
            (file(&PIECES, 1, &[8, 0, 0, 0, 1, 2, 3, 4]), "claims to be longer than it is"),
        ] {
            let error = t5_tokenizer(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
    #[test]
    fn a_table_that_leads_out_of_bounds_is_an_error_of_the_caption_and_no_panic() {
        // a trie of one unit, whose every way leads far away
        let tokenizer = t5_tokenizer(&file(&PIECES, 1, &[4, 0, 0, 0, 255, 255, 255, 127]));
        let options = crate::text::TextOptions::default();
        let tokens = tokenizer.and_then(|tokenizer| crate::text::tokens::Tokens::new(tokenizer, &options, 512, 0));
        let error = tokens.and_then(|tokens| tokens.ids("a caf\u{E9}").map(|_| ())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{error:#}");
    }
}
