//! States as files: written whole with a checksum, the last few kept, a damaged one passed over for the one before.
//!
//! The newest is `state.safetensors`; those before it carry their step in the name. A header says everything that is not a
//! tensor: version, step, what happened, optimizer, averages and the recipe. A state without these entries (of version 1)
//! is one of Adam with one average.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flat::flat;
use super::lora::LoraConfig;
use super::optimizer::Optimizer;
use super::recipe::{Recipe, changes};
use super::state::{Learning, Log, TrainState};
use crate::cascade::{StageConfig, StageFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::files;
use crate::models::weights::{self, Weights};

const VERSION: &str = "imagen.state";
const STEP: &str = "imagen.step";
const LOG: &str = "imagen.log";
const OPTIMIZER: &str = "imagen.optimizer";
const AVERAGES: &str = "imagen.averages";
const RECIPE: &str = "imagen.recipe";
const PROGRAM: &str = "imagen.program";
/// The version that is written; older ones are read.
const CURRENT: u32 = 2;

/// The states of a run's folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep_last: usize,
}

/// A state that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub state: TrainState,
    /// The recipe that it was trained under, where the file says so.
    pub recipe: Option<Recipe>,
    /// What was wrong with newer states.
    pub warnings: Vec<String>,
}

/// The newest state's file in a run's folder.
pub fn state_path(folder: &Path) -> PathBuf {
    folder.join("state.safetensors")
}

/// The stage whose weights are adapted, in the folder of a run that learns adapters.
pub(super) fn adapted_path(folder: &Path) -> PathBuf {
    folder.join("adapted.safetensors")
}

impl Checkpoints {
    /// The checkpoints of this run, of which the last `keep_last` are kept.
    pub fn new(folder: &Path, keep_last: usize) -> Self {
        Self { folder: folder.to_owned(), keep_last: keep_last.max(1) }
    }

    /// Whether there is any.
    pub fn exist(&self) -> bool {
        state_path(&self.folder).exists() || !self.numbered().is_empty()
    }

    /// Removes what a killed run of this folder left half-written. The folder must be locked.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn sweep(&self) -> Result<()> {
        files::sweep(&self.folder)?;
        files::sweep(&self.folder.join("samples"))
    }

    /// Writes a state; the newest before it gets its step as a name, and what is older than `keep_last` goes.
    ///
    /// # Errors
    /// `Io`; `NonFinite` where a number of the state is not finite. Older states stay as they are.
    pub fn save(&self, state: &TrainState, recipe: &Recipe) -> Result<PathBuf> {
        let newest = state_path(&self.folder);
        if self.keep_last > 1
            && let Ok(step) = Weights::open(&newest).and_then(|file| step_of(&file))
            && step != state.step
        {
            // a second name for the same file: there is a newest state at every moment
            let numbered = self.folder.join(format!("state-{step:08}.safetensors"));
            if !numbered.exists() {
                std::fs::hard_link(&newest, &numbered)
                    .or_else(|_| std::fs::copy(&newest, &numbered).map(drop))
                    .map_err(|e| Error::io("keep the last state as", &numbered, e))?;
            }
        }
        write(&newest, state, Some(recipe))?;
        for (_, path) in self.numbered().into_iter().skip(self.keep_last - 1) {
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(newest)
    }

    /// The newest state that is whole. Damaged ones that are newer are put aside under another name.
    ///
    /// # Errors
    /// `Io`; `Model` where no state is whole, or the newest belongs to another network, optimizer or averages.
    pub fn load(&self, config: &StageConfig, learning: &Learning, device: &Device) -> Result<Loaded> {
        let newest = state_path(&self.folder);
        let mut candidates: Vec<PathBuf> = newest.exists().then_some(newest).into_iter().collect();
        candidates.extend(self.numbered().into_iter().map(|(_, path)| path));
        let adapted = adapted_path(&self.folder);
        let base = learning.lora.as_ref().map(|_| StageFile::open(&adapted)).transpose()?;
        let mut damaged: Vec<(PathBuf, Error)> = Vec::new();
        for path in candidates {
            match whole(&path) {
                Err(error) if error.kind() == ErrorKind::Model => damaged.push((path, error)),
                Err(error) => return Err(error),
                Ok(file) => {
                    let (state, recipe) = read(&file, config, learning, base.as_ref(), device)
                        .context(|| format!("training state {}", path.display()))?;
                    let mut warnings = Vec::new();
                    for (bad, error) in damaged {
                        let aside = bad.with_extension("damaged");
                        std::fs::rename(&bad, &aside).map_err(|e| Error::io("put aside", &bad, e))?;
                        warnings.push(format!(
                            "{error:#}; going on from {} (step {}), the damaged one is now {}",
                            path.display(),
                            state.step,
                            aside.display()
                        ));
                    }
                    return Ok(Loaded { state, recipe, warnings });
                }
            }
        }
        let missing = || Error::usage(format!("there is no state in {}", self.folder.display()));
        Err(damaged.into_iter().next().map_or_else(missing, |(_, error)| error))
    }

    /// What the newest state on disk is, for a message.
    pub(super) fn describe_last(&self) -> String {
        let newest = state_path(&self.folder);
        match Weights::open(&newest).and_then(|file| step_of(&file)) {
            Ok(step) => format!("the last good checkpoint is {} (step {step})", newest.display()),
            Err(_) => "there is no checkpoint yet".to_owned(),
        }
    }

    /// The states with a step in their names, newest first.
    fn numbered(&self) -> Vec<(u64, PathBuf)> {
        let step = |path: &Path| {
            path.file_name()?.to_str()?.strip_prefix("state-")?.strip_suffix(".safetensors")?.parse().ok()
        };
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<(u64, PathBuf)> = entries.filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
        found.sort_by(|a, b| b.cmp(a));
        found
    }
}

/// The file of a state whose header can be read and whose tensors have the checksum that it gives.
fn whole(path: &Path) -> Result<Weights> {
    let file = Weights::open(path)?;
    file.verify()?;
    Ok(file)
}

/// What a state's header says of what happened.
pub(super) fn log(path: &Path) -> Result<Log> {
    Ok(log_of(&Weights::open(path)?))
}

fn log_of(file: &Weights) -> Log {
    file.metadata().get(LOG).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn step_of(file: &Weights) -> Result<u64> {
    file.metadata().get(STEP).and_then(|step| step.parse().ok()).ok_or_else(|| {
        Error::model("this is no training state (its header has no step); expected a file written by `train`")
    })
}

/// Writes one state.
fn write(path: &Path, state: &TrainState, recipe: Option<&Recipe>) -> Result<()> {
    let tensors = state.tensors().into_iter().map(|(name, shape, tensor)| {
        let values: Box<dyn Fn() -> Vec<f32>> = Box::new(move || flat(&tensor));
        (name, shape, values)
    });
    let json = |value: serde_json::Result<String>| value.expect("plain data");
    let averages: Vec<&str> = state.learning.averages.iter().map(|average| average.name.as_str()).collect();
    let mut metadata = HashMap::from([
        (VERSION.to_owned(), CURRENT.to_string()),
        (STEP.to_owned(), state.step.to_string()),
        (LOG.to_owned(), json(serde_json::to_string(&state.log))),
        (OPTIMIZER.to_owned(), kind(&state.learning.optimizer)),
        (AVERAGES.to_owned(), json(serde_json::to_string(&averages))),
        (PROGRAM.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    metadata.extend(recipe.map(|recipe| (RECIPE.to_owned(), recipe.to_toml())));
    weights::write_late(path, tensors.collect(), &metadata)
}

/// What a state of this optimizer keeps, in a word.
fn kind(optimizer: &Optimizer) -> String {
    match optimizer {
        Optimizer::Adam { .. } => "adam".to_owned(),
        Optimizer::Adafactor { beta1, min_dim_size_to_factor, .. } => {
            let first = if beta1.is_some() { " with a first moment" } else { "" };
            match min_dim_size_to_factor {
                0 => format!("adafactor{first}"),
                smallest => format!("adafactor{first} that factors from {smallest} on"),
            }
        }
    }
}

/// The state that a file holds.
fn read(
    file: &Weights,
    config: &StageConfig,
    learning: &Learning,
    base: Option<&StageFile>,
    device: &Device,
) -> Result<(TrainState, Option<Recipe>)> {
    fn entry<T: DeserializeOwned>(file: &Weights, key: &str) -> Result<Option<T>> {
        let Some(json) = file.metadata().get(key) else { return Ok(None) };
        let value = serde_json::from_str(json);
        value.map(Some).map_err(|e| Error::model(format!("{key} in its header cannot be read")).with_source(e))
    }
    let step = step_of(file)?;
    if let Some(version) = entry::<u32>(file, VERSION)?.filter(|version| *version > CURRENT) {
        return Err(Error::model(format!(
            "it has version {version}, this program reads up to {CURRENT}; use a newer one"
        )));
    }
    let (had, wanted) = (file.metadata().get(OPTIMIZER).map_or("adam", String::as_str), kind(&learning.optimizer));
    if had != wanted {
        return Err(Error::model(format!(
            "it keeps the moments of {had}, the recipe asks for {wanted}: change train.optimizer back, or begin a new run \
             with --init-from"
        )));
    }
    if let Some(had) = entry::<Vec<String>>(file, AVERAGES)? {
        let wanted: Vec<&str> = learning.averages.iter().map(|average| average.name.as_str()).collect();
        if had != wanted {
            return Err(Error::model(format!(
                "it keeps the averages [{}], the recipe asks for [{}]: change train.ema_decay and train.ema_half_lives \
                 back, or begin a new run with --init-from",
                had.join(", "),
                wanted.join(", ")
            )));
        }
    }
    // a recipe of a later program may have keys that this one does not know; it is only compared with
    let recipe = file.metadata().get(RECIPE).and_then(|text| Recipe::parse(text).ok());
    let predicts = recipe.as_ref().map(|recipe| recipe.stage.parameterization).unwrap_or(config.parameterization);
    if let [change] = &changes("stage.parameterization", &config.parameterization, &predicts)[..] {
        return Err(Error::model(format!(
            "the run's network predicts something else: {change}; change it back, or begin a new run with --init-from"
        )));
    }
    #[derive(Serialize)]
    struct Learns<'a> {
        lora: &'a Option<LoraConfig>,
    }
    let before = Learns { lora: recipe.as_ref().map_or(&learning.lora, |recipe| &recipe.train.lora) };
    if let [change, ..] = &changes("train", &Learns { lora: &learning.lora }, &before)[..] {
        return Err(Error::model(format!(
            "the run learns other adapters: {change}; change it back, or begin a new run with --init-from"
        )));
    }
    let mut state = TrainState::read(config, learning, base, device, |name, shape| file.tensor_f32(name, shape))
        .map_err(|error| {
            let before = recipe.as_ref().map(|recipe| &recipe.stage.unet);
            let changes = before.map(|before| changes("stage.unet", &config.unet, before)).unwrap_or_default();
            if changes.is_empty() {
                error
            } else {
                Error::model(format!(
                    "the recipe's network is not the run's: {}; change it back, or begin a new run with --init-from",
                    changes.join(", ")
                ))
            }
        })?;
    state.step = step;
    state.log = entry(file, LOG)?.unwrap_or_default();
    Ok((state, recipe))
}

impl TrainState {
    /// Writes everything that resuming needs, without a recipe.
    ///
    /// # Errors
    /// `Io`; `NonFinite` where a number is not finite.
    pub fn save(&self, path: &Path) -> Result<()> {
        write(path, self, None)
    }

    /// Reads what [`Self::save`] or a run wrote.
    ///
    /// # Errors
    /// `Io`, or `Model` where the file is damaged or belongs to another network, optimizer or averages.
    pub fn load(path: &Path, config: &StageConfig, learning: &Learning, device: &Device) -> Result<Self> {
        let read = || Ok(read(&whole(path)?, config, learning, None, device)?.0);
        read().context(|| format!("training state {}", path.display()))
    }
}

/// The tensors of one average of a state's file, by parameter name: what `imagen export --ema` writes.
pub(super) fn average(path: &Path, name: &str) -> Result<(u64, Log, HashMap<String, Vec<f32>>)> {
    let file = whole(path)?;
    let read = || {
        let json = file.metadata().get(AVERAGES).ok_or_else(|| {
            Error::model("its header does not name its averages: go on training for a step, which writes it anew")
        })?;
        let names: Vec<String> =
            serde_json::from_str(json).map_err(|e| Error::model("its averages cannot be read").with_source(e))?;
        let index = names
            .iter()
            .position(|there| there == name)
            .ok_or_else(|| Error::usage(format!("there is no average {name:?} in it; it has {}", names.join(", "))))?;
        let prefix = if index == 0 { "ema.".to_owned() } else { format!("ema[{name}].") };
        let mut tensors = HashMap::new();
        for full in file.names() {
            if let (Some(parameter), Some(shape)) = (full.strip_prefix(&prefix), file.shape(full)) {
                tensors.insert(parameter.to_owned(), file.tensor_f32(full, shape)?);
            }
        }
        Ok((step_of(&file)?, log_of(&file), tensors))
    };
    read().context(|| format!("training state {}", path.display()))
}
