//! What the networks know of a prompt: the text encoder's vectors, computed here or brought along.
//!
//! The networks have no text mask: they were trained on texts of 77 tokens, padding included, so the encoder must give its
//! states of the padding too. What guidance leaves is the empty text.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::caption;
use super::folder::StageFolder;
use super::text_cache::TextCache;
use crate::error::{Context, Error, Result};
use crate::models::weights::{Storage, Weights};
use crate::text::{self, EncoderFiles, Padding, TextEncoder, TextOptions};

/// Tokens of a text.
pub const TOKENS: usize = 77;

/// Embeddings from outside: a safetensors file with `prompt_embeds [n, t, d]` and `negative_prompt_embeds [1 or n, t, d]`.
#[derive(Clone, Debug)]
pub struct Embeddings {
    prompts: Tensor<3>,
    empty: Tensor<3>,
}

impl Embeddings {
    /// Reads such a file.
    ///
    /// # Errors
    /// `Io` or `Model` where it cannot be read or lacks a tensor; `Model` where shapes do not fit each other.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let weights = Weights::open(path)?;
        let tensor = |name: &str| {
            let shape: Option<[usize; 3]> = weights.shape(name).and_then(|shape| shape.try_into().ok());
            let shape = shape.filter(|shape| shape.iter().all(|n| *n > 0)).ok_or_else(|| {
                Error::model(format!("{}: expected a tensor `{name}` of [texts, tokens, width]", path.display()))
            })?;
            let values = weights.tensor_f32(name, &shape)?;
            Ok::<_, Error>(Tensor::<3>::from_data(TensorData::new(values, shape), device))
        };
        Self::new(tensor("prompt_embeds")?, tensor("negative_prompt_embeds")?).context(|| path.display().to_string())
    }

    /// From tensors.
    ///
    /// # Errors
    /// `Model` where their shapes do not fit each other.
    pub fn new(prompts: Tensor<3>, empty: Tensor<3>) -> Result<Self> {
        let ([n, t, d], [m, u, e]) = (prompts.dims(), empty.dims());
        if [t, d] != [u, e] || (m != 1 && m != n) {
            return Err(Error::model(format!(
                "negative_prompt_embeds is [{m}, {u}, {e}]: expected [1 or {n}, {t}, {d}], as prompt_embeds is"
            )));
        }
        Ok(Self { prompts, empty })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.prompts.dims()[0]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Text `index` and the empty text beside it, each `[1, t, d]`.
    pub(in crate::cascade) fn pair(&self, index: usize) -> (Tensor<3>, Tensor<3>) {
        let row = |x: &Tensor<3>| x.clone().narrow(0, index.min(x.dims()[0] - 1), 1);
        (row(&self.prompts), row(&self.empty))
    }

    /// Embeds `prompts` by the text encoder of a folder, which is opened only where `cache` lacks one of them.
    ///
    /// # Errors
    /// As [`open_encoder`] and [`Embeddings::encode`].
    pub(super) fn of_folder(
        folder: &StageFolder,
        storage: Storage,
        cache: Option<&TextCache>,
        prompts: &[String],
        clean: bool,
        device: &Device,
    ) -> Result<Self> {
        let Some(cache) = cache else {
            return Self::encode(open_encoder(folder, storage, device)?.as_ref(), prompts, clean);
        };
        let texts = cleaned(prompts, clean);
        let key = encoder_key(folder, storage)?;
        let mut encoder = None;
        let mut states = |text: &str| {
            if let Some(states) = cache.get(&key, text, device) {
                return Ok(states);
            }
            let encoder = match &encoder {
                Some(encoder) => encoder,
                None => encoder.insert(open_encoder(folder, storage, device)?),
            };
            let states = padded(encoder.as_ref(), text)?;
            cache.put(&key, text, &states);
            Ok::<_, Error>(states)
        };
        let all = texts.iter().map(|text| states(text)).collect::<Result<Vec<_>>>()?;
        let empty = states("")?;
        Self::new(Tensor::cat(all, 0), empty)
    }

    /// Embeds `prompts` by an encoder.
    ///
    /// # Errors
    /// The encoder's; `Model` where it does not give the states of padding up to its greatest length.
    pub fn encode(encoder: &dyn TextEncoder, prompts: &[String], clean: bool) -> Result<Self> {
        // one at a time: a large encoder's states of many prompts need not be there at once
        let texts = cleaned(prompts, clean);
        let all = texts.iter().map(|text| padded(encoder, text)).collect::<Result<Vec<_>>>()?;
        Self::new(Tensor::cat(all, 0), padded(encoder, "")?)
    }
}

/// Prompts as the encoder reads them.
pub(super) fn cleaned(prompts: &[String], clean: bool) -> Vec<String> {
    prompts.iter().map(|prompt| if clean { caption::clean(prompt) } else { caption::plain(prompt) }).collect()
}

/// The states `[1, t, d]` of a text, padding included.
fn padded(encoder: &dyn TextEncoder, text: &str) -> Result<Tensor<3>> {
    let sequence = encoder.encode(&[text])?.sequence;
    let tokens = sequence.dims()[1];
    if tokens != encoder.max_length() {
        return Err(Error::model(format!(
            "the text encoder gives {tokens} tokens of {}: these networks look at the padding too; it must pad to the greatest \
             length",
            encoder.max_length()
        )));
    }
    Ok(sequence)
}

/// What names a folder's text encoder in a cache: its files and how it is used.
pub(super) fn encoder_key(folder: &StageFolder, storage: Storage) -> Result<String> {
    Ok(format!("{:016x}-{TOKENS}-padded-{}", encoder_files(folder)?.fingerprint(), storage.name()))
}

/// The text encoder of a folder, its matrices kept as `storage` says.
///
/// # Errors
/// `Model` where the folder has none, or one of a family that is not known here.
pub fn open_encoder(folder: &StageFolder, storage: Storage, device: &Device) -> Result<Box<dyn TextEncoder>> {
    text::load(encoder_files(folder)?, &options(storage), device)
}

fn options(storage: Storage) -> TextOptions {
    TextOptions { max_length: TOKENS, padding: Padding::MaxLength, storage }
}

/// The ends of prompts that the text encoder will not read, as it would have read them.
pub(super) fn cut(folder: &StageFolder, prompts: &[String], clean: bool) -> Result<Vec<String>> {
    let texts = cleaned(prompts, clean);
    let ends = text::cut_t5_texts(&encoder_files(folder)?, &options(Storage::Stored), &texts)?;
    Ok(ends.into_iter().flatten().map(|end| end.trim().to_owned()).collect())
}

/// The files of that encoder.
pub(super) fn encoder_files(folder: &StageFolder) -> Result<EncoderFiles> {
    let path = &folder.path;
    if !folder.ships("text_encoder") || !folder.ships("tokenizer") {
        return Err(Error::model(format!(
            "{} has no text_encoder/ and tokenizer/: put them there, or give embeddings",
            path.display()
        )));
    }
    EncoderFiles::open_apart(&path.join("text_encoder"), &path.join("tokenizer"))
}
