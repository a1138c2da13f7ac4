//! `imagen data shapes`: a small set to begin with.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use imagen::data::{is_unfinished, shapes};

use crate::failure::{Failure, Result, print_line};

/// Draw a captioned set of coloured shapes that trains in minutes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imagen data shapes data/shapes --count 2000")]
pub(super) struct Shapes {
    /// The folder to write; must not hold a set already
    out: PathBuf,
    /// Pictures
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2000)]
    count: usize,
    /// Side of each picture, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "32")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(8..=4096))]
    size: usize,
    /// Seed; the same seed draws the same set
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
}

impl Shapes {
    pub(super) fn run(self) -> Result<()> {
        refuse_set(&self.out)?;
        shapes::write(&self.out, self.count, self.size, self.seed)?;
        print_line(self.out.display())
    }
}

/// Refuses to write over a set.
pub(super) fn refuse_set(folder: &Path) -> Result<()> {
    if !folder.join("metadata.jsonl").exists() || is_unfinished(folder) {
        return Ok(());
    }
    let failure = Failure::usage(format_args!("{} already holds a set", folder.display()));
    Err(failure.hint("choose another folder, or remove that one first"))
}
