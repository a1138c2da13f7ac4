//! `imagen eval stats`: the features of a set, summed up in a file, so that it is read once.

use std::path::PathBuf;

use imagen::data::Split;
use imagen::eval::Layout;

use super::pictures::{Set, split_names};
use crate::cli::shared::Threads;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Save what the distances need of a set of pictures
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imagen eval stats data/cats --split validation -o cats.safetensors")]
pub(super) struct Stats {
    /// A folder of pictures
    folder: PathBuf,
    /// The part of the set; all of it where absent
    #[arg(long, value_name = "SPLIT", value_parser = split_names())]
    split: Option<Split>,
    /// The file to write (.safetensors)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep every picture's features too (1280 bytes each): `kid` and intervals need them
    #[arg(long)]
    features: bool,
    /// Overwrite a file that exists
    #[arg(short, long)]
    force: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    threads: Threads,
}

impl Stats {
    pub(super) fn run(self) -> Result<()> {
        if self.output.extension().is_none_or(|ending| ending != "safetensors") {
            return Err(Failure::usage("statistics are written as safetensors; end the name in .safetensors"));
        }
        if self.output.exists() && !self.force {
            let failure = Failure::usage(format_args!("{} already exists", self.output.display()));
            return Err(failure.hint("choose another --output, or overwrite it with --force"));
        }
        self.threads.apply()?;
        interrupt::watch("stopping")?;
        let mut progress = Progress::new(self.quiet);
        let set = Set { path: &self.folder, split: self.split };
        let summary = set.read(self.features, &mut progress)?;
        summary.save(&self.output)?;
        progress.note(format_args!(
            "{} pictures of {}, features {} ({})",
            summary.statistics().count(),
            set.label(),
            Layout::NAME,
            Layout::RESIZE
        ));
        print_line(self.output.display())
    }
}
