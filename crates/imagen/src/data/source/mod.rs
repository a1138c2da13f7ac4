//! Pictures with their captions, or without, from one of six layouts.
//!
//! The layout is told by what is there, and [`Source`] says what it took it for:
//!
//! * `metadata.jsonl` or `metadata.csv`: a line for each picture (`metadata`);
//! * caption files: `cat.jpg` beside `cat.txt`, or pictures alone (`names`);
//! * tar shards as WebDataset makes them (`shards`);
//! * the captions of COCO (`coco`);
//! * a world of cut-outs that is composed (`compose`): endless, of which a sample is listed.
//!
//! What is odd (a caption without picture, a picture without caption, a picture listed twice), what cannot be read (a text, a
//! line, a shard) and what is passed over is counted and named ([`Odd`]). One rule says how much of a set may be unusable
//! ([`allowed`]), whatever it is that is wrong: here, where pictures are dealt, and in `imagen data check`. No picture is opened here, and no archive is unpacked: a picture is the bytes of
//! a file or of a part of one.

mod coco;
pub mod compose;
mod files;
mod found;
mod metadata;
mod names;
mod odd;
mod pictures;
mod shards;
mod split;

use std::path::Path;
use std::sync::Arc;

pub use self::coco::{CocoCaption, coco_captions};
use self::compose::World;
use self::files::{ending, file_name, files_below, is_packed, is_picture};
use self::found::Found;
pub use self::odd::{MAX_BAD, Odd, allowed};
use self::pictures::Stored;
pub use self::pictures::{Example, Layout, Source};
pub use self::split::Split;
use crate::error::{Error, Result};

/// How many pictures of each split of an endless set are listed.
const LISTED: [(Split, u64); 2] = [(Split::Train, 1024), (Split::Validation, 256)];
impl Source {
    /// Reads what a folder, a `.tar` file or a COCO captions `.json` holds, of which 1 % may be unusable; pictures are not
    /// opened.
    ///
    /// # Errors
    /// As [`Self::open_allowing`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_allowing(path, MAX_BAD)
    }

    /// As [`Self::open`], where this part may be unusable.
    ///
    /// # Errors
    /// As [`Self::read`]; [`crate::ErrorKind::Data`] also if there is no picture, nothing has a caption though there
    /// are captions, or more than [`allowed`] of the entries cannot be used.
    pub fn open_allowing(path: &Path, max_bad: f64) -> Result<Self> {
        let source = Self::read(path)?;
        source.check(source.odd.unusable(), max_bad)?;
        Ok(source)
    }

    /// As [`Self::open`], for who looks at the pictures alone: captions may be of pictures that are not there.
    ///
    /// # Errors
    /// As [`Self::open_allowing`].
    pub fn open_pictures(path: &Path) -> Result<Self> {
        let source = Self::read(path)?;
        source.check(source.odd.unusable.len(), MAX_BAD)?;
        Ok(source)
    }

    /// As [`Self::open`], however little of it is usable: for a report.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if there is nothing at the path, it can be read as several layouts, or a heading or a captions
    /// file is malformed; [`crate::ErrorKind::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_file() {
            return match ending(path.to_str().unwrap_or_default()).as_str() {
                "tar" => shards::read(path, path.parent().unwrap_or(path), &[file_name(path)]),
                "json" => coco::read(path, path, &coco::root_of(path)?),
                _ => Err(Error::data(format!(
                    "{} is not a set of pictures: name a folder, a .tar shard or a COCO captions .json",
                    path.display()
                ))),
            };
        }
        if !path.is_dir() {
            return Err(Error::data(format!("there is no folder {}: name a folder of pictures", path.display())));
        }
        if World::is_at(path) {
            return Self::composed(path);
        }
        if compose::lacks_grammar(path) {
            return Err(Error::data(format!(
                "{} holds a bank of cut-outs without a grammar.toml; put one beside it, recipes/world has an example",
                path.display()
            )));
        }
        let below = files_below(path)?;
        let files = &below.files;
        let described = metadata::in_folder(path, files)?;
        if !described.is_empty() {
            return metadata::read(path, &described, below);
        }
        if let Some(json) = coco::in_folder(path, files)? {
            return coco::read(path, &json, &coco::root_of(&json)?);
        }
        let tars: Vec<String> = files.iter().filter(|name| ending(name) == "tar").cloned().collect();
        let picture = files.iter().find(|name| is_picture(name));
        match (tars.first(), picture) {
            (Some(tar), Some(picture)) => Err(Error::data(format!(
                "{} holds shards such as {tar} and pictures such as {picture}; keep them in folders of their own",
                path.display()
            ))),
            (Some(_), None) => {
                let mut source = shards::read(path, path, &tars)?;
                source.odd.passed.extend(below.left_out(|name| ending(name) == "tar"));
                Ok(source)
            }
            (None, None) if let Some(packed) = files.iter().find(|name| is_packed(name)) => Err(Error::data(format!(
                "{} holds archives such as {packed}, which are not read; unpack them, or make plain .tar shards of them",
                path.display()
            ))),
            _ => match coco::above(path, files)? {
                Some(json) => coco::read(path, &json, path),
                None => names::read(path, below),
            },
        }
    }

    /// A sample of an endless set.
    fn composed(path: &Path) -> Result<Self> {
        let world = World::open(path)?;
        let mut found = Found::default();
        let listed = |(split, _): &(Split, u64)| *split == Split::Train || world.holds_out();
        for (split, count) in LISTED.into_iter().filter(listed) {
            for number in 0..count {
                let name = format!("{}/{number:06}", if split == Split::Train { "train" } else { "validation" });
                let example = found.add(name, world.captions(split, number)?);
                (example.split, example.stored) = (split, Stored::Composed(number));
            }
        }
        let source = found.into_source(path, path, Layout::Composed, world.to_string());
        Ok(Self { world: Some(Arc::new(world)), ..source })
    }
}
