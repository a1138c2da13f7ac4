//! The encoded texts of some pictures: what each is asked for, what it is on the way to, and what it is kept away from.

use std::ops::Range;

use burn::tensor::Tensor;

use super::config::StageName;
use super::deepfloyd::{Embeddings, IfTexts};
use super::prompt_text::PromptText;
use super::request::Request;
use crate::error::Result;
use crate::models::unet::Text;
use crate::text::{TextEncoder, WeightedText, encode_weighted};

/// The encoded texts of some pictures.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "one a stage and batch")]
pub(super) enum Texts {
    Own(PromptText),
    /// The embeddings of all texts, and the places of each picture's.
    DeepFloyd(Embeddings, Vec<Places>),
}

/// Where a picture's texts stand among the embeddings.
#[derive(Clone, Copy)]
pub(super) struct Places {
    prompt: usize,
    toward: Option<(usize, f64)>,
    negative: Option<usize>,
}

impl Texts {
    /// The texts of pictures that lie together.
    pub(super) fn of(&self, pictures: Range<usize>) -> Self {
        let part = |Text { sequence, mask }: &Text| {
            let (start, length) = (pictures.start, pictures.len());
            Text { sequence: sequence.clone().narrow(0, start, length), mask: mask.clone().narrow(0, start, length) }
        };
        match self {
            Self::Own(PromptText { prompts, toward, negative }) => Self::Own(PromptText {
                prompts: part(prompts),
                toward: toward.as_ref().map(|(text, parts)| (part(text), parts[pictures.clone()].to_vec())),
                negative: negative.as_ref().map(part),
            }),
            Self::DeepFloyd(embeddings, places) => Self::DeepFloyd(embeddings.clone(), places[pictures].to_vec()),
        }
    }

    /// The texts of these pictures at each of these stages, by a text encoder.
    pub(super) fn encode(
        encoder: &dyn TextEncoder,
        request: &Request,
        stages: &[StageName],
        pictures: Range<usize>,
    ) -> Result<Vec<Self>> {
        let encode = |texts: Vec<&str>| -> Result<Text> {
            if !request.weighted {
                return Ok(encoder.encode(&texts)?.into());
            }
            let weighted = texts.into_iter().map(WeightedText::read).collect::<Result<Vec<_>>>()?;
            Ok(encode_weighted(encoder, &weighted)?.into())
        };
        let negatives: Vec<_> = pictures.clone().filter_map(|picture| request.negative_of(picture)).collect();
        let negative = (!negatives.is_empty()).then(|| encode(negatives)).transpose()?;
        let mut general: Option<PromptText> = None;
        let mut of_stage = |stage| {
            if let Some(own) = request.stage_prompts.get(&stage) {
                let prompts = encode(vec![own.as_str(); pictures.len()])?;
                return Ok(Self::Own(PromptText { prompts, toward: None, negative: negative.clone() }));
            }
            let text = match &general {
                Some(text) => text,
                None => {
                    let prompts = encode(pictures.clone().map(|picture| request.subject(picture).0).collect())?;
                    let ways: Vec<_> =
                        request.pictures[pictures.clone()].iter().map(|one| one.words_toward()).collect();
                    let toward = if ways.iter().any(Option::is_some) {
                        let place = |(k, way): (usize, &Option<(usize, f64)>)| {
                            way.map_or((request.pictures[pictures.start + k].prompt, 0.0), |way| way)
                        };
                        let (places, parts): (Vec<_>, Vec<_>) = ways.iter().enumerate().map(place).unzip();
                        let others = places.into_iter().map(|place| request.prompts[place].as_str()).collect();
                        Some((encode(others)?, parts))
                    } else {
                        None
                    };
                    general.insert(PromptText { prompts, toward, negative: negative.clone() })
                }
            };
            Ok(Self::Own(text.clone()))
        };
        stages.iter().map(|stage| of_stage(*stage)).collect()
    }

    /// The texts of these pictures at each of these stages, by the embeddings of all texts.
    pub(super) fn places(
        embeddings: &Embeddings,
        request: &Request,
        stages: &[StageName],
        pictures: Range<usize>,
    ) -> Vec<Self> {
        let of_stage = |stage: &StageName| {
            let own = request.place_of_stage(*stage);
            let of_picture = |picture: usize| {
                let subject = request.pictures[picture];
                Places {
                    prompt: own.unwrap_or(subject.prompt),
                    toward: subject.words_toward().filter(|_| own.is_none()),
                    negative: request.place_of_negative(picture),
                }
            };
            Self::DeepFloyd(embeddings.clone(), pictures.clone().map(of_picture).collect())
        };
        stages.iter().map(of_stage).collect()
    }
}

impl IfTexts {
    /// The texts of a batch.
    pub(super) fn of(embeddings: &Embeddings, places: &[Places]) -> Self {
        let prompt = |place: usize| embeddings.pair(place).0;
        let all = |texts: Vec<Tensor<3>>| Tensor::cat(texts, 0);
        let empty = |place: &Places| match place.negative {
            Some(negative) => prompt(negative),
            None => embeddings.pair(place.prompt).1,
        };
        let toward = places.iter().any(|place| place.toward.is_some()).then(|| {
            let way = |place: &Places| place.toward.unwrap_or((place.prompt, 0.0));
            let (others, parts): (Vec<_>, Vec<_>) = places.iter().map(way).unzip();
            (all(others.into_iter().map(prompt).collect()), parts)
        });
        Self {
            prompts: all(places.iter().map(|place| prompt(place.prompt)).collect()),
            empty: all(places.iter().map(empty).collect()),
            toward,
        }
    }
}
