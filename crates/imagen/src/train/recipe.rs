//! A recipe: everything that a training run is a function of, as one TOML file.
//!
//! Unknown keys are errors. Paths are relative to the directory in which the program runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cascade::StageConfig;
use crate::data::Deal;
use crate::diffusion::LossWeight;
use crate::error::{Context, Error, Result};

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
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up from 0.
    pub warmup: u64,
    /// Whether the rate then falls to 0 along half a cosine until `steps`.
    #[serde(default)]
    pub cosine_decay: bool,
    /// Adam's second-moment decay.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// Largest gradient norm; longer gradients are scaled down. None where absent.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights.
    pub ema_decay: f64,
    /// Weight of each picture's loss by its noise level.
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// Probability that a picture is trained without its text (section 4.1: 0.1).
    #[serde(default = "default_text_drop")]
    pub text_drop_prob: f64,
    /// Seed of everything random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Steps between grids of sampled pictures; 0 for none.
    #[serde(default)]
    pub sample_every: u64,
    /// Captions of the sampled grid.
    #[serde(default)]
    pub sample_prompts: Vec<String>,
}

fn default_beta2() -> f64 {
    0.999
}

fn default_text_drop() -> f64 {
    0.1
}

fn default_checkpoint_every() -> u64 {
    1000
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// `Io` where the file cannot be read; `Data` with line and column where it is no recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the recipe", path, e))?;
        Self::parse(&text).context(|| format!("recipe {}", path.display()))
    }

    /// Parses and validates a recipe.
    ///
    /// # Errors
    /// `Data` where it is no recipe or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|e| Error::data(e.to_string().trim_end().to_owned()))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    fn validate(&self) -> Result<()> {
        self.stage.validate().context(|| "stage")?;
        let t = &self.train;
        let fail = |message: &str| Err(Error::data(message.to_owned()));
        if t.batch == 0 || t.steps == 0 {
            return fail("train: batch and steps must be at least 1");
        }
        if t.micro_batch.is_some_and(|m| m == 0 || t.batch % m != 0) {
            return fail("train.micro_batch must divide train.batch");
        }
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        if t.lr == 0.0 || ![t.lr, t.beta2, t.ema_decay].into_iter().all(below_one) {
            return fail("train: 0 < lr < 1, 0 ≤ beta2 < 1, 0 ≤ ema_decay < 1");
        }
        if !(0.0..=1.0).contains(&t.text_drop_prob) || t.clip_norm.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return fail("train: text_drop_prob is a probability, clip_norm is above 0");
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
