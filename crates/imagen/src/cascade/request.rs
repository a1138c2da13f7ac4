//! What to draw.

use std::collections::BTreeMap;

use super::config::StageName;
use super::deepfloyd::Embeddings;
use super::settings::StageOptions;
use super::start::StartPicture;
use crate::diffusion::Key;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// What to draw, by a model of any family.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What is asked for, in words.
    pub prompts: Vec<String>,
    /// What is kept away from, in words: one text for all prompts or one for each; the model's null text by default.
    pub negative: Vec<String>,
    /// Whether `(red:1.3)` in any of the texts is a weight of its words, and no text.
    pub weighted: bool,
    /// Other words for single stages, for all pictures.
    pub stage_prompts: BTreeMap<StageName, String>,
    /// The pictures, each of a prompt.
    pub pictures: Vec<Subject>,
    /// Departures from the stages' own suggestions.
    pub options: BTreeMap<StageName, StageOptions>,
    /// The first stage to run; the model's first by default. A super-resolution stage enlarges the starting picture.
    pub from: Option<StageName>,
    /// The last stage to run; [`Imagen::default_until`](super::Imagen::default_until) by default.
    pub until: Option<StageName>,
    /// Pictures that are drawn together, [`Imagen::default_batch`](super::Imagen::default_batch) by default; changes speed
    /// and memory, not pictures.
    pub batch: Option<usize>,
    /// A picture to start from, or, where super-resolution is the first to run, to enlarge.
    pub start: Option<StartPicture>,
    /// Embeddings in place of the prompts', one each, in their order (DeepFloyd IF).
    pub embeddings: Option<Embeddings>,
    /// Whether captions are left as they are, in small letters, in place of being cleaned as those of the training were
    /// (DeepFloyd IF).
    pub raw_captions: bool,
}

/// A picture of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    /// Its prompt, by number.
    pub prompt: usize,
    /// Its seed.
    pub seed: u64,
    /// Another seed for the stages that enlarge: what they add is another, what they enlarge stays.
    pub enlarging: Option<u64>,
    /// Another picture, and how far this one is on the way there.
    pub toward: Option<Toward>,
}

/// A place on the way to another picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Toward {
    /// The other's prompt, by number.
    pub prompt: usize,
    /// The other's seed.
    pub seed: u64,
    /// How far, from 0, which is the picture itself, to 1, the other.
    pub part: f64,
}

impl Subject {
    /// A picture of a prompt and a seed.
    pub fn new(prompt: usize, seed: u64) -> Self {
        Self { prompt, seed, enlarging: None, toward: None }
    }

    /// Where the noise of a stage comes from.
    pub(super) fn key(&self, stage: StageName) -> Key {
        let of = |seed| Rng::new(seed).fold(stage as u64);
        if let Some(seed) = self.enlarging.filter(|_| stage != StageName::Base) {
            return Key { from: of(seed), toward: None };
        }
        let toward = self.toward.filter(|toward| toward.seed != self.seed);
        Key { from: of(self.seed), toward: toward.map(|toward| (of(toward.seed), toward.part)) }
    }

    /// The prompt that the words are on the way to, and how far.
    pub(super) fn words_toward(&self) -> Option<(usize, f64)> {
        let toward = self.toward.filter(|toward| toward.prompt != self.prompt && toward.part > 0.0)?;
        Some((toward.prompt, toward.part))
    }
}

impl Request {
    /// `count` pictures of each prompt: picture k has prompt k / count, and the seed plus k % count.
    pub fn new(prompts: Vec<String>, count: usize, seed: u64) -> Self {
        let of = |prompt| (0..count).map(move |k| Subject::new(prompt, seed.wrapping_add(k as u64)));
        Self { pictures: (0..prompts.len()).flat_map(of).collect(), prompts, ..Self::default() }
    }

    /// One picture of each prompt, with a seed of its own.
    pub fn each(subjects: impl IntoIterator<Item = (String, u64)>) -> Self {
        let (prompts, seeds): (Vec<String>, Vec<u64>) = subjects.into_iter().unzip();
        let pictures = seeds.into_iter().enumerate().map(|(prompt, seed)| Subject::new(prompt, seed)).collect();
        Self { prompts, pictures, ..Self::default() }
    }

    /// `frames` pictures from one to another, evenly spaced, both among them.
    pub fn between(from: (String, u64), to: (String, u64), frames: usize) -> Self {
        let last = frames.saturating_sub(1).max(1) as f64;
        let other = usize::from(from.0 != to.0);
        let frame = |k: usize| {
            let toward = Toward { prompt: other, seed: to.1, part: k as f64 / last };
            Subject { toward: Some(toward), ..Subject::new(0, from.1) }
        };
        let prompts = if other == 1 { vec![from.0, to.0] } else { vec![from.0] };
        Self { prompts, pictures: (0..frames).map(frame).collect(), ..Self::default() }
    }

    /// `count` pictures of each prompt that are near the one of the seed: the first is it, the k-th has gone this part of the
    /// way to the seed plus k.
    pub fn variations(prompts: Vec<String>, count: usize, seed: u64, part: f64) -> Self {
        let of = |prompt| {
            (0..count).map(move |k| {
                let toward = Toward { prompt, seed: seed.wrapping_add(k as u64), part };
                Subject { toward: (k > 0).then_some(toward), ..Subject::new(prompt, seed) }
            })
        };
        Self { pictures: (0..prompts.len()).flat_map(of).collect(), prompts, ..Self::default() }
    }

    /// Prompt and seed of a picture.
    pub fn subject(&self, picture: usize) -> (&str, u64) {
        let Subject { prompt, seed, .. } = self.pictures[picture];
        (&self.prompts[prompt], seed)
    }

    /// What a picture is kept away from, where that is said.
    pub fn negative_of(&self, picture: usize) -> Option<&str> {
        let at = if self.negative.len() > 1 { self.pictures[picture].prompt } else { 0 };
        self.negative.get(at).map(String::as_str)
    }

    /// Every text that is encoded: the prompts in their order, then those of single stages, then what is kept away from.
    pub fn texts(&self) -> Vec<String> {
        self.prompts.iter().chain(self.stage_prompts.values()).chain(&self.negative).cloned().collect()
    }

    /// The place among [`Self::texts`] of a stage's own prompt.
    pub(super) fn place_of_stage(&self, stage: StageName) -> Option<usize> {
        self.stage_prompts.keys().position(|name| *name == stage).map(|k| self.prompts.len() + k)
    }

    /// The place among [`Self::texts`] of what a picture is kept away from.
    pub(super) fn place_of_negative(&self, picture: usize) -> Option<usize> {
        let first = self.prompts.len() + self.stage_prompts.len();
        match self.negative.len() {
            0 => None,
            1 => Some(first),
            _ => Some(first + self.pictures[picture].prompt),
        }
    }

    /// # Errors
    /// `Usage` where nothing is asked for, or numbers of texts, embeddings and prompts do not fit each other.
    pub(super) fn check(&self) -> Result<()> {
        if self.pictures.is_empty() {
            return Err(Error::usage("nothing to draw: give at least one prompt and a count of at least 1"));
        }
        let prompts = self.prompts.len();
        let named = self.pictures.iter().flat_map(|picture| {
            [Some(picture.prompt), picture.toward.map(|toward| toward.prompt)].into_iter().flatten()
        });
        if let Some(number) = named.into_iter().find(|number| *number >= prompts) {
            return Err(Error::usage(format!("a picture of prompt {number}, and there are {prompts} prompts")));
        }
        let mut parts = self.pictures.iter().filter_map(|picture| picture.toward.map(|toward| toward.part));
        if let Some(part) = parts.find(|part| !(0.0..=1.0).contains(part)) {
            return Err(Error::usage(format!("a picture {part} of the way to another: expected 0 to 1")));
        }
        if self.negative.len() > 1 && self.negative.len() != prompts {
            let given = self.negative.len();
            return Err(Error::usage(format!(
                "{given} negative prompts for {prompts} prompts: expected one, or one each"
            )));
        }
        let Some(embeddings) = &self.embeddings else { return Ok(()) };
        if embeddings.len() != prompts {
            let given = embeddings.len();
            return Err(Error::usage(format!("{given} embeddings for {prompts} prompts: expected one each")));
        }
        if !self.negative.is_empty() || !self.stage_prompts.is_empty() {
            return Err(Error::usage(
                "embeddings stand for the prompts alone, and bring what they are kept away from: leave out negative prompts \
                 and those of single stages",
            ));
        }
        Ok(())
    }
}
