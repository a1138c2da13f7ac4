//! `imagen models convert`: weights that came from PyTorch become stages of a model folder, or it is said why they cannot.
//!
//! The file is what `tools/pytorch_to_safetensors.py` writes. A state dict of this program's own U-Net is carried over whole,
//! and so are the stages of imagen-pytorch, which are networks of their own and can be drawn from.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value};

use imagen::cascade::{Record, from_state_dict, imagen_pytorch, write_stage};
use imagen::input;
use imagen::models::weights::Weights;
use imagen::text::{self, EncoderFiles, TextOptions};
use imagen::train::{Recipe, copy_encoder};

use crate::cli::shared::{self, TextEncoder};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::output::own_folder_if_there;

/// Turn weights that came from PyTorch into stages of a model folder
///
/// Reads what tools/pytorch_to_safetensors.py wrote; pickled files are never read. A checkpoint of imagen-pytorch brings all
/// its stages and, where its model was made from a configuration, its settings; any other file is one U-Net of this program,
/// as the recipe describes it, under PyTorch's names and axes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    imagen models convert base-pt.safetensors --recipe recipes/shapes/base.toml --model models/shapes\n  \
    imagen models convert checkpoint.safetensors --model models/mine --text-encoder t5-v1_1-base\n\n\
    Settings of imagen-pytorch are the arguments of its class Imagen as JSON:\n  \
    {\"image_sizes\": [64, 256], \"timesteps\": 1000, \"pred_objectives\": [\"noise\", \"v\"]}\n\n\
    Its models draw with as many steps as they were given timesteps, mostly 1000; fifty of another\n\
    sampler come near that: imagen sample --sampler dpm++2m --steps 50")]
pub(in crate::cli) struct Convert {
    /// The state dict, as safetensors
    file: PathBuf,
    /// The model folder; made where there is none, other stages in it stay
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// A recipe whose [stage] describes the network
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Settings of imagen-pytorch that the checkpoint does not bring
    #[arg(long, value_name = "JSON-FILE")]
    settings: Option<PathBuf>,
    /// What the names of the network's tensors begin with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Training steps that the weights have seen, where the file does not say
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    #[command(flatten)]
    text_encoder: TextEncoder,
}

const ENCODER_HINT: &str = "name the right one with --text-encoder";

impl Convert {
    pub(super) fn run(self) -> Result<()> {
        let weights = Weights::open(&self.file)?;
        // what a killed conversion left half-written goes
        let _model = own_folder_if_there(&self.model)?;
        let _text = own_folder_if_there(&self.model.join("text"))?;
        let device = shared::cpu();
        if imagen_pytorch::is_checkpoint(&weights) {
            return self.imagen_pytorch(&weights, &device);
        }
        let Some(recipe) = &self.recipe else {
            let failure = Failure::usage("--recipe is needed: what the network is");
            return Err(failure.hint("a recipe's [stage] describes a network, as in recipes/"));
        };
        let config = Recipe::read(recipe)?.stage;
        let unet = from_state_dict(&config.unet, &weights, &self.prefix, &device)?;
        let encoder = self.encoder(config.unet.text_dim, &device);
        let (files, identity) = encoder.map_err(|failure| failure.hint(ENCODER_HINT))?;
        copy_encoder(&self.model, &files)?;
        let path = self.model.join(format!("{}.safetensors", config.stage));
        write_stage(&path, &config, &Record::of_steps(self.steps), &identity, &unet)?;
        print_line(path.display())
    }

    /// Every stage that a checkpoint of imagen-pytorch holds.
    fn imagen_pytorch(&self, weights: &Weights, device: &Device) -> Result<()> {
        if self.recipe.is_some() {
            let failure =
                Failure::usage("--recipe does not go with a checkpoint of imagen-pytorch, whose networks are its own");
            return Err(failure.hint("leave it out; what the checkpoint does not say goes into --settings"));
        }
        if !self.prefix.is_empty() {
            return Err(Failure::usage(
                "--prefix does not go with a checkpoint of imagen-pytorch, which says what is what",
            ));
        }
        let settings = self.settings.as_deref().map(read_settings).transpose()?;
        let stages = imagen_pytorch::read(weights, settings.as_ref()).map_err(|e| {
            Failure::from(e).hint("what the checkpoint does not say of itself goes into a JSON file: --settings FILE")
        })?;
        let text_dim = stages.iter().map(|stage| stage.config.unet.text_dim).max().unwrap_or(0);
        let (files, identity) = self.encoder(text_dim, device).map_err(|failure| {
            match stages.iter().find_map(|stage| stage.text_encoder.as_ref()) {
                Some(name) => {
                    failure.hint(format_args!("it was trained with {name}: name its folder with --text-encoder"))
                }
                None => failure.hint(ENCODER_HINT),
            }
        })?;
        copy_encoder(&self.model, &files)?;
        for stage in &stages {
            if stage.steps == Some(0) {
                eprintln!("stage {} has not been trained and is left out", stage.config.stage);
                continue;
            }
            let path = self.model.join(format!("{}.safetensors", stage.config.stage));
            stage.write(weights, &path, stage.steps.unwrap_or(self.steps), &identity, device)?;
            print_line(path.display())?;
        }
        Ok(())
    }

    /// The text encoder's files and identity, if its vectors have the width that the networks take.
    fn encoder(&self, text_dim: usize, device: &Device) -> Result<(EncoderFiles, String)> {
        let files = self.text_encoder.files()?;
        let encoder = text::load(files.clone(), &TextOptions::default(), device)?;
        if text_dim > 0 && encoder.dim() != text_dim {
            let message = format!(
                "the text encoder gives vectors of {} numbers, and the network takes {text_dim} (unet.text_dim)",
                encoder.dim()
            );
            return Err(Failure::new(Exit::Model, message));
        }
        Ok((files, encoder.identity().to_owned()))
    }
}

fn read_settings(path: &Path) -> Result<Map<String, Value>> {
    let bytes = input::read(path, input::MOST_TEXT)
        .map_err(|e| Failure::new(Exit::Model, format_args!("cannot read the settings: {e:#}")))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let failure = Failure::usage(format_args!("{} is no JSON object: {e}", path.display()));
        failure.hint("expected the arguments of imagen-pytorch's class Imagen, such as {\"image_sizes\": [64, 256]}")
    })
}
