//! A set that is looked at as a whole: what it may be, its pictures, and its captions as a text encoder reads them.

use std::path::PathBuf;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use imagen::data::{Source, Survey};
use imagen::image::DecodeOptions;
use imagen::text::{self, TextEncoder, TextOptions};

use crate::cli::shared;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// What a set may be, as the help explains it.
pub(super) const LAYOUTS: &str = "\
A set is recognised by what is there:
  metadata.jsonl, metadata.csv   a line for each picture: file_name (or file, image, path),
                                 text (or caption, prompt) [, split, concept]
  a.jpg beside a.txt             each line of the text is a caption; a.caption is read, too
  10_name/                       kohya's folders: the name is the caption of pictures without
                                 one; the number of repeats is not used
  *.tar                          WebDataset shards: 0001.jpg, 0001.txt and 0001.json are a sample
  captions_*.json                COCO captions, in the folder, above it, or named themselves
  grammar.toml with bank.json    a world that is composed without end; the first of its pictures
                                 are looked at
  pictures alone                 no captions";

/// What `check` and `stats` look at, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Looked {
    /// A folder of pictures, a .tar shard, or a JSON file of COCO captions
    pub(super) folder: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Print no progress
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) text_encoder: shared::TextEncoder,
    #[command(flatten)]
    pub(super) threads: shared::Threads,
}

impl Looked {
    /// The set, and every picture of it.
    pub(super) fn take(&self, channels: usize) -> Result<(Source, Survey)> {
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
            interrupt::flow()
        });
        progress.finish();
        match survey {
            Some(survey) => Ok((source, survey)),
            None => Err(Failure::stopped(seen, of, "looked at")),
        }
    }

    /// The text encoder that was named, or the built-in one; none where there is neither, or no caption.
    pub(super) fn encoder(&self, source: &Source) -> Result<Option<Box<dyn TextEncoder>>> {
        if source.captions().is_empty() {
            return Ok(None);
        }
        let Some(files) = self.text_encoder.files_at_hand()? else { return Ok(None) };
        Ok(Some(text::load(files, &TextOptions::default(), &shared::cpu())?))
    }
}

/// Numbers of tokens of the captions that a text encoder reads.
pub(super) fn token_counts(source: &Source, encoder: &dyn TextEncoder) -> Result<Vec<usize>> {
    let counts = source.captions().par_iter().map(|caption| encoder.token_count(caption));
    Ok(counts.collect::<imagen::Result<_>>()?)
}
