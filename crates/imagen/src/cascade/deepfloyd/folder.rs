//! A folder as diffusers writes it: which stage it holds, and where its parts are.
//!
//! `model_index.json` names the pipeline and the class of each part. Only what is needed is opened: of a stage the network and
//! its schedulers, text encoder and safety checker when they are asked for.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value};
use tracing::info_span;

use super::process::Process;
use super::stage::IfStage;
use crate::error::{Context, Error, Result};
use crate::input;
use crate::models::if_unet::{IfUnet, IfUnetConfig};
use crate::models::weights::{Storage, Weights};

/// The file that makes a folder one of diffusers'.
pub(super) const INDEX: &str = "model_index.json";

/// The part that judges pictures.
pub(super) const CHECKER: &str = "safety_checker";

const FIRST: [&str; 3] = ["IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline"];
const SECOND: [&str; 3] =
    ["IFSuperResolutionPipeline", "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline"];

/// One stage's folder.
#[derive(Clone, Debug)]
pub struct StageFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it enlarges what another stage has drawn.
    pub second: bool,
    /// The network's configuration.
    pub config: IfUnetConfig,
    /// Part → library and class, where the part is there.
    parts: Map<String, Value>,
}

/// A JSON file of a folder.
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = input::read_if_there(path, input::MOST_TEXT).map_err(Error::of_model)?;
    bytes.ok_or_else(|| Error::model(format!("{} is missing", path.display())))
}

impl StageFolder {
    /// Reads what a folder says of itself.
    ///
    /// # Errors
    /// `Model` where it is no folder of diffusers, holds another pipeline, or its network's configuration is not known.
    pub fn open(path: &Path) -> Result<Self> {
        let index = path.join(INDEX);
        let parts: Map<String, Value> = serde_json::from_slice(&read(&index)?)
            .map_err(|e| Error::model(format!("{} is not JSON", index.display())).with_source(e))?;
        let class = parts.get("_class_name").and_then(Value::as_str).unwrap_or("nothing");
        let second = SECOND.contains(&class);
        if !second && !FIRST.contains(&class) {
            return Err(Error::model(format!(
                "{} names the pipeline `{class}`; known are those of DeepFloyd IF: {}, {}",
                index.display(),
                FIRST.join(", "),
                SECOND.join(", ")
            )));
        }
        let file = path.join("unet/config.json");
        let config = IfUnetConfig::from_json(&read(&file)?).context(|| path.join("unet").display().to_string())?;
        if second != config.noise_level {
            return Err(Error::model(format!(
                "{}: class_embed_type does not fit the pipeline `{class}`: the second stage embeds a noise level, the first none",
                file.display()
            )));
        }
        let known = |part: &str, known: &str| match parts.get(part).and_then(|value| value.get(1)) {
            Some(Value::String(class)) if class == known => Ok(()),
            found => {
                let found = found.map_or("null".to_owned(), Value::to_string);
                Err(Error::model(format!("{}: {part} is {found}; known: {known}", index.display())))
            }
        };
        known("unet", "UNet2DConditionModel")?;
        known("scheduler", "DDPMScheduler")?;
        let checker = parts.get(CHECKER).and_then(|value| value.get(1)).filter(|class| !class.is_null());
        if checker.is_some() {
            known(CHECKER, "IFSafetyChecker")?;
            if !path.join(CHECKER).is_dir() {
                return Err(Error::model(format!(
                    "{} names a {CHECKER}, and {} is not there; copy it beside unet",
                    index.display(),
                    path.join(CHECKER).display()
                )));
            }
        }
        Ok(Self { path: path.to_owned(), second, config, parts })
    }

    /// Whether the folder ships this part.
    pub fn ships(&self, part: &str) -> bool {
        self.parts.get(part).and_then(|value| value.get(1)).is_some_and(|class| !class.is_null())
            && self.path.join(part).is_dir()
    }

    /// Its process; read anew, it is a table.
    ///
    /// # Errors
    /// `Model` where `scheduler_config.json` is missing or asks for another.
    pub fn process(&self, part: &str) -> Result<Process> {
        let folder = self.path.join(part);
        Process::from_json(&read(&folder.join("scheduler_config.json"))?).context(|| folder.display().to_string())
    }

    /// The stage with its network, which is read whole; its matrices and convolutions are kept as `storage` says.
    ///
    /// # Errors
    /// `Model` where a file is missing, damaged, or does not fit the others.
    pub fn build(&self, storage: Storage, device: &Device) -> Result<IfStage> {
        let _span = info_span!("build network", folder = %self.path.display()).entered();
        let process = self.process("scheduler")?;
        let picture = self.config.picture_channels();
        if process.learned_variance() && self.config.out_channels != 2 * picture {
            return Err(Error::model(format!(
                "{}: variance_type learned_range needs a network of {} output channels, and unet/config.json has {}",
                self.path.display(),
                2 * picture,
                self.config.out_channels
            )));
        }
        let noising = self.second.then(|| self.process("image_noising_scheduler")).transpose()?;
        let weights = self.weights()?;
        let unet = IfUnet::new(self.config.clone(), &weights, storage, device)?;
        Ok(IfStage { unet, process, noising })
    }

    /// The network's weights, mapped.
    ///
    /// # Errors
    /// [`Weights::open_checkpoint`]'s.
    pub fn weights(&self) -> Result<Weights> {
        Weights::open_checkpoint(&self.path.join("unet"), "diffusion_pytorch_model")
    }
}

/// The second stage among a folder's subfolders; none where there is none.
///
/// # Errors
/// `Model` where there are several.
pub(super) fn second_within(folder: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let holds_second = |path: &PathBuf| {
        let json = input::read(&path.join(INDEX), input::MOST_TEXT).ok();
        let index = json.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
        index.is_some_and(|index| index.get("_class_name").and_then(Value::as_str).is_some_and(|c| SECOND.contains(&c)))
    };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(holds_second).collect();
    found.sort();
    if found.len() > 1 {
        let list = found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::model(format!("{} holds several second stages ({list}); name one", folder.display())));
    }
    Ok(found.pop())
}
