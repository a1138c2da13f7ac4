//! A recipe: everything that a training run is a function of, as one TOML file.
//!
//! Unknown keys are errors (`keys` says what was meant). Paths are relative to the directory in which the program runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ema::Average;
use super::keys;
use super::optimizer::{Optimizer, OptimizerName};
use crate::cascade::StageConfig;
use crate::data::Deal;
use crate::diffusion::{LossWeight, TimeSampling};
use crate::error::{Context, Error, Result};
use crate::files::write_whole;
use crate::input;

/// A training recipe for one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained; becomes the header of its weights.
    pub stage: StageConfig,
    /// The pictures and captions.
    pub data: DataConfig,
    /// The loop.
    pub train: TrainConfig,
}

/// Where the pictures come from and what is done to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// An image folder, a tar shard, or a JSON file of COCO captions.
    pub folder: PathBuf,
    /// The file of the captions' embeddings, which is completed where it lacks some; `captions.safetensors` in the run's folder
    /// where absent.
    #[serde(default)]
    pub captions: Option<PathBuf>,
    /// Side of the random crop that a super-resolution stage trains on, in pixels of the high resolution; the whole
    /// picture where absent.
    #[serde(default)]
    pub crop: Option<usize>,
    /// Mirror half of the pictures. Off by default: captions speak of left and right.
    #[serde(default)]
    pub flip: bool,
    /// Deal one picture of each `concept` of `metadata.jsonl` an epoch, instead of every picture.
    #[serde(default)]
    pub by_concept: bool,
    /// Probability that a picture gets its canonical caption (`text`); otherwise any of its captions.
    #[serde(default)]
    pub canonical_prob: f64,
    /// Pictures whose shorter side has fewer pixels are skipped; 0 takes any.
    #[serde(default)]
    pub min_side: usize,
    /// The largest part of the pictures that may be skipped, because they are damaged or too small; above it the run stops.
    #[serde(default = "default_max_bad")]
    pub max_bad: f64,
    /// Memory for decoded pictures, in MiB.
    #[serde(default = "default_cache")]
    pub cache_mib: usize,
}

/// The most bytes of a recipe.
const MAX_BYTES: u64 = 1 << 20;

fn default_max_bad() -> f64 {
    Deal::default().max_bad
}

fn default_cache() -> usize {
    2048
}

/// The training loop's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch: usize,
    /// Pictures that pass through the network at once; gradients of the parts are summed. The whole batch where absent.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Keep fewer maps for the way back and make them again (gradient checkpointing): less memory, more time.
    #[serde(default)]
    pub checkpoint_blocks: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up from 0.
    pub warmup: u64,
    /// Whether the rate then falls to 0 along half a cosine until `steps`.
    #[serde(default)]
    pub cosine_decay: bool,
    /// Adam, AdamW or Adafactor.
    #[serde(default)]
    pub optimizer: OptimizerName,
    /// Decay of the first moment: 0.9 for Adam and AdamW where absent; Adafactor then keeps none.
    #[serde(default)]
    pub beta1: Option<f64>,
    /// Decay of Adam's and AdamW's second moment; 0.999 where absent.
    #[serde(default)]
    pub beta2: Option<f64>,
    /// Decoupled weight decay, a share of the learning rate: of AdamW (0.01 where absent) and Adafactor (none).
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// Adafactor: whether the learning rate is a share of each parameter's root mean square.
    #[serde(default)]
    pub relative_lr: bool,
    /// Adafactor: the smallest side of a matrix whose second moments are kept as the means of its rows and columns; those
    /// of smaller ones are kept whole. 0 factors every matrix; optax, with which the paper trained, has 128.
    #[serde(default)]
    pub min_dim_size_to_factor: usize,
    /// Largest gradient norm; longer gradients are scaled down. None where absent.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights, per step.
    #[serde(default)]
    pub ema_decay: Option<f64>,
    /// Further moving averages, by the number of pictures after which half is left; the first average of all is the one
    /// that is drawn with, `imagen export --ema` chooses another.
    #[serde(default)]
    pub ema_half_lives: Vec<u64>,
    /// Patterns over parameter names (`embedder.*`): what they match stays as it is.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Weight of each picture's loss by its noise level.
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// How the times of a batch are drawn: evenly spread over it, or independently as in the paper (`uniform`).
    #[serde(default = "default_times")]
    pub times: TimeSampling,
    /// Probability that a picture is trained without its text (section 4.1: 0.1).
    #[serde(default = "default_text_drop")]
    pub text_drop_prob: f64,
    /// Seed of everything random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// States that are kept, the newest included; each takes as much of the disk as the newest.
    #[serde(default = "one")]
    pub keep_last: usize,
    /// Steps between validations on held-out pictures, whose best weights are kept; 0 for none.
    #[serde(default)]
    pub validate_every: u64,
    /// Pictures in a validation.
    #[serde(default = "default_validate_pictures")]
    pub validate_pictures: usize,
    /// Steps that may be skipped one after the other because a loss or gradient is not finite; the run stops at that one.
    #[serde(default = "default_max_skipped")]
    pub max_skipped: u64,
    /// Steps between grids of sampled pictures; 0 for none.
    #[serde(default)]
    pub sample_every: u64,
    /// Captions of the sampled grid.
    #[serde(default)]
    pub sample_prompts: Vec<String>,
    /// Steps that a line of `metrics.jsonl` is the mean of.
    #[serde(default = "default_log_every")]
    pub log_every: u64,
    /// Steps between measurements of what the captions are worth to the network; 0 for none, with the grids where absent.
    #[serde(default)]
    pub probe_every: Option<u64>,
    /// Held-out pictures that a finished super-resolution run is judged by (`enlargement.json`); 0 for none.
    #[serde(default = "default_enlarge_pictures")]
    pub enlarge_pictures: usize,
}

fn default_times() -> TimeSampling {
    TimeSampling::LowDiscrepancy
}

fn default_enlarge_pictures() -> usize {
    8
}

fn default_log_every() -> u64 {
    10
}

fn default_text_drop() -> f64 {
    0.1
}

fn one() -> usize {
    1
}

fn default_validate_pictures() -> usize {
    64
}

fn default_max_skipped() -> u64 {
    10
}

fn default_checkpoint_every() -> u64 {
    1000
}

/// Numbers beyond which a recipe is mistaken.
const MAX_BATCH: usize = 1 << 20;
const MAX_STEPS: u64 = 1 << 40;

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// `Io` where the file cannot be read; `Data` with line and column where it is no recipe.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &[] as &[&str])
    }

    /// Reads a recipe in which some values are replaced: `train.lr=1e-4`, `stage.unet.levels.0.channels=32`.
    ///
    /// # Errors
    /// Those of [`Self::read`]; `Usage` where an assignment cannot be read or names a key that there is not.
    pub fn read_with<S: AsRef<str>>(path: &Path, assignments: &[S]) -> Result<Self> {
        let bytes = input::read(path, MAX_BYTES)?;
        let parse = || Self::parse_with(&input::text(&bytes)?.text, assignments);
        parse().context(|| format!("recipe {}", path.display()))
    }

    /// Parses and validates a recipe.
    ///
    /// # Errors
    /// `Data` where it is no recipe or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &[] as &[&str])
    }

    /// [`Self::parse`] with some values replaced, as in [`Self::read_with`].
    ///
    /// # Errors
    /// Those of [`Self::parse`]; `Usage` where an assignment cannot be read or names a key that there is not.
    pub fn parse_with<S: AsRef<str>>(text: &str, assignments: &[S]) -> Result<Self> {
        let recipe = keys::parse(text, assignments)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Writes the recipe with every default spelt out, whole or not at all.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, |file| file.write_all(self.to_toml().as_bytes())).map_err(|e| Error::io("write", path, e))
    }

    /// What tells this recipe from others: eight digits that depend on every value of which a step is a function. How
    /// many steps there are is none of them, unless the learning rate falls towards the last, nor is what is saved when.
    pub fn digest(&self) -> String {
        let mut step = self.clone();
        if !step.train.cosine_decay {
            step.train.steps = 0;
        }
        (step.train.checkpoint_every, step.train.sample_every, step.data.cache_mib) = (0, 0, 0);
        (step.train.keep_last, step.train.validate_every, step.train.validate_pictures) = (0, 0, 0);
        (step.train.log_every, step.train.probe_every, step.train.enlarge_pictures) = (1, None, 0);
        step.train.sample_prompts.clear();
        format!("{:08x}", crc32fast::hash(step.to_toml().as_bytes()))
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    /// The values that differ from those of another recipe, as `key = value (was value)`; how many steps there are is none.
    pub fn changes_from(&self, before: &Self) -> Vec<String> {
        let mut changes = changes("", self, before);
        changes.retain(|change| !change.starts_with("train.steps = "));
        changes
    }

    fn validate(&self) -> Result<()> {
        self.stage.validate().context(|| "stage")?;
        let t = &self.train;
        let fail = |message: &str| Err(Error::data(message.to_owned()));
        if t.batch == 0 || t.steps == 0 {
            return fail("train: batch and steps must be at least 1");
        }
        if t.batch > MAX_BATCH || t.steps > MAX_STEPS {
            return fail(&format!("train: expected a batch of at most {MAX_BATCH} and at most {MAX_STEPS} steps"));
        }
        if t.log_every == 0 {
            return fail("train.log_every must be at least 1: metrics.jsonl gets a line every so many steps");
        }
        if t.micro_batch.is_some_and(|m| m == 0 || t.batch % m != 0) {
            return fail("train.micro_batch must divide train.batch");
        }
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        if t.lr == 0.0 || !below_one(t.lr) {
            return fail("train: 0 < lr < 1");
        }
        Optimizer::of(t)?;
        Average::of(t)?;
        if !(0.0..=1.0).contains(&t.text_drop_prob) || t.clip_norm.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return fail("train: text_drop_prob is a probability, clip_norm is above 0");
        }
        if t.checkpoint_every == 0 || t.keep_last == 0 || t.validate_pictures == 0 || t.max_skipped == 0 {
            return fail("train: checkpoint_every, keep_last, validate_pictures and max_skipped must be at least 1");
        }
        let parts = [self.data.max_bad, self.data.canonical_prob];
        if parts.iter().any(|part| !(0.0..=1.0).contains(part)) {
            return fail("data: max_bad and canonical_prob are from 0 to 1");
        }
        if let Some(crop) = self.data.crop {
            let unit = self.stage.unet.granularity();
            let scale = self.stage.low_size.map(|low| self.stage.size / low);
            let fits = crop > 0 && crop <= self.stage.size && crop % unit == 0;
            if self.stage.unet.side().is_some() {
                return fail("data.crop: a network with learned positions needs whole pictures; remove one of the two");
            }
            if !fits || scale.is_none_or(|scale| crop % scale != 0) {
                return fail(
                    "data.crop is for super-resolution stages: at most stage.size, a multiple of the network's \
                     granularity and of size / low_size",
                );
            }
        }
        Ok(())
    }

    /// Learning rate of step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let t = &self.train;
        if step < t.warmup {
            return t.lr * (step + 1) as f64 / t.warmup as f64;
        }
        if !t.cosine_decay {
            return t.lr;
        }
        let progress = (step - t.warmup) as f64 / (t.steps.saturating_sub(t.warmup)).max(1) as f64;
        t.lr * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
    }
}

/// The values of `now` that differ from those of `before`, as `key = value (was value)`, their keys below `path`.
pub(super) fn changes<T: Serialize>(path: &str, now: &T, before: &T) -> Vec<String> {
    fn leaves(value: &toml::Value, path: &str, into: &mut BTreeMap<String, String>) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| leaves(value, &below(key), into)),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                list.iter().enumerate().for_each(|(i, value)| leaves(value, &below(&i.to_string()), into));
            }
            leaf => drop(into.insert(path.to_owned(), leaf.to_string())),
        }
    }
    let [new, old] = [now, before].map(|values| {
        let mut found = BTreeMap::new();
        leaves(&toml::Value::try_from(values).expect("a recipe is plain data"), path, &mut found);
        found
    });
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key))
        .map(|key| format!("{key} = {} (was {})", shown(new.get(key)), shown(old.get(key))))
        .collect()
}
