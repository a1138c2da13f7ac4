//! `imagen eval kid`: the kernel distance of two sets of pictures over the built-in features, or (`--samples`) of what a
//! model draws and of what it should, which is in `samples`.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use serde_json::json;

use imagen::data::Split;
use imagen::eval::{self, KidOptions, Layout, Summary};

use super::drawing::Painter;
use super::pictures::{Set, split_names};
use super::{samples, with_interval};
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Pictures below which the interval itself is uncertain.
const ENOUGH: usize = 100;

const EXAMPLES: &str = "\
Examples:
  imagen eval kid drawn data/cats --split-b validation
  imagen eval kid --samples 256 --data data/cats

The estimate is unbiased at any number of pictures and may be negative. With --samples the base of
the model draws captions of the set, and is compared with the validation pictures, beside training
pictures (the best that can be expected) and an untrained network (the worst).";

/// Kernel distance of two sets of pictures (over layout-1: not as papers report it)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Kid {
    /// A folder of pictures, or a file of `imagen eval stats --features`
    #[arg(required_unless_present = "samples", conflicts_with = "samples")]
    a: Option<PathBuf>,
    /// The set to compare it with
    #[arg(required_unless_present = "samples", conflicts_with = "samples")]
    b: Option<PathBuf>,
    /// The part of A; all of it where absent
    #[arg(long, value_name = "SPLIT", value_parser = split_names(), conflicts_with = "samples")]
    split_a: Option<Split>,
    /// The part of B; all of it where absent
    #[arg(long, value_name = "SPLIT", value_parser = split_names(), conflicts_with = "samples")]
    split_b: Option<Split>,
    /// Draw so many captions of --data and compare what comes out
    #[arg(long, value_name = "N", requires = "data")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(3..=100_000))]
    samples: Option<usize>,
    /// The set whose captions are drawn
    #[arg(long, value_name = "FOLDER", requires = "samples")]
    data: Option<PathBuf>,
    /// Seed: of the blocks of large sets, of the captions, and of the first picture
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    painter: Painter,
}

impl Kid {
    pub(super) fn run(self) -> Result<()> {
        self.painter.manner.threads.apply()?;
        let mut progress = Progress::new(self.quiet);
        if let (Some(count), Some(data)) = (self.samples, &self.data) {
            interrupt::watch("stopping; there is no result without all pictures")?;
            let table = samples::Table::draw(data, count, self.seed, &self.painter, &mut progress)?;
            return print_line(if self.json { table.to_json().to_string() } else { table.describe() });
        }
        interrupt::watch("stopping")?;
        let (Some(a), Some(b)) = (&self.a, &self.b) else { unreachable!("clap requires both without --samples") };
        self.compare(a, b, &mut progress)
    }

    fn compare(&self, a: &Path, b: &Path, progress: &mut Progress) -> Result<()> {
        let sets = [Set { path: a, split: self.split_a }, Set { path: b, split: self.split_b }];
        let summaries = [sets[0].read(true, progress)?, sets[1].read(true, progress)?];
        for (set, summary) in sets.iter().zip(&summaries) {
            if summary.features().is_none() {
                let failure = Failure::usage(format_args!("{} holds no features of single pictures", set.label()));
                return Err(failure.hint("make it anew with `imagen eval stats FOLDER --features -o FILE`"));
            }
        }
        let found = kid(&summaries[0], &summaries[1], self.seed)?;
        let counts = summaries.map(|summary| summary.statistics().count());
        let note = too_few(counts[0].min(counts[1]));
        if self.json {
            return print_line(json!({
                "kid": found.value,
                "interval": found.interval,
                "blocks": found.blocks,
                "seed": self.seed,
                "extractor": Layout::NAME,
                "extractor_digest": Layout::digest(),
                "resize": Layout::RESIZE,
                "a": { "set": sets[0].label(), "pictures": counts[0] },
                "b": { "set": sets[1].label(), "pictures": counts[1] },
                "note": note,
            }));
        }
        let mut lines =
            vec![format!("KID ({}): {}", Layout::NAME, with_interval(found.value, Some(found.interval), 4))];
        lines.extend(sets.iter().zip(counts).map(|(set, count)| format!("  {count} pictures of {}", set.label())));
        let way = match found.blocks {
            1 => "every picture with every picture, no seed".to_owned(),
            n => format!("mean of {n} disjoint blocks, seed {}", self.seed),
        };
        lines.push(format!("  {}; {way}", Layout::RESIZE));
        lines.extend(note.map(|note| format!("  note: {note}")));
        print_line(lines.join("\n"))
    }
}

/// The distance of two sets that have kept their features.
pub(super) fn kid(a: &Summary, b: &Summary, seed: u64) -> Result<eval::Kid> {
    let [a, b] = [a, b].map(|summary| summary.features().unwrap_or_default());
    Ok(eval::kid(a, b, Layout::DIM, &KidOptions { seed, ..KidOptions::default() })?)
}

/// What to say where the smaller set is small.
pub(super) fn too_few(pictures: u64) -> Option<String> {
    (pictures < ENOUGH as u64).then(|| format!("{pictures} pictures are few: the interval itself is uncertain"))
}
