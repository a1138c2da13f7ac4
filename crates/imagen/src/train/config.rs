//! What a recipe says of its data and of its training.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::lora::LoraConfig;
use crate::data::Deal;
use crate::diffusion::{LossWeight, TimeSampling};
use crate::names::named;
use crate::nn::Precision;
use crate::nn::device::DeviceName;

/// Where the pictures come from and what is done to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// An image folder, a tar shard, or a JSON file of COCO captions; relative to the folder in which the program is started.
    pub folder: PathBuf,
    /// The file of the captions' embeddings, which is completed where it lacks some; `captions.safetensors` in the run's folder
    /// by default.
    #[serde(default)]
    pub captions: Option<PathBuf>,
    /// Side of the random crop that a super-resolution stage trains on, in pixels of the high resolution; the whole
    /// picture by default.
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

/// The names of the optimizers in a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptimizerName {
    /// Adam.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Adafactor.
    Adafactor,
}

named!(OptimizerName, "optimizer", Adam = "adam", AdamW = "adamw", Adafactor = "adafactor");

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
    /// Pictures that pass through the network at once; gradients of the parts are summed. The whole batch by default.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Keep fewer maps for the backward pass and make them again (gradient checkpointing): less memory, more time.
    #[serde(default)]
    pub checkpoint_blocks: bool,
    /// What convolutions and linear layers multiply, forward and back, and the text encoder where captions of a composed world
    /// are encoded as they come; validations are in f32 always.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
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
    /// Decay of the first moment: 0.9 for Adam and AdamW by default; Adafactor then keeps none.
    #[serde(default)]
    pub beta1: Option<f64>,
    /// Decay of Adam's and AdamW's second moment; 0.999 by default.
    #[serde(default)]
    pub beta2: Option<f64>,
    /// Decoupled weight decay, a share of the learning rate: of AdamW (0.01 by default) and Adafactor (none).
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// Adafactor: whether the learning rate is a share of each parameter's root mean square.
    #[serde(default)]
    pub relative_lr: bool,
    /// Adafactor: the smallest side of a matrix whose second moments are kept as the means of its rows and columns; those
    /// of smaller ones are kept whole. 0 factors every matrix; optax, with which the paper trained, has 128.
    #[serde(default)]
    pub min_dim_size_to_factor: usize,
    /// Largest gradient norm; longer gradients are scaled down. None by default.
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
    /// Learn low-rank adapters (LoRA) in place of the weights of the model that `--init-from` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Weight of each picture's loss by its noise level. `paper` has no bound where a network predicts x and the noise is
    /// little; `min-snr` has.
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// Weight of the cross-entropy of the names that the auxiliary head gives (`stage.unet.things`), beside the loss.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub naming_weight: f64,
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
    /// Steps between measurements of what the captions are worth to the network; 0 for none, with the grids by default.
    #[serde(default)]
    pub probe_every: Option<u64>,
    /// Held-out pictures that a finished super-resolution run is judged by (`enlargement.json`); 0 for none.
    #[serde(default = "default_enlarge_pictures")]
    pub enlarge_pictures: usize,
    /// Where to compute, as for `--device` (`cuda:1`, `webgpu`, `auto`); the CPU by default. A run may go on on another device.
    #[serde(default)]
    pub device: Option<DeviceName>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
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
