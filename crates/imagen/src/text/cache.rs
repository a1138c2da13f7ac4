//! Embeddings of captions, computed once and kept in one file (the paper computes them offline too).
//!
//! A caption is its tokens without padding, in f16. The file is a safetensors with `tokens` f16 `[total, d]`, `offsets` u64
//! `[n + 1]` (caption i is the rows offsets\[i\] .. offsets\[i + 1\]) and `captions` u64 `[n, 2]` (the 128-bit hash of each
//! caption). Its header names the encoder and a checksum: a cache of another encoder or a damaged one is made anew, and
//! the caller is told. The file is mapped: the embeddings of a large set take no memory of their own.
//!
//! While captions are encoded, what is done is written to files of the same form beside it, `NAME.part-0000` and so on, and
//! joined at the end; a killed program loses less than a minute and goes on from there.
//!
//! Deliberately not here: dropping text for guidance, pooling, and any choice of which captions to show.

mod event;
mod part;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

pub use self::event::CacheEvent;
use self::part::{Part, hash, join};
use super::{TextEmbedding, TextEncoder};
use crate::error::{Error, Result};
use crate::models::weights::FileBytes;

/// Captions per call of the encoder: enough to use both matrix dimensions, few enough to keep padding small.
const BATCH: usize = 32;

/// What is encoded is written after so many captions, or so much time; whole batches, so that a resumed cache is the same.
const PART_CAPTIONS: usize = 64 * BATCH;
const PART_TIME: Duration = Duration::from_secs(30);

/// The embeddings of many captions, ready for random access.
#[derive(Debug)]
pub struct EmbeddingCache {
    dim: usize,
    ids: HashMap<[u64; 2], usize>,
    part: Part,
}

impl EmbeddingCache {
    /// The cache at `path`, completed by `encoder` for every one of `captions` that it lacks, and saved.
    ///
    /// A missing file is an empty cache. Captions of the file that are not asked for stay in it.
    ///
    /// # Errors
    /// `Io` when the file cannot be read or written; `Usage` when it is another kind of safetensors file, which is
    /// not overwritten; `NonFinite` when f16 cannot hold an embedding; and what [`TextEncoder::encode`] reports.
    pub fn build<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        on_event: &mut dyn FnMut(CacheEvent<'_>),
    ) -> Result<Self> {
        let cache = Self::complete(path, captions, encoder, 1, &mut |batches| each(encoder, batches), &mut |event| {
            on_event(event);
            ControlFlow::Continue(())
        })?;
        Ok(cache.expect("only a break stops it"))
    }

    /// As [`Self::build_or_stop`], where `encode` makes the embeddings of up to `at_once` batches of captions, in their order:
    /// the file is the same however many there are.
    ///
    /// # Errors
    /// As [`Self::build`], and those of `encode`.
    pub fn build_among<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        at_once: usize,
        encode: &mut EncodeBatches<'_>,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        Self::complete(path, captions, encoder, at_once, encode, on_event)
    }

    /// The identity of the encoder that a cache was made by; nothing where there is no cache, or none that can be read.
    ///
    /// # Errors
    /// `Io`.
    pub fn encoder(path: &Path) -> Result<Option<String>> {
        match FileBytes::map(path) {
            Ok(bytes) => Ok(part::encoder(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path, e)),
        }
    }

    /// Builds the cache unless `on_event` breaks: then what was encoded is kept for the next time, and there is no cache yet.
    ///
    /// # Errors
    /// As [`Self::build`]; what was encoded before an error is kept too.
    pub fn build_or_stop<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        Self::complete(path, captions, encoder, 1, &mut |batches| each(encoder, batches), on_event)
    }

    /// The part at position `at` of `of` of what [`Self::build`] would encode, in a file of its own beside the cache's: batches are
    /// dealt by their order, so that every process deals alike. The next [`Self::build`] joins what it finds. None where
    /// `on_event` broke.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_share<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        (at, of): (usize, usize),
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        let there = Part::open(path, encoder, on_event)?.map(|part| part.hashes.iter().copied().collect());
        let new = ordered(captions, &there.unwrap_or_default());
        let own: Vec<&str> = new.chunks(BATCH).skip(at).step_by(of).flatten().copied().collect();
        Self::build_or_stop(&share_path(path, at, of), &own, encoder, on_event)
    }

    /// How many of these captions are neither in the cache nor in shares or parts beside it.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn missing<S: AsRef<str>>(path: &Path, captions: &[S], encoder: &dyn TextEncoder) -> Result<usize> {
        let work = Work::open(path, encoder, &mut |_| ControlFlow::Continue(()))?;
        Ok(ordered(captions, &work.known).len())
    }

    fn complete<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        at_once: usize,
        encode: &mut EncodeBatches<'_>,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        let mut work = Work::open(path, encoder, on_event)?;
        let new = ordered(captions, &work.known);
        let size = BATCH * at_once;
        for (index, batches) in new.chunks(size).enumerate() {
            if let Err(error) = work.encode(batches, encoder, encode, on_event) {
                work.save_new(encoder.identity())?;
                return Err(error);
            }
            let done = index * size + batches.len();
            let stop = on_event(CacheEvent::Encoded { done, of: new.len() }).is_break();
            if stop || work.new.len() >= PART_CAPTIONS || work.begun.elapsed() >= PART_TIME {
                work.save_new(encoder.identity())?;
            }
            if stop && done < new.len() {
                return Ok(None);
            }
        }
        work.finish(encoder).map(Some)
    }

    fn new(part: Part, dim: usize) -> Self {
        let ids = part.hashes.iter().enumerate().map(|(id, &hash)| (hash, id)).collect();
        Self { dim, ids, part }
    }

    /// How many captions there are; ids are below this.
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// Whether there is no caption.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The width d of a token's vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The id of a caption, if it is in the cache. An id is valid for this value of the cache.
    pub fn id(&self, caption: &str) -> Option<usize> {
        self.ids.get(&hash(caption)).copied()
    }

    /// The states of a caption's tokens, `[t, d]` row-major, without padding.
    ///
    /// # Panics
    /// When there is no such id.
    pub fn embedding(&self, id: usize) -> Vec<f16> {
        self.part.embedding(id, self.dim)
    }

    /// These captions as a batch on `device`, cut at `max_tokens` and padded to the longest of them.
    ///
    /// # Errors
    /// `Usage` when there are no ids, an id is not in the cache, or `max_tokens` is 0.
    pub fn batch(&self, ids: &[usize], max_tokens: usize, device: &Device) -> Result<TextEmbedding> {
        if let Some(id) = ids.iter().find(|&&id| id >= self.len()) {
            return Err(Error::usage(format!("caption {id} is not among the {} of the embedding cache", self.len())));
        }
        let rows: Vec<Vec<f16>> = ids.iter().map(|&id| self.embedding(id)).collect();
        let (b, d) = (rows.len(), self.dim);
        let t = rows.iter().map(|row| row.len() / d).max().unwrap_or(0).min(max_tokens);
        if t == 0 {
            return Err(Error::usage(format!("a batch of {b} captions of at most {max_tokens} tokens is empty")));
        }
        let mut sequence = vec![0.0; b * t * d];
        let mut mask = vec![0.0; b * t];
        for (index, row) in rows.into_iter().enumerate() {
            let row = &row[..row.len().min(t * d)];
            row.convert_to_f32_slice(&mut sequence[index * t * d..][..row.len()]);
            mask[index * t..][..row.len() / d].fill(1.0);
        }
        Ok(TextEmbedding {
            sequence: Tensor::from_data(TensorData::new(sequence, [b, t, d]), device),
            mask: Tensor::from_data(TensorData::new(mask, [b, t]), device),
        })
    }
}

/// The captions that are not known, each once.
fn ordered<'a, S: AsRef<str>>(captions: &'a [S], known: &HashSet<[u64; 2]>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let mut new: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
    new.retain(|caption| !known.contains(&hash(caption)) && seen.insert(*caption));
    // Captions of like length side by side need little padding. The order depends on nothing but the captions.
    new.sort_unstable_by_key(|caption| (caption.len(), *caption));
    new
}

/// What makes the embeddings of some batches of captions, in their order.
pub type EncodeBatches<'a> = dyn FnMut(&[&[&str]]) -> Result<Vec<TextEmbedding>> + 'a;

/// Encodes batch after batch.
fn each(encoder: &dyn TextEncoder, batches: &[&[&str]]) -> Result<Vec<TextEmbedding>> {
    batches.iter().map(|batch| encoder.encode(batch)).collect()
}

/// A cache while it is being completed.
struct Work<'a> {
    path: &'a Path,
    dim: usize,
    /// What is on disk: the cache, if there is one, and the parts of an earlier, unfinished run.
    saved: Vec<Part>,
    /// The files of those parts.
    parts: Vec<PathBuf>,
    known: HashSet<[u64; 2]>,
    /// What is not yet on disk, and since when.
    new: Part,
    begun: Instant,
}

impl<'a> Work<'a> {
    fn open(
        path: &'a Path,
        encoder: &dyn TextEncoder,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Self> {
        let dim = encoder.dim();
        let (mut saved, mut known) = (Vec::new(), HashSet::new());
        saved.extend(Part::open(path, encoder, on_event)?);
        known.extend(saved.iter().flat_map(|part| part.hashes.iter().copied()));
        let parts = parts_of(path)?;
        for file in &parts {
            // A part that was joined already was only left over.
            if let Some(part) = Part::open(file, encoder, on_event)?
                && !part.hashes.iter().all(|hash| known.contains(hash))
            {
                known.extend(part.hashes.iter().copied());
                saved.push(part);
            }
        }
        Ok(Self { path, dim, saved, parts, known, new: Part::default(), begun: Instant::now() })
    }

    fn encode(
        &mut self,
        captions: &[&str],
        encoder: &dyn TextEncoder,
        encode: &mut EncodeBatches<'_>,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        for caption in captions {
            if let Some(lost) = encoder.cut_text(caption)? {
                // Whoever wants to stop is heard at the end of the batch.
                let _ = on_event(CacheEvent::Cut { caption, lost });
            }
        }
        let batches: Vec<&[&str]> = captions.chunks(BATCH).collect();
        let embeddings = encode(&batches)?;
        batches.into_iter().zip(embeddings).try_for_each(|(batch, embedding)| self.new.append(batch, embedding))
    }

    /// Writes what is new as a part beside the cache.
    fn save_new(&mut self, identity: &str) -> Result<()> {
        self.begun = Instant::now();
        if self.new.len() == 0 {
            return Ok(());
        }
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(format!("{PART_MARK}{:04}", next_number(&self.parts)));
        let file = self.path.with_file_name(name);
        join(&file, std::slice::from_ref(&self.new), self.dim, identity)?;
        // From now on it is read from there, and takes no memory.
        let mapped = Part::map(&file, self.dim)?;
        self.saved.push(mapped);
        self.new = Part::default();
        self.parts.push(file);
        Ok(())
    }

    /// Joins all parts in the one file.
    fn finish(mut self, encoder: &dyn TextEncoder) -> Result<EmbeddingCache> {
        if self.new.len() > 0 || !self.parts.is_empty() {
            self.saved.push(std::mem::take(&mut self.new));
            join(self.path, &self.saved, self.dim, encoder.identity())?;
            for file in &self.parts {
                std::fs::remove_file(file).map_err(|e| Error::io("remove", file, e))?;
            }
            return Ok(EmbeddingCache::new(Part::map(self.path, self.dim)?, self.dim));
        }
        Ok(EmbeddingCache::new(self.saved.pop().unwrap_or_default(), self.dim))
    }
}

/// What follows the cache's name in that of a part, and in that of a share.
const PART_MARK: &str = ".part-";
const SHARE_MARK: &str = ".share-";

/// The file of a share.
fn share_path(path: &Path, at: usize, of: usize) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{SHARE_MARK}{}-of-{of}", at + 1));
    path.with_file_name(name)
}

/// The shares of the cache, and their unfinished parts; then the parts that an unfinished run left, in the order in which they
/// were written.
fn parts_of(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read the folder", folder, e)),
    };
    let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (start, of_share) = (format!("{own}{PART_MARK}"), format!("{own}{SHARE_MARK}"));
    let (mut shares, mut found) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = entry.map_err(|e| Error::io("read the folder", folder, e))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&start)).map(|number| number.parse::<u64>());
        if let Some(Ok(number)) = number {
            found.push((number, path.with_file_name(name)));
        } else if name.to_str().and_then(|name| name.strip_prefix(&of_share)).is_some_and(is_share) {
            shares.push(path.with_file_name(name));
        }
    }
    shares.sort();
    found.sort();
    Ok(shares.into_iter().chain(found.into_iter().map(|(_, file)| file)).collect())
}

/// Whether this follows the mark of a share: `2-of-4`, or a part of it.
fn is_share(rest: &str) -> bool {
    let (numbers, part) = rest.split_once(PART_MARK).unwrap_or((rest, "0"));
    let numbers = numbers.split_once("-of-").map(|(at, of)| [at, of]);
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    numbers.is_some_and(|numbers| numbers.into_iter().all(is_number)) && is_number(part)
}

/// The number after that of the last part.
fn next_number(parts: &[PathBuf]) -> u64 {
    let number = |file: &PathBuf| file.to_str()?.rsplit_once(PART_MARK)?.1.parse::<u64>().ok();
    parts.last().and_then(number).map_or(0, |number| number + 1)
}
