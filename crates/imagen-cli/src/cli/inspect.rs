//! `imagen inspect`: what a model, a weights file or a recipe holds, and what a picture costs in each part of its networks.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use imagen::cascade::deepfloyd::DeepFloyd;
use imagen::cascade::lora::Lora;
use imagen::cascade::{ModelFiles, Need, Record, StageConfig, StageFile, StageName, Status};
use imagen::models::unet::{LevelCost, cost};
use imagen::said::{bytes, count, counted};
use imagen::train::Recipe;

use super::draw::FrozenArgs;
use super::plan::one_batch;
use super::shared;
use crate::failure::{Exit, Failure, Result, print_line};

const EXAMPLES: &str = "\
Examples:
  imagen inspect
  imagen inspect models/my-model
  imagen inspect recipes/shapes/base.toml --json";

/// Show what is in a model, a weights file or a recipe, and what drawing costs
///
/// Multiply-adds are for one picture passing through the network once; activations are what a training step keeps of it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// A model folder, also DeepFloyd IF's, a pulled OWNER/NAME, a .safetensors file or a recipe (.toml); the built-in model
    /// by default
    #[arg(value_name = "FILE|FOLDER|NAME")]
    what: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A stage that was looked at.
struct Inspected {
    config: StageConfig,
    /// How it was trained, and the size of its file; absent for a recipe.
    trained: Option<(Record, usize)>,
    levels: Vec<LevelCost>,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<()> {
        let folder = self.what.as_deref().map(shared::model_folder).transpose()?;
        if let Some(folder) = folder.as_deref().filter(|folder| DeepFloyd::is_folder(folder)) {
            return self.deepfloyd(folder);
        }
        if let Some(lora) = folder.as_deref().filter(|path| path.is_file()).map(Lora::find).transpose()?.flatten() {
            return self.adapters(&lora);
        }
        let (label, stages) = look(folder.as_deref())?;
        if self.json {
            let stages: Vec<Value> = stages.iter().map(Inspected::to_json).collect();
            return print_line(json!({ "source": label, "stages": stages }));
        }
        let mut text = label;
        for stage in &stages {
            write!(text, "\n\n{}", stage.describe()).expect("writing to a string");
        }
        print_line(text)
    }

    /// A file of low-rank adapters.
    fn adapters(&self, lora: &Lora) -> Result<()> {
        let (adapters, parameters) = (lora.adapters.len(), lora.parameters());
        if self.json {
            return print_line(json!({
                "source": lora.label(), "format": "lora", "stage": lora.stage, "step": lora.step,
                "adapters": adapters, "parameters": parameters,
            }));
        }
        let step =
            lora.step.map(|step| format!(", trained for {}", counted(step as usize, "step"))).unwrap_or_default();
        print_line(format_args!(
            "{}\n\nLoRA for {}: {} of {} parameters{step}\n  imagen sample … --lora {0}",
            lora.label(),
            lora.stage,
            counted(adapters, "adapter"),
            count(parameters as u64),
        ))
    }

    /// A folder of DeepFloyd IF: its parts in the order in which they run.
    fn deepfloyd(&self, folder: &Path) -> Result<()> {
        let model = FrozenArgs::default().planned(Some(folder))?;
        let needs = model.needs(&one_batch(&model, 1))?;
        let stages = model.stages();
        let side = |need: &Need| stages.iter().find(|info| Some(info.stage) == need.stage).map(|info| info.size);
        if self.json {
            let part = |need: &Need| {
                json!({
                    "part": need.what, "side": side(need), "parameters": need.parameters,
                    "weight_bytes": need.row(Need::WEIGHTS), "map_bytes": need.row(Need::MAPS),
                    "multiply_adds": need.multiply_adds,
                })
            };
            let parts: Vec<Value> = needs.iter().map(part).collect();
            return print_line(
                json!({ "source": folder.display().to_string(), "format": "deepfloyd", "parts": parts }),
            );
        }
        let mut text = format!(
            "{}: DeepFloyd IF, {}\n\n  {:<16} {:>5} {:>12} {:>12} {:>14}",
            folder.display(),
            counted(stages.len(), "stage"),
            "part",
            "side",
            "parameters",
            "weights",
            "multiply-adds"
        );
        for need in &needs {
            let known = |n: u64| if n == 0 { String::new() } else { count(n) };
            write!(
                text,
                "\n  {:<16} {:>5} {:>12} {:>12} {:>14}",
                need.what,
                side(need).map(|side| side.to_string()).unwrap_or_default(),
                known(need.parameters),
                bytes(need.row(Need::WEIGHTS)),
                known(need.multiply_adds)
            )
            .expect("writing to a string");
        }
        print_line(text)
    }
}

fn look(what: Option<&Path>) -> Result<(String, Vec<Inspected>)> {
    match what {
        None => look_at_model(&shared::named_model(None)?),
        Some(path) if path.is_dir() => look_at_model(&ModelFiles::Folder(path.to_owned())),
        Some(path) if path.extension().is_some_and(|e| e == "toml") => {
            Ok((path.display().to_string(), vec![Inspected::of_recipe(Recipe::read(path)?.stage)]))
        }
        Some(path) => Ok((path.display().to_string(), vec![Inspected::of_file(&open(path)?)])),
    }
}

fn open(path: &Path) -> Result<StageFile> {
    if !path.exists() {
        return Err(Failure::new(Exit::Model, format_args!("there is no {}", path.display())));
    }
    if let Some(ending) =
        path.extension().and_then(|e| e.to_str()).filter(|e| ["png", "jpg", "jpeg", "webp"].contains(e))
    {
        let failure = Failure::new(Exit::Model, format_args!("{} is a picture ({ending})", path.display()));
        return Err(
            failure.hint("imagen sample --params-from FILE.png draws it again from the settings that it carries")
        );
    }
    Ok(StageFile::open(path)?)
}

fn look_at_model(files: &ModelFiles) -> Result<(String, Vec<Inspected>)> {
    let mut stages = Vec::new();
    for name in StageName::ALL {
        if let Some(file) = files.stage(name)? {
            stages.push(Inspected::of_file(&file));
        }
    }
    if stages.is_empty() {
        let failure = Failure::new(Exit::Model, format_args!("{} holds no stage of an Imagen", files.label()));
        return Err(
            failure.hint("expected a model folder or a run: base.safetensors, sr256.safetensors or sr1024.safetensors")
        );
    }
    Ok((files.label(), stages))
}

impl Inspected {
    fn of_recipe(config: StageConfig) -> Self {
        Self { levels: cost(&config.unet, config.size), config, trained: None }
    }

    fn of_file(file: &StageFile) -> Self {
        let trained = Some((file.record.clone(), file.bytes()));
        Self { config: file.config.clone(), trained, levels: file.cost() }
    }

    /// Parameters, multiply-adds, activation bytes of all levels together.
    fn total(&self) -> [u64; 3] {
        let sum = |field: fn(&LevelCost) -> u64| self.levels.iter().map(field).sum();
        [sum(|l| l.parameters), sum(|l| l.multiply_adds), sum(|l| l.activation_bytes)]
    }

    fn describe(&self) -> String {
        let c = &self.config;
        let from = c.low_size.map(|low| format!("{low}×{low} to ")).unwrap_or_default();
        let trained = match &self.trained {
            None => "not trained yet (a recipe)".to_owned(),
            Some((Record { status: Status::Untrained, .. }, size)) => format!("untrained, {}", bytes(*size as u64)),
            Some((Record { status, step, .. }, size)) => {
                let so_far = if *status == Status::Training { " so far" } else { "" };
                format!("trained for {}{so_far}, {}", counted(*step as usize, "step"), bytes(*size as u64))
            }
        };
        let s = &c.sampling;
        let mut text = format!(
            "{}: {from}{size}×{size} pixels, {trained}\n  predicts {}, {} schedule; sampled with {}, {} steps, guidance {}, \
             thresholding {}",
            c.stage,
            c.parameterization,
            c.schedule,
            s.sampler,
            s.steps,
            s.guidance,
            s.thresholding,
            size = c.size,
        );
        if c.low_size.is_some() {
            write!(text, ", augmentation {}", s.aug_level).expect("writing to a string");
        }
        for stretch in self.trained.iter().flat_map(|(record, _)| &record.history) {
            let from = stretch.init_from.as_ref().map(|from| format!(", begun with {from}")).unwrap_or_default();
            write!(text, "\n  {} of recipe {}{from}", counted(stretch.steps as usize, "step"), stretch.recipe)
                .expect("writing to a string");
        }
        let row = |name: &str, side: &str, [parameters, multiply_adds, memory]: [u64; 3]| {
            let (parameters, multiply_adds) = (count(parameters), count(multiply_adds));
            format!("\n  {name:<16} {side:>5} {parameters:>12} {multiply_adds:>14} {:>12}", bytes(memory))
        };
        write!(
            text,
            "\n\n  {:<16} {:>5} {:>12} {:>14} {:>12}",
            "part", "side", "parameters", "multiply-adds", "activations"
        )
        .expect("writing to a string");
        for l in &self.levels {
            let numbers = [l.parameters, l.multiply_adds, l.activation_bytes];
            let side = if l.side == 0 { String::new() } else { l.side.to_string() };
            text.push_str(&row(&l.name, &side, numbers));
        }
        text.push_str(&row("all", "", self.total()));
        text
    }

    fn to_json(&self) -> Value {
        let [parameters, multiply_adds, activation_bytes] = self.total();
        json!({
            "stage": self.config.stage,
            "step": self.trained.as_ref().map(|(record, _)| record.step),
            "status": self.trained.as_ref().map(|(record, _)| record.status),
            "history": self.trained.as_ref().map(|(record, _)| &record.history),
            "file_bytes": self.trained.as_ref().map(|(_, size)| size),
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "activation_bytes": activation_bytes,
            "levels": self.levels,
            "config": self.config,
        })
    }
}
