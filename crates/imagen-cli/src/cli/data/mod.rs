//! `imagen data`: a set of pictures and captions before hours are spent on it. `shapes` makes a small one to begin with,
//! `compose` writes pictures of a world, `check` looks for trouble, `stats` describes, `encode` computes the embeddings of the captions.

mod check;
mod compose;
mod encode;
mod stats;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use imagen::data::{Source, Survey, shapes};
use imagen::image::DecodeOptions;
use imagen::text::{self, TextEncoder, TextOptions};

use super::shared;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// What a set may be, as the help explains it.
const LAYOUTS: &str = "\
A set is recognised by what is there:
  metadata.jsonl, metadata.csv   a line for each picture: file_name, text [, split, concept]
  a.jpg beside a.txt             each line of the text is a caption
  *.tar                          WebDataset shards: 0001.jpg, 0001.txt and 0001.json are a sample
  captions_*.json                COCO captions, in the folder, above it, or named themselves
  grammar.toml with bank.json    a world that is composed without end; the first of its pictures are looked at
  pictures alone                 no captions";

/// Make, check, describe or encode a set of pictures and captions
#[derive(Debug, clap::Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Shapes(Shapes),
    Compose(compose::Compose),
    Check(check::Check),
    Stats(stats::Stats),
    Encode(encode::Encode),
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

/// What `check` and `stats` look at, and how.
#[derive(Debug, clap::Args)]
struct Looked {
    /// A folder of pictures, a .tar shard, or a JSON file of COCO captions
    folder: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    text_encoder: shared::TextEncoder,
    #[command(flatten)]
    threads: shared::Threads,
}

/// Quantiles of whole numbers.
#[derive(serde::Serialize)]
struct Spread {
    min: usize,
    tenth: usize,
    median: usize,
    ninetieth: usize,
    max: usize,
    mean: f64,
}

impl Looked {
    /// The set, and every picture of it.
    fn take(&self, channels: usize) -> Result<(Source, Survey)> {
        self.threads.apply()?;
        interrupt::watch("stopping")?;
        let source = Source::read(&self.folder)?;
        let mut progress = Progress::new(self.quiet);
        let of = source.examples().len();
        let mut seen = 0;
        let options = DecodeOptions { channels, ..DecodeOptions::default() };
        let survey = Survey::take(&source, &options, self.threads.count(), &mut |done| {
            seen = done;
            progress.step("look", done as u64, of as u64, "");
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        progress.finish();
        match survey {
            Some(survey) => Ok((source, survey)),
            None => Err(Failure::interrupted(format_args!("{seen} of {of} pictures were looked at"))),
        }
    }

    /// The text encoder that was named, or the built-in one; none where there is neither, or no caption.
    fn encoder(&self, source: &Source) -> Result<Option<Box<dyn TextEncoder>>> {
        if source.captions().is_empty() {
            return Ok(None);
        }
        let Some(files) = self.text_encoder.files_at_hand()? else { return Ok(None) };
        Ok(Some(text::load(files, &TextOptions::default(), &shared::device())?))
    }
}

/// Numbers of tokens of the captions that a text encoder reads.
fn token_counts(source: &Source, encoder: &dyn TextEncoder) -> Result<Vec<usize>> {
    let counts = source.captions().par_iter().map(|caption| encoder.token_count(caption));
    Ok(counts.collect::<imagen::Result<_>>()?)
}

impl Spread {
    /// Of these numbers; none without any.
    fn of(mut numbers: Vec<usize>) -> Option<Self> {
        numbers.sort_unstable();
        let last = numbers.len().checked_sub(1)?;
        let at = |part: f64| numbers[(last as f64 * part).round() as usize];
        let mean = numbers.iter().map(|&n| n as f64).sum::<f64>() / numbers.len() as f64;
        Some(Self { min: numbers[0], tenth: at(0.1), median: at(0.5), ninetieth: at(0.9), max: numbers[last], mean })
    }
}

impl Data {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Shapes(verb) => verb.run(),
            Verb::Compose(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
            Verb::Stats(verb) => verb.run(),
            Verb::Encode(verb) => verb.run(),
        }
    }
}

/// Refuses to write over a set.
fn refuse_set(folder: &Path) -> Result<()> {
    if !folder.join("metadata.jsonl").exists() {
        return Ok(());
    }
    let failure = Failure::usage(format_args!("{} already holds a set", folder.display()));
    Err(failure.hint("choose another folder, or remove that one first"))
}

impl Shapes {
    fn run(self) -> Result<()> {
        refuse_set(&self.out)?;
        shapes::write(&self.out, self.count, self.size, self.seed)?;
        print_line(self.out.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_knows_its_ends_and_its_middle() {
        let spread = Spread::of((0..=100).rev().collect()).unwrap();
        assert_eq!([spread.min, spread.tenth, spread.median, spread.ninetieth, spread.max], [0, 10, 50, 90, 100]);
        assert!((spread.mean - 50.0).abs() < 1e-9);
        assert_eq!(Spread::of(vec![7]).unwrap().median, 7);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
