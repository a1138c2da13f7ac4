//! A model is a folder: one safetensors file per stage with its description in the header, a text encoder, a model card.
//!
//! These files can also come compiled into a program ([`ModelFiles::BuiltIn`]). Nothing here knows how a stage was
//! trained.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{NetworkKind, StageConfig, StageName};
use super::lora::Lora;
use super::stage::Stage;
use crate::error::{Context, Error, Result};
use crate::files::write_whole;
use crate::models::imagen_pytorch::{self, ImagenPytorchUnet};
use crate::models::unet::{LevelCost, Unet, cost};
use crate::models::weights::{self, FileBytes, NamedTensor, Precision, Storage, Weights};
use crate::names::named;
use crate::nn::{self, Init, Position};
use crate::rng::Rng;
use crate::text::{EncoderFiles, KnownCaptions, known};

const FORMAT: &str = "imagen.format";
const CONFIG: &str = "imagen.stage";
const STEP: &str = "imagen.step";
const STATUS: &str = "imagen.status";
const HISTORY: &str = "imagen.history";
const ENCODER: &str = "imagen.text_encoder";

/// Where a model's files are.
#[derive(Clone, Debug)]
pub enum ModelFiles {
    /// A folder.
    Folder(PathBuf),
    /// Compiled in: relative names with `/`, and contents.
    BuiltIn(&'static [(&'static str, &'static [u8])]),
}

impl ModelFiles {
    /// The content of a file; nothing where there is none.
    ///
    /// # Errors
    /// `Io` where it is there and cannot be read.
    fn read(&self, name: &str) -> Result<Option<FileBytes>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                match FileBytes::map(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(Error::io("read", &path, e).of_model()),
                }
            }
            Self::BuiltIn(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| FileBytes::from(*bytes)))
            }
        }
    }

    /// Its folder; nothing where it is compiled in.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::BuiltIn(_) => None,
        }
    }

    /// What names this model in messages.
    pub fn label(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::BuiltIn(_) => "the built-in model".to_owned(),
        }
    }

    /// Its text encoder: the files under `text/`.
    ///
    /// # Errors
    /// `Model` where one is missing; `Io` where one cannot be read.
    pub fn text_encoder(&self) -> Result<EncoderFiles> {
        EncoderFiles::read(format!("{} (text)", self.label()), |name| self.read(&format!("text/{name}")))
    }

    /// Its text encoder, or that of other files where it has none under `text/`.
    ///
    /// # Errors
    /// As [`Self::text_encoder`].
    pub fn text_encoder_or(&self, other: Option<&Self>) -> Result<EncoderFiles> {
        match other {
            Some(other) if self.read("text/config.json")?.is_none() => other.text_encoder(),
            _ => self.text_encoder(),
        }
    }

    /// The captions that it was taught, where its folder says so.
    ///
    /// # Errors
    /// `Model` where the file is damaged; `Io` where it cannot be read.
    pub fn known_captions(&self) -> Result<Option<KnownCaptions>> {
        let Some(bytes) = self.read(known::FILE)? else { return Ok(None) };
        let label = format!("{} ({})", self.label(), known::FILE);
        KnownCaptions::parse(&Weights::from_bytes(bytes, label)?).map(Some)
    }

    /// The stage's file, opened and checked but not yet turned into a network; nothing where there is none.
    ///
    /// # Errors
    /// `Model` where the file is damaged or no stage.
    pub fn stage(&self, name: StageName) -> Result<Option<StageFile>> {
        let file = format!("{name}.safetensors");
        let label = match self {
            Self::Folder(folder) => folder.join(&file).display().to_string(),
            Self::BuiltIn(_) => format!("{} ({file})", self.label()),
        };
        match self.read(&file)? {
            Some(bytes) => StageFile::parse(Weights::from_bytes(bytes, label)?).map(Some),
            None => Ok(None),
        }
    }

    /// The names of its stages that are there, opened or not.
    ///
    /// # Errors
    /// `Io` where one is there and cannot be read.
    pub fn stages(&self) -> Result<Vec<StageName>> {
        let there = |name: &StageName| self.read(&format!("{name}.safetensors")).map(|bytes| bytes.is_some());
        let mut names = Vec::new();
        for name in StageName::ALL {
            if there(&name)? {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Writes a stage's file as it is.
    ///
    /// # Errors
    /// `Model` where there is none; `Io`.
    pub(crate) fn copy_stage(&self, name: StageName, to: &Path) -> Result<()> {
        let bytes = self.read(&format!("{name}.safetensors"))?;
        let bytes = bytes.ok_or_else(|| Error::model(format!("{} has no stage {name}", self.label())))?;
        // whoever draws with an old file meanwhile has it mapped and keeps it
        write_whole(to, |file| file.write_all(&bytes)).map_err(|e| Error::io("write", to, e))
    }
}

/// A stage's weights file, opened.
#[derive(Debug)]
pub struct StageFile {
    weights: Weights,
    /// Its description.
    pub config: StageConfig,
    /// How it was trained.
    pub record: Record,
    /// Identity of the text encoder that it was trained with.
    pub text_encoder: String,
}

/// How far a stage's training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Random weights.
    Untrained,
    /// Steps are missing.
    Training,
    /// Its recipe's last step was taken.
    Trained,
}

named!(Status, "status", Untrained = "untrained", Training = "training", Trained = "trained");

/// A stretch of training under one recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Digest of the recipe.
    pub recipe: String,
    /// The stage's file that it began with; absent where it began at random or goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Steps taken.
    pub steps: u64,
}

/// How a stage was trained; part of its file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Optimizer steps of the last run.
    pub step: u64,
    /// How far that run is.
    pub status: Status,
    /// Every stretch of training, oldest first; empty in files of programs that did not write it.
    pub history: Vec<Training>,
}

impl Record {
    /// The record of a stage that was trained for so many steps, of which nothing else is known.
    pub fn of_steps(step: u64) -> Self {
        let status = if step == 0 { Status::Untrained } else { Status::Trained };
        Self { step, status, history: Vec::new() }
    }
}

impl StageFile {
    /// Opens one file.
    ///
    /// # Errors
    /// `Io`, or `Model` where it is damaged or no stage.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(Weights::open(path)?)
    }

    fn parse(weights: Weights) -> Result<Self> {
        let label = weights.label().to_owned();
        let parse = || {
            let entry = |key: &str| {
                weights.metadata().get(key).ok_or_else(|| {
                    Error::model(format!(
                        "the header has no {key:?}: this is no stage of an Imagen; expected a file written by \
                         `imagen train` or `imagen export`"
                    ))
                })
            };
            let format = entry(FORMAT)?;
            if format != "1" {
                return Err(Error::model(format!("format {format}: this program reads format 1; use a newer one")));
            }
            let config: StageConfig = StageConfig::of_header(entry(CONFIG)?)
                .map_err(|e| Error::model("the stage's description cannot be read").with_source(e))?;
            config.validate()?;
            let step = entry(STEP)?
                .parse()
                .map_err(|_| Error::model(format!("{STEP} in the header is no number of steps")))?;
            let mut record = Record::of_steps(step);
            let unreadable = |key: &str, e| Error::model(format!("{key} in the header cannot be read")).with_source(e);
            if let Some(status) = weights.metadata().get(STATUS) {
                let json = Value::String(status.clone());
                record.status = serde_json::from_value(json).map_err(|e| unreadable(STATUS, e))?;
            }
            if let Some(history) = weights.metadata().get(HISTORY) {
                record.history = serde_json::from_str(history).map_err(|e| unreadable(HISTORY, e))?;
            }
            Ok((config, record, entry(ENCODER)?.clone()))
        };
        let (config, record, text_encoder) = parse().context(|| label)?;
        Ok(Self { weights, config, record, text_encoder })
    }

    /// Size of the file in bytes.
    pub fn bytes(&self) -> usize {
        self.weights.size()
    }

    /// What its network costs.
    pub fn cost(&self) -> Vec<LevelCost> {
        match self.config.network {
            NetworkKind::ImagenPytorch => imagen_pytorch::cost(&self.config.unet, &self.weights, self.config.size),
            NetworkKind::Own => cost(&self.config.unet, self.config.size),
        }
    }

    /// Refuses adapters of another network.
    ///
    /// # Errors
    /// `Model`; `Usage` where the network is one of imagen-pytorch's.
    pub(super) fn check_lora(&self, lora: &Lora) -> Result<()> {
        if self.config.network == NetworkKind::ImagenPytorch {
            return Err(Error::usage(format!("{}: imagen-pytorch's networks take no adapters", lora.label())));
        }
        lora.check(|name| self.weights.shape(name))
    }

    /// The network with these weights.
    ///
    /// # Errors
    /// `Model` naming every missing or mis-shaped tensor.
    pub fn build(&self, device: &Device) -> Result<Stage> {
        self.build_with(&[], device)
    }

    /// The network with these weights and adapters of them, each times its strength.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub(super) fn build_with(&self, loras: &[&(Lora, f64)], device: &Device) -> Result<Stage> {
        let build = || {
            if self.config.network == NetworkKind::ImagenPytorch {
                self.weights.verify()?;
                let unet = self.config.unet.clone();
                let unet = ImagenPytorchUnet::new(unet, &self.weights, "", Storage::Stored, device)?;
                return Ok(Stage::converted(self.config.clone(), unet));
            }
            // before anything is allocated: a description may claim a network of any size
            let parameters: u64 = self.cost().iter().map(|row| row.parameters).sum();
            if parameters > self.bytes() as u64 {
                return Err(Error::model(format!(
                    "the description speaks of {parameters} parameters, but the file has only {} bytes",
                    self.bytes()
                )));
            }
            self.weights.verify()?;
            let unet = Unet::new(&self.config.unet, &mut Init::zeros(device))?;
            let mut expected = Vec::new();
            nn::visit(&unet, |name, parameter| expected.push((name.to_owned(), parameter.shape())));
            self.weights.require(&expected)?;
            let mut varied = false;
            let unet = nn::import(unet, |name, shape| {
                let mut values = self.weights.tensor_f32(name, shape)?;
                loras.iter().for_each(|(lora, strength)| lora.add_to(name, &mut values, *strength as f32));
                varied |= shape.len() > 1 && values.iter().any(|value| *value != values[0]);
                Ok(values)
            })?;
            if !varied {
                return Err(Error::model(
                    "each of its matrices holds one number throughout: these are no weights of a network, trained or not; \
                     use another copy",
                ));
            }
            Ok(Stage::new(self.config.clone(), unet))
        };
        build().context(|| self.weights.label().to_owned())
    }

    /// `unet` with the values of every tensor that has the same name and shape here: the start of a fine-tuning, of this
    /// network or of one that differs in parts. Learned positions of another side are stretched, so that a network
    /// trained on 32×32 pixels can go on at 64×64.
    ///
    /// # Errors
    /// `Model` where no tensor fits at all, or one cannot be read.
    pub fn load_matching(&self, unet: Unet) -> Result<(Unet, PartialLoad)> {
        // the values of what does not fit alone: the others are replaced
        let (mut names, mut own) = (BTreeSet::new(), BTreeMap::new());
        nn::visit(&unet, |name, parameter| {
            names.insert(name.to_owned());
            if self.weights.shape(name) != Some(&parameter.shape()[..]) {
                let values = parameter.flat().into_data().try_to_vec::<f32>().expect("parameters are f32");
                own.insert(name.to_owned(), values);
            }
        });
        let mut report = PartialLoad {
            unexpected: self.weights.names().filter(|name| !names.contains(*name)).map(str::to_owned).collect(),
            ..PartialLoad::default()
        };
        let load = || {
            self.weights.verify()?;
            let unet = nn::import(unet, |name, shape| {
                match self.weights.shape(name) {
                    Some(there) if there == shape => {
                        report.taken += 1;
                        return self.weights.tensor_f32(name, shape);
                    }
                    Some(there) => {
                        // only learned positions have three axes
                        if there.len() == 3 && shape.len() == 3 {
                            let values = self.weights.tensor_f32(name, there)?;
                            if let Some(values) = Position::stretched(&values, there, shape) {
                                report.taken += 1;
                                return Ok(values);
                            }
                        }
                        report.misshapen.push(format!("{name} ({there:?} there, {shape:?} here)"));
                    }
                    None => report.missing.push(name.to_owned()),
                }
                Ok(own.remove(name).expect("kept above"))
            })?;
            match report.taken {
                0 => {
                    Err(Error::model("none of its tensors has the name and shape of one of this network's parameters"))
                }
                _ => Ok((unet, report)),
            }
        };
        load().context(|| self.weights.label().to_owned())
    }
}

/// What [`StageFile::load_matching`] took and what it left, by parameter name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialLoad {
    /// How many parameters have the file's values.
    pub taken: usize,
    /// Parameters that the file does not have; they keep their values.
    pub missing: Vec<String>,
    /// Parameters that have another shape in the file, with both shapes; they keep their values.
    pub misshapen: Vec<String>,
    /// Tensors of the file that the network has no place for.
    pub unexpected: Vec<String>,
}

/// Writes a stage: f16 weights with the description in the header, atomically; without the head that only training needs.
///
/// # Errors
/// `Io`; `NonFinite` where a weight is not finite or does not fit f16.
pub fn write_stage(path: &Path, config: &StageConfig, record: &Record, text_encoder: &str, unet: &Unet) -> Result<()> {
    let mut config = config.clone();
    config.unet.things = 0;
    let tensors: Vec<NamedTensor<'_>> = nn::export(&unet.clone().finished())
        .into_iter()
        .map(|(name, t)| NamedTensor { name, shape: t.shape, values: Cow::Owned(t.values) })
        .collect();
    weights::write_safetensors(path, &tensors, &header(&config, record, text_encoder), Precision::F16)
}

/// What a stage's file says of it.
pub(super) fn header(config: &StageConfig, record: &Record, text_encoder: &str) -> HashMap<String, String> {
    HashMap::from([
        (FORMAT.to_owned(), "1".to_owned()),
        (CONFIG.to_owned(), serde_json::to_string(config).expect("a description is plain data")),
        (STEP.to_owned(), record.step.to_string()),
        (STATUS.to_owned(), record.status.to_string()),
        (HISTORY.to_owned(), serde_json::to_string(&record.history).expect("a history is plain data")),
        (ENCODER.to_owned(), text_encoder.to_owned()),
    ])
}

/// A network of this description with random weights; for tests and measurements.
///
/// # Errors
/// The description's.
pub fn random_stage(config: &StageConfig, seed: u64, device: &Device) -> Result<Stage> {
    config.validate()?;
    let unet = Unet::new(&config.unet, &mut Init::new(device, Rng::new(seed)))?;
    Ok(Stage::new(config.clone(), unet))
}
