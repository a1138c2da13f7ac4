//! `imagen data compose`: pictures of a world as an ordinary captioned set, to look at or for other programs.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;

use imagen::data::World;

use super::super::shared;
use super::shapes::refuse_set;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Pictures of a split at most.
const MOST: u64 = 10_000_000;
/// Where nothing is said, one held-out picture for this many others.
const OTHERS: usize = 40;

/// Compose pictures out of a world's cut-outs and write them as a captioned set
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A world is a folder with grammar.toml and bank.json. Training reads it as it is and composes
pictures without end (data.folder = \"data/world\" in a recipe); this writes the first of them,
which are the same.

Example:
  imagen data compose data/world sets/composed --count 2000 --size 64")]
pub(super) struct Compose {
    /// The world: a folder with grammar.toml and bank.json
    world: PathBuf,
    /// The folder to write; must not hold a set already
    out: PathBuf,
    /// Pictures of the training split
    #[arg(short = 'n', long, value_name = "N", default_value = "2000")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(..=MOST))]
    count: usize,
    /// Pictures of held-out combinations, as the validation split; a fortieth of the others by default
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(..=MOST))]
    held_out: Option<usize>,
    /// Side of each picture, in pixels
    #[arg(long, value_name = "PIXELS", default_value = "256")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(8..=4096))]
    size: usize,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    threads: shared::Threads,
}

impl Compose {
    pub(super) fn run(self) -> Result<()> {
        refuse_set(&self.out)?;
        let world = World::open(&self.world)?;
        let held_out = match self.held_out {
            Some(count) if count > 0 && !world.holds_out() => {
                let failure = Failure::usage(format_args!("{} holds no combination out", self.world.display()));
                return Err(failure.hint("give --held-out 0, or raise held_out in its grammar.toml"));
            }
            Some(count) => count,
            None if world.holds_out() => self.count / OTHERS,
            None => 0,
        };
        let of = self.count + held_out;
        if of == 0 {
            return Err(Failure::usage("no picture is asked for").hint("give --count or --held-out"));
        }
        self.threads.apply()?;
        interrupt::watch("stopping")?;
        let mut progress = Progress::new(self.quiet);
        let mut made = 0;
        let whole = world.write(&self.out, [self.count, held_out], self.size, &mut |done| {
            made = done;
            progress.step("compose", done as u64, of as u64, "");
            interrupt::flow()
        })?;
        progress.finish();
        if !whole {
            let failure =
                Failure::interrupted(format_args!("{made} of {of} pictures are there, without their captions"));
            return Err(failure.hint(format_args!("delete {}, and begin again", self.out.display())));
        }
        print_line(self.out.display())
    }
}
