//! Captions that a model was taught, with their embeddings: how far a prompt is from all of them, and which are nearest.
//!
//! A text is one vector, the mean of its tokens' states at length 1, and two texts are as similar as the cosine of their
//! vectors. What counts as far is calibrated when the file is made: one in a hundred captions that were kept aside, or that are
//! held against the others, is so little similar to any of them. Deliberately not here: which captions a model was taught, which is the trainer's
//! knowledge.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Tensor;

use super::TextEncoder;
use crate::error::{Context, Error, Result};
use crate::models::weights::{NamedTensor, Precision, Weights, write_safetensors};

/// The file's name in a model's folder.
pub const FILE: &str = "known.safetensors";

const VECTORS: &str = "vectors";
const CAPTIONS: &str = "captions";
const FAR: &str = "far";
const ENCODER: &str = "text_encoder";
/// Texts that are encoded together.
const BATCH: usize = 32;
/// One in so many kept captions may be called far.
const ONE_IN: usize = 100;
/// Which share of the way from far to equal is loose.
const LOOSE: f32 = 0.375;

/// Known captions and their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCaptions {
    captions: Vec<String>,
    /// A vector of length 1 for each, one after the other.
    vectors: Vec<f32>,
    /// The similarity below which a prompt is far from all.
    far: f32,
    encoder: String,
}

/// How a prompt lies to the known captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearness<'a> {
    /// The nearest captions, nearest first, each with its similarity, from -1 to 1.
    pub nearest: Vec<(&'a str, f32)>,
    /// Whether even the nearest is far.
    pub far: bool,
    /// Whether it may go beyond the nearest: so loose is about one in ten names and other wordings of what the built-in model
    /// was taught, and most prompts that put its things together.
    pub loose: bool,
}

impl KnownCaptions {
    /// Embeds captions; `aside` are captions of the same kind that are not among them, which say what is far. Where there are
    /// none, every caption is held against the others.
    ///
    /// # Errors
    /// `Usage` without captions; the encoder's.
    pub fn new(encoder: &dyn TextEncoder, captions: Vec<String>, aside: &[String]) -> Result<Self> {
        if captions.is_empty() {
            return Err(Error::usage("there is no caption to remember"));
        }
        let vectors = all_vectors(encoder, &captions)?;
        let mut known = Self { captions, vectors, far: -1.0, encoder: encoder.identity().to_owned() };
        let kept = all_vectors(encoder, aside)?;
        let nearest = |vector: &[f32], skip: usize| known.similarities(vector).get(skip).map(|nearest| nearest.1);
        let mut best: Vec<f32> = match aside {
            [] => known.vectors.chunks(encoder.dim()).filter_map(|vector| nearest(vector, 1)).collect(),
            _ => kept.chunks(encoder.dim()).filter_map(|vector| nearest(vector, 0)).collect(),
        };
        best.sort_by(f32::total_cmp);
        known.far = best.get(best.len() / ONE_IN).copied().unwrap_or(-1.0);
        Ok(known)
    }

    /// These captions and those of the model that a training began with, of the same encoder; what is far is said as there, where
    /// more captions said it.
    #[must_use]
    pub fn joined(mut self, before: &Self) -> Self {
        if self.encoder != before.encoder {
            return self;
        }
        let width = before.vectors.len() / before.captions.len();
        let new: BTreeSet<String> = self.captions.iter().cloned().collect();
        for (caption, vector) in before.captions.iter().zip(before.vectors.chunks(width)) {
            if !new.contains(caption) {
                self.captions.push(caption.clone());
                self.vectors.extend_from_slice(vector);
            }
        }
        self.far = before.far;
        self
    }

    /// Reads the file of a model.
    ///
    /// # Errors
    /// `Model` where it is damaged or of another kind.
    pub fn parse(weights: &Weights) -> Result<Self> {
        let parse = || {
            weights.verify()?;
            let entry = |key: &str| {
                let missing = || Error::model(format!("the header has no {key:?}: these are no known captions"));
                weights.metadata().get(key).ok_or_else(missing)
            };
            let captions: Vec<String> = serde_json::from_str(entry(CAPTIONS)?)
                .map_err(|e| Error::model("the captions cannot be read").with_source(e))?;
            let far: f32 = entry(FAR)?.parse().map_err(|_| Error::model("what is far is no number"))?;
            let width = match weights.shape(VECTORS) {
                Some([rows, width]) if *rows == captions.len() && *width > 0 => *width,
                other => {
                    let n = captions.len();
                    return Err(Error::model(format!(
                        "`{VECTORS}` is {other:?}: expected a row for each of {n} captions"
                    )));
                }
            };
            let mut vectors = weights.tensor_f32(VECTORS, &[captions.len(), width])?;
            vectors.chunks_mut(width).for_each(normalize);
            Ok(Self { captions, vectors, far, encoder: entry(ENCODER)?.clone() })
        };
        parse().context(|| weights.label().to_owned())
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let shape = vec![self.captions.len(), self.vectors.len() / self.captions.len()];
        let tensor = NamedTensor { name: VECTORS.to_owned(), shape, values: Cow::Borrowed(&self.vectors) };
        let captions = serde_json::to_string(&self.captions).expect("a list of texts");
        let metadata = HashMap::from([
            (CAPTIONS.to_owned(), captions),
            (FAR.to_owned(), self.far.to_string()),
            (ENCODER.to_owned(), self.encoder.clone()),
        ]);
        write_safetensors(path, &[tensor], &metadata, Precision::Int8Rows)
    }

    /// The captions.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// The identity of the encoder that embedded them.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// How each prompt lies to the known captions, with the `count` nearest; all are encoded together.
    ///
    /// # Errors
    /// `Model` where the encoder is not the one that embedded them; the encoder's own.
    pub fn near(&self, encoder: &dyn TextEncoder, prompts: &[&str], count: usize) -> Result<Vec<Nearness<'_>>> {
        if encoder.identity() != self.encoder {
            let (theirs, ours) = (&self.encoder, encoder.identity());
            return Err(Error::model(format!("{FILE} was made with the text encoder {theirs}, and this is {ours}")));
        }
        let vectors = vectors(encoder, prompts)?;
        let nearness = |vector: &[f32]| {
            let similarities = self.similarities(vector);
            let named = similarities.iter().take(count).map(|&(i, s)| (self.captions[i].as_str(), s));
            let (nearest, loose) = (similarities[0].1, self.far + LOOSE * (1.0 - self.far));
            Nearness { nearest: named.collect(), far: nearest < self.far, loose: nearest < loose }
        };
        Ok(vectors.chunks(encoder.dim()).map(nearness).collect())
    }

    /// Every caption's place and similarity to a vector, the nearest first.
    fn similarities(&self, vector: &[f32]) -> Vec<(usize, f32)> {
        let dot = |other: &[f32]| vector.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(usize, f32)> = self.vectors.chunks(vector.len()).map(dot).enumerate().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }
}

/// The vectors of texts, one batch after the other.
fn all_vectors(encoder: &dyn TextEncoder, texts: &[String]) -> Result<Vec<f32>> {
    let batch = |texts: &[String]| vectors(encoder, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    Ok(texts.chunks(BATCH).map(batch).collect::<Result<Vec<_>>>()?.concat())
}

/// A vector of length 1 for each text: the mean of its tokens' states.
fn vectors(encoder: &dyn TextEncoder, texts: &[&str]) -> Result<Vec<f32>> {
    let embedding = encoder.encode(texts)?;
    let mask: Tensor<3> = embedding.mask.unsqueeze_dim(2); // [b, t, 1]
    let sum = (embedding.sequence * mask).sum_dim(1); // [b, 1, d]
    let values = sum.into_data().try_to_vec::<f32>();
    let mut values = values.map_err(|e| Error::model(format!("embeddings are f32: {e:?}")))?;
    values.chunks_mut(encoder.dim()).for_each(normalize);
    Ok(values)
}

fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::text::TextEmbedding;

    /// Counts the letters of a text.
    struct Letters;

    impl TextEncoder for Letters {
        fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
            let device = Device::flex();
            let count = |text: &str, letter: char| text.chars().filter(|c| *c == letter).count() as f32;
            let values: Vec<f32> =
                captions.iter().flat_map(|text| ('a'..='z').map(move |letter| count(text, letter))).collect();
            let rows = captions.len();
            Ok(TextEmbedding {
                sequence: Tensor::from_data(TensorData::new(values, [rows, 1, 26]), &device),
                mask: Tensor::ones([rows, 1], &device),
            })
        }

        fn cut_text<'a>(&self, _: &'a str) -> Result<Option<&'a str>> {
            Ok(None)
        }

        fn dim(&self) -> usize {
            26
        }

        fn max_length(&self) -> usize {
            64
        }

        fn identity(&self) -> &str {
            "letters"
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_prompt_far_from_every_known_caption_is_told_from_a_near_one() {
        let known =
            KnownCaptions::new(&Letters, texts(&["a cat", "a boat", "two oaks"]), &texts(&["a coat", "a taco"]));
        let known = known.unwrap();
        let near = known.near(&Letters, &["a boat", "jiffy"], 2).unwrap();
        assert_eq!(near[0].nearest[0].0, "a boat");
        assert!((near[0].nearest[0].1 - 1.0).abs() < 1e-5 && near[0].nearest.len() == 2);
        assert_eq!((near[0].far, near[1].far), (false, true));
    }

    #[test]
    fn known_captions_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let known = KnownCaptions::new(&Letters, texts(&["a cat", "a \"boat\"\n", "ein Boot"]), &[]).unwrap();
        known.write(&path).unwrap();
        let read = KnownCaptions::parse(&Weights::open(&path).unwrap()).unwrap();
        assert_eq!((read.captions(), read.encoder(), read.far), (known.captions(), "letters", known.far));
        let nearest = |known: &KnownCaptions| known.near(&Letters, &["boats"], 1).unwrap()[0].nearest[0].1;
        assert!((nearest(&read) - nearest(&known)).abs() < 0.01);
    }
}
