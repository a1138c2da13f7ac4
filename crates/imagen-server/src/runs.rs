//! Trainings, looked at while they go on: the run folders of one folder. A run is known by its name in the folder's own list, so that
//! no path is made of what a client sends. Nothing is written but the wish that a training ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use imagen::cascade::StageName;
use imagen::files::Lock;
use imagen::train::{MetricsLine, Plan, Recipe, ask_to_stop, grid_columns, read_metrics};

use crate::lender::Pace;

/// Points of a curve; more lines are averaged.
const POINTS: usize = 400;
/// A run that wrote something in this time goes on.
const ALIVE: Duration = Duration::from_secs(90);
/// Runs that are listed.
const RUNS: usize = 200;
/// Bytes of a grid.
const GRID: u64 = 64 << 20;

/// Where the runs are.
pub(crate) struct Runs {
    folder: PathBuf,
    pace: Option<Pace>,
    /// What was counted of recipes, by what they are and when they were written: a plan reads the whole set.
    plans: Mutex<BTreeMap<(String, SystemTime), Value>>,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A run in a list.
#[derive(Debug, Serialize)]
pub(crate) struct RunView {
    name: String,
    stage: StageName,
    size: usize,
    /// Steps taken, and those that the recipe asks for.
    step: u64,
    steps: u64,
    /// Milliseconds since 1970 of the last line.
    changed_ms: u64,
    /// Whether it goes on.
    alive: bool,
    pictures_per_second: Option<f64>,
    /// Seconds until it is done, where it goes on.
    eta_seconds: Option<f64>,
}

impl Runs {
    pub(crate) fn new(folder: PathBuf, pace: Option<Pace>) -> Self {
        Self { folder, pace, plans: Mutex::default() }
    }

    /// The folders that hold runs, by name.
    fn folders(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let runs = named.filter(|entry| entry.path().join("recipe.toml").is_file());
        let mut folders: Vec<_> =
            runs.filter_map(|run| Some((run.file_name().into_string().ok()?, run.path()))).collect();
        folders.sort();
        folders.truncate(RUNS);
        folders
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.folders().into_iter().find(|(known, _)| known == name).map(|(_, folder)| folder)
    }

    /// Every run that can be read, the one that changed last first.
    pub(crate) fn list(&self) -> Vec<RunView> {
        let mut views: Vec<RunView> = self
            .folders()
            .into_iter()
            .filter_map(|(name, folder)| view(name, &folder).ok().map(|(view, ..)| view))
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.changed_ms));
        views
    }

    /// A run with its curves and the steps of its grids; nothing where there is none of that name.
    pub(crate) fn look(&self, name: &str) -> imagen::Result<Option<Value>> {
        let Some(folder) = self.folder(name) else { return Ok(None) };
        let (view, recipe, lines) = view(name.to_owned(), &folder)?;
        let mut run = json!(view);
        if recipe.stage.low_size.is_none() {
            run["prompts"] = json!(recipe.train.sample_prompts);
            run["columns"] = json!(grid_columns(recipe.train.sample_prompts.len()));
        }
        run["curves"] = curves(&lines);
        run["grids"] = json!(grids(&folder));
        run["plan"] = self.plan(name, &folder, &recipe).unwrap_or_default();
        Ok(Some(run))
    }

    /// What the training takes, as `imagen plan` counts it; nothing where it cannot be counted.
    fn plan(&self, name: &str, folder: &Path, recipe: &Recipe) -> Option<Value> {
        let key = (name.to_owned(), folder.join("recipe.toml").metadata().ok()?.modified().ok()?);
        if let Some(known) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(known.clone());
        }
        let plan = Plan::of(recipe).ok()?;
        let seconds = self.pace.as_ref().map(|pace| plan.step_multiply_adds as f64 / pace() * plan.steps as f64);
        let told = json!({ "parameters": plan.parameters, "memory": plan.bytes(), "seconds": seconds, "warnings": plan.warnings });
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|(known, _), _| known != name);
        plans.insert(key, told.clone());
        Some(told)
    }

    /// Asks a training to stop as after Ctrl-C: whether it goes on at all; nothing where there is none of that name.
    pub(crate) fn stop(&self, name: &str) -> imagen::Result<Option<bool>> {
        let Some(folder) = self.folder(name) else { return Ok(None) };
        let (view, ..) = view(name.to_owned(), &folder)?;
        if view.alive {
            ask_to_stop(&folder)?;
        }
        Ok(Some(view.alive))
    }

    /// The PNG of a grid.
    pub(crate) fn grid(&self, name: &str, step: u64) -> imagen::Result<Option<Vec<u8>>> {
        let Some(folder) = self.folder(name).filter(|folder| grids(folder).contains(&step)) else { return Ok(None) };
        imagen::input::read(&folder.join("samples").join(format!("{step:07}.png")), GRID).map(Some)
    }
}

/// A run as a list has it, with its recipe and its lines.
fn view(name: String, folder: &Path) -> imagen::Result<(RunView, Recipe, Vec<MetricsLine>)> {
    let recipe = Recipe::read(&folder.join("recipe.toml"))?;
    let lines = read_metrics(folder)?;
    let changed =
        ["metrics.jsonl", "recipe.toml"].iter().find_map(|file| folder.join(file).metadata().ok()?.modified().ok());
    let changed = changed.unwrap_or(SystemTime::UNIX_EPOCH);
    let step = lines.last().map_or(0, MetricsLine::step);
    // a training holds its folder; where folders cannot be locked, only the file's age tells
    let recent = changed.elapsed().is_ok_and(|age| age < ALIVE);
    let alive = recent && step < recipe.train.steps && Lock::is_held(folder).unwrap_or(true);
    let speeds = lines.iter().rev().filter_map(|line| match line {
        MetricsLine::Train(interval) if interval.seconds > 0.0 => {
            Some((interval.pictures_per_second, interval.steps as f64 / interval.seconds))
        }
        _ => None,
    });
    let last = speeds.take(1).last();
    let left = recipe.train.steps.saturating_sub(step) as f64;
    let view = RunView {
        name,
        stage: recipe.stage.stage,
        size: recipe.stage.size,
        step,
        steps: recipe.train.steps,
        changed_ms: changed.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
        alive,
        pictures_per_second: last.and_then(|(speed, _)| speed),
        eta_seconds: last.filter(|(_, rate)| alive && *rate > 0.0).map(|(_, rate)| left / rate),
    };
    Ok((view, recipe, lines))
}

/// Points `[step, value]` by name.
fn curves(lines: &[MetricsLine]) -> Value {
    let mut curves: Vec<(&str, Vec<(u64, f64)>)> =
        ["loss", "validation", "right_caption", "shuffled_captions", "no_caption", "gradient_norm"]
            .map(|name| (name, Vec::new()))
            .into();
    let mut add = |name: &str, step: u64, value: Option<f64>| {
        let curve = curves.iter_mut().find(|(known, _)| *known == name).expect("a name from the list");
        curve.1.extend(value.map(|value| (step, value)));
    };
    for line in lines {
        match line {
            MetricsLine::Train(interval) => {
                add("loss", interval.step, interval.loss);
                add("gradient_norm", interval.step, interval.gradient_norm);
            }
            MetricsLine::Validation(validated) => add("validation", validated.step, validated.loss),
            MetricsLine::Probe(probe) => {
                add("right_caption", probe.step, Some(probe.right_caption));
                add("shuffled_captions", probe.step, Some(probe.shuffled_captions));
                add("no_caption", probe.step, Some(probe.no_caption));
            }
        }
    }
    curves
        .into_iter()
        .map(|(name, points)| (name.to_owned(), json!(thinned(&points))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// At most so many points: means of those that lie together, at the step of the last.
fn thinned(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let together = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(u64, f64)]| {
        let sum: f64 = part.iter().map(|(_, value)| value).sum();
        (part[part.len() - 1].0, sum / part.len() as f64)
    };
    points.chunks(together).map(mean).collect()
}

/// The steps of which there is a grid.
fn grids(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder.join("samples")).into_iter().flatten().flatten();
    let step =
        |name: std::ffi::OsString| name.to_str()?.strip_suffix(".png").filter(|name| name.len() == 7)?.parse().ok();
    let mut steps: Vec<u64> = entries.filter_map(|entry| step(entry.file_name())).collect();
    steps.sort_unstable();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_to_means_and_ends_where_it_ends() {
        let points: Vec<(u64, f64)> = (1..=4000).map(|step| (step, step as f64)).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0], thin[399]), (400, (10, 5.5), (4000, 3995.5)));
        assert_eq!(thinned(&points[..3]), points[..3]);
        assert!(thinned(&[]).is_empty());
    }
}
