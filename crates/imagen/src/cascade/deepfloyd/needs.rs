//! What drawing takes, from the files' headers and configurations, before anything is read: so that memory is a promise.
//!
//! Text encoder, stages and safety checker are in memory one after the other; the largest of them is what counts.

use crate::cascade::StageName;
use crate::error::Result;
use crate::models::weights::Storage;

use super::texts::{TOKENS, cleaned, cut, encoder_files, encoder_key};
use super::{DeepFloyd, IfRequest};

/// What one part of drawing takes while it is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfNeed {
    /// The part.
    pub what: String,
    /// Numbers of its weights.
    pub parameters: u64,
    /// Bytes of its weights as they are kept.
    pub weights: u64,
    /// Bytes beside them while the largest matrix is read.
    pub reading: u64,
    /// Bytes of the maps of one evaluation, of all pictures of a batch.
    pub maps: u64,
    /// Bytes of the safety checker where it is beside this part.
    pub checker: u64,
    /// How often it is evaluated for one batch.
    pub evaluations: u64,
    /// Multiply-adds of one evaluation.
    pub multiply_adds: u64,
}

impl IfNeed {
    /// The most bytes at a time.
    pub fn bytes(&self) -> u64 {
        self.weights + self.reading.max(self.maps) + self.checker
    }
}

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

impl DeepFloyd {
    /// What a request takes with the networks' weights kept as `networks` says and the text encoder's as `text` says, part by
    /// part, in their order.
    ///
    /// # Errors
    /// As [`DeepFloyd::resolve`]; `Model` where a file is missing or damaged.
    pub fn needs(&self, request: &IfRequest, networks: Storage, text: Storage) -> Result<Vec<IfNeed>> {
        let mut needs = Vec::new();
        if request.embeddings.is_none() && !self.texts_are_cached(request)? {
            needs.push(self.text_need(text)?);
        }
        let batch = request.batch.max(1) as u64;
        let resolved = self.resolve(request)?;
        for (i, (stage, options)) in resolved.iter().enumerate() {
            let folder = self.folder(*stage).expect("resolved: a stage of this model");
            let kept = folder.weights()?.kept(networks, |_| true);
            let side = folder.config.sample_size;
            let left_behind = if i > 0 { LEFT_BEHIND } else { 0 };
            let both = if options.guidance == 1.0 { batch } else { 2 * batch };
            // several batches: the checker stays while the network draws on
            let beside = i + 1 == resolved.len() && (request.prompts.len() * request.count) as u64 > batch;
            let checker = self.checker.as_ref().filter(|_| beside).map_or(0, |(files, _)| files.bytes() as u64);
            needs.push(IfNeed {
                what: stage.to_string(),
                parameters: kept.numbers,
                weights: kept.bytes,
                reading: kept.reading + slack(kept.bytes),
                maps: both * folder.config.map_bytes(side) + BUFFERS + left_behind + slack(kept.bytes),
                checker,
                evaluations: folder.process("scheduler")?.timesteps(&options.timesteps)?.len() as u64,
                multiply_adds: both * folder.config.multiply_adds(side, TOKENS, &self.device),
            });
        }
        if let Some((files, _)) = &self.checker {
            let bytes = files.bytes() as u64;
            needs.push(IfNeed {
                what: "safety checker".into(),
                parameters: 0,
                weights: bytes,
                reading: STATES,
                maps: STATES,
                checker: 0,
                evaluations: batch,
                multiply_adds: 0,
            });
        }
        Ok(needs)
    }

    /// Whether the states of all texts of a request are in the cache, so that no text encoder is read.
    ///
    /// # Errors
    /// `Model` where the folder has no text encoder.
    pub fn texts_are_cached(&self, request: &IfRequest) -> Result<bool> {
        let Some(cache) = &self.text_cache else { return Ok(false) };
        let key = encoder_key(self.encoder_folder(), self.text_storage)?;
        let texts = cleaned(&request.prompts, request.clean);
        Ok(texts.iter().map(String::as_str).chain([""]).all(|text| cache.has(&key, text)))
    }

    /// The ends of a request's prompts that the text encoder will not read: it takes 77 tokens.
    ///
    /// # Errors
    /// `Model` where the folder has no text encoder, or its tokenizer is damaged.
    pub fn cut_texts(&self, request: &IfRequest) -> Result<Vec<String>> {
        match request.embeddings {
            Some(_) => Ok(Vec::new()),
            None => cut(self.encoder_folder(), &request.prompts, request.clean),
        }
    }

    fn text_need(&self, storage: Storage) -> Result<IfNeed> {
        let weights = encoder_files(self.encoder_folder())?.weights()?;
        // tables of words stay in their file; a decoder is never read
        let encoder = |name: &str| {
            let table = name.contains("shared.") || name.contains("embed_tokens") || name.contains("word_embeddings");
            !table && !name.starts_with("decoder.") && !name.starts_with("lm_head")
        };
        let kept = weights.kept(storage, encoder);
        Ok(IfNeed {
            what: "text encoder".into(),
            parameters: kept.numbers,
            weights: kept.bytes,
            reading: kept.reading + slack(kept.bytes),
            maps: STATES + slack(kept.bytes),
            checker: 0,
            evaluations: 2,
            multiply_adds: kept.numbers * TOKENS as u64,
        })
    }

    /// The folder whose text encoder is used: the first that ships one.
    pub(super) fn encoder_folder(&self) -> &super::StageFolder {
        let mut folders = self.folders().map(|(_, folder)| folder);
        let first = self.folder(self.stages()[0]).expect("a model has a stage");
        folders.find(|folder| folder.ships("text_encoder")).unwrap_or(first)
    }
}

/// The stages in the order in which they run, for a message.
pub(super) fn list(stages: &[StageName]) -> String {
    stages.iter().map(|stage| stage.as_str()).collect::<Vec<_>>().join(", ")
}
