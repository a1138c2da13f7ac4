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

mod part;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

use self::part::{Part, hash, join};
use super::{TextEmbedding, TextEncoder};
use crate::error::{Error, Result};
use crate::models::weights::FileBytes;

/// Captions per call of the encoder: enough to use both matrix dimensions, few enough to keep padding small.
const BATCH: usize = 32;

/// What is encoded is written after so many captions, or so much time; whole batches, so that a resumed cache is the same.
const PART_CAPTIONS: usize = 64 * BATCH;
const PART_TIME: Duration = Duration::from_secs(30);

/// What happens while a cache is opened and completed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheEvent<'a> {
    /// The file was made by another encoder, or with another maximum length; all captions are encoded anew.
    OtherEncoder {
        /// The identity in the file.
        found: &'a str,
    },
    /// The file is damaged; all captions are encoded anew.
    Damaged {
        /// What is wrong with it.
        why: &'a str,
    },
    /// A caption is longer than the encoder reads.
    Cut {
        /// The whole caption.
        caption: &'a str,
        /// The part at its end that has no influence.
        lost: &'a str,
    },
    /// So many of the captions that were not in the file are encoded by now.
    Encoded {
        /// Captions done.
        done: usize,
        /// Captions to do in all.
        of: usize,
    },
}

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
        let cache = Self::build_or_stop(path, captions, encoder, &mut |event| {
            on_event(event);
            ControlFlow::Continue(())
        })?;
        Ok(cache.expect("only a break stops it"))
    }

    /// The same, unless `on_event` breaks: then what was encoded is kept for the next time, and there is no cache yet.
    ///
    /// # Errors
    /// As [`Self::build`]; what was encoded before an error is kept too.
    pub fn build_or_stop<S: AsRef<str>>(
        path: &Path,
        captions: &[S],
        encoder: &dyn TextEncoder,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        let mut work = Work::open(path, encoder, on_event)?;
        let mut seen = HashSet::new();
        let mut new: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
        new.retain(|caption| !work.known.contains(&hash(caption)) && seen.insert(*caption));
        // Captions of like length side by side need little padding. The order depends on nothing but the captions.
        new.sort_unstable_by_key(|caption| (caption.len(), *caption));
        for (index, batch) in new.chunks(BATCH).enumerate() {
            if let Err(error) = work.encode(batch, encoder, on_event) {
                work.save_new(encoder.identity())?;
                return Err(error);
            }
            let done = index * BATCH + batch.len();
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
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        for caption in captions {
            if let Some(lost) = encoder.cut_text(caption)? {
                // Whoever wants to stop is heard at the end of the batch.
                let _ = on_event(CacheEvent::Cut { caption, lost });
            }
        }
        self.new.append(captions, encoder.encode(captions)?)
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

/// What follows the cache's name in that of a part.
const PART_MARK: &str = ".part-";

/// The parts that an unfinished run left, in the order in which they were written.
fn parts_of(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read the folder", folder, e)),
    };
    let start = format!("{}{PART_MARK}", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| Error::io("read the folder", folder, e))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&start)).map(|number| number.parse::<u64>());
        if let Some(Ok(number)) = number {
            found.push((number, path.with_file_name(name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// The number after that of the last part.
fn next_number(parts: &[PathBuf]) -> u64 {
    let number = |file: &PathBuf| file.to_str()?.rsplit_once(PART_MARK)?.1.parse::<u64>().ok();
    parts.last().and_then(number).map_or(0, |number| number + 1)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;
    use crate::models::weights::write_raw;

    /// Tokens are words; the state of a word is (its length, its position, its first byte).
    struct Words {
        identity: &'static str,
        encoded: AtomicUsize,
        /// Captions after which the encoder panics, as a killed program ends.
        until: usize,
    }

    impl Words {
        fn new(identity: &'static str) -> Self {
            Self { identity, encoded: AtomicUsize::new(0), until: usize::MAX }
        }

        fn states(caption: &str) -> Vec<f32> {
            let word = |(i, w): (usize, &str)| [w.len() as f32, i as f32, f32::from(w.as_bytes()[0])];
            caption.split(' ').take(4).enumerate().flat_map(word).collect()
        }
    }

    impl TextEncoder for Words {
        fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
            let encoded = self.encoded.fetch_add(captions.len(), Ordering::Relaxed);
            assert!(encoded < self.until, "killed");
            let rows: Vec<_> = captions.iter().map(|caption| Self::states(caption)).collect();
            let t = rows.iter().map(|row| row.len() / 3).max().unwrap();
            let mask = rows.iter().flat_map(|row| (0..t).map(|i| f32::from(u8::from(i < row.len() / 3)))).collect();
            let padded = |row: &Vec<f32>| row.iter().copied().chain([0.0; 12]).take(t * 3).collect::<Vec<_>>();
            let states: Vec<f32> = rows.iter().flat_map(padded).collect();
            let device = Device::flex();
            Ok(TextEmbedding {
                sequence: Tensor::from_data(TensorData::new(states, [rows.len(), t, 3]), &device),
                mask: Tensor::from_data(TensorData::new::<f32, _>(mask, [rows.len(), t]), &device),
            })
        }

        fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
            Ok(caption.match_indices(' ').nth(3).map(|(at, _)| &caption[at..]))
        }

        fn dim(&self) -> usize {
            3
        }

        fn max_length(&self) -> usize {
            4
        }

        fn identity(&self) -> &str {
            self.identity
        }
    }

    fn build(path: &Path, captions: &[&str], encoder: &Words) -> (EmbeddingCache, Vec<String>) {
        let mut events = Vec::new();
        let cache = EmbeddingCache::build(path, captions, encoder, &mut |event| events.push(format!("{event:?}")));
        (cache.unwrap(), events)
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.safetensors");
        (folder, path)
    }

    fn many() -> Vec<String> {
        (0..100).map(|i| format!("caption {} of {i}", "x".repeat(1 + i * 7 % 13))).collect()
    }

    #[test]
    fn only_captions_that_the_file_lacks_are_encoded() {
        let (_folder, path) = scratch();
        let encoder = Words::new("a");
        let captions = many();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        build(&path, &captions[..60], &encoder);
        assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), 60);
        let twice = [&captions[..], &captions[..]].concat();
        let (cache, events) = build(&path, &twice, &encoder);
        assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), 40, "each new caption once");
        assert_eq!(events.last().unwrap(), "Encoded { done: 40, of: 40 }");
        assert_eq!(cache.len(), 100);
        for again in [cache, build(&path, &captions, &encoder).0] {
            for caption in &captions {
                let expected: Vec<f16> = Words::states(caption).into_iter().map(f16::from_f32).collect();
                assert_eq!(again.embedding(again.id(caption).unwrap()), expected, "{caption}");
            }
            assert_eq!(again.id("never seen"), None);
        }
        assert_eq!(encoder.encoded.into_inner(), 0);
    }

    #[test]
    fn a_batch_is_padded_with_zeros_and_cut_at_max_tokens() {
        let (_folder, path) = scratch();
        let (cache, _) = build(&path, &["b", "aa c d"], &Words::new("a"));
        let ids = ["b", "aa c d", "b"].map(|caption| cache.id(caption).unwrap());
        let read = |max| {
            let batch = cache.batch(&ids, max, &Device::flex()).unwrap();
            let values = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
            (batch.sequence.dims(), values(batch.sequence.into_data()), values(batch.mask.into_data()))
        };
        let (shape, states, mask) = read(9);
        assert_eq!(shape, [3, 3, 3]);
        assert_eq!(mask, [1., 0., 0., 1., 1., 1., 1., 0., 0.]);
        let alone = [1., 0., 98., 0., 0., 0., 0., 0., 0.];
        assert_eq!(states, [&alone[..], &[2., 0., 97., 1., 1., 99., 1., 2., 100.], &alone].concat());
        let (shape, states, mask) = read(1);
        assert_eq!((shape, mask), ([3, 1, 3], vec![1.; 3]));
        assert_eq!(states, [1., 0., 98., 2., 0., 97., 1., 0., 98.]);
    }

    #[test]
    fn a_batch_of_nothing_or_of_strangers_is_refused() {
        let (_folder, path) = scratch();
        let (cache, _) = build(&path, &["b"], &Words::new("a"));
        for (ids, max) in [(&[][..], 4), (&[0], 0), (&[1], 4)] {
            assert_eq!(cache.batch(ids, max, &Device::flex()).unwrap_err().kind(), ErrorKind::Usage, "{ids:?} {max}");
        }
    }

    #[test]
    fn the_cache_of_another_encoder_is_made_anew_and_reported() {
        let (_folder, path) = scratch();
        build(&path, &["b"], &Words::new("first"));
        let (second, events) =
            (Words::new("second"), vec!["OtherEncoder { found: \"first\" }", "Encoded { done: 1, of: 1 }"]);
        assert_eq!(build(&path, &["b"], &second).1, events);
        assert_eq!(build(&path, &["b"], &second).1, [""; 0], "now it is the cache of the second");
    }

    #[test]
    fn any_damage_is_noticed_reported_and_mended() {
        let (_folder, path) = scratch();
        let encoder = Words::new("a");
        build(&path, &["b", "c d"], &encoder);
        let whole = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        let flips = (header..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            bytes
        });
        let cuts = [0, 5, header, whole.len() - 1].map(|length| whole[..length].to_vec());
        for (case, bytes) in flips.chain(cuts).enumerate() {
            std::fs::write(&path, &bytes).unwrap();
            let (cache, events) = build(&path, &["b", "c d"], &encoder);
            assert!(events[0].starts_with("Damaged"), "case {case}: {events:?}");
            assert_eq!(cache.embedding(cache.id("b").unwrap()), [1., 0., 98.].map(f16::from_f32), "case {case}");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "case {case}");
        }
    }

    #[test]
    fn another_kind_of_file_is_not_overwritten() {
        let (_folder, path) = scratch();
        write_raw(&path, Vec::new(), &HashMap::new()).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = EmbeddingCache::build(&path, &["b"], &Words::new("a"), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(format!("{error:#}").contains("is not an embedding cache"), "{error:#}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_caption_that_is_cut_is_reported_with_what_is_lost() {
        let (_folder, path) = scratch();
        let (_, events) = build(&path, &["one two three four five six"], &Words::new("a"));
        assert_eq!(events[0], "Cut { caption: \"one two three four five six\", lost: \" five six\" }");
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("caption {i:05}{}", " and more".repeat(i % 3))).collect()
    }

    #[test]
    fn a_killed_program_loses_no_more_than_a_part_and_the_file_is_the_same_in_the_end() {
        let (_folder, path) = scratch();
        let straight = path.with_file_name("straight.safetensors");
        let captions = numbered(PART_CAPTIONS + 500);
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        build(&straight, &captions, &Words::new("a"));
        let dying = Words { until: PART_CAPTIONS + 100, ..Words::new("a") };
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(&path, &captions, &dying)));
        assert!(killed.is_err() && !path.exists());
        assert_eq!(parts_of(&path).unwrap(), [path.with_file_name("text.safetensors.part-0000")]);
        let encoder = Words::new("a");
        let (cache, events) = build(&path, &captions, &encoder);
        assert_eq!((encoder.encoded.into_inner(), cache.len()), (500, captions.len()));
        assert!(events.last().unwrap().contains("done: 500, of: 500"), "{events:?}");
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&straight).unwrap(), "the files differ");
        assert_eq!(parts_of(&path).unwrap(), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_stop_and_an_error_keep_what_was_encoded() {
        let (_folder, path) = scratch();
        let captions = numbered(3 * BATCH);
        let encoder = Words::new("a");
        let stopped = EmbeddingCache::build_or_stop(&path, &captions, &encoder, &mut |_| ControlFlow::Break(()));
        assert!(stopped.unwrap().is_none() && !path.exists());
        assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), BATCH);
        // a state that f16 cannot hold
        let long = "x".repeat(70_000);
        let with_long: Vec<&str> = captions.iter().map(String::as_str).chain([long.as_str()]).collect();
        let error = EmbeddingCache::build(&path, &with_long, &encoder, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        assert_eq!(parts_of(&path).unwrap().len(), 2, "the last batch held the long one, those before it are whole");
        encoder.encoded.store(0, Ordering::Relaxed);
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let (cache, _) = build(&path, &captions, &encoder);
        assert_eq!((cache.len(), encoder.encoded.into_inner()), (3 * BATCH, 0));
    }

    #[test]
    fn tokens_are_counted_by_the_mask_where_an_encoder_does_not_count_itself() {
        let counts = ["b", "aa c d", "a b c d e f"].map(|caption| Words::new("a").token_count(caption).unwrap());
        assert_eq!(counts, [1, 3, 4]);
    }

    #[test]
    fn what_is_left_of_joined_parts_and_parts_of_another_encoder_add_nothing() {
        let (_folder, path) = scratch();
        build(&path, &["b", "c d"], &Words::new("a"));
        std::fs::copy(&path, path.with_file_name("text.safetensors.part-0003")).unwrap();
        let other = path.with_file_name("other.safetensors");
        build(&other, &["e"], &Words::new("other"));
        std::fs::rename(&other, path.with_file_name("text.safetensors.part-0004")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let encoder = Words::new("a");
        let (cache, events) = build(&path, &["c d"], &encoder);
        assert_eq!((cache.len(), encoder.encoded.into_inner()), (2, 0));
        assert_eq!(events, ["OtherEncoder { found: \"other\" }"]);
        assert!(std::fs::read(&path).unwrap() == whole && parts_of(&path).unwrap().is_empty());
    }
}
