//! A set: its pictures with their captions, and where the bytes of each are.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compose::World;
use super::odd::{Odd, SHOWN, allowed, few};
use super::split::Split;
use crate::error::{Context, Error, Result};
use crate::image::{DecodeOptions, Picture, PngText, decode, png};
use crate::input;
use crate::said::counted;

/// Side of an endless set's pictures where no other is asked for.
const COMPOSED_SIDE: usize = 256;

/// How a set says its captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `metadata.jsonl` or `metadata.csv`.
    Metadata,
    /// A text file beside each picture.
    CaptionFiles,
    /// Tar archives, in which the files of a sample share their name up to its first dot.
    Shards,
    /// A JSON file of COCO captions.
    Coco,
    /// Pictures alone.
    Unconditional,
    /// Pictures that are composed as they are asked for.
    Composed,
}

/// A picture and what it may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The file below the folder, with `/` between its parts; in a shard, the shard's name and then the file's.
    pub name: String,
    /// The part of the set that it belongs to.
    pub split: Split,
    /// Numbers of its captions in [`Source::captions`], the canonical one first; empty in an unconditional set.
    pub captions: Vec<usize>,
    /// What it is a version of, where the set says so.
    pub concept: Option<String>,
    /// Where its bytes are.
    pub(super) stored: Stored,
}

/// Where the bytes of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// In a file of its own.
    File,
    /// In a shard.
    Shard(Slice),
    /// Nowhere: it is this picture of its split of a world.
    Composed(u64),
}

/// A part of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) shard: usize,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The pictures and captions of a set.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the set was opened as.
    pub(super) path: PathBuf,
    /// What the names of pictures are below.
    pub(super) root: PathBuf,
    pub(super) layout: Layout,
    pub(super) origin: String,
    pub(super) shards: Vec<PathBuf>,
    pub(super) examples: Vec<Example>,
    pub(super) captions: Vec<String>,
    pub(super) odd: Odd,
    pub(super) world: Option<Arc<World>>,
}

impl Source {
    /// The world that an endless set is composed of, of which [`Self::examples`] are a sample.
    pub fn world(&self) -> Option<&Arc<World>> {
        self.world.as_ref()
    }

    /// What the set was opened as: a folder, a shard or a captions file.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// How the set says its captions.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What the captions, or the pictures of a set without, are read from: `metadata.jsonl`, `3 tar shards`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The usable pictures, sorted by name.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Every different caption once, in order of first use.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// What was odd.
    pub fn odd(&self) -> &Odd {
        &self.odd
    }

    /// The usable pictures by concept, in order of first appearance; one without a concept is its own.
    pub fn concepts(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (number, example) in self.examples.iter().enumerate() {
            let place = match &example.concept {
                Some(concept) => *places.entry(concept).or_insert(groups.len()),
                None => groups.len(),
            };
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(number);
        }
        groups
    }

    /// The bytes of an example's picture file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if there are more than `most`; [`crate::ErrorKind::Io`] if they cannot be read.
    pub fn bytes(&self, example: &Example, most: u64) -> Result<Vec<u8>> {
        if let (Some(world), Stored::Composed(number)) = (&self.world, example.stored) {
            return png::encode(&world.picture(example.split, number, COMPOSED_SIDE)?, &PngText::default());
        }
        let (path, start) = match example.stored {
            Stored::Shard(slice) => (&self.shards[slice.shard], Some(slice)),
            Stored::File | Stored::Composed(_) => (&self.root.join(&example.name), None),
        };
        let io = |e| Error::io("read", path, e);
        let mut file = input::open(path).context(|| self.called(example))?;
        let length = match start {
            Some(slice) => {
                file.seek(SeekFrom::Start(slice.start)).map_err(io)?;
                slice.length
            }
            None => file.metadata().map_err(io)?.len(),
        };
        if length > most {
            return Err(Error::data(format!("{length} bytes; at most {most} are read")).context(self.called(example)));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// An example's picture.
    ///
    /// # Errors
    /// As [`Self::bytes`] and [`decode::decode`], with the picture's name.
    pub fn picture(&self, example: &Example, options: &DecodeOptions) -> Result<Picture> {
        let bytes = self.bytes(example, options.max_bytes)?;
        decode::decode(&bytes, options).context(|| self.called(example))
    }

    /// The file of a picture that has one of its own.
    pub(in crate::data) fn file(&self, example: &Example) -> Option<PathBuf> {
        matches!(example.stored, Stored::File).then(|| self.root.join(&example.name))
    }

    /// What an error calls a picture.
    pub(in crate::data) fn called(&self, example: &Example) -> String {
        format!("picture {}", self.root.join(&example.name).display())
    }

    /// One part of the set; captions keep their numbers.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if the part is empty.
    pub fn split(&self, split: Split) -> Result<Self> {
        let mut part = self.clone();
        part.examples.retain(|example| example.split == split);
        if part.examples.is_empty() {
            let [name, other] =
                if split == Split::Train { ["training", "validation"] } else { ["validation", "training"] };
            return Err(Error::data(format!(
                "{} holds no picture of the {name} split; {} are in the {other} split: add pictures, or divide the set by folders \
                 train/ and validation/",
                self.path.display(),
                self.examples.len()
            )));
        }
        Ok(part)
    }

    /// Refuses a set with nothing to use, or of which more than `max_bad` is unusable.
    pub(super) fn check(&self, unusable: usize, max_bad: f64) -> Result<()> {
        let path = self.path.display();
        let odd = &self.odd;
        let pictures = self.examples.len() + odd.uncaptioned.len();
        let reasons: Vec<String> = odd.unusable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        if pictures == 0 {
            let captions = match odd.missing.len() {
                0 => "no picture".to_owned(),
                missing => format!("{} but no picture", counted(missing, "caption")),
            };
            let mut why = format!("{path} holds {captions}; expected {} files", decode::FORMATS);
            if let Some((name, reason)) = odd.unusable.first().or(odd.passed.first()) {
                why += &format!("; of what is there, {name}: {reason}");
            }
            return Err(Error::data(why));
        }
        let entries = self.examples.len() + unusable;
        let allowed = allowed(max_bad, entries);
        if unusable > allowed {
            let mut kinds = Vec::new();
            if !odd.missing.is_empty() {
                kinds.push(format!(
                    "captions name pictures that are missing ({}): {}",
                    odd.missing.len(),
                    few(&odd.missing)
                ));
            }
            if !reasons.is_empty() {
                kinds.push(format!(
                    "texts or shards cannot be read ({}): {}",
                    reasons.len(),
                    reasons[..reasons.len().min(SHOWN)].join("; ")
                ));
            }
            return Err(Error::data(format!(
                "{unusable} of {entries} entries of {path} cannot be used, and max_bad = {max_bad} allows {allowed}: {}; mend or \
                 remove them (`imagen data check` names all), or raise data.max_bad of a recipe",
                kinds.join("; ")
            )));
        }
        if self.examples.is_empty() {
            return Err(Error::data(format!(
                "none of the {pictures} pictures in {path} has a caption in {}; fill it, or remove it to train without \
                 captions",
                self.origin
            )));
        }
        Ok(())
    }
}

/// One line: `3298 training and 77 validation pictures with 28018 captions from metadata.jsonl; ...`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.world.is_some() {
            return write!(f, "an endless set that is composed: {}", self.origin);
        }
        let train = self.examples.iter().filter(|example| example.split == Split::Train).count();
        write!(f, "{train} training and {} validation pictures", self.examples.len() - train)?;
        match self.captions.len() {
            0 => write!(f, " without captions")?,
            captions => write!(f, " with {}", counted(captions, "caption"))?,
        }
        if self.layout != Layout::Unconditional {
            write!(f, " from {}", self.origin)?;
        }
        let Odd { missing, unusable, guessed, passed: _, uncaptioned, repeated } = &self.odd;
        let unusable: Vec<String> = unusable.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
        for (names, what) in [
            (missing, ["caption", "without a picture"]),
            (&unusable, ["text or shard", "that cannot be read"]),
            (uncaptioned, ["picture", "without a caption, left out"]),
            (repeated, ["picture", "listed again, captions joined"]),
            (guessed, ["text", "not in UTF-8, read by a guess"]),
        ] {
            if !names.is_empty() {
                write!(f, "; {} {}: {}", counted(names.len(), what[0]), what[1], few(names))?;
            }
        }
        for (reason, names) in self.odd.passed_by_reason() {
            write!(f, "; {} passed over ({reason}): {}", names.len(), few(&names))?;
        }
        Ok(())
    }
}
