//! `imagen data encode`: the embeddings of a set's captions, computed once for every run that names the file.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use imagen::data::Source;
use imagen::files::Lock;
use imagen::text::{self, CacheEvent, EmbeddingCache, TextOptions};

use super::super::shard::Sharded;
use super::super::shared::{Machine, TextEncoder};
use super::looked::LAYOUTS;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  imagen data encode data/shapes
  imagen data encode data/coco/train2017 --text-encoder models/minilm -o captions.safetensors
  imagen data encode data/coco/train2017 -o captions.safetensors --shard 2/8

A recipe uses the file with data.captions = \"FILE\". What is in it already stays; only new
captions are encoded, and after an interruption the same command goes on. With --shard each process
encodes its share into a file beside it; the one that finds nothing missing joins them, and so does
the command without --shard.";

/// Compute the text embeddings of every caption, once
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Encode {
    /// A folder of pictures, a .tar shard, or a JSON file of COCO captions
    folder: PathBuf,
    /// The file to write or complete; captions.safetensors in the folder by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sharded: Sharded,
    #[command(flatten)]
    text_encoder: TextEncoder,
    #[command(flatten)]
    machine: Machine,
}

impl Encode {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        let source = Source::open(&self.folder)?;
        if source.captions().is_empty() {
            let failure = Failure::new(Exit::Data, format_args!("{} has no captions", self.folder.display()));
            return Err(failure.hint(LAYOUTS));
        }
        // what cannot be written is said before minutes of encoding
        let path = self.output.clone().unwrap_or_else(|| beside(&self.folder));
        output::check_name(&path)?;
        output::check_writable(output::folder_of(&path))?;
        let files = self.text_encoder.files()?;
        interrupt::watch("finishing this batch and saving")?;
        let encoder = text::load(files, &TextOptions::default(), device)?;
        let mut progress = Progress::new(self.quiet);
        let (mut seen, mut cut) = (0, 0);
        let shard = self.sharded.get();
        let mut on_event = |event: CacheEvent<'_>| {
            match event {
                CacheEvent::Encoded { done, of } => {
                    seen = done;
                    progress.step("encode", done as u64, of as u64, "");
                }
                CacheEvent::Cut { .. } => cut += 1,
                CacheEvent::OtherEncoder { .. } => {
                    progress.note(format_args!("{} is of another text encoder; encoding anew", path.display()));
                }
                CacheEvent::Damaged { why } => progress.note(format_args!("a file is damaged ({why}); encoding anew")),
                _ => {}
            }
            interrupt::flow()
        };
        let (captions, encoder) = (source.captions(), encoder.as_ref());
        let (mut cache, mut rest) = (None, 0);
        if let Some(shard) = shard {
            cache = EmbeddingCache::build_share(&path, captions, encoder, (shard.at, shard.of), &mut on_event)?;
        }
        // several may find that nothing is missing: one joins, the others find it joined
        let _lock = Lock::beside(&path, || {})?;
        if shard.is_some() && cache.is_some() {
            rest = EmbeddingCache::missing(&path, captions, encoder)?;
        }
        if rest == 0 && (shard.is_none() || cache.is_some()) {
            cache = EmbeddingCache::build_or_stop(&path, captions, encoder, &mut on_event)?;
        }
        progress.finish();
        let Some(cache) = cache else {
            let failure = Failure::interrupted(format_args!("{seen} captions were encoded and saved"));
            return Err(failure.hint("run the same command to go on from there"));
        };
        if cut > 0 {
            let limit = encoder.max_length();
            progress.note(format_args!("{cut} captions were cut at {limit} tokens; `imagen data check` names them"));
        }
        if rest > 0 {
            return print_line(format_args!(
                "{} captions of this share are encoded; {rest} of {} are other shares'",
                cache.len(),
                captions.len()
            ));
        }
        progress.note(format_args!("{} captions, {seen} of them new", cache.len()));
        print_line(path.display())
    }
}

/// Where the embeddings of a set are kept: in its folder.
fn beside(set: &Path) -> PathBuf {
    let folder = if set.is_dir() { set } else { set.parent().unwrap_or(Path::new("")) };
    folder.join("captions.safetensors")
}
