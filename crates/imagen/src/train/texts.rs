//! The embeddings of captions while a run goes on: from its cache, or encoded as they come where a set is endless.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use burn::tensor::Device;

use super::helpers;
use super::run::{Run, TrainEvent};
use crate::cascade::Stage;
use crate::data::Source;
use crate::error::{Error, Result};
use crate::files::Lock;
use crate::models::unet::Text;
use crate::ranks::Group;
use crate::text::{CacheEvent, EmbeddingCache, TextEmbedding, TextEncoder};

/// Where embeddings come from.
pub(super) enum Texts<'a> {
    /// A cache that has every caption of the run.
    Cached {
        /// The cache.
        cache: EmbeddingCache,
        /// The largest number of tokens.
        max_tokens: usize,
    },
    /// The frozen language model itself.
    Encoded(&'a dyn TextEncoder),
}

impl Texts<'_> {
    /// These captions as a batch on `device`, padded to the longest of them.
    ///
    /// # Errors
    /// `Data` where the cache lacks a caption; the encoder's.
    pub(super) fn embed<S: AsRef<str>>(&self, captions: &[S], device: &Device) -> Result<TextEmbedding> {
        match self {
            Self::Cached { cache, max_tokens } => {
                let id = |caption: &S| {
                    let caption = caption.as_ref();
                    cache.id(caption).ok_or_else(|| Error::data(format!("{caption:?} was not encoded")))
                };
                cache.batch(&captions.iter().map(id).collect::<Result<Vec<_>>>()?, *max_tokens, device)
            }
            Self::Encoded(encoder) => {
                let captions: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
                let TextEmbedding { sequence, mask } = encoder.encode(&captions)?;
                Ok(TextEmbedding { sequence: sequence.to_device(device), mask: mask.to_device(device) })
            }
        }
    }
}

/// A text for each of these captions, unless the stage is unconditional.
pub(super) fn encode(stage: &Stage, encoder: &dyn TextEncoder, captions: &[&str]) -> Result<Option<Text>> {
    let conditional = stage.config.unet.text_dim > 0;
    conditional.then(|| encoder.encode(captions).map(Text::from)).transpose()
}

/// Where the embeddings of captions come from: the recipe's cache or the run's, completed now, or the encoder where a set
/// is endless; nothing for an unconditional network. A break where the first rank's observer stopped the encoding.
///
/// # Errors
/// On all ranks alike: the cache's and the encoder's; `Usage` where the first rank's file is not here.
pub(super) fn load_texts<'a>(
    run: &Run,
    group: &Group,
    source: &Source,
    held_out: Option<&Source>,
    encoder: &'a dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<ControlFlow<(), Option<Rc<Texts<'a>>>>> {
    let expected = run.recipe.stage.unet.text_dim;
    if expected == 0 {
        return Ok(ControlFlow::Continue(None));
    }
    if expected != encoder.dim() {
        return Err(group.all_fail(Error::data(format!(
            "stage.unet.text_dim = {expected}, but the text encoder's vectors have {}; set it to that",
            encoder.dim()
        ))));
    }
    if source.world().is_some() {
        return Ok(ControlFlow::Continue(Some(Rc::new(Texts::Encoded(encoder)))));
    }
    let path = match &run.recipe.data.captions {
        None => run.folder.join("captions.safetensors"),
        Some(shared) => shared.clone(),
    };
    let held_out = held_out.map(Source::captions).unwrap_or_default();
    let all: Vec<&String> = source.captions().iter().chain(held_out).collect();
    let max_tokens = encoder.max_length();
    let built = if group.is_first() {
        let built = complete(run, group, &path, &all, encoder, observe);
        // whatever came of it, the others wait for texts no longer
        helpers::dismiss(group)?;
        built
    } else {
        helpers::help(group, encoder)?;
        Ok(None)
    };
    let (built, stopped) = match built {
        Ok(built) => {
            let stopped = u8::from(built.is_none());
            (built, Ok(vec![stopped]))
        }
        Err(error) => (None, Err(error)),
    };
    if group.hear(stopped)?[0][0] != 0 {
        return Ok(ControlFlow::Break(()));
    }
    let opened = group.agree(built.map_or_else(|| open_finished(&path, &all, encoder), Ok))?;
    Ok(ControlFlow::Continue(Some(Rc::new(Texts::Cached { cache: opened, max_tokens }))))
}

/// The cache at `path`, completed for these captions; the other ranks encode their shares of what it lacks. None where the
/// observer stopped it: what was encoded is kept.
fn complete(
    run: &Run,
    group: &Group,
    path: &Path,
    all: &[&String],
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<Option<EmbeddingCache>> {
    if run.recipe.data.captions.is_some() {
        refuse_other_encoder(path, encoder)?;
    }
    let wait = || {
        let waiting = format!("waiting: another process encodes captions into {}", path.display());
        let _ = observe(&TrainEvent::Warning(waiting));
    };
    // several runs may share one; whoever comes second finds what the first has encoded
    let _lock = run.recipe.data.captions.is_some().then(|| Lock::beside(path, wait)).transpose()?;
    let mut encode = |batches: &[&[&str]]| helpers::encode(group, encoder, batches, &run.device);
    EmbeddingCache::build_among(path, all, encoder, group.size(), &mut encode, &mut |event| {
        observe(&caption_event(&event))
    })
}

/// The cache that the first rank has completed.
fn open_finished(path: &Path, all: &[&String], encoder: &dyn TextEncoder) -> Result<EmbeddingCache> {
    if !path.exists() {
        return Err(Error::usage(format!(
            "{} is there for the first rank and not here: the captions' file and the run's folder must be ones that all ranks \
             share",
            path.display()
        )));
    }
    EmbeddingCache::build(path, all, encoder, &mut |_| {})
}

/// A cache that other runs may use is not made anew for another text encoder.
fn refuse_other_encoder(path: &Path, encoder: &dyn TextEncoder) -> Result<()> {
    match EmbeddingCache::encoder(path)?.filter(|found| found != encoder.identity()) {
        None => Ok(()),
        Some(found) => Err(Error::usage(format!(
            "{} holds captions encoded by {found}, and this run's text encoder is {}: name another file in data.captions, or \
             delete that one",
            path.display(),
            encoder.identity()
        ))),
    }
}

fn caption_event(event: &CacheEvent<'_>) -> TrainEvent {
    match event {
        CacheEvent::Encoded { done, of } => TrainEvent::Encoded { done: *done, of: *of },
        CacheEvent::OtherEncoder { .. } => {
            TrainEvent::Warning("the caption cache is of another text encoder; encoding anew".to_owned())
        }
        CacheEvent::Damaged { why } => {
            TrainEvent::Warning(format!("the caption cache is damaged ({why}); encoding anew"))
        }
        CacheEvent::Cut { caption, lost } => {
            TrainEvent::Warning(format!("caption {caption:?} is too long: {lost:?} is not read"))
        }
    }
}
