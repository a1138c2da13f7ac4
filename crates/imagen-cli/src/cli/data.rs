//! `imagen data shapes` makes a small captioned set to begin with; `imagen data check` looks at every picture and caption
//! of a set before hours are spent on it.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use imagen::data::{Example, Source, Split, shapes};
use imagen::image::{DecodeOptions, decode};

use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// How many names of a kind of trouble are printed; `--json` has all.
const SHOWN: usize = 5;

/// Make or check a folder of pictures and captions
#[derive(Debug, clap::Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Shapes(Shapes),
    Check(Check),
}

/// Draw a captioned set of coloured shapes that trains in minutes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imagen data shapes data/shapes --count 2000 --size 64")]
struct Shapes {
    /// The folder to write; must not hold a set already
    out: PathBuf,
    /// Pictures
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2000)]
    count: usize,
    /// Side of each picture, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "64")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(8..=4096))]
    size: usize,
    /// Seed; the same seed draws the same set
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
}

/// Look at every picture and caption of a folder
///
/// Exits with code 3 where a picture cannot be read or a caption has no picture.
#[derive(Debug, clap::Args)]
struct Check {
    /// An image folder: pictures with metadata.jsonl, or with a .txt beside each
    folder: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Data {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Shapes(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
        }
    }
}

impl Shapes {
    fn run(self) -> Result<()> {
        if self.out.join("metadata.jsonl").exists() {
            let failure = Failure::usage(format_args!("{} already holds a set", self.out.display()));
            return Err(failure.hint("choose another folder, or remove that one first"));
        }
        shapes::write(&self.out, self.count, self.size, self.seed)?;
        print_line(self.out.display())
    }
}

impl Check {
    fn run(self) -> Result<()> {
        interrupt::watch("stopping")?;
        let source = Source::open(&self.folder)?;
        let mut report = Report::new(&source);
        let mut progress = Progress::new(self.quiet);
        let of = source.examples().len();
        for (number, example) in source.examples().iter().enumerate() {
            if interrupt::requested() {
                return Err(Failure::interrupted(format_args!("{number} of {of} pictures were looked at")));
            }
            report.look_at(&source.path(example), example);
            progress.step("check", number as u64 + 1, of as u64, "");
        }
        progress.finish();
        print_line(if self.json { report.to_json().to_string() } else { report.describe() })?;
        match report.unusable() {
            0 => Ok(()),
            n => Err(Failure::new(Exit::Data, format_args!("{n} entries of {} cannot be used", self.folder.display()))),
        }
    }
}

/// What the check found.
struct Report<'a> {
    source: &'a Source,
    readable: usize,
    /// Shortest and longest side of all readable pictures.
    sides: Option<(usize, usize)>,
    /// Name and reason.
    unreadable: Vec<(&'a str, String)>,
    /// Pictures with the same bytes as an earlier one.
    duplicates: Vec<&'a str>,
    seen: HashMap<u64, &'a str>,
}

impl<'a> Report<'a> {
    fn new(source: &'a Source) -> Self {
        let (unreadable, duplicates, seen) = (Vec::new(), Vec::new(), HashMap::new());
        Self { source, readable: 0, sides: None, unreadable, duplicates, seen }
    }

    fn look_at(&mut self, path: &Path, example: &'a Example) {
        let picture = match decode::open(path, &DecodeOptions::default()) {
            Ok(picture) => picture,
            Err(error) => return self.unreadable.push((&example.name, format!("{error:#}"))),
        };
        self.readable += 1;
        let (short, long) = (picture.width().min(picture.height()), picture.width().max(picture.height()));
        let (least, most) = self.sides.unwrap_or((short, long));
        self.sides = Some((least.min(short), most.max(long)));
        if let Ok(bytes) = fs::read(path) {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            if self.seen.insert(hasher.finish(), &example.name).is_some() {
                self.duplicates.push(&example.name);
            }
        }
    }

    fn unusable(&self) -> usize {
        self.unreadable.len() + self.source.odd().missing.len()
    }

    fn in_split(&self, split: Split) -> usize {
        self.source.examples().iter().filter(|example| example.split == split).count()
    }

    /// Each kind of trouble with its names.
    fn troubles(&self) -> [(&'static str, Vec<String>); 5] {
        let odd = self.source.odd();
        let reasons = self.unreadable.iter().map(|(_, reason)| reason.clone()).collect();
        let duplicates = self.duplicates.iter().map(|name| (*name).to_owned()).collect();
        [
            ("pictures that cannot be read", reasons),
            ("captions without a picture", odd.missing.clone()),
            ("pictures without a caption", odd.uncaptioned.clone()),
            ("pictures listed more than once", odd.repeated.clone()),
            ("pictures that are copies of another", duplicates),
        ]
    }

    fn describe(&self) -> String {
        let captions = self.source.captions();
        let longest = captions.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "{} pictures can be used ({} train, {} validation)\n{} captions, the longest of {longest} characters",
            self.readable,
            self.in_split(Split::Train),
            self.in_split(Split::Validation),
            captions.len(),
        );
        if let Some((least, most)) = self.sides {
            write!(text, "\nsides from {least} to {most} pixels").expect("writing to a string");
        }
        for (kind, names) in self.troubles().into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(text, "\n{} {kind}:", names.len()).expect("writing to a string");
            for name in names.iter().take(SHOWN) {
                write!(text, "\n  {name}").expect("writing to a string");
            }
            if names.len() > SHOWN {
                write!(text, "\n  and {} more", names.len() - SHOWN).expect("writing to a string");
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let odd = self.source.odd();
        let unreadable = self.unreadable.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
        json!({
            "readable": self.readable,
            "train": self.in_split(Split::Train),
            "validation": self.in_split(Split::Validation),
            "captions": self.source.captions().len(),
            "shortest_side": self.sides.map(|(least, _)| least),
            "longest_side": self.sides.map(|(_, most)| most),
            "unreadable": unreadable.collect::<Vec<_>>(),
            "missing": odd.missing,
            "uncaptioned": odd.uncaptioned,
            "repeated": odd.repeated,
            "copies": self.duplicates,
        })
    }
}
