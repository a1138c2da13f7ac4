//! One file of an embedding cache, the whole or a part: reading it, checking it, adding to it, writing several as one.

use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::Dtype;

use super::event::CacheEvent;
use crate::error::{Error, ErrorKind, Result};
use crate::models::weights::{Content, FileBytes, RawTensor, Weights, write_raw};
use crate::text::hash::{Xxh64, xxh64};
use crate::text::{TextEmbedding, TextEncoder};

/// What `format` in the header says; another layout gets another number.
const FORMAT: &str = "imagen-text-cache-1";

/// Captions and the states of their tokens.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) hashes: Vec<[u64; 2]>,
    /// In tokens; one more entry than captions.
    offsets: Vec<u64>,
    tokens: Tokens,
}

/// `[total, d]` of f16, little-endian.
#[derive(Debug)]
enum Tokens {
    Mapped(FileBytes),
    Memory(Vec<u8>),
}

impl Default for Part {
    fn default() -> Self {
        Self { hashes: Vec::new(), offsets: vec![0], tokens: Tokens::Memory(Vec::new()) }
    }
}

/// What encoder a cache's header names; nothing where this is no cache.
pub(super) fn encoder(bytes: FileBytes) -> Option<String> {
    let file = Weights::from_bytes(bytes, "").ok()?;
    file.metadata().get("encoder").filter(|_| file.metadata().get("format").is_some_and(|f| f == FORMAT)).cloned()
}

impl Part {
    /// The file at `path` as far as it can be used with this encoder; none where there is no file.
    pub(super) fn open(
        path: &Path,
        encoder: &dyn TextEncoder,
        on_event: &mut dyn FnMut(CacheEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Self>> {
        // Whoever wants to stop already is heard at the first batch.
        let mut tell = |event: CacheEvent<'_>| _ = on_event(event);
        let bytes = match FileBytes::map(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let file = match Weights::from_bytes(bytes, path.display().to_string()) {
            Ok(file) => file,
            Err(error) => {
                tell(CacheEvent::Damaged { why: &format!("{error:#}") });
                return Ok(None);
            }
        };
        let entry = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        if entry("format") != FORMAT {
            let path = path.display();
            return Err(Error::usage(format!("{path} is not an embedding cache; name another file or remove it")));
        }
        if entry("encoder") != encoder.identity() {
            tell(CacheEvent::OtherEncoder { found: entry("encoder") });
            return Ok(None);
        }
        let part = Self::parse(&file, encoder.dim());
        Ok(part.map_err(|why| tell(CacheEvent::Damaged { why })).ok())
    }

    /// A file that was just written.
    pub(super) fn map(path: &Path, dim: usize) -> Result<Self> {
        let damaged = |why| Error::new(ErrorKind::Io, format!("{} was written, but {why}", path.display()));
        Self::parse(&Weights::open(path)?, dim).map_err(damaged)
    }

    /// The contents of a file, or what is wrong with them.
    fn parse(file: &Weights, dim: usize) -> Result<Self, &'static str> {
        let read = |name, wanted| match file.raw(name) {
            Some((dtype, shape, bytes)) if dtype == wanted => Ok((shape, bytes)),
            _ => Err("a tensor is missing or has another type"),
        };
        let (shape, tokens) = read("tokens", Dtype::F16)?;
        let (_, offsets) = read("offsets", Dtype::U64)?;
        let (_, hashes) = read("captions", Dtype::U64)?;
        if file.metadata().get("checksum") != Some(&checksum(&[tokens], offsets, hashes)) {
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
        let tokens = Tokens::Mapped(file.raw_bytes("tokens").ok_or("a tensor is missing")?);
        Ok(Self { hashes, offsets, tokens })
    }

    /// How many captions there are.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    fn tokens(&self) -> &[u8] {
        match &self.tokens {
            Tokens::Mapped(bytes) => bytes,
            Tokens::Memory(bytes) => bytes,
        }
    }

    /// The states of a caption, `[t, d]`.
    pub(super) fn embedding(&self, id: usize, dim: usize) -> Vec<f16> {
        let bytes = |token: u64| token as usize * dim * size_of::<f16>();
        let states = &self.tokens()[bytes(self.offsets[id])..bytes(self.offsets[id + 1])];
        states.as_chunks().0.iter().map(|h| f16::from_le_bytes(*h)).collect()
    }

    /// Takes the embeddings of a batch of captions in.
    ///
    /// # Panics
    /// If the part is a file's.
    pub(super) fn append(&mut self, captions: &[&str], embedding: TextEmbedding) -> Result<()> {
        let Tokens::Memory(tokens) = &mut self.tokens else { panic!("a part on disk does not grow") };
        let [_, t, d] = embedding.sequence.dims();
        let sequence = embedding.sequence.into_data().iter::<f32>().collect::<Vec<_>>();
        let mask = embedding.mask.into_data().iter::<f32>().collect::<Vec<_>>();
        let before = tokens.len();
        let mut lengths = Vec::with_capacity(captions.len());
        for (index, caption) in captions.iter().enumerate() {
            let length = mask[index * t..][..t].iter().filter(|&&m| m > 0.0).count();
            let mut states = vec![f16::ZERO; length * d];
            states.convert_from_f32_slice(&sequence[index * t * d..][..length * d]);
            if states.iter().any(|x| !x.is_finite()) {
                // Either the whole batch is taken in or nothing of it.
                tokens.truncate(before);
                let message = format!("the embedding of {caption:?} holds a number that f16 cannot store");
                return Err(Error::new(ErrorKind::NonFinite, message));
            }
            tokens.extend(states.iter().flat_map(|x| x.to_le_bytes()));
            lengths.push(length as u64);
        }
        for (caption, length) in captions.iter().zip(lengths) {
            self.offsets.push(self.offsets[self.offsets.len() - 1] + length);
            self.hashes.push(hash(caption));
        }
        Ok(())
    }
}

/// Writes several parts as one file; the bytes do not depend on how they were parted.
pub(super) fn join(path: &Path, parts: &[Part], dim: usize, identity: &str) -> Result<()> {
    let tokens: Vec<&[u8]> = parts.iter().map(Part::tokens).collect();
    let hashes: Vec<u8> = parts.iter().flat_map(|part| &part.hashes).flatten().flat_map(|x| x.to_le_bytes()).collect();
    let (mut offsets, mut total) = (vec![0], 0);
    for part in parts {
        offsets.extend(part.offsets[1..].iter().map(|offset| total + offset));
        total += part.offsets[part.len()];
    }
    let count = offsets.len();
    let offsets: Vec<u8> = offsets.into_iter().flat_map(u64::to_le_bytes).collect();
    let metadata = [
        ("format", FORMAT.to_string()),
        ("encoder", identity.to_string()),
        ("checksum", checksum(&tokens, &offsets, &hashes)),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_string(), value)).into();
    let raw = |name: &str, shape, content| RawTensor { name: name.into(), shape, content };
    let tensors = vec![
        raw("tokens", vec![total as usize, dim], Content::Parts(Dtype::F16, &tokens)),
        raw("offsets", vec![count], Content::Bytes(Dtype::U64, &offsets)),
        raw("captions", vec![count - 1, 2], Content::Bytes(Dtype::U64, &hashes)),
    ];
    write_raw(path, tensors, &metadata)
}

/// What a caption is known by: two 64-bit hashes, so that a million captions do not meet by chance.
pub(super) fn hash(caption: &str) -> [u64; 2] {
    [0, 1].map(|seed| xxh64(caption.as_bytes(), seed))
}

fn checksum(tokens: &[&[u8]], offsets: &[u8], hashes: &[u8]) -> String {
    let mut all = Xxh64::new(0);
    tokens.iter().for_each(|part| all.update(part));
    format!("{:016x}", [offsets, hashes].iter().fold(all.digest(), |seed, bytes| xxh64(bytes, seed)))
}
