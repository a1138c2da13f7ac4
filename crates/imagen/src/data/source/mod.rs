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
mod metadata;
mod names;
mod shards;

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::coco::{CocoCaption, coco_captions};
use self::compose::World;
use self::files::{ending, files_below, is_packed, is_picture};
use serde_json::Value;

use crate::error::{Context, Error, Result, shown};
use crate::image::{DecodeOptions, Picture, PngText, decode, png};
use crate::input;

/// Where no line says its split, one name in this many validates (2.5 %).
const HELD_OUT: u64 = 40;
/// The part of a set that may be unusable where nobody says another.
pub const MAX_BAD: f64 = 0.01;
/// How many names a report shows.
const SHOWN: usize = 5;
/// How many pictures of each split of an endless set are listed.
const LISTED: [(Split, u64); 2] = [(Split::Train, 1024), (Split::Validation, 256)];
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

/// Which part of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What is learned from.
    Train,
    /// What is held out.
    Validation,
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
    stored: Stored,
}

/// Where the bytes of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// In a file of its own.
    File,
    /// In a shard.
    Shard(Slice),
    /// Nowhere: it is this picture of its split of a world.
    Composed(u64),
}

/// A part of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    shard: usize,
    start: u64,
    length: u64,
}

/// The pictures and captions of a set.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the set was opened as.
    path: PathBuf,
    /// What the names of pictures are below.
    root: PathBuf,
    layout: Layout,
    origin: String,
    shards: Vec<PathBuf>,
    examples: Vec<Example>,
    captions: Vec<String>,
    odd: Odd,
    world: Option<Arc<World>>,
}

/// What was found and left out; each list in the order of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Odd {
    /// Captions whose picture does not exist; unusable.
    pub missing: Vec<String>,
    /// Texts, lines and shards that cannot be read, or not to their end, with the reason; unusable.
    pub unusable: Vec<(String, String)>,
    /// Texts that do not say their encoding and are not in UTF-8, and what they were taken for.
    pub guessed: Vec<String>,
    /// Files that are none of the set's, with the reason.
    pub passed: Vec<(String, String)>,
    /// Pictures without a caption in a set that has captions.
    pub uncaptioned: Vec<String>,
    /// Pictures listed more than once; their captions are joined.
    pub repeated: Vec<String>,
}

impl Odd {
    /// How many entries of the set cannot be used, before a picture is opened.
    pub fn unusable(&self) -> usize {
        self.missing.len() + self.unusable.len()
    }

    /// How many files of each reason were passed over, with a few of their names.
    pub fn passed_by_reason(&self) -> Vec<(&str, Vec<&str>)> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, reason) in &self.passed {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        reasons
    }
}

/// How many of `entries` may be unusable where `max_bad` is the largest part: above 0, one is always forgiven.
pub fn allowed(max_bad: f64, entries: usize) -> usize {
    if max_bad > 0.0 { ((entries as f64 * max_bad) as usize).max(1) } else { 0 }
}

impl Split {
    /// The part that a name belongs to where the set does not say: a fixed hash of the name, 2.5 % validation.
    ///
    /// It depends on the name alone, so a set may grow or be sorted anew without pictures changing sides.
    pub fn of_name(name: &str) -> Self {
        if hash(name) % HELD_OUT == 0 { Split::Validation } else { Split::Train }
    }
}

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
                    "{} is no set of pictures: name a folder, a .tar shard or a COCO captions .json",
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
        let (path, start) = match example.stored {
            Stored::File => (&self.root.join(&example.name), None),
            Stored::Shard(slice) => (&self.shards[slice.shard], Some(slice)),
            Stored::Composed(_) => {
                return png::encode(&self.composed_picture(example, COMPOSED_SIDE)?, &PngText::default());
            }
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

    /// An example of an endless set at a size.
    fn composed_picture(&self, example: &Example, side: usize) -> Result<Picture> {
        match (&self.world, example.stored) {
            (Some(world), Stored::Composed(number)) => world.picture(example.split, number, side),
            _ => Err(Error::usage(format!("{} is not composed", self.called(example)))),
        }
    }

    /// An example's picture.
    ///
    /// # Errors
    /// As [`Self::bytes`] and [`decode::decode`], with the picture's name.
    pub fn picture(&self, example: &Example, options: &DecodeOptions) -> Result<Picture> {
        let bytes = self.bytes(example, options.max_bytes)?;
        decode::decode(&bytes, options).context(|| self.called(example))
    }

    /// What an error calls a picture.
    pub(super) fn called(&self, example: &Example) -> String {
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
            return Err(Error::data(format!(
                "{} holds no picture of the {} split; {} are in the other",
                self.path.display(),
                if split == Split::Train { "training" } else { "validation" },
                self.examples.len()
            )));
        }
        Ok(part)
    }

    /// Refuses a set with nothing to use, or of which more than `max_bad` is unusable.
    fn check(&self, unusable: usize, max_bad: f64) -> Result<()> {
        let path = self.path.display();
        let odd = &self.odd;
        let pictures = self.examples.len() + odd.uncaptioned.len();
        let reasons: Vec<String> = odd.unusable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        if pictures == 0 {
            let captions = match odd.missing.len() {
                0 => "no picture".to_owned(),
                missing => format!("{missing} captions but no picture"),
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

/// Examples and captions while a layout is being read.
#[derive(Default)]
struct Found {
    examples: Vec<Example>,
    captions: Vec<String>,
    numbers: HashMap<String, usize>,
    /// Places of the examples by name.
    places: HashMap<String, usize>,
    odd: Odd,
}

impl Found {
    /// Takes a picture and its captions in; those of a picture that is there already are joined.
    fn add<S: AsRef<str>>(&mut self, name: String, captions: impl IntoIterator<Item = S>) -> &mut Example {
        let captions: Vec<usize> = captions.into_iter().filter_map(|caption| self.number(caption.as_ref())).collect();
        let place = match self.places.get(&name) {
            Some(&place) => {
                self.odd.repeated.push(name);
                place
            }
            None => {
                let (split, place) = (Split::of_name(&name), self.examples.len());
                self.places.insert(name.clone(), place);
                let stored = Stored::File;
                self.examples.push(Example { name, split, captions: Vec::new(), concept: None, stored });
                place
            }
        };
        let example = &mut self.examples[place];
        for caption in captions {
            if !example.captions.contains(&caption) {
                example.captions.push(caption);
            }
        }
        example
    }

    /// The text of a caption file; a guess is noted, and what cannot be read counts as unusable and says nothing.
    fn text_of(&mut self, name: &str, read: Result<input::Text>) -> String {
        match read {
            Ok(input::Text { text, guessed }) => {
                self.odd.guessed.extend(guessed.map(|taken| format!("{name}: {taken}")));
                text
            }
            Err(e) => {
                self.odd.unusable.push((name.to_owned(), format!("{e:#}")));
                String::new()
            }
        }
    }

    /// The number of a caption, equal ones being kept once; none for a blank one.
    fn number(&mut self, caption: &str) -> Option<usize> {
        let caption = caption.trim();
        if caption.is_empty() {
            return None;
        }
        if let Some(&number) = self.numbers.get(caption) {
            return Some(number);
        }
        self.numbers.insert(caption.to_owned(), self.captions.len());
        self.captions.push(caption.to_owned());
        Some(self.captions.len() - 1)
    }

    /// The source, without what has no caption where captions are expected, sorted.
    fn into_source(mut self, path: &Path, root: &Path, layout: Layout, origin: String) -> Source {
        let bare = |example: &mut Example| example.captions.is_empty();
        // Shards have no sign of their own that captions are meant.
        let expected = match layout {
            Layout::Unconditional => false,
            Layout::Shards => !self.captions.is_empty(),
            _ => true,
        };
        if expected {
            self.odd.uncaptioned.extend(self.examples.extract_if(.., bare).map(|example| example.name));
            self.odd.uncaptioned.sort();
        }
        self.examples.sort_by(|a, b| a.name.cmp(&b.name));
        let Self { examples, captions, odd, .. } = self;
        let (path, root) = (path.to_owned(), root.to_owned());
        Source { path, root, layout, origin, shards: Vec::new(), examples, captions, odd, world: None }
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
            captions => write!(f, " with {captions} captions")?,
        }
        if self.layout != Layout::Unconditional {
            write!(f, " from {}", self.origin)?;
        }
        let Odd { missing, unusable, guessed, passed: _, uncaptioned, repeated } = &self.odd;
        let unusable: Vec<String> = unusable.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
        for (names, what) in [
            (missing, "captions without picture"),
            (&unusable, "texts or shards that cannot be read"),
            (uncaptioned, "pictures without caption, left out"),
            (repeated, "pictures listed again, captions joined"),
            (guessed, "texts that are not UTF-8, read as a guess"),
        ] {
            if !names.is_empty() {
                write!(f, "; {} {what}: {}", names.len(), few(names))?;
            }
        }
        for (reason, names) in self.odd.passed_by_reason() {
            write!(f, "; {} passed over ({reason}): {}", names.len(), few(&names))?;
        }
        Ok(())
    }
}

/// What a value says of a picture: a text, a number as one, or a list of them.
fn captions_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(values) => values.iter().flat_map(captions_of).collect(),
        _ => Vec::new(),
    }
}

fn parse_split(name: &str) -> Result<Split> {
    match name {
        "train" => Ok(Split::Train),
        "validation" | "valid" | "val" | "test" => Ok(Split::Validation),
        _ => Err(Error::data(format!("split {name:?} is unknown; expected \"train\" or \"validation\""))),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn few<S: AsRef<str>>(names: &[S]) -> String {
    let few: Vec<_> = names.iter().take(SHOWN).map(|name| shown(name.as_ref())).collect();
    let few = few.join(", ");
    if names.len() > SHOWN { format!("{few}, ...") } else { few }
}

/// FNV-1a with the finish of SplitMix64, whose low bits are as good as its high ones.
fn hash(name: &str) -> u64 {
    let fnv =
        name.bytes().fold(0xCBF2_9CE4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mixed = (fnv ^ fnv >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
