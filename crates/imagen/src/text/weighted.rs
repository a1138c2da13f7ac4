//! Words with weights: `a (red:1.3) apple`. Read only where somebody asks for it; parentheses are otherwise text like any other.
//!
//! The encoder reads the words without their weights. Of a word of weight w, each token's vector goes w times as far from the
//! mean of its text's tokens as it is: the networks' norms would take a mere factor away.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

use super::{TextEmbedding, TextEncoder};
use crate::error::{Error, Result};

/// The largest weight of a word.
const MOST: f64 = 3.0;

/// A text, and the weights of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedText {
    /// The words alone.
    pub text: String,
    /// Parts of the text, in bytes, with their weights; 1 elsewhere.
    pub weights: Vec<(Range<usize>, f64)>,
}

impl WeightedText {
    /// Reads `(words:1.3)`. Parentheses without a weight are text.
    ///
    /// # Errors
    /// `Usage` where a weight lies beyond 0 to 3.
    pub fn read(text: &str) -> Result<Self> {
        let (mut words, mut weights, mut rest) = (String::new(), Vec::new(), text);
        while let Some(open) = rest.find('(') {
            let inner = &rest[open + 1..];
            let weighted = inner.find([')', '(']).filter(|close| inner[*close..].starts_with(')')).and_then(|close| {
                let (part, number) = inner[..close].rsplit_once(':')?;
                Some((part, number.trim().parse::<f64>().ok()?, close))
            });
            let Some((part, weight, close)) = weighted else {
                words.push_str(&rest[..=open]);
                rest = inner;
                continue;
            };
            if !(0.0..=MOST).contains(&weight) {
                return Err(Error::usage(format!("({part}:{weight}): expected a weight from 0 to {MOST}")));
            }
            words.push_str(&rest[..open]);
            let start = words.len();
            words.push_str(part);
            weights.push((start..words.len(), weight));
            rest = &inner[close + 1..];
        }
        words.push_str(rest);
        Ok(Self { text: words, weights })
    }

    /// The weight of the token that came of a part of the text, in bytes; that of a mark is 1.
    fn of(&self, token: &Range<usize>) -> f64 {
        let found = self.weights.iter().find(|(part, _)| token.start < part.end && part.start < token.end);
        found.map_or(1.0, |(_, weight)| *weight)
    }
}

/// The embeddings of weighted texts.
///
/// # Errors
/// The encoder's.
pub fn encode_weighted(encoder: &dyn TextEncoder, texts: &[WeightedText]) -> Result<TextEmbedding> {
    let words: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    let TextEmbedding { sequence, mask } = encoder.encode(&words)?;
    if texts.iter().all(|text| text.weights.is_empty()) {
        return Ok(TextEmbedding { sequence, mask });
    }
    let [n, t, _] = sequence.dims();
    let mut factors = vec![1.0f32; n * t];
    for (row, text) in factors.chunks_exact_mut(t).zip(texts) {
        for (factor, token) in row.iter_mut().zip(encoder.token_places(&text.text)?) {
            *factor = text.of(&token) as f32;
        }
    }
    let factors = Tensor::<3>::from_data(TensorData::new(factors, [n, t, 1]), &sequence.device());
    let column = mask.clone().unsqueeze_dim::<3>(2);
    let count = column.clone().sum_dim(1).clamp_min(1.0);
    let mean = (sequence.clone() * column.clone()).sum_dim(1) / count; // [n, 1, d]
    // a text without weights stays bit for bit
    let added = (sequence.clone() - mean) * (factors - 1.0) * column;
    Ok(TextEmbedding { sequence: sequence + added, mask })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_other_parentheses_are_text() {
        let read = |text: &str| WeightedText::read(text).unwrap();
        let apple = read("a (red:1.3) apple");
        assert_eq!((apple.text.as_str(), apple.weights.as_slice()), ("a red apple", &[(2..5, 1.3)][..]));
        assert_eq!([0..1, 2..5, 4..7, 6..11, 0..0].map(|token| apple.of(&token)), [1.0, 1.3, 1.3, 1.0, 1.0]);
        for text in ["", "a (red) apple", "f(x", "(a:b)", "3 (of (4)"] {
            assert_eq!(read(text), WeightedText { text: text.into(), weights: Vec::new() }, "{text}");
        }
        let nested = read("(a (blue:0.5) sky");
        assert_eq!((nested.text.as_str(), nested.weights.as_slice()), ("(a blue sky", &[(3..7, 0.5)][..]));
        assert!(WeightedText::read("(red:4)").is_err() && WeightedText::read("(red:-1)").is_err());
    }
}
