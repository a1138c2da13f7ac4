//! Folders of pictures, with captions or without.
//!
//! Three layouts, recognised by what lies in the folder:
//!
//! * `metadata.jsonl`: one object a line with `file_name`, `text` (a caption) and, optionally, `texts` (paraphrases),
//!   `split` (`"train"` or `"validation"`) and `concept` (pictures that share it are versions of one thing); the
//!   image-folder layout of the Hugging Face hub.
//! * caption files: `cat.jpg` beside `cat.txt`, each line of which is a caption.
//! * pictures alone: unconditional.
//!
//! What is odd (a caption without picture, a picture without caption, a picture listed twice) is counted and named;
//! what makes the set unusable is an error. No picture is opened here, and no archive is read.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};

/// The caption file of the first layout.
const METADATA: &str = "metadata.jsonl";
/// Endings of picture files; what they hold is told by content when they are read.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Where no line says its split, one name in this many validates (2.5 %).
const HELD_OUT: u64 = 40;
/// A set of which more than this part of the captions name missing pictures is broken, not odd.
const MISSING_ALLOWED: f64 = 0.01;
/// How many names a report shows.
const SHOWN: usize = 5;

/// How a folder says its captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `metadata.jsonl`.
    Metadata,
    /// A text file beside each picture.
    CaptionFiles,
    /// Pictures alone.
    Unconditional,
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
    /// The file below the folder, with `/` between its parts.
    pub name: String,
    /// The part of the set that it belongs to.
    pub split: Split,
    /// Numbers of its captions in [`Source::captions`], the canonical one first; empty in an unconditional set.
    pub captions: Vec<usize>,
    /// What it is a version of, where the set says so.
    pub concept: Option<String>,
}

/// The pictures and captions of a folder.
#[derive(Clone, Debug)]
pub struct Source {
    folder: PathBuf,
    layout: Layout,
    examples: Vec<Example>,
    captions: Vec<String>,
    odd: Odd,
}

/// What was found and left out; each list in the order of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Odd {
    /// Captions whose picture does not exist.
    pub missing: Vec<String>,
    /// Pictures without a caption in a set that has captions.
    pub uncaptioned: Vec<String>,
    /// Pictures listed more than once; their captions are joined.
    pub repeated: Vec<String>,
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
    /// Reads what a folder holds; pictures are not opened.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if there is no such folder or no picture, a line of `metadata.jsonl` is malformed or leaves the folder,
    /// nothing has a caption though there is a caption file, or more than 1 % of the captions name missing pictures.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let message = format!("there is no folder {}: name a folder of pictures", folder.display());
            return Err(Error::data(message));
        }
        let files = files_below(folder)?;
        let source = if files.contains(METADATA) {
            let path = folder.join(METADATA);
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
            Self::from_metadata(folder, &text, &files).context(|| path.display().to_string())?
        } else {
            Self::from_names(folder, &files)?
        };
        source.check(&files)?;
        Ok(source)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the folder says its captions.
    pub fn layout(&self) -> Layout {
        self.layout
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

    /// Where an example's picture is.
    pub fn path(&self, example: &Example) -> PathBuf {
        self.folder.join(&example.name)
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
                self.folder.display(),
                if split == Split::Train { "training" } else { "validation" },
                self.examples.len()
            )));
        }
        Ok(part)
    }

    fn from_metadata(folder: &Path, text: &str, files: &BTreeSet<String>) -> Result<Self> {
        let mut table = CaptionTable::default();
        let mut examples: Vec<Example> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut odd = Odd::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = || format!("line {}", number + 1);
            let row: Row = serde_json::from_str(line)
                .map_err(|e| Error::data("expected a JSON object with `file_name` and `text`").with_source(e))
                .context(at)?;
            let name = inside(&row.file_name).context(at)?;
            let split = row.split.as_deref().map(parse_split).transpose().context(at)?;
            if !files.contains(&name) {
                odd.missing.push(name);
                continue;
            }
            let captions = table.add(row.text.iter().chain(&row.texts));
            if let Some(&place) = places.get(&name) {
                let known = &mut examples[place].captions;
                captions.into_iter().for_each(|caption| push_new(known, caption));
                odd.repeated.push(name);
                continue;
            }
            places.insert(name.clone(), examples.len());
            let split = split.unwrap_or_else(|| Split::of_name(&name));
            examples.push(Example { split, name, captions, concept: row.concept });
        }
        let unlisted = files.iter().filter(|name| is_picture(name) && !places.contains_key(*name));
        odd.uncaptioned.extend(unlisted.cloned());
        Ok(Self::new(folder, Layout::Metadata, examples, table, odd))
    }

    fn from_names(folder: &Path, files: &BTreeSet<String>) -> Result<Self> {
        let mut table = CaptionTable::default();
        let mut odd = Odd::default();
        let mut examples = Vec::new();
        let mut captioned = BTreeSet::new();
        for name in files.iter().filter(|name| is_picture(name)) {
            let text_name = with_ending(name, "txt");
            let mut captions = Vec::new();
            if files.contains(&text_name) {
                let path = folder.join(&text_name);
                let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
                captions = table.add(text.lines());
                captioned.insert(text_name);
            }
            examples.push(Example { split: Split::of_name(name), name: name.clone(), captions, concept: None });
        }
        let layout = if captioned.is_empty() { Layout::Unconditional } else { Layout::CaptionFiles };
        if layout == Layout::CaptionFiles {
            let texts = files.iter().filter(|name| name.ends_with(".txt") && !captioned.contains(*name));
            odd.missing.extend(texts.cloned());
        }
        Ok(Self::new(folder, layout, examples, table, odd))
    }

    /// Leaves out what has no caption where captions are expected, and sorts.
    fn new(folder: &Path, layout: Layout, mut examples: Vec<Example>, table: CaptionTable, mut odd: Odd) -> Self {
        if layout != Layout::Unconditional {
            let bare = examples.extract_if(.., |example| example.captions.is_empty());
            odd.uncaptioned.extend(bare.map(|example| example.name));
            odd.uncaptioned.sort();
        }
        examples.sort_by(|a, b| a.name.cmp(&b.name));
        Self { folder: folder.to_path_buf(), layout, examples, captions: table.captions, odd }
    }

    fn check(&self, files: &BTreeSet<String>) -> Result<()> {
        let folder = self.folder.display();
        let pictures = files.iter().filter(|name| is_picture(name)).count();
        let missing = self.odd.missing.len();
        if pictures == 0 {
            let nested = files.iter().find(|name| name.ends_with(".tar"));
            return Err(Error::data(match nested {
                _ if missing > 0 => {
                    format!("{folder} holds {missing} captions but no picture; expected PNG, JPEG or WebP files")
                }
                Some(tar) => format!("{folder} holds archives such as {tar}, which are not read; unpack them"),
                None => format!("{folder} holds no picture; expected PNG, JPEG or WebP files"),
            }));
        }
        if missing as f64 > MISSING_ALLOWED * (missing + self.examples.len()) as f64 {
            return Err(Error::data(format!(
                "{missing} of {} captions in {folder} name pictures that are missing: {}; complete the set or remove the lines",
                missing + self.examples.len(),
                first_few(&self.odd.missing)
            )));
        }
        if self.examples.is_empty() {
            return Err(Error::data(format!(
                "none of the {pictures} pictures in {folder} has a caption; fill `text` in {METADATA} or the text files, \
                 or remove them to train without captions"
            )));
        }
        Ok(())
    }
}

/// One line: `3298 training and 77 validation pictures with 28018 captions from metadata.jsonl; ...`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let train = self.examples.iter().filter(|example| example.split == Split::Train).count();
        write!(f, "{train} training and {} validation pictures", self.examples.len() - train)?;
        match self.layout {
            Layout::Metadata => write!(f, " with {} captions from {METADATA}", self.captions.len())?,
            Layout::CaptionFiles => write!(f, " with {} captions from text files", self.captions.len())?,
            Layout::Unconditional => write!(f, " without captions")?,
        }
        let Odd { missing, uncaptioned, repeated } = &self.odd;
        for (names, what) in [
            (missing, "captions without picture"),
            (uncaptioned, "pictures without caption, left out"),
            (repeated, "pictures listed again, captions joined"),
        ] {
            if !names.is_empty() {
                write!(f, "; {} {what}: {}", names.len(), first_few(names))?;
            }
        }
        Ok(())
    }
}

/// A line of `metadata.jsonl`; further fields are of no concern here.
#[derive(serde::Deserialize)]
struct Row {
    file_name: String,
    text: Option<String>,
    #[serde(default)]
    texts: Vec<String>,
    split: Option<String>,
    concept: Option<String>,
}

/// Captions with their numbers; equal ones are kept once.
#[derive(Default)]
struct CaptionTable {
    captions: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl CaptionTable {
    fn add<S: AsRef<str>>(&mut self, captions: impl IntoIterator<Item = S>) -> Vec<usize> {
        let mut out = Vec::new();
        for caption in captions {
            let caption = caption.as_ref().trim();
            if caption.is_empty() {
                continue;
            }
            let number = *self.numbers.entry(caption.to_string()).or_insert_with(|| {
                self.captions.push(caption.to_string());
                self.captions.len() - 1
            });
            push_new(&mut out, number);
        }
        out
    }
}

fn push_new(list: &mut Vec<usize>, number: usize) {
    if !list.contains(&number) {
        list.push(number);
    }
}

fn parse_split(name: &str) -> Result<Split> {
    match name {
        "train" => Ok(Split::Train),
        "validation" | "valid" | "val" | "test" => Ok(Split::Validation),
        _ => Err(Error::data(format!("split {name:?} is unknown; expected \"train\" or \"validation\""))),
    }
}

/// A file name with plain parts only: no root, no `..`.
fn inside(name: &str) -> Result<String> {
    let parts: Option<Vec<&str>> = Path::new(name)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect();
    match parts {
        Some(parts) if !parts.is_empty() => Ok(parts.join("/")),
        _ => Err(Error::data(format!("`file_name` {name:?} leaves the folder; expected a path below it"))),
    }
}

/// Every file below a folder, with `/` between parts; hidden files and folders are passed over, links to folders too.
fn files_below(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        let entries = std::fs::read_dir(&path).map_err(|e| Error::io("read the folder", &path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read the folder", &path, e))?;
            let Some(name) = entry.file_name().to_str().map(str::to_string) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|e| Error::io("read", &entry.path(), e))?;
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

fn is_picture(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn with_ending(name: &str, ending: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{ending}")
}

fn first_few(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ...") } else { shown }
}

/// FNV-1a with the finish of SplitMix64, whose low bits are as good as its high ones.
fn hash(name: &str) -> u64 {
    let fnv =
        name.bytes().fold(0xCBF2_9CE4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mixed = (fnv ^ fnv >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
