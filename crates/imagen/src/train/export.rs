//! From a run to a stage of a model: the averaged weights with the run's description and history in the header.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, state_path};
use super::recipe::Recipe;
use super::state::{Log, TrainState};
use crate::cascade::{Record, StageFile, StageName, Status, write_stage};
use crate::error::{Context, Error, Result};
use crate::models::unet::Unet;
use crate::models::weights::{FileBytes, write_atomically};
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

/// Writes the averaged weights of a state as a stage.
pub(super) fn write_averaged(
    path: &Path,
    recipe: &Recipe,
    state: &TrainState,
    averaged: &Unet,
    encoder: &str,
) -> Result<()> {
    write_stage(path, &recipe.stage, &record(recipe, state.step, &state.log), encoder, averaged)
}

/// Copies a run's weights into a model folder as one of its stages, and the text encoder where it has none yet.
///
/// # Errors
/// `Model` where the run has not written the stage yet, was trained with another text encoder than `text`, or the folder holds
/// another one; `Usage` where there is no such average; `Io`.
pub fn export(run: &Path, model: &Path, choice: &Choice, text: &EncoderFiles) -> Result<PathBuf> {
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
    let to = model.join(format!("{stage}.safetensors"));
    match average {
        Some((step, log, mut tensors)) => {
            let unet = Unet::new(&recipe.stage.unet, &mut Init::zeros(&burn::tensor::Device::flex()))?;
            let unet = nn::import(unet, |name, _| {
                tensors.remove(name).ok_or_else(|| Error::model(format!("the state has no average of {name}")))
            })?;
            write_stage(&to, &recipe.stage, &record(&recipe, step, &log), &file.text_encoder, &unet)?;
        }
        None => {
            // whoever draws with the old file meanwhile has it mapped and keeps it
            let stage = FileBytes::map(&from).map_err(|e| Error::io("read", &from, e))?;
            write_atomically(&to, |file| file.write_all(&stage)).map_err(|e| Error::io("write", &to, e))?;
        }
    }
    Ok(to)
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
    Ok(())
}
