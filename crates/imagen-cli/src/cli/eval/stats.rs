//! `imagen eval stats`: the features of a set, summed up in a file, so that it is read once.

use std::path::PathBuf;

use burn::tensor::Device;

use imagen::data::Split;

use super::features::Features;
use super::pictures::Set;
use super::reading::{Reading, Shares};
use crate::cli::shard::{Shard, Sharded};
use crate::cli::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  imagen eval stats data/cats --split validation -o cats.safetensors
  imagen eval stats data/coco/val2014 --inception inception.safetensors -o coco.safetensors
  imagen eval stats data/coco/val2014 --inception inception.safetensors \\
    -o coco.safetensors --shard 2/4

The file says what it is under (extractor with a digest of its weights, resize); nothing of another
protocol is compared with it. Stopped or killed, the same command goes on where it was. With
--shard each process reads its share into a file beside it; the one that finds all of them joins
them, and the command without --shard reads what is missing and joins.";

/// Save what the distances need of a set of pictures
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Stats {
    /// A folder of pictures, or a tar shard
    folder: PathBuf,
    /// The part of the set; all of it by default
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>())]
    split: Option<Split>,
    /// The file to write (.safetensors)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep every picture's features too (1280 bytes each, Inception's 8192): `kid`, `precision-recall` and intervals need
    /// them
    #[arg(long = "features")]
    keep_features: bool,
    /// Overwrite a file that exists
    #[arg(short, long)]
    force: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sharded: Sharded,
    #[command(flatten)]
    features: Features,
    #[command(flatten)]
    machine: Machine,
}

impl Stats {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        if self.output.extension().is_none_or(|ending| ending != "safetensors") {
            return Err(Failure::usage("statistics are written as safetensors; end the name in .safetensors"));
        }
        let shard = self.sharded.get();
        if self.output.exists() && !self.force {
            if shard.is_some() {
                // others were quicker: what was to be made is there
                return print_line(self.output.display());
            }
            let failure = Failure::usage(format_args!("{} already exists", self.output.display()));
            return Err(failure.hint("choose another --output, or overwrite it with --force"));
        }
        output::check_name(&self.output)?;
        output::check_writable(output::folder_of(&self.output))?;
        interrupt::watch("stopping; what was read is kept")?;
        let mut progress = Progress::new(self.quiet);
        let set = Set { path: &self.folder, split: self.split };
        let extractor = self.features.open(device)?;
        let reading = Reading { set: &set, extractor: &extractor, keep_features: self.keep_features };
        let shares = Shares { output: &self.output, reading };
        let summary = match (shard, shares.there()) {
            (Some(shard), _) => {
                shares.read(shard, &mut progress)?;
                match shares.join(shard.of)? {
                    Some(summary) => summary,
                    None => {
                        return print_line(format_args!(
                            "share {shard} is read; {} waits for the others",
                            self.output.display()
                        ));
                    }
                }
            }
            (None, Some(of)) => {
                (0..of).try_for_each(|at| shares.read(Shard { at, of }, &mut progress).map(drop))?;
                let joined = shares.join(of)?;
                joined
                    .ok_or_else(|| Failure::new(Exit::Runtime, "shares of the set vanished while they were joined"))?
            }
            (None, None) => {
                let unfinished = self.output.with_extension("unfinished.safetensors");
                reading.read_into(&unfinished, None, &mut progress)?
            }
        };
        summary.save(&self.output)?;
        shares.remove()?;
        progress.note(format_args!(
            "{} pictures of {}, features {}",
            summary.statistics().count(),
            set.label(),
            summary.protocol()
        ));
        print_line(self.output.display())
    }
}
