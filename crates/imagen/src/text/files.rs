//! The files of a published language model, by their names: mapped from folders or compiled in.
//!
//! A model is a `config.json`, a tokenizer in one of three forms, and weights in one file or cut into several under an
//! index. Deliberately not here: what is in them.

use std::io;
use std::path::Path;

use super::hash::Xxh64;
use crate::error::{Error, Result};
use crate::models::weights::{FileBytes, Weights, shard_names};

/// The forms of a tokenizer, the first that is there counts: this library's own, a SentencePiece model (T5), byte pairs
/// (CLIP, RoBERTa).
const TOKENIZERS: [&[&str]; 3] = [&["tokenizer.json"], &["spiece.model"], &["vocab.json", "merges.txt"]];

/// Weights in one file and the index of weights in several, as they are named; half precision is taken where there is
/// nothing else.
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.fp16.safetensors"];
const INDEXES: [&str; 2] = ["model.safetensors.index.json", "model.safetensors.index.fp16.json"];

/// The files of a published language model as bytes: `config.json`, then those of the tokenizer, then those of the weights.
#[derive(Clone)]
pub struct EncoderFiles {
    label: String,
    files: Vec<(String, FileBytes)>,
}

impl EncoderFiles {
    /// The files of a folder, mapped: `config.json`; `tokenizer.json`, `spiece.model` or `vocab.json` with `merges.txt`;
    /// `model.safetensors`, or `model.safetensors.index.json` with the files that it lists.
    ///
    /// # Errors
    /// `Model` when there is no such folder or a file is missing; `Io` when a file cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_apart(folder, folder)
    }

    /// Opens an encoder whose tokenizer is in a folder of its own, as in pipelines of diffusers (`text_encoder`, `tokenizer`).
    ///
    /// # Errors
    /// As [`EncoderFiles::open`].
    pub fn open_apart(encoder: &Path, tokenizer: &Path) -> Result<Self> {
        for folder in [encoder, tokenizer] {
            if !folder.is_dir() {
                return Err(Error::model(format!(
                    "there is no text encoder at {}: expected a folder with config.json, tokenizer.json and model.safetensors",
                    folder.display()
                )));
            }
        }
        Self::read(encoder.display().to_string(), |name| {
            let folder = if TOKENIZERS.concat().contains(&name) { tokenizer } else { encoder };
            let path = folder.join(name);
            match FileBytes::map(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::io("read", &path, e).of_model()),
            }
        })
    }

    /// Reads an encoder from wherever `read` finds a file of a name, or nothing.
    ///
    /// # Errors
    /// `Model` when a file is missing; what `read` fails with.
    pub fn read(label: impl Into<String>, read: impl Fn(&str) -> Result<Option<FileBytes>>) -> Result<Self> {
        let mut found = Self { label: label.into(), files: Vec::new() };
        found.take("config.json", &read)?;
        found.take_tokenizer(&read)?;
        found.take_weights(&read)?;
        Ok(found)
    }

    /// These files, under these names.
    pub fn new(label: impl Into<String>, files: impl IntoIterator<Item = (&'static str, FileBytes)>) -> Self {
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        Self { label: label.into(), files }
    }

    fn take(&mut self, name: &str, read: impl Fn(&str) -> Result<Option<FileBytes>>) -> Result<()> {
        let bytes = read(name)?.ok_or_else(|| self.missing(name))?;
        self.files.push((name.to_owned(), bytes));
        Ok(())
    }

    fn take_tokenizer(&mut self, read: impl Fn(&str) -> Result<Option<FileBytes>>) -> Result<()> {
        for form in TOKENIZERS {
            if let Some(first) = read(form[0])? {
                self.files.push((form[0].to_owned(), first));
                return form[1..].iter().try_for_each(|name| self.take(name, &read));
            }
        }
        Err(self.missing("tokenizer.json (nor spiece.model, nor vocab.json with merges.txt)"))
    }

    fn take_weights(&mut self, read: impl Fn(&str) -> Result<Option<FileBytes>>) -> Result<()> {
        for (single, index) in WEIGHTS.into_iter().zip(INDEXES) {
            if let Some(bytes) = read(single)? {
                self.files.push((single.to_owned(), bytes));
                return Ok(());
            }
            if let Some(bytes) = read(index)? {
                let shards = shard_names(index, &bytes).map_err(|e| e.context(self.label.clone()))?;
                self.files.push((index.to_owned(), bytes));
                return shards.iter().try_for_each(|name| self.take(name, &read));
            }
        }
        Err(self.missing("model.safetensors (nor model.safetensors.index.json)"))
    }

    fn missing(&self, name: &str) -> Error {
        Error::model(format!("{}: the text encoder has no {name}", self.label))
    }

    /// What names these files in errors: the folder.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The names and contents in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileBytes)> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes))
    }

    /// A file, if it is there.
    pub fn get(&self, name: &str) -> Option<&FileBytes> {
        self.iter().find(|(n, _)| *n == name).map(|(_, bytes)| bytes)
    }

    /// A file.
    ///
    /// # Errors
    /// `Model` when it is not there.
    pub fn file(&self, name: &str) -> Result<&FileBytes> {
        self.get(name).ok_or_else(|| self.missing(name))
    }

    /// Replaces the content of the file `name`, or adds it.
    pub fn with(mut self, name: &str, bytes: impl Into<FileBytes>) -> Self {
        match self.files.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = bytes.into(),
            None => self.files.push((name.to_owned(), bytes.into())),
        }
        self
    }

    /// The tensors, from one file or from several.
    ///
    /// # Errors
    /// `Model` when there are none, or a file is damaged.
    pub fn weights(&self) -> Result<Weights> {
        for (single, index) in WEIGHTS.into_iter().zip(INDEXES) {
            if let Some(bytes) = self.get(single) {
                return Weights::from_bytes(bytes.clone(), single);
            }
            if let Some(bytes) = self.get(index) {
                return Weights::from_shards(index, bytes, |name| self.file(name).cloned());
            }
        }
        Err(self.missing("model.safetensors"))
    }

    /// A hash that tells files apart without reading all of them: names, lengths, small files whole, of large ones a page in
    /// every few megabytes, so that every matrix of a large model is looked at. It does not find damage.
    pub(crate) fn fingerprint(&self) -> u64 {
        const WHOLE: usize = 4 << 20;
        const PAGE: usize = 4096;
        self.files.iter().fold(0, |seed, (name, bytes)| {
            let mut hasher = Xxh64::new(seed);
            hasher.update(name.as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            // the header and the end too
            hasher.update(&bytes[..bytes.len().min(WHOLE)]);
            for start in (WHOLE..bytes.len()).step_by(WHOLE) {
                hasher.update(&bytes[start..bytes.len().min(start + PAGE)]);
            }
            hasher.update(&bytes[bytes.len().saturating_sub(PAGE)..]);
            bytes.release(0..bytes.len());
            hasher.digest()
        })
    }

    /// Whether an encoder of this identity ([`TextEncoder::identity`](super::TextEncoder::identity)) was made of these files.
    pub(crate) fn are_of(&self, identity: &str) -> bool {
        identity.contains(&format!("-{:016x}-", self.hash()))
    }

    /// A hash of all contents in their order.
    pub(super) fn hash(&self) -> u64 {
        /// Bytes that are in memory at once: weights may be larger than it is.
        const PIECE: usize = 64 << 20;
        self.files.iter().fold(0, |seed, (_, bytes)| {
            let mut hasher = Xxh64::new(seed);
            for (index, piece) in bytes.chunks(PIECE).enumerate() {
                hasher.update(piece);
                bytes.release(index * PIECE..index * PIECE + piece.len());
            }
            hasher.digest()
        })
    }
}

impl std::fmt::Debug for EncoderFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        f.debug_struct("EncoderFiles").field("label", &self.label).field("files", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A folder with these files, each with its own name in it.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let index = r#"{"weight_map":{"a":"b-1","b":"a-2"}}"#;
            let content = if name.contains("index") { index } else { name };
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn names(files: &EncoderFiles) -> Vec<&str> {
        files.iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_folder_in_any_of_its_forms_is_found_in_one_order() {
        let index = "model.safetensors.index.json";
        let half = "model.safetensors.index.fp16.json";
        for (there, expected) in [
            (
                vec!["merges.txt", "vocab.json", "model.safetensors"],
                vec!["vocab.json", "merges.txt", "model.safetensors"],
            ),
            (
                vec!["spiece.model", "tokenizer.json", "model.safetensors", index],
                vec!["tokenizer.json", "model.safetensors"],
            ),
            (vec!["spiece.model", index, "b-1", "a-2"], vec!["spiece.model", index, "a-2", "b-1"]),
            (vec!["spiece.model", half, "b-1", "a-2"], vec!["spiece.model", half, "a-2", "b-1"]),
            (vec!["spiece.model", "model.fp16.safetensors"], vec!["spiece.model", "model.fp16.safetensors"]),
        ] {
            let folder = folder(&[vec!["config.json"], there].concat());
            let files = EncoderFiles::open(folder.path()).unwrap();
            assert_eq!(names(&files), [vec!["config.json"], expected].concat());
        }
        let (encoder, tokenizer) = (folder(&["config.json", "model.safetensors"]), folder(&["spiece.model"]));
        let files = EncoderFiles::open_apart(encoder.path(), tokenizer.path()).unwrap();
        assert_eq!(names(&files), ["config.json", "spiece.model", "model.safetensors"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let index = "model.safetensors.index.json";
        for (there, missing) in [
            (&["tokenizer.json", "model.safetensors"][..], "config.json"),
            (&["config.json", "model.safetensors"], "tokenizer.json"),
            (&["config.json", "vocab.json", "model.safetensors"], "merges.txt"),
            (&["config.json", "tokenizer.json"], "model.safetensors"),
            (&["config.json", "tokenizer.json", index, "b-1"], "a-2"),
        ] {
            let folder = folder(there);
            let error = EncoderFiles::open(folder.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            let message = format!("{error:#}");
            assert!(message.contains(&format!("the text encoder has no {missing}")), "{message}");
            assert!(message.starts_with(&folder.path().display().to_string()), "{message}");
        }
        let error = EncoderFiles::open(Path::new("/nowhere")).unwrap_err();
        assert!(format!("{error:#}").contains("expected a folder with config.json"), "{error:#}");
    }
}
