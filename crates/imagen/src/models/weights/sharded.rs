//! A checkpoint of a folder as Hugging Face lays it out: one safetensors file, or an index beside several.
//!
//! The index (`STEM.safetensors.index.json`) says which shard holds which tensor. It is held against the shards, so that a
//! missing or truncated one is named before anything is read. Files of a variant (`STEM.fp16.safetensors`) are taken where
//! there is no other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Weights;
use crate::error::{Error, Result};

/// The tensors of one or more files under one roof.
#[derive(Debug)]
pub struct Checkpoint {
    label: String,
    shards: Vec<Weights>,
    /// Tensor → shard.
    place: BTreeMap<String, usize>,
}

/// What such an index holds besides sums that nobody needs.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Maps the checkpoint `stem` of a folder (`model`, `diffusion_pytorch_model`).
    ///
    /// # Errors
    /// `Model` where there is none, a shard is missing or damaged, or index and shards contradict each other; `Io` where a
    /// file cannot be read.
    pub fn open(folder: &Path, stem: &str) -> Result<Self> {
        for variant in ["", ".fp16", ".bf16"] {
            let whole = folder.join(format!("{stem}{variant}.safetensors"));
            if whole.is_file() {
                return Weights::open(&whole).map(Self::from);
            }
            let names =
                [format!("{stem}{variant}.safetensors.index.json"), format!("{stem}.safetensors.index{variant}.json")];
            if let Some(index) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
                return Self::sharded(folder, &index);
            }
        }
        let pickle = folder.join(format!("{stem}.bin")).is_file() || folder.join("pytorch_model.bin").is_file();
        let why = if pickle {
            "; the .bin file there is a pickle, which is never read: convert it to safetensors"
        } else {
            ""
        };
        Err(Error::model(format!(
            "{} holds no weights: expected {stem}.safetensors, or {stem}.safetensors.index.json with its shards{why}",
            folder.display()
        )))
    }

    fn sharded(folder: &Path, index: &Path) -> Result<Self> {
        let label = index.display().to_string();
        let bytes = std::fs::read(index).map_err(|e| Error::io("read", index, e))?;
        let Index { weight_map } = serde_json::from_slice(&bytes)
            .map_err(|e| Error::model(format!("{label} is not an index of shards")).with_source(e))?;
        let mut files: Vec<&String> = weight_map.values().collect();
        files.sort();
        files.dedup();
        let mut shards = Vec::new();
        for file in &files {
            // a name, never a way out of the folder
            if PathBuf::from(file).file_name().is_none_or(|name| name.to_str() != Some(file)) {
                return Err(Error::model(format!(
                    "{label} names the shard {file:?}, which is not a file of this folder"
                )));
            }
            let path = folder.join(file);
            if !path.is_file() {
                return Err(Error::model(format!("{label} names the shard {file}, which is not there")));
            }
            shards.push(Weights::open(&path)?);
        }
        let mut place = BTreeMap::new();
        for (name, file) in &weight_map {
            let shard = files.binary_search(&file).expect("every file of the map is listed");
            if shards[shard].shape(name).is_none() {
                return Err(Error::model(format!("{label} says that `{name}` is in {file}, and it is not")));
            }
            place.insert(name.clone(), shard);
        }
        for (shard, file) in shards.iter().zip(&files) {
            if let Some(name) = shard.names().find(|name| !place.contains_key(*name)) {
                return Err(Error::model(format!("{file} holds `{name}`, which {label} does not know")));
            }
        }
        Ok(Self { label, shards, place })
    }

    /// What names these weights in errors.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.size()).sum()
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shards[*self.place.get(name)?].shape(name)
    }

    /// Checks that the checkpoint holds these tensors, in these shapes, and no others.
    ///
    /// # Errors
    /// `Model`, one line that lists everything that is wrong.
    pub fn require_exactly(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        let missing = |(name, shape): &(String, Vec<usize>)| match self.place.get(name) {
            Some(shard) => self.shards[*shard].complaint(name, shape),
            None => Some(format!("`{name}` is missing (expected {shape:?})")),
        };
        let mut complaints: Vec<String> = expected.iter().filter_map(missing).collect();
        let known: std::collections::BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let extra = self.place.keys().filter(|name| !known.contains(name.as_str()));
        complaints
            .extend(extra.map(|name| format!("`{name}` {:?} is not of this network", self.shape(name).unwrap_or(&[]))));
        if complaints.is_empty() {
            return Ok(());
        }
        const SHOWN: usize = 12;
        let count = complaints.len();
        let more = if count > SHOWN { format!("; and {} more", count - SHOWN) } else { String::new() };
        complaints.truncate(SHOWN);
        let list = complaints.join("; ");
        Err(Error::model(format!("{} does not fit its config.json ({count} tensors): {list}{more}", self.label)))
    }

    /// The values of a tensor in row-major order.
    ///
    /// # Errors
    /// As [`Weights::tensor_f32`].
    pub fn tensor_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let shard = self.place.get(name).copied().unwrap_or(0);
        self.shards[shard].tensor_f32(name, shape)
    }
}

impl From<Weights> for Checkpoint {
    fn from(weights: Weights) -> Self {
        let place = weights.names().map(|name| (name.to_owned(), 0)).collect();
        Self { label: weights.label().to_owned(), place, shards: vec![weights] }
    }
}
