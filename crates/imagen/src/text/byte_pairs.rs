//! Tokenizers of byte pairs from `vocab.json` and `merges.txt` (Sennrich et al. 2016; Radford et al. 2019), as CLIP and RoBERTa
//! were published before there was a `tokenizer.json`.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::EncoderFiles;
use super::tokens::broken;
use crate::error::{Error, Result};

/// The files of such a tokenizer, in errors.
pub(super) const BYTE_PAIRS: &str = "vocab.json with merges.txt";
/// What CLIP takes for a word: its marks, English endings, runs of letters, single digits, runs of anything else.
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const CLIP_MARKS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// Start, end, padding, unknown, hidden.
const ROBERTA_MARKS: [&str; 5] = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"];

/// Vocabulary and merges.
fn tables(files: &EncoderFiles) -> Result<(Vocab, Merges)> {
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(files.file("vocab.json")?)
        .map_err(|e| Error::model("vocab.json is not a vocabulary (token → id)").with_source(e))?;
    let merges = std::str::from_utf8(files.file("merges.txt")?)
        .map_err(|e| Error::model("merges.txt is not text").with_source(e))?;
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    let pair = |line: &str| {
        let (a, b) = line.trim().split_once(' ')?;
        Some((a.to_owned(), b.to_owned()))
    };
    let pairs = lines.map(|line| pair(line).ok_or_else(|| Error::model(format!("merges.txt: {line:?} is no pair"))));
    Ok((vocabulary.into_iter().collect(), pairs.collect::<Result<_>>()?))
}

/// The id of a mark.
fn id(tokenizer: &Tokenizer, mark: &str) -> Result<u32> {
    tokenizer.token_to_id(mark).ok_or_else(|| Error::model(format!("vocab.json has no {mark}")))
}

/// CLIP's tokenizer.
///
/// # Errors
/// `Model` when a file is missing or damaged.
pub(super) fn clip(files: &EncoderFiles) -> Result<Tokenizer> {
    let broken = broken(BYTE_PAIRS);
    let (vocabulary, merges) = tables(files)?;
    let [start, end] = CLIP_MARKS;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token(end.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(&broken)?;
    let mut tokenizer = Tokenizer::new(model);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(&broken)?;
    let normalizers = Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizers)).map_err(&broken)?;
    let words = Split::new(SplitPattern::Regex(CLIP_WORDS.to_owned()), SplitDelimiterBehavior::Removed, true);
    let bytes = ByteLevel::default().add_prefix_space(false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.map_err(&broken)?.into(), bytes.into()])));
    let marks = [(start.to_owned(), id(&tokenizer, start)?), (end.to_owned(), id(&tokenizer, end)?)];
    let template = TemplateProcessing::builder()
        .try_single(format!("{start} $A {end}"))
        .map_err(Error::model)?
        .special_tokens(marks.to_vec())
        .build()
        .map_err(|e| broken(Box::new(e)))?;
    tokenizer.with_post_processor(Some(template));
    let marks = CLIP_MARKS.map(|mark| AddedToken::from(mark, true).normalized(false));
    tokenizer.add_special_tokens(marks).map_err(&broken)?;
    Ok(tokenizer)
}

/// RoBERTa's tokenizer.
///
/// # Errors
/// `Model` when a file is missing or damaged.
pub(super) fn roberta(files: &EncoderFiles) -> Result<Tokenizer> {
    let broken = broken(BYTE_PAIRS);
    let (vocabulary, merges) = tables(files)?;
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(&broken)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    let [start, end, ..] = ROBERTA_MARKS;
    let (first, last) = (id(&tokenizer, start)?, id(&tokenizer, end)?);
    let marked = RobertaProcessing::new((end.to_owned(), last), (start.to_owned(), first)).add_prefix_space(false);
    tokenizer.with_post_processor(Some(marked));
    // the hidden word takes the space before it
    let marks = ROBERTA_MARKS.map(|mark| AddedToken::from(mark, true).normalized(false));
    tokenizer.add_special_tokens(marks).map_err(&broken)?;
    Ok(tokenizer)
}
