//! States of texts on disk, by content: whoever draws the same prompt again need not read a text encoder of many gigabytes.
//!
//! A file is one text's states in f32, exactly as the encoder gave them, so that a picture does not depend on whether they were
//! kept. Its name is a hash of the encoder's files, their options and the cleaned text. The folder is bounded: what was not
//! used for longest goes first. A file that is damaged or of another text counts as missing; what cannot be written is not
//! kept.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use burn::tensor::{Device, Tensor, TensorData};

use crate::models::weights::{NamedTensor, Precision, Weights, write_safetensors};

/// The states of a text.
const STATES: &str = "states";
/// The text itself, in the header.
const TEXT: &str = "imagen.text";

/// A folder of texts' states.
#[derive(Clone, Debug)]
pub struct TextCache {
    folder: PathBuf,
    most: u64,
}

impl TextCache {
    /// The cache in this folder, which is made when something is kept, of at most so many bytes.
    pub fn new(folder: impl Into<PathBuf>, most: u64) -> Self {
        Self { folder: folder.into(), most }
    }

    fn path(&self, encoder: &str, text: &str) -> PathBuf {
        self.folder.join(format!("{}.safetensors", crate::text::content_hash(&[encoder, text])))
    }

    /// The states `[1, t, d]` of a text by an encoder, if they are kept.
    pub(super) fn get(&self, encoder: &str, text: &str, device: &Device) -> Option<Tensor<3>> {
        let path = self.path(encoder, text);
        let file = Weights::open(&path).ok()?;
        file.verify().ok()?;
        let &[t, d] = file.shape(STATES)? else { return None };
        if file.metadata().get(TEXT).map(String::as_str) != Some(text) || t * d == 0 {
            return None;
        }
        let states = file.tensor_f32(STATES, &[t, d]).ok()?;
        touch(&path);
        Some(Tensor::from_data(TensorData::new(states, [1, t, d]), device))
    }

    /// Whether the states of a text are kept.
    pub(super) fn has(&self, encoder: &str, text: &str) -> bool {
        self.path(encoder, text).is_file()
    }

    /// Keeps the states `[1, t, d]` of a text.
    pub(super) fn put(&self, encoder: &str, text: &str, states: &Tensor<3>) {
        let [_, t, d] = states.dims();
        let Ok(values) = states.clone().into_data().try_to_vec::<f32>() else { return };
        let tensor = NamedTensor { name: STATES.into(), shape: vec![t, d], values: values.into() };
        let header = [(TEXT.to_owned(), text.to_owned())].into();
        let path = self.path(encoder, text);
        // a courtesy: a full disk or a folder that cannot be written must not stop the drawing
        let kept = std::fs::create_dir_all(&self.folder).is_ok()
            && write_safetensors(&path, &[tensor], &header, Precision::F32).is_ok();
        if kept {
            self.shrink(&path);
        }
    }

    /// Removes what was not used for longest until the rest fits; the newest stays whatever its size.
    fn shrink(&self, newest: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let (path, about) = entry.ok().map(|entry| (entry.path(), entry.metadata()))?;
                let about = about.ok().filter(|about| about.is_file())?;
                let ours = path.extension().is_some_and(|extension| extension == "safetensors");
                ours.then(|| (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), path))
            })
            .collect();
        let mut sum: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, bytes, path) in files.iter().filter(|(_, _, path)| path != newest) {
            if sum <= self.most {
                return;
            }
            if std::fs::remove_file(path).is_ok() {
                sum -= bytes;
            }
        }
    }
}

/// Marks a file as used now.
fn touch(path: &Path) {
    if let Ok(file) = std::fs::File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(value: f32) -> Tensor<3> {
        Tensor::full([1, 4, 3], value, &Device::flex())
    }

    #[test]
    fn states_come_back_exactly_and_only_for_their_encoder_and_text() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TextCache::new(folder.path().join("new/folder"), 1 << 20);
        let device = Device::flex();
        let value = 1.0f32 / 3.0;
        cache.put("e", "a cat", &states(value));
        let kept: Vec<f32> = cache.get("e", "a cat", &device).unwrap().into_data().try_to_vec().unwrap();
        assert_eq!(kept, vec![value; 12]);
        assert!(cache.has("e", "a cat"));
        for (encoder, text) in [("f", "a cat"), ("e", "a dog"), ("ea", " cat"), ("e", "")] {
            assert!(cache.get(encoder, text, &device).is_none() && !cache.has(encoder, text), "{encoder} {text}");
        }
        // damaged in the middle, or another text's file under this name
        let path = cache.path("e", "a cat");
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(cache.get("e", "a cat", &device).is_none());
        std::fs::write(cache.path("e", "a dog"), good).unwrap();
        assert!(cache.get("e", "a dog", &device).is_none());
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TextCache::new(folder.path(), u64::MAX);
        let texts = ["a", "b", "c"];
        for (i, text) in texts.iter().enumerate() {
            cache.put("e", text, &states(0.0));
            let file = std::fs::File::options().append(true).open(cache.path("e", text)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100 + i as u64)).unwrap();
        }
        let size = std::fs::metadata(cache.path("e", "a")).unwrap().len();
        cache.get("e", "a", &Device::flex()).unwrap();
        TextCache { most: 3 * size, ..cache.clone() }.put("e", "d", &states(0.0));
        let left: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(|text| cache.has("e", text)).collect();
        assert_eq!(left, ["a", "c", "d"]);
        TextCache { most: 0, ..cache.clone() }.put("e", "x", &states(0.0));
        assert!(cache.has("e", "x") && !cache.has("e", "a"));
    }
}
