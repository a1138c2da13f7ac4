//! Checkpoints of a folder as Hugging Face lays them out: one safetensors file, or several with an index that says which
//! tensor is where (`model.safetensors.index.json`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::{FileBytes, Weights};
use crate::error::{Error, Result};

/// The index: its own metadata (a total size that differs between writers) do not concern us.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn parse(label: &str, json: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(json).map_err(|e| {
            Error::model(format!("{label} is not the index of a cut checkpoint (`weight_map`: tensor → file)"))
                .with_source(e)
        })?;
        if index.weight_map.is_empty() {
            return Err(Error::model(format!("{label} lists no tensors")));
        }
        Ok(index)
    }
}

/// The names of the files that an index lists, in alphabetical order; each is a file beside the index.
///
/// # Errors
/// `Model` when it is no index, or names a file elsewhere.
pub fn shard_names(label: &str, index: &[u8]) -> Result<Vec<String>> {
    let files: BTreeSet<String> = Index::parse(label, index)?.weight_map.into_values().collect();
    match files.iter().find(|file| Path::new(file).file_name().is_none_or(|name| name != file.as_str())) {
        Some(elsewhere) => Err(Error::model(format!("{label} names {elsewhere:?}; expected a file beside it"))),
        None => Ok(files.into_iter().collect()),
    }
}

impl Weights {
    /// Maps the checkpoint `stem` of a folder (`model`, `diffusion_pytorch_model`): one file, or an index with its shards; a
    /// variant (`stem.fp16`) where there is no other.
    ///
    /// # Errors
    /// `Model` where there is none, a file is missing or damaged, or index and shards contradict each other; `Io` where a
    /// file cannot be read.
    pub fn open_checkpoint(folder: &Path, stem: &str) -> Result<Self> {
        for variant in ["", ".fp16", ".bf16"] {
            let whole = folder.join(format!("{stem}{variant}.safetensors"));
            if whole.is_file() {
                return Self::open(&whole);
            }
            let names =
                [format!("{stem}{variant}.safetensors.index.json"), format!("{stem}.safetensors.index{variant}.json")];
            if let Some(index) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
                let bytes = std::fs::read(&index).map_err(|e| Error::io("read", &index, e))?;
                let label = index.display().to_string();
                return Self::from_shards(label.clone(), &bytes, |name| {
                    let path = folder.join(name);
                    FileBytes::map(&path).map_err(|e| match e.kind() {
                        ErrorKind::NotFound => {
                            Error::model(format!("{label} names the shard {name}, which is not there; copy it too"))
                        }
                        _ => Error::io("read", &path, e).of_model(),
                    })
                });
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

    /// The tensors of all files that an index lists. `label` names the index in errors, `file` gives the bytes of a shard.
    ///
    /// # Errors
    /// `Model` when the index or a shard is damaged, a tensor is not in the shard that it should be in, or two shards have
    /// the same tensor; and what `file` fails with.
    pub fn from_shards(
        label: impl Into<String>,
        index: &[u8],
        mut file: impl FnMut(&str) -> Result<FileBytes>,
    ) -> Result<Self> {
        let label = label.into();
        let map = Index::parse(&label, index)?.weight_map;
        let mut all = Self { label, files: Vec::new(), metadata: [].into(), entries: BTreeMap::new() };
        for name in shard_names(&all.label, index)? {
            let shard = Self::from_bytes(file(&name)?, name.clone())?;
            let missing = map.iter().find(|(tensor, of)| **of == name && !shard.entries.contains_key(*tensor));
            if let Some((tensor, _)) = missing {
                let label = &all.label;
                return Err(Error::model(format!(
                    "{name} lacks `{tensor}`, which {label} says is in it; copy it again"
                )));
            }
            for (tensor, mut entry) in shard.entries {
                if let Some(other) = all.entries.get(&tensor) {
                    let other = &all.files[other.file].label;
                    return Err(Error::model(format!("`{tensor}` is in {other} and in {name}; one belongs elsewhere")));
                }
                entry.file = all.files.len();
                all.entries.insert(tensor, entry);
            }
            all.metadata.extend(shard.metadata);
            all.files.extend(shard.files);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(tensors: &[(&str, f32)]) -> FileBytes {
        let entry = |(i, (name, _)): (usize, &(&str, f32))| {
            format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, 4 * i, 4 * i + 4)
        };
        let header = format!("{{{}}}", tensors.iter().enumerate().map(entry).collect::<Vec<_>>().join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(tensors.iter().flat_map(|(_, x)| x.to_le_bytes()));
        bytes.into()
    }

    fn read(index: &str, b: &[(&str, f32)]) -> Result<Weights> {
        Weights::from_shards("index", index.as_bytes(), |name| match name {
            "1" => Ok(shard(&[("a", 1.0), ("c", 3.0)])),
            "2" => Ok(shard(b)),
            other => Err(Error::model(format!("there is no {other}"))),
        })
    }

    const INDEX: &str = r#"{"metadata":{"total_size":12},"weight_map":{"a":"1","c":"1","b":"2"}}"#;

    #[test]
    fn shards_are_one_set_of_tensors() {
        let weights = read(INDEX, &[("b", 2.0)]).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            assert_eq!(weights.tensor_f32(name, &[1]).unwrap(), [value]);
        }
        assert_eq!(weights.size(), shard(&[("a", 0.0), ("c", 0.0)]).len() + shard(&[("b", 0.0)]).len());
    }

    #[test]
    fn what_does_not_fit_the_index_is_named() {
        for (index, b, expected) in [
            ("[]", "b", "index is not the index"),
            (r#"{"weight_map":{}}"#, "b", "index lists no tensors"),
            (r#"{"weight_map":{"a":"../1"}}"#, "b", r#"index names "../1"; expected a file beside it"#),
            (r#"{"weight_map":{"a":".."}}"#, "b", r#"index names "..""#),
            (r#"{"weight_map":{"a":"1","b":"3"}}"#, "b", "there is no 3"),
            (INDEX, "x", "2 lacks `b`, which index says is in it"),
            (INDEX, "a", "2 lacks `b`"),
        ] {
            let message = format!("{:#}", read(index, &[(b, 2.0)]).unwrap_err());
            assert!(message.starts_with(expected), "{message}");
        }
        let message = format!("{:#}", read(INDEX, &[("b", 2.0), ("a", 1.0)]).unwrap_err());
        assert!(message.starts_with("`a` is in 1 and in 2"), "{message}");
        let message = format!("{:#}", read(INDEX, &[("b", f32::NAN)]).unwrap().tensor_f32("b", &[1]).unwrap_err());
        assert!(message.starts_with("2: `b` holds a number that is not finite"), "{message}");
    }
}
