//! `imagen models convert`: weights that came from PyTorch become a stage of a model folder, or it is said why they cannot.
//!
//! The file is what `tools/pytorch_to_safetensors.py` writes. A state dict of this program's own U-Net is carried over whole.
//! imagen-pytorch's U-Nets are other networks, whose weights would mean nothing in this one: nothing of them is written, and
//! what stands in the way is listed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use imagen::cascade::{Record, from_state_dict, write_stage};
use imagen::models::weights::Weights;
use imagen::text::{self, TextOptions};
use imagen::train::{Recipe, copy_encoder};

use crate::cli::shared::{self, TextEncoder};
use crate::failure::{Exit, Failure, Result, print_line};

/// Turn weights that came from PyTorch into a stage of a model folder
///
/// Reads what tools/pytorch_to_safetensors.py wrote; pickled files are never read. The U-Net must be one of this program's, as
/// the recipe describes it, under PyTorch's names and axes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  imagen models convert base-pt.safetensors --recipe recipes/shapes/base.toml --model models/shapes"
)]
pub(in crate::cli) struct Convert {
    /// The state dict, as safetensors
    file: PathBuf,
    /// A recipe whose [stage] describes the network
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// The model folder; made where there is none, other stages in it stay
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// What the names of the network's tensors begin with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Training steps that the weights have seen
    #[arg(long, value_name = "N", default_value = "1")]
    steps: u64,
    #[command(flatten)]
    text_encoder: TextEncoder,
}

impl Convert {
    pub(super) fn run(self) -> Result<()> {
        let weights = Weights::open(&self.file)?;
        if let Some(units) = foreign(&weights) {
            return Err(self.refuse(&weights, &units));
        }
        let (Some(recipe), Some(model)) = (&self.recipe, &self.model) else {
            let failure =
                Failure::usage("--recipe and --model are needed: what the network is, and where the stage goes");
            return Err(failure.hint("a recipe's [stage] describes a network, as in recipes/"));
        };
        let config = Recipe::read(recipe)?.stage;
        let device = shared::device();
        let unet = from_state_dict(&config.unet, &weights, &self.prefix, &device)?;
        let files = self.text_encoder.files()?;
        let encoder = text::load(files.clone(), &TextOptions::default(), &device)?;
        if config.unet.text_dim > 0 && encoder.dim() != config.unet.text_dim {
            let (gives, takes) = (encoder.dim(), config.unet.text_dim);
            let message = format!(
                "the text encoder gives vectors of {gives} numbers, and the network takes {takes} (unet.text_dim)"
            );
            return Err(Failure::new(Exit::Model, message).hint("name the right one with --text-encoder"));
        }
        copy_encoder(model, &files)?;
        let path = model.join(format!("{}.safetensors", config.stage));
        write_stage(&path, &config, &Record::of_steps(self.steps), encoder.identity(), &unet)?;
        print_line(path.display())
    }

    /// What an imagen-pytorch checkpoint holds, and why it stays there.
    fn refuse(&self, weights: &Weights, units: &BTreeMap<String, Vec<String>>) -> Failure {
        let mut lines = vec![format!(
            "{} holds {} U-Nets of imagen-pytorch, which are other networks than this program's; nothing was written",
            self.file.display(),
            units.len()
        )];
        for (unit, names) in units {
            let has = |part: &str| names.iter().any(|name| name.contains(part));
            let numbers: usize = names
                .iter()
                .filter_map(|name| weights.shape(&format!("{unit}.{name}")))
                .map(|s| s.iter().product::<usize>())
                .sum();
            let found: Vec<&str> = OBSTACLES.iter().filter(|(part, _)| has(part)).map(|(_, why)| *why).collect();
            lines.push(format!(
                "  {unit}: {} tensors, {} parameters, none of them carried over: {}",
                names.len(),
                crate::system::count(numbers as u64),
                found.join("; ")
            ));
        }
        let settings: Value = weights
            .metadata()
            .get("imagen.settings")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        if let Some(parameters) = settings.get("parameters").and_then(Value::as_object) {
            let known = [
                "image_sizes",
                "text_encoder_name",
                "noise_schedules",
                "pred_objectives",
                "timesteps",
                "cond_drop_prob",
            ];
            let said = parameters.iter().filter(|(key, _)| known.contains(&key.as_str()));
            let said: Vec<String> = said.map(|(key, value)| format!("{key} {value}")).collect();
            if !said.is_empty() {
                lines.push(format!("  its settings, for a recipe: {}", said.join(", ")));
            }
        }
        Failure::new(Exit::Model, lines.join("\n"))
            .hint("train a network of this program on the same pictures; its T5 encoder can be used as it is (--text-encoder)")
    }
}

/// A part of the names in imagen-pytorch's U-Nets, and what it is that this program's have not.
const OBSTACLES: [(&str, &str); 8] = [
    ("init_conv.convs.", "a first convolution of several window sizes"),
    (
        "block1.norm.gamma",
        "norms over the channels of a pixel where this program's are over groups of channels and all pixels",
    ),
    ("to_time_hiddens.0.weights", "noise levels as learned sinusoids"),
    ("null_kv", "attention with one head of keys and values, normalised, and a learned empty key"),
    ("attn_pool.latents", "text pooled by a perceiver"),
    ("gca.", "blocks scaled by their whole map"),
    ("cross_attn", "attention to the text within residual blocks"),
    ("to_text_non_attn_cond", "another path from the text to the blocks' embedding"),
];

/// The tensors of each `unets.N` of imagen-pytorch, where the file is one of its checkpoints.
fn foreign(weights: &Weights) -> Option<BTreeMap<String, Vec<String>>> {
    let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in weights.names() {
        if let Some((number, rest)) = name.strip_prefix("unets.").and_then(|rest| rest.split_once('.')) {
            units.entry(format!("unets.{number}")).or_default().push(rest.to_owned());
        }
    }
    (!units.is_empty()).then_some(units)
}
