//! `imagen eval frechet`: the Fréchet distance of two sets of pictures over the built-in features.

use std::path::PathBuf;

use serde_json::json;

use imagen::data::Split;
use imagen::eval::{Layout, frechet};

use super::pictures::{Set, split_names};
use super::with_interval;
use crate::cli::shared::Threads;
use crate::failure::{Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Pictures for each number of a feature vector below which the distance is mostly bias.
const ENOUGH: usize = 10;

const EXAMPLES: &str = "\
Examples:
  imagen eval frechet drawn data/cats --split-b validation
  imagen eval frechet a.safetensors b.safetensors --json

The distance grows as sets get smaller: compare only distances of sets of equal sizes.";

/// Frechet distance of two sets of pictures (over layout-1: no FID)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Frechet {
    /// A folder of pictures, or a file of `imagen eval stats`
    a: PathBuf,
    /// The set to compare it with
    b: PathBuf,
    /// The part of A; all of it where absent
    #[arg(long, value_name = "SPLIT", value_parser = split_names())]
    split_a: Option<Split>,
    /// The part of B; all of it where absent
    #[arg(long, value_name = "SPLIT", value_parser = split_names())]
    split_b: Option<Split>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    threads: Threads,
}

impl Frechet {
    pub(super) fn run(self) -> Result<()> {
        self.threads.apply()?;
        interrupt::watch("stopping")?;
        let mut progress = Progress::new(self.quiet);
        let sets = [Set { path: &self.a, split: self.split_a }, Set { path: &self.b, split: self.split_b }];
        let [a, b] = [sets[0].read(true, &mut progress)?, sets[1].read(true, &mut progress)?];
        let found = frechet(&a, &b)?;
        let counts = [a.statistics().count(), b.statistics().count()];
        let note = too_few(counts[0].min(counts[1]));
        if self.json {
            return print_line(json!({
                "frechet_distance": found.distance,
                "interval": found.interval,
                "extractor": Layout::NAME,
                "extractor_digest": Layout::digest(),
                "resize": Layout::RESIZE,
                "a": { "set": sets[0].label(), "pictures": counts[0] },
                "b": { "set": sets[1].label(), "pictures": counts[1] },
                "note": note,
            }));
        }
        let mut lines =
            vec![format!("Frechet distance ({}): {}", Layout::NAME, with_interval(found.distance, found.interval, 2))];
        lines.extend(sets.iter().zip(counts).map(|(set, count)| format!("  {count} pictures of {}", set.label())));
        lines.push(format!("  {}; deterministic, no seed", Layout::RESIZE));
        lines.extend(note.map(|note| format!("  note: {note}")));
        print_line(lines.join("\n"))
    }
}

/// What to say where the smaller set is small.
pub(super) fn too_few(pictures: u64) -> Option<String> {
    (pictures < (ENOUGH * Layout::DIM) as u64).then(|| {
        format!(
            "{pictures} pictures are few for {} features: the distance is too large by an amount that depends on the \
             number, and only sets of equal sizes can be compared",
            Layout::DIM
        )
    })
}
