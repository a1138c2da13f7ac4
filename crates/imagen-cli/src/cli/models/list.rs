//! `imagen models list`: what can be drawn with: the built-in model, folders here, and what is in the cache.

use std::path::{Path, PathBuf};

use serde_json::json;

use imagen::cascade::deepfloyd::DeepFloyd;
use imagen::cascade::{ModelFiles, StageName};
use imagen::said;

use crate::builtin;
use crate::failure::{Result, print_line};
use crate::hub::{Settings, list};

/// List the built-in model, model folders in ./models and the models in the cache
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self) -> Result<()> {
        let settings = &Settings::from_env()?;
        for (name, bytes, folder) in at_hand() {
            if self.json {
                let snapshots: Vec<&PathBuf> = folder.iter().collect();
                print_line(json!({ "name": name, "bytes": bytes, "snapshots": snapshots }))?;
            } else {
                let place = folder.map_or("compiled into this program".to_owned(), |path| path.display().to_string());
                print_line(format_args!("{name:<40} {:>9}  {place}", said::bytes(bytes)))?;
            }
        }
        let models = list(settings)?;
        if models.is_empty() && !self.json {
            eprintln!("nothing is in {}; `imagen models pull OWNER/NAME` fetches a model", settings.cache.display());
        }
        for model in models {
            let (bytes, snapshots) = (model.bytes()?, model.snapshots()?);
            if self.json {
                print_line(json!({ "name": model.name.as_str(), "bytes": bytes, "snapshots": snapshots }))?;
            } else {
                let folder = snapshots.last().map(|path| path.display().to_string()).unwrap_or_default();
                print_line(format_args!("{:<40} {:>9}  {folder}", model.name.as_str(), said::bytes(bytes)))?;
            }
        }
        Ok(())
    }
}

/// Models that need no cache: name, bytes, and the folder where there is one.
fn at_hand() -> Vec<(String, u64, Option<PathBuf>)> {
    let mut found = Vec::new();
    if builtin::model().is_some() {
        let bytes = builtin::FILES.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        found.push(("built-in".to_owned(), bytes, None));
    }
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir("models").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.retain(|folder| is_model(folder));
    for folder in folders {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        found.push((name, weights_bytes(&folder), Some(folder)));
    }
    found
}

fn is_model(folder: &Path) -> bool {
    DeepFloyd::is_folder(folder)
        || ModelFiles::Folder(folder.to_owned()).stage(StageName::Base).is_ok_and(|stage| stage.is_some())
}

/// Bytes of the weights in a folder and those below it.
fn weights_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => weights_bytes(&path),
            path if path.extension().is_some_and(|e| e == "safetensors") => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}
