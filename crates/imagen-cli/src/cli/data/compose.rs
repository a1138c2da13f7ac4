//! `imagen data compose`: pictures of a world as an ordinary captioned set, to look at or for other programs.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;

use imagen::data::World;

use super::super::shared;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Where nothing is said, one held-out picture for this many others.
const OTHERS: usize = 40;

/// Compose pictures out of a world's cut-outs and write them as a captioned set
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A world is a folder with grammar.toml and bank.json. Training reads it as it is and composes pictures without end
(data.folder = \"data/world\" in a recipe); this writes the first of them, which are the same.

Example:
  imagen data compose data/world sets/composed --count 2000 --size 64")]
pub(super) struct Compose {
    /// The world: a folder with grammar.toml and bank.json
    world: PathBuf,
    /// The folder to write; must not hold a set already
    out: PathBuf,
    /// Pictures of the training split
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2000)]
    count: usize,
    /// Pictures of held-out combinations, as the validation split; a fortieth of the others where absent
    #[arg(long, value_name = "N")]
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
        super::refuse_set(&self.out)?;
        let held_out = self.held_out.unwrap_or(self.count / OTHERS);
        let of = self.count + held_out;
        if of == 0 {
            return Err(Failure::usage("no picture is asked for").hint("give --count or --held-out"));
        }
        self.threads.apply()?;
        interrupt::watch("stopping")?;
        let world = World::open(&self.world)?;
        let mut progress = Progress::new(self.quiet);
        let mut made = 0;
        let whole = world.write(&self.out, [self.count, held_out], self.size, &mut |done| {
            made = done;
            progress.step("compose", done as u64, of as u64, "");
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        progress.finish();
        if !whole {
            return Err(Failure::interrupted(format_args!(
                "{made} of {of} pictures are there, without their captions"
            )));
        }
        print_line(self.out.display())
    }
}
