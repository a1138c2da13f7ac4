//! Training: one stage, one loop that reads from top to bottom (sections 2.4, 4.1, appendix A).
//!
//! [`train`] is the only function that knows data, text, diffusion and network at once; each is entered once a step.
//! Everything random is a function of (seed, step), so a run that is stopped and resumed equals one that was not.

mod grid;
mod recipe;
mod state;

use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};

pub use recipe::{DataConfig, Recipe, TrainConfig};
pub use state::{GradientSum, TrainState};

use crate::cascade::{PartialLoad, StageFile, upsample, write_stage};
use crate::data::{Batch, Deal, Loader, LoaderOptions, Pixels, Source, Split, Transform};
use crate::diffusion::{AugLevel, Objective, TimeSampling, augment};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::models::unet::{Conditioning, LowResolution, Text};
use crate::models::weights::{FileBytes, write_atomically};
use crate::nn::{ops::AdamStep, parameter_count};
use crate::rng::Rng;
use crate::text::{self, CacheEvent, EmbeddingCache, EncoderFiles, TextEncoder, TextOptions};

/// One training run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is trained, on what, how.
    pub recipe: Recipe,
    /// Where the run's state, samples and recipe are kept.
    pub folder: PathBuf,
    /// Whether to go on from the state in `folder`.
    pub resume: bool,
    /// A stage's file whose weights a new run begins with where they fit.
    pub init_from: Option<PathBuf>,
    /// The frozen language model.
    pub text: EncoderFiles,
    /// Where to compute.
    pub device: Device,
}

/// What happens during a run.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// Data and network are ready.
    Started {
        /// Numbers that are learned.
        parameters: usize,
        /// Pictures in the training split.
        pictures: usize,
        /// Steps that were already taken.
        from_step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// The set of pictures was recognised.
    Found {
        /// What it is, how much of it there is, and what was odd, in one line.
        set: String,
    },
    /// So many of the captions that were not in the run's cache are encoded.
    Encoded {
        /// Captions done.
        done: usize,
        /// Captions to do in all.
        of: usize,
    },
    /// A new run began with the weights of another stage.
    Initialized {
        /// Its file.
        from: PathBuf,
        /// What fitted and what did not.
        report: PartialLoad,
    },
    /// An optimizer step was taken.
    Step(StepReport),
    /// The state was written.
    Checkpoint {
        /// Its file.
        path: PathBuf,
    },
    /// A grid of pictures was drawn.
    Samples {
        /// Its file.
        path: PathBuf,
    },
    /// Something that the user should know.
    Warning(String),
}

/// One optimizer step in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Steps in all.
    pub of: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Wall time of the step.
    pub seconds: f64,
    /// Pictures in the step.
    pub pictures: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps of the recipe were taken.
    Finished,
    /// The observer asked to stop; the state was written.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// Streams of the run's seed; each is folded with the step. The loader's streams of the same seed lie below them.
mod stream {
    pub(super) const DIFFUSION: u64 = 0x100;
    pub(super) const TEXT_DROP: u64 = 0x101;
    pub(super) const AUG_LEVEL: u64 = 0x102;
    pub(super) const AUG_NOISE: u64 = 0x103;
}

/// The state's file in a run's folder.
pub fn state_path(folder: &Path) -> PathBuf {
    folder.join("state.safetensors")
}

/// Trains until the recipe's last step or until `observe` breaks.
///
/// # Errors
/// `Data` for recipe, pictures and captions; `Usage` where the folder already holds a run and `resume` is false, or the
/// other way round; `NonFinite` where loss or gradient is no number (the last checkpoint stays); `Io`.
pub fn train(run: &Run, observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>) -> Result<Outcome> {
    let recipe = &run.recipe;
    let config = &recipe.train;
    let state_file = state_path(&run.folder);
    let mut state = open_state(run, &state_file, observe)?;
    let encoder = text::load(run.text.clone(), &TextOptions::default(), &run.device)?;
    let source = Source::open(&recipe.data.folder)?;
    // what reads captions before the first step is heard at the first step
    let _ = observe(&TrainEvent::Found { set: source.to_string() });
    let source = source.split(Split::Train)?;
    let captions = load_captions(run, &source, encoder.as_ref(), observe)?;
    let trainer = Trainer::new(run, captions, encoder.identity());
    let loader = open_loader(recipe, source)?;

    let started = TrainEvent::Started {
        parameters: parameter_count(&state.unet),
        pictures: loader.source().examples().len(),
        from_step: state.step,
        steps: config.steps,
    };
    let mut stop = observe(&started).is_break();
    let mut batches = loader.batches(state.step * config.batch as u64);
    let mut skipped = 0;
    loop {
        let done = stop || state.step >= config.steps;
        if done || (state.step > 0 && state.step % config.checkpoint_every == 0) {
            state.save(&state_file)?;
            trainer.write_stage(&state)?;
            stop |= observe(&TrainEvent::Checkpoint { path: state_file.clone() }).is_break();
        }
        if config.sample_every > 0 && state.step > 0 && (done || state.step % config.sample_every == 0) {
            let path = grid::draw(run, &state, encoder.as_ref(), loader.source())?;
            stop |= observe(&TrainEvent::Samples { path }).is_break();
        }
        if done {
            break;
        }
        let begun = Instant::now();
        let batch = batches.next().ok_or_else(|| Error::data("the loader ended before the run"))??;
        for (_, reason) in loader.skipped(skipped) {
            skipped += 1;
            stop |= observe(&TrainEvent::Warning(format!("skipped: {reason}"))).is_break();
        }
        let (gradients, loss) = trainer.gradients(&state, &batch)?;
        let gradient_norm = gradients.norm()?;
        let clip = config.clip_norm.map_or(1.0, |limit| (limit / gradient_norm).min(1.0));
        let lr = recipe.learning_rate(state.step);
        state = state.updated(
            gradients,
            AdamStep {
                lr: lr as f32,
                beta1: 0.9,
                beta2: config.beta2 as f32,
                eps: 1e-8,
                weight_decay: 0.0,
                step: 0,
                scale: clip as f32,
                average_decay: config.ema_decay as f32,
            },
        );
        let report = StepReport {
            step: state.step,
            of: config.steps,
            loss,
            lr,
            gradient_norm,
            seconds: begun.elapsed().as_secs_f64(),
            pictures: config.batch,
        };
        stop |= observe(&TrainEvent::Step(report)).is_break();
    }
    Ok(if state.step >= config.steps { Outcome::Finished } else { Outcome::Stopped { step: state.step } })
}

/// A fresh state, or the one that the folder holds.
fn open_state(
    run: &Run,
    state_file: &Path,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<TrainState> {
    let recipe = &run.recipe;
    if run.resume && run.init_from.is_some() {
        return Err(Error::usage("a resumed run has its weights already: leave out either --resume or --init-from"));
    }
    match (run.resume, state_file.exists()) {
        (true, true) => TrainState::load(state_file, &recipe.stage, &run.device),
        (true, false) => Err(Error::usage(format!(
            "there is no run to resume in {}: start one without --resume",
            run.folder.display()
        ))),
        (false, true) => Err(Error::usage(format!(
            "{} already holds a run: go on with --resume, or choose another folder",
            run.folder.display()
        ))),
        (false, false) => {
            let seed = recipe.train.seed;
            let state = match &run.init_from {
                None => TrainState::new(&recipe.stage, seed, &run.device)?,
                Some(from) => {
                    let stage = StageFile::open(from)?;
                    let (state, report) = TrainState::from_stage(&recipe.stage, seed, &stage, &run.device)?;
                    // as with captions, an observer that wants to stop is heard at the first step
                    let _ = observe(&TrainEvent::Initialized { from: from.clone(), report });
                    state
                }
            };
            std::fs::create_dir_all(&run.folder).map_err(|e| Error::io("create", &run.folder, e))?;
            let copy = run.folder.join("recipe.toml");
            std::fs::write(&copy, recipe.to_toml()).map_err(|e| Error::io("write", &copy, e))?;
            Ok(state)
        }
    }
}

fn open_loader(recipe: &Recipe, source: Source) -> Result<Loader> {
    let (stage, data) = (&recipe.stage, &recipe.data);
    let transform = Transform {
        size: stage.size,
        low_size: stage.low_size,
        crop: data.crop,
        flip: data.flip,
        channels: stage.unet.image_channels,
        ..Transform::default()
    };
    let deal = Deal {
        batch: recipe.train.batch,
        seed: recipe.train.seed,
        by_concept: data.by_concept,
        canonical_prob: data.canonical_prob,
        min_side: data.min_side,
        max_bad: data.max_bad,
    };
    let options = LoaderOptions { cache_bytes: data.cache_mib << 20, ..LoaderOptions::default() };
    Loader::with_options(source, transform, deal, options)
}

/// The embeddings of a set's captions.
struct Captions {
    cache: EmbeddingCache,
    /// Ids in the cache by number in the source.
    ids: Vec<usize>,
    max_tokens: usize,
}

/// Embeddings of every caption, from the recipe's file or the run's, or computed now; nothing for an unconditional network.
fn load_captions(
    run: &Run,
    source: &Source,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<Option<Captions>> {
    let expected = run.recipe.stage.unet.text_dim;
    if expected == 0 {
        return Ok(None);
    }
    if expected != encoder.dim() {
        return Err(Error::data(format!(
            "stage.unet.text_dim = {expected}, but the text encoder's vectors have {}; set it to that",
            encoder.dim()
        )));
    }
    let own = || run.folder.join("captions.safetensors");
    let path = run.recipe.data.captions.clone().unwrap_or_else(own);
    let cache = EmbeddingCache::build(&path, source.captions(), encoder, &mut |event| {
        // a pause is not possible here, so an observer that wants to stop is heard at the first step
        let _ = observe(&caption_event(&event));
    })?;
    let id = |caption: &String| cache.id(caption).ok_or_else(|| Error::data(format!("{caption:?} was not encoded")));
    let ids = source.captions().iter().map(id).collect::<Result<_>>()?;
    Ok(Some(Captions { cache, ids, max_tokens: encoder.max_length() }))
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

/// What a step needs besides the state and the batch.
struct Trainer<'a> {
    run: &'a Run,
    objective: Objective,
    rng: Rng,
    captions: Option<Captions>,
    encoder_identity: String,
}

impl<'a> Trainer<'a> {
    fn new(run: &'a Run, captions: Option<Captions>, encoder_identity: &str) -> Self {
        let (stage, config) = (&run.recipe.stage, &run.recipe.train);
        let objective = Objective {
            schedule: stage.schedule,
            parameterization: stage.parameterization,
            weight: config.loss_weight,
            times: TimeSampling::LowDiscrepancy,
        };
        let encoder_identity = encoder_identity.to_owned();
        Self { run, objective, rng: Rng::new(config.seed), captions, encoder_identity }
    }

    /// Gradients and mean loss of one batch, in parts of `micro_batch` pictures.
    fn gradients(&self, state: &TrainState, batch: &Batch) -> Result<(GradientSum, f64)> {
        let (n, step) = (batch.examples.len(), state.step);
        let size = self.run.recipe.train.micro_batch.unwrap_or(n).min(n);
        let device = state.device().clone().autodiff();
        let key = self.rng.fold(stream::DIFFUSION).fold(step);
        let (mut sum, mut total) = (GradientSum::default(), 0.0);
        for first in (0..n).step_by(size) {
            let part = first..(first + size).min(n);
            let share = part.len() as f64 / n as f64;
            let noised = self.objective.q_sample(pictures(&batch.pictures, &part, &device), key, part.clone(), n);
            let conditioning = Conditioning {
                log_snr: noised.levels().iter().map(|level| level.get()).collect(),
                text: self.text(batch, part.clone(), step, &device)?,
                low_resolution: self.low_resolution(batch, part, step, &device)?,
            };
            let prediction = state.unet.forward(noised.z(), &conditioning)?;
            let loss = noised.loss(prediction);
            let value = f64::from(loss.mean.clone().into_scalar::<f32>());
            if !value.is_finite() {
                let message = format!("step {}: the loss is {value}; lower train.lr or set train.clip_norm", step + 1);
                return Err(Error::new(ErrorKind::NonFinite, message));
            }
            total += share * value;
            sum.add(&state.unet, &(loss.mean * share as f32).backward());
        }
        Ok((sum, total))
    }

    /// The captions of a part of the batch, some of them dropped.
    fn text(&self, batch: &Batch, part: Range<usize>, step: u64, device: &Device) -> Result<Option<Text>> {
        let Some(captions) = &self.captions else { return Ok(None) };
        let n = part.len();
        let ids = batch.captions[part.clone()].iter().zip(&batch.examples[part.clone()]).map(|(caption, example)| {
            let caption = caption.ok_or_else(|| Error::data(format!("picture {example} has no caption")))?;
            Ok(captions.ids[caption])
        });
        let embedding = captions.cache.batch(&ids.collect::<Result<Vec<_>>>()?, captions.max_tokens, device)?;
        let drop_prob = self.run.recipe.train.text_drop_prob;
        let key = self.rng.fold(stream::TEXT_DROP).fold(step);
        let kept = part.map(|i| if key.fold(i as u64).unit() < drop_prob { 0.0f32 } else { 1.0 });
        let kept = Tensor::<3>::from_data(TensorData::new(kept.collect::<Vec<_>>(), [n, 1, 1]), device);
        Ok(Some(Text { sequence: embedding.sequence * kept, mask: embedding.mask }))
    }

    /// The low-resolution pictures of a part of the batch, up-sampled and noised at a random level each (A6).
    fn low_resolution(
        &self,
        batch: &Batch,
        part: Range<usize>,
        step: u64,
        device: &Device,
    ) -> Result<Option<LowResolution>> {
        let Some(low) = batch.low_res.as_ref().map(|low| pictures(low, &part, device)) else { return Ok(None) };
        let key = |stream: u64, i: usize| self.rng.fold(stream).fold(step).fold(i as u64);
        let levels: Vec<AugLevel> = part.clone().map(|i| AugLevel::draw(key(stream::AUG_LEVEL, i))).collect();
        let keys: Vec<Rng> = part.map(|i| key(stream::AUG_NOISE, i)).collect();
        let picture = augment(upsample(low, batch.pictures.shape[2]), &levels, &keys);
        Ok(Some(LowResolution { picture, log_snr: levels.iter().map(|l| l.log_snr().get()).collect() }))
    }

    /// Writes the averaged weights as a stage beside the state.
    fn write_stage(&self, state: &TrainState) -> Result<()> {
        let stage = &self.run.recipe.stage;
        let path = self.run.folder.join(format!("{}.safetensors", stage.stage));
        write_stage(&path, stage, state.step, &self.encoder_identity, &state.averaged()?)
    }
}

/// A part of a batch's pictures as a tensor.
fn pictures(pixels: &Pixels, part: &Range<usize>, device: &Device) -> Tensor<4> {
    let [_, h, w, c] = pixels.shape;
    let values = pixels.values[part.start * h * w * c..part.end * h * w * c].to_vec();
    Tensor::from_data(TensorData::new(values, [part.len(), h, w, c]), device)
}

/// Copies a run's averaged weights into a model folder as one of its stages, and the text encoder where it has none yet.
///
/// # Errors
/// `Model` where the run has not written a stage yet, or the folder holds another text encoder; `Io`.
pub fn export(run: &Path, model: &Path, text: &EncoderFiles) -> Result<PathBuf> {
    let recipe = Recipe::read(&run.join("recipe.toml"))?;
    let name = format!("{}.safetensors", recipe.stage.stage);
    let from = run.join(&name);
    StageFile::open(&from).context(|| format!("run {}", run.display()))?;
    let folder = model.join("text");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let files =
        [("config.json", &text.config), ("tokenizer.json", &text.tokenizer), ("model.safetensors", &text.weights)];
    for (file, bytes) in files {
        let path = folder.join(file);
        match std::fs::read(&path) {
            Ok(there) if there == **bytes => {}
            Ok(_) => {
                return Err(Error::model(format!(
                    "{} is of another text encoder than the run's; export to another folder",
                    path.display()
                )));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                write_atomically(&path, |file| file.write_all(bytes)).map_err(|e| Error::io("write", &path, e))?;
            }
            Err(e) => return Err(Error::io("read", &path, e)),
        }
    }
    let to = model.join(name);
    // whoever draws with the old file meanwhile has it mapped and keeps it
    let stage = FileBytes::map(&from).map_err(|e| Error::io("read", &from, e))?;
    write_atomically(&to, |file| file.write_all(&stage)).map_err(|e| Error::io("write", &to, e))?;
    Ok(to)
}
