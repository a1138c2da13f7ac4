//! Embeddings of a training set's captions, computed once and kept in one file (the paper computes them offline too).
//!
//! In memory and on disk a caption is its tokens without padding, in f16; the file is a safetensors with
//! `tokens` f16 `[total, d]`, `offsets` u64 `[n + 1]` (caption i is the rows offsets\[i\] .. offsets\[i + 1\]) and
//! `captions` u64 `[n, 2]` (the 128-bit hash of each caption). Its header names the encoder and a checksum: a cache of
//! another encoder or a damaged one is made anew, and the caller is told.
//!
//! Deliberately not here: dropping text for guidance, pooling, and any choice of which captions to show.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::Dtype;

use super::hash::xxh64;
use super::{TextEmbedding, TextEncoder};
use crate::error::{Error, ErrorKind, Result};
use crate::models::weights::{Content, FileBytes, RawTensor, Weights, write_raw};

/// What `format` in the header says; another layout gets another number.
const FORMAT: &str = "imagen-text-cache-1";

/// Captions per call of the encoder: enough to use both matrix dimensions, few enough to keep padding small.
const BATCH: usize = 32;

/// New captions after which the file is written even though more are to come.
const SAVE_EVERY: usize = 2048;

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
    hashes: Vec<[u64; 2]>,
    /// In tokens; one more entry than captions.
    offsets: Vec<u64>,
    /// `[total, d]`
    tokens: Vec<f16>,
}

impl EmbeddingCache {
    /// The cache at `path`, completed by `encoder` for every one of `captions` that it lacks, and saved.
    ///
    /// A missing file is an empty cache. Captions of the file that are not asked for stay in it. Long work is saved
    /// on the way, so that an interruption loses little.
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
        let mut cache = Self::open(path, encoder, on_event)?;
        let mut seen = HashSet::new();
        let mut new: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
        new.retain(|caption| cache.id(caption).is_none() && seen.insert(*caption));
        // Captions of like length side by side need little padding. The order depends on nothing but the captions.
        new.sort_unstable_by_key(|caption| (caption.len(), *caption));
        let mut unsaved = 0;
        for (index, batch) in new.chunks(BATCH).enumerate() {
            for caption in batch {
                if let Some(lost) = encoder.cut_text(caption)? {
                    on_event(CacheEvent::Cut { caption, lost });
                }
            }
            cache.append(batch, encoder.encode(batch)?)?;
            on_event(CacheEvent::Encoded { done: index * BATCH + batch.len(), of: new.len() });
            unsaved += batch.len();
            // Growing intervals keep the bytes written in all proportional to the bytes of the last file.
            if unsaved >= SAVE_EVERY.max(cache.len() / 2) {
                cache.save(path, encoder.identity())?;
                unsaved = 0;
            }
        }
        if unsaved > 0 {
            cache.save(path, encoder.identity())?;
        }
        Ok(cache)
    }

    /// How many captions there are; ids are below this.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is no caption.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
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
    /// When `id` is not below [`EmbeddingCache::len`].
    pub fn embedding(&self, id: usize) -> &[f16] {
        let [from, to] = [self.offsets[id], self.offsets[id + 1]].map(|row| row as usize * self.dim);
        &self.tokens[from..to]
    }

    /// These captions as a batch on `device`, cut at `max_tokens` and padded to the longest of them.
    ///
    /// # Errors
    /// `Usage` when there are no ids, an id is not in the cache, or `max_tokens` is 0.
    pub fn batch(&self, ids: &[usize], max_tokens: usize, device: &Device) -> Result<TextEmbedding> {
        if let Some(id) = ids.iter().find(|&&id| id >= self.len()) {
            return Err(Error::usage(format!("caption {id} is not among the {} of the embedding cache", self.len())));
        }
        let rows: Vec<&[f16]> = ids.iter().map(|&id| self.embedding(id)).collect();
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

    fn empty(dim: usize) -> Self {
        Self { dim, ids: HashMap::new(), hashes: Vec::new(), offsets: vec![0], tokens: Vec::new() }
    }

    /// The cache at `path` as far as it can be used with this encoder.
    fn open(path: &Path, encoder: &dyn TextEncoder, on_event: &mut dyn FnMut(CacheEvent<'_>)) -> Result<Self> {
        let empty = Self::empty(encoder.dim());
        let bytes = match FileBytes::map(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let file = match Weights::from_bytes(bytes, path.display().to_string()) {
            Ok(file) => file,
            Err(error) => {
                on_event(CacheEvent::Damaged { why: &format!("{error:#}") });
                return Ok(empty);
            }
        };
        let entry = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        if entry("format") != FORMAT {
            let path = path.display();
            return Err(Error::usage(format!("{path} is not an embedding cache; name another file or remove it")));
        }
        if entry("encoder") != encoder.identity() {
            on_event(CacheEvent::OtherEncoder { found: entry("encoder") });
            return Ok(empty);
        }
        Ok(Self::parse(&file, encoder.dim(), entry("checksum")).unwrap_or_else(|why| {
            on_event(CacheEvent::Damaged { why });
            empty
        }))
    }

    /// The contents of a file, or what is wrong with them.
    fn parse(file: &Weights, dim: usize, checksum: &str) -> Result<Self, &'static str> {
        let read = |name, wanted| match file.raw(name) {
            Some((dtype, shape, bytes)) if dtype == wanted => Ok((shape, bytes)),
            _ => Err("a tensor is missing or has another type"),
        };
        let (shape, tokens) = read("tokens", Dtype::F16)?;
        let (_, offsets) = read("offsets", Dtype::U64)?;
        let (_, hashes) = read("captions", Dtype::U64)?;
        if checksum != self::checksum(tokens, offsets, hashes) {
            return Err("its checksum does not match");
        }
        let words = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|w| u64::from_le_bytes(*w)).collect::<Vec<_>>();
        let (offsets, hashes) = (words(offsets), words(hashes).as_chunks().0.to_vec());
        let ends = (offsets.first(), offsets.last(), offsets.len());
        let total = shape.first().map_or(0, |&n| n as u64);
        if shape.len() != 2
            || shape[1] != dim
            || ends != (Some(&0), Some(&total), hashes.len() + 1)
            || !offsets.is_sorted()
        {
            return Err("its offsets do not fit its tokens");
        }
        let ids = hashes.iter().enumerate().map(|(id, &hash)| (hash, id)).collect();
        let tokens = tokens.as_chunks().0.iter().map(|h| f16::from_le_bytes(*h)).collect();
        Ok(Self { dim, ids, hashes, offsets, tokens })
    }

    /// Takes the embeddings of a batch of captions in.
    fn append(&mut self, captions: &[&str], embedding: TextEmbedding) -> Result<()> {
        let [_, t, d] = embedding.sequence.dims();
        let sequence = embedding.sequence.into_data().iter::<f32>().collect::<Vec<_>>();
        let mask = embedding.mask.into_data().iter::<f32>().collect::<Vec<_>>();
        for (index, caption) in captions.iter().enumerate() {
            let length = mask[index * t..][..t].iter().filter(|&&m| m > 0.0).count();
            let states = sequence[index * t * d..][..length * d].iter().map(|&x| f16::from_f32(x));
            self.tokens.extend(states);
            let rows = self.tokens.len() / d;
            if self.tokens[(rows - length) * d..].iter().any(|x| !x.is_finite()) {
                let message = format!("the embedding of {caption:?} holds a number that f16 cannot store");
                return Err(Error::new(ErrorKind::NonFinite, message));
            }
            self.offsets.push(rows as u64);
            self.ids.insert(hash(caption), self.hashes.len());
            self.hashes.push(hash(caption));
        }
        Ok(())
    }

    fn save(&self, path: &Path, identity: &str) -> Result<()> {
        // The file is little-endian; where memory is too, the largest part need not be copied.
        let tokens: Cow<'_, [u8]> = if cfg!(target_endian = "little") {
            Cow::Borrowed(bytemuck::cast_slice(&self.tokens))
        } else {
            self.tokens.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|x| x.to_le_bytes()).collect();
        let hashes: Vec<u8> = self.hashes.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let metadata = [
            ("format", FORMAT.to_string()),
            ("encoder", identity.to_string()),
            ("checksum", checksum(&tokens, &offsets, &hashes)),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value)).into();
        let raw = |name: &str, shape, dtype, bytes| RawTensor {
            name: name.into(),
            shape,
            content: Content::Bytes(dtype, bytes),
        };
        let tensors = vec![
            raw("tokens", vec![self.tokens.len() / self.dim, self.dim], Dtype::F16, &tokens),
            raw("offsets", vec![self.offsets.len()], Dtype::U64, &offsets),
            raw("captions", vec![self.len(), 2], Dtype::U64, &hashes),
        ];
        write_raw(path, tensors, &metadata)
    }
}

/// What a caption is known by: two 64-bit hashes, so that a million captions do not meet by chance.
fn hash(caption: &str) -> [u64; 2] {
    [0, 1].map(|seed| xxh64(caption.as_bytes(), seed))
}

fn checksum(tokens: &[u8], offsets: &[u8], hashes: &[u8]) -> String {
    format!("{:016x}", [tokens, offsets, hashes].iter().fold(0, |seed, bytes| xxh64(bytes, seed)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Tokens are words; the state of a word is (its length, its position, its first byte).
    struct Words {
        identity: &'static str,
        encoded: AtomicUsize,
    }

    impl Words {
        fn new(identity: &'static str) -> Self {
            Self { identity, encoded: AtomicUsize::new(0) }
        }

        fn states(caption: &str) -> Vec<f32> {
            let word = |(i, w): (usize, &str)| [w.len() as f32, i as f32, f32::from(w.as_bytes()[0])];
            caption.split(' ').take(4).enumerate().flat_map(word).collect()
        }
    }

    impl TextEncoder for Words {
        fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
            self.encoded.fetch_add(captions.len(), Ordering::Relaxed);
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
}
