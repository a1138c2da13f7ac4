//! From a run to a stage of a model: the averaged weights with the run's description and history in the header. The stages
//! that were not trained come from another model, where they fit.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::checkpoint::{self, Checkpoints, state_path};
use super::ema::Average;
use super::recipe::Recipe;
use super::state::{Learning, Log, TrainState};
use crate::cascade::lora::Lora;
use crate::cascade::{ModelFiles, Record, StageConfig, StageFile, StageName, Status, write_stage};
use crate::error::{Context, Error, Result};
use crate::files::write_whole;
use crate::input;
use crate::models::unet::Unet;
use crate::models::weights;
use crate::nn::{self, Init};
use crate::text::EncoderFiles;

/// Which of a run's weights are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first average of the last checkpoint.
    #[default]
    Last,
    /// Those with the best validation.
    Best,
    /// Another average of the last checkpoint, by its number in the recipe.
    Average(String),
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The file that was written.
    pub path: PathBuf,
    /// The stage.
    pub stage: StageName,
    /// The step whose weights these are.
    pub step: u64,
    /// The recipe's last step.
    pub of: u64,
    /// The moving average that they are, by its number in the recipe.
    pub average: String,
    /// What the run began with, as it was named; absent where it began at random.
    pub begun_with: Option<String>,
}

/// What became of a stage that was not trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The stage.
    pub stage: StageName,
    /// What became of it.
    pub what: Brought,
}

/// What [`bring_stages`] did with a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brought {
    /// It was copied to this file.
    Copied(PathBuf),
    /// The folder has one, which stays.
    There,
    /// It does not fit the rest, because of this.
    Left(String),
}

/// The file of a stage in a run's folder.
pub(super) fn stage_path(folder: &Path, stage: StageName) -> PathBuf {
    folder.join(format!("{stage}.safetensors"))
}

/// The file of a stage's best weights in a run's folder.
pub(super) fn best_path(folder: &Path, stage: StageName) -> PathBuf {
    folder.join(format!("{stage}-best.safetensors"))
}

/// What a stage's header says of a run at this step.
fn record(recipe: &Recipe, step: u64, log: &Log) -> Record {
    let status = match step {
        0 => Status::Untrained,
        _ if step < recipe.train.steps => Status::Training,
        _ => Status::Trained,
    };
    Record { step, status, history: log.history.clone() }
}

/// Writes the averaged weights of a state as a stage; beside it the adapters alone, where the run learns such.
pub(super) fn write_averaged(
    path: &Path,
    recipe: &Recipe,
    state: &TrainState,
    averaged: &Unet,
    encoder: &str,
) -> Result<()> {
    write_stage(path, &recipe.stage, &record(recipe, state.step, &state.log), encoder, averaged)?;
    let Some(adapters) = state.averaged_adapters(0) else { return Ok(()) };
    let stage = recipe.stage.stage;
    let path = path.with_extension("lora.safetensors");
    Lora::new(String::new(), stage, Some(encoder.to_owned()), Some(state.step), adapters.export()).write(&path)
}

/// Copies a run's weights into a model folder as one of its stages, and the text encoder where it has none yet.
///
/// # Errors
/// `Model` where the run has not written the stage yet, was trained with another text encoder than `text`, or the folder holds
/// another one; `Usage` where there is no such average; `Io`.
pub fn export(run: &Path, model: &Path, choice: &Choice, text: &EncoderFiles) -> Result<Exported> {
    let recipe = Recipe::read(&run.join("recipe.toml"))?;
    let stage = recipe.stage.stage;
    let in_run = || format!("run {}", run.display());
    let from = match choice {
        Choice::Best => best_path(run, stage),
        Choice::Last | Choice::Average(_) => stage_path(run, stage),
    };
    if *choice == Choice::Best && !from.exists() {
        return Err(Error::model(format!(
            "{} has no best weights: set train.validate_every, or export the last ones without --best",
            run.display()
        )));
    }
    let file = StageFile::open(&from).context(in_run)?;
    let average = match choice {
        Choice::Average(name) if recipe.train.lora.is_some() => {
            Some(average_of_adapters(run, &recipe, name).context(in_run)?)
        }
        Choice::Average(name) => Some(checkpoint::average(&state_path(run), name).context(in_run)?),
        _ => None,
    };
    if !text.are_of(&file.text_encoder) {
        return Err(Error::model(format!(
            "{} was trained with the text encoder {}, and {} holds another: name the folder of that one with --text-encoder",
            in_run(),
            file.text_encoder,
            text.label()
        )));
    }
    copy_encoder(model, text)?;
    let path = model.join(format!("{stage}.safetensors"));
    let mut step = file.record.step;
    match average {
        Some((averaged, log, mut tensors)) => {
            let unet = Unet::new(&recipe.stage.unet, &mut Init::zeros(&Device::flex()))?;
            let unet = nn::import(unet, |name, _| {
                tensors.remove(name).ok_or_else(|| Error::model(format!("the state has no average of {name}")))
            })?;
            step = averaged;
            write_stage(&path, &recipe.stage, &record(&recipe, step, &log), &file.text_encoder, &unet)?;
        }
        None => weights::copy(&from, &path)?,
    }
    let average = match choice {
        Choice::Average(name) => name.clone(),
        Choice::Last | Choice::Best => Average::of(&recipe.train)?.remove(0).name,
    };
    // a run whose state is gone or damaged has its stage all the same
    let begun_with = checkpoint::log(&state_path(run)).ok().and_then(|log| log.begun_with);
    Ok(Exported { path, stage, step, of: recipe.train.steps, average, begun_with })
}

/// The weights into which one average of a run's adapters is folded, by name, as [`checkpoint::average`] has those of other runs.
fn average_of_adapters(run: &Path, recipe: &Recipe, name: &str) -> Result<(u64, Log, HashMap<String, Vec<f32>>)> {
    let learning = Learning::of(recipe)?;
    let averages = &learning.averages;
    let index = averages.iter().position(|average| average.name == name).ok_or_else(|| {
        let names: Vec<&str> = averages.iter().map(|average| average.name.as_str()).collect();
        Error::usage(format!("there is no average {name:?} in it; it has {}", names.join(", ")))
    })?;
    let checkpoints = Checkpoints::new(run, recipe.train.keep_last);
    let state = checkpoints.load(&recipe.stage, &learning, &Device::flex())?.state;
    let tensors = nn::export(&state.averaged_by(index)?);
    let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect();
    Ok((state.step, state.log, tensors))
}

/// Copies the stages beside `trained` that a model folder lacks from another model, as far as the cascade fits together.
///
/// # Errors
/// `Model` where a file is damaged; `Io`.
pub fn bring_stages(model: &Path, trained: StageName, from: &ModelFiles) -> Result<Vec<Other>> {
    let place = |stage: StageName| model.join(format!("{stage}.safetensors"));
    let own = StageFile::open(&place(trained))?;
    let mut others = Vec::new();
    let (before, after): (Vec<StageName>, Vec<StageName>) =
        StageName::ALL.into_iter().filter(|stage| *stage != trained).partition(|stage| *stage < trained);
    for side in [before.into_iter().rev().collect(), after] {
        let mut neighbour = own.config.clone();
        for stage in side {
            if place(stage).exists() {
                neighbour = StageFile::open(&place(stage))?.config;
                others.push(Other { stage, what: Brought::There });
                continue;
            }
            let Some(file) = from.stage(stage)? else { break };
            let why = if file.text_encoder == own.text_encoder {
                misfit(&file.config, &neighbour)
            } else {
                Some("it reads another text encoder's vectors".to_owned())
            };
            if let Some(why) = why {
                others.push(Other { stage, what: Brought::Left(why) });
                break;
            }
            from.copy_stage(stage, &place(stage))?;
            others.push(Other { stage, what: Brought::Copied(place(stage)) });
            neighbour = file.config;
        }
    }
    others.sort_by_key(|other| other.stage);
    Ok(others)
}

/// Why two neighbouring stages make no cascade, if they do not.
fn misfit(stage: &StageConfig, neighbour: &StageConfig) -> Option<String> {
    let (lower, upper) = if stage.stage < neighbour.stage { (stage, neighbour) } else { (neighbour, stage) };
    let channels = [lower, upper].map(|stage| stage.unet.image_channels);
    if channels[0] != channels[1] {
        return Some(format!("{} draws {} channels, {} takes {}", lower.stage, channels[0], upper.stage, channels[1]));
    }
    let low = upper.low_size.filter(|low| *low != lower.size)?;
    Some(format!("{} draws {1}×{1} pixels, {2} enlarges {low}×{low}", lower.stage, lower.size, upper.stage))
}

/// Puts the text encoder into a model folder that has none.
///
/// # Errors
/// `Model` where the folder holds another one; `Io`.
pub fn copy_encoder(model: &Path, text: &EncoderFiles) -> Result<()> {
    let folder = model.join("text");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    for (file, bytes) in text.iter() {
        let path = folder.join(file);
        match input::read_if_there(&path, u64::MAX).map_err(Error::of_model)? {
            Some(there) if there == **bytes => {}
            Some(_) => {
                return Err(Error::model(format!(
                    "{} is of another text encoder than the run's; export to another folder",
                    path.display()
                )));
            }
            None => write_whole(&path, |file| file.write_all(bytes)).map_err(|e| Error::io("write", &path, e))?,
        }
    }
    Ok(())
}
