//! What drawing with folders of DeepFloyd IF takes: text encoder, stages and safety checker, one after the other.

use super::DeepFloyd;
use super::texts::{TOKENS, cleaned, cut, encoder_files, encoder_key};
use crate::cascade::StageName;
use crate::cascade::need::{Need, PROGRAM_ROW};
use crate::cascade::needs::first_and_last;
use crate::cascade::request::Request;
use crate::cascade::settings::StageSettings;
use crate::error::Result;
use crate::models::weights::Storage;

/// Bytes of the states of a text in a language model; a fraction of its weights.
const STATES: u64 = 64 << 20;

/// Buffers of the kernels, and maps that wait to be used again, which hardly grow with a network.
const BUFFERS: u64 = 336 << 20;

/// What the allocator keeps of the stage before.
const LEFT_BEHIND: u64 = 320 << 20;

/// What the allocator takes beyond weights, as a part of them: 4 to 7 % were measured.
fn slack(weights: u64) -> u64 {
    weights / 16
}

/// How often a stage is evaluated under its settings.
pub(in crate::cascade) type Evaluations<'a> = dyn Fn(StageName, &StageSettings) -> u64 + 'a;

impl DeepFloyd {
    /// What a resolved request takes in batches of so many, its stages evaluated so often, the weights of networks and text encoder kept as the model says
    /// or as `stored` says.
    pub(in crate::cascade) fn needs(
        &self,
        request: &Request,
        resolved: &[(StageName, StageSettings)],
        (batch, evaluations): (u64, &Evaluations),
        stored: Option<(Storage, Storage)>,
    ) -> Result<Vec<Need>> {
        let (networks, text) = stored.unwrap_or((self.storage, self.text_storage));
        let mut needs = Vec::new();
        if request.embeddings.is_none() && !self.texts_are_cached(request)? {
            needs.push(self.text_need(text)?);
        }
        for (i, (stage, settings)) in resolved.iter().enumerate() {
            let folder = self.stage_folder(*stage);
            let process = folder.process("scheduler")?;
            let kept = folder.weights()?.kept(networks, |_| true);
            let side = folder.config.sample_size;
            let left_behind = if i > 0 { LEFT_BEHIND } else { 0 };
            let between = request.pictures.iter().any(|picture| picture.words_toward().is_some());
            let both = batch * (1 + u64::from(settings.guidance != 1.0) + u64::from(between));
            // several batches: the checker stays while the network draws on
            let beside = i + 1 == resolved.len() && request.pictures.len() as u64 > batch;
            let checker = self.checker.as_ref().filter(|_| beside).map_or(0, |(files, _)| files.bytes() as u64);
            let maps = both * folder.config.map_bytes(side) + BUFFERS + left_behind + slack(kept.bytes);
            needs.push(Need {
                what: stage.to_string(),
                stage: Some(*stage),
                parameters: kept.numbers,
                memory: rows(kept.bytes, maps.max(kept.reading + slack(kept.bytes)), checker),
                evaluations: evaluations(*stage, settings),
                noise: first_and_last(&process.plan(settings.sampler, &process.timesteps(settings)?)?),
                multiply_adds: both * folder.config.multiply_adds(side, TOKENS, &self.device),
            });
        }
        if let Some((files, _)) = &self.checker {
            needs.push(Need {
                what: "safety checker".into(),
                stage: None,
                parameters: 0,
                memory: rows(files.bytes() as u64, STATES, 0),
                evaluations: batch,
                noise: None,
                multiply_adds: 0,
            });
        }
        Ok(needs)
    }

    /// Whether the states of all texts of a request are in the cache, so that no text encoder is read.
    ///
    /// # Errors
    /// `Model` where the folder has no text encoder.
    pub fn texts_are_cached(&self, request: &Request) -> Result<bool> {
        let Some(cache) = &self.text_cache else { return Ok(false) };
        let key = encoder_key(self.encoder_folder(), self.text_storage)?;
        let texts = cleaned(&request.texts(), !request.raw_captions);
        Ok(texts.iter().map(String::as_str).chain([""]).all(|text| cache.has(&key, text)))
    }

    /// The ends of a request's prompts that the text encoder will not read: it takes 77 tokens.
    ///
    /// # Errors
    /// `Model` where the folder has no text encoder, or its tokenizer is damaged.
    pub fn cut_texts(&self, request: &Request) -> Result<Vec<String>> {
        match request.embeddings {
            Some(_) => Ok(Vec::new()),
            None => cut(self.encoder_folder(), &request.texts(), !request.raw_captions),
        }
    }

    fn text_need(&self, storage: Storage) -> Result<Need> {
        let weights = encoder_files(self.encoder_folder())?.weights()?;
        // tables of words stay in their file; a decoder is never read
        let encoder = |name: &str| {
            let table = name.contains("shared.") || name.contains("embed_tokens") || name.contains("word_embeddings");
            !table && !name.starts_with("decoder.") && !name.starts_with("lm_head")
        };
        let kept = weights.kept(storage, encoder);
        Ok(Need {
            what: "text encoder".into(),
            stage: None,
            parameters: kept.numbers,
            memory: rows(kept.bytes, kept.reading.max(STATES) + slack(kept.bytes), 0),
            evaluations: 2,
            noise: None,
            multiply_adds: kept.numbers * TOKENS as u64,
        })
    }

    /// The folder whose text encoder is used: the first that ships one.
    pub(super) fn encoder_folder(&self) -> &super::StageFolder {
        let mut folders = self.folders().map(|(_, folder)| folder);
        let first = self.stage_folder(self.stages()[0]);
        folders.find(|folder| folder.ships("text_encoder")).unwrap_or(first)
    }
}

/// Weights, maps (or what reading the weights takes, where that is more), and a safety checker beside them.
fn rows(weights: u64, maps: u64, checker: u64) -> Vec<(&'static str, u64)> {
    let checker = (checker > 0).then_some(("safety checker", checker));
    [(Need::WEIGHTS, weights), (Need::MAPS, maps)].into_iter().chain(checker).chain([PROGRAM_ROW]).collect()
}
