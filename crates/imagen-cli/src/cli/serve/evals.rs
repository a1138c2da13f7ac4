//! The sweeps and studies of a folder, lent to the studio. Each is known by its name in the folder's own list.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use imagen::{Error, ErrorKind};
use imagen_server::Evaluations;
use serde_json::{Value, json};

use crate::cli::eval::{human, sweep};
use crate::failure::{Failure, Result};

/// Folders that are looked at.
const MOST: usize = 200;

/// The folders of a folder, by name.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut named: Vec<_> =
        folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect();
    named.sort();
    named.truncate(MOST);
    named
}

fn named(folder: &Path, name: &str) -> Option<PathBuf> {
    folders(folder).into_iter().find(|(known, _)| known == name).map(|(_, path)| path)
}

fn changed(folder: &Path) -> u64 {
    let times = ["points.jsonl", "votes.sqlite", "votes.sqlite-wal", "sweep.json", "study.json"];
    let times = times.iter().filter_map(|name| folder.join(name).metadata().ok()?.modified().ok());
    times
        .max()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |time| time.as_millis() as u64)
}

/// What is found, the latest first. What cannot be read is said in its place.
fn list(folder: &Path) -> Value {
    let all = |read: fn(&Path) -> Option<Result<Value>>, broken: fn(String) -> Value| {
        let mut found: Vec<Value> = folders(folder)
            .into_iter()
            .filter_map(|(name, path)| {
                let mut value = read(&path)?.unwrap_or_else(|failure| broken(failure.message().to_owned()));
                (value["name"], value["changed_ms"]) = (json!(name), json!(changed(&path)));
                Some(value)
            })
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse(one["changed_ms"].as_u64()));
        found
    };
    let sweeps = all(sweep::sweep, |_| json!({ "title": "", "axes": ["", ""], "curves": [], "report": false }));
    let broken =
        |trouble| json!({ "suite": "", "sets": [], "votes": 0, "raters": 0, "rated": false, "trouble": trouble });
    json!({ "sweeps": sweeps, "studies": all(human::study, broken) })
}

fn failed(failure: Failure) -> Error {
    Error::new(ErrorKind::Data, failure.message())
}

/// What a studio may look at below a folder.
pub(super) struct Folder {
    folder: PathBuf,
    /// Pages of studies by where they stand: their votes are opened once.
    open: Mutex<HashMap<String, Router>>,
}

impl Folder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }
}

impl Evaluations for Folder {
    fn list(&self) -> imagen::Result<Value> {
        Ok(list(&self.folder))
    }

    fn report(&self, name: &str) -> imagen::Result<Option<String>> {
        let Some(path) = named(&self.folder, name) else { return Ok(None) };
        match human::study(&path) {
            Some(_) => human::report(&path, name).map(Some).map_err(failed),
            None => Ok(sweep::report(&path)),
        }
    }

    fn studies(&self) -> Vec<String> {
        let rated = folders(&self.folder).into_iter().filter(|(_, path)| human::rated(path));
        rated.map(|(name, _)| name).collect()
    }

    fn pages(&self, name: &str, base: &str) -> imagen::Result<Option<Router>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = open.get(base) {
            return Ok(Some(pages.clone()));
        }
        let Some(path) = named(&self.folder, name) else { return Ok(None) };
        let pages = human::rater_pages(&path, base).map_err(failed)?;
        open.insert(base.to_owned(), pages.clone());
        Ok(Some(pages))
    }
}
