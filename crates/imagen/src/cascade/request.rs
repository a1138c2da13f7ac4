//! What to draw.

use std::collections::BTreeMap;
use std::ops::Range;

use super::config::StageName;
use super::deepfloyd::Embeddings;
use super::settings::StageOptions;
use super::start::StartPicture;
use crate::error::{Error, Result};

/// What to draw, by a model of any family.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What is asked for, in words.
    pub prompts: Vec<String>,
    /// The pictures, each of a prompt.
    pub pictures: Vec<Subject>,
    /// Departures from the stages' own suggestions.
    pub options: BTreeMap<StageName, StageOptions>,
    /// The last stage to run; [`Imagen::default_until`](super::Imagen::default_until) by default.
    pub until: Option<StageName>,
    /// Pictures that are drawn together, [`Imagen::default_batch`](super::Imagen::default_batch) by default; changes speed
    /// and memory, not pictures.
    pub batch: Option<usize>,
    /// A picture to start from, or, where the model begins with super-resolution, to enlarge.
    pub start: Option<StartPicture>,
    /// Embeddings in place of the prompts', one each, in their order (DeepFloyd IF).
    pub embeddings: Option<Embeddings>,
    /// Whether captions are left as they are, in small letters, in place of being cleaned as those of the training were
    /// (DeepFloyd IF).
    pub raw_captions: bool,
}

/// A picture of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its prompt, by number.
    pub prompt: usize,
    /// Its seed.
    pub seed: u64,
}

impl Request {
    /// `count` pictures of each prompt: picture k has prompt k / count, and the seed plus k % count.
    pub fn new(prompts: Vec<String>, count: usize, seed: u64) -> Self {
        let of = |prompt| (0..count).map(move |k| Subject { prompt, seed: seed.wrapping_add(k as u64) });
        Self { pictures: (0..prompts.len()).flat_map(of).collect(), prompts, ..Self::default() }
    }

    /// One picture of each prompt, with a seed of its own.
    pub fn each(subjects: impl IntoIterator<Item = (String, u64)>) -> Self {
        let (prompts, seeds): (Vec<String>, Vec<u64>) = subjects.into_iter().unzip();
        let pictures = seeds.into_iter().enumerate().map(|(prompt, seed)| Subject { prompt, seed }).collect();
        Self { prompts, pictures, ..Self::default() }
    }

    /// Prompt and seed of a picture.
    pub fn subject(&self, picture: usize) -> (&str, u64) {
        let Subject { prompt, seed } = self.pictures[picture];
        (&self.prompts[prompt], seed)
    }

    /// The prompts of these pictures.
    pub(super) fn prompts_of(&self, pictures: Range<usize>) -> Vec<&str> {
        pictures.map(|picture| self.subject(picture).0).collect()
    }

    /// # Errors
    /// `Usage` where nothing is asked for, or there are embeddings of another number.
    pub(super) fn check(&self) -> Result<()> {
        if self.pictures.is_empty() {
            return Err(Error::usage("nothing to draw: give at least one prompt and a count of at least 1"));
        }
        if let Some(wrong) = self.pictures.iter().find(|picture| picture.prompt >= self.prompts.len()) {
            let (number, prompts) = (wrong.prompt, self.prompts.len());
            return Err(Error::usage(format!("a picture of prompt {number}, and there are {prompts} prompts")));
        }
        match &self.embeddings {
            Some(embeddings) if embeddings.len() != self.prompts.len() => {
                let (given, prompts) = (embeddings.len(), self.prompts.len());
                Err(Error::usage(format!("{given} embeddings for {prompts} prompts: expected one each")))
            }
            _ => Ok(()),
        }
    }
}
