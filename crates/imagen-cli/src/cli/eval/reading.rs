//! The reading of a large set into a file of statistics: it goes on where it was stopped, and processes share it.
//!
//! A share is a stretch of the set, of whole chunks of pictures, in a file beside the result whose name says which of how many
//! it is. Joined in their order, shares give what one process gives, within the rounding of sums.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use imagen::data::{Example, Source};
use imagen::eval::{Extractor, Summary};
use imagen::ranks::share_of;

use super::pictures::{CHUNK, Set, summarise_on};
use crate::cli::shard::Shard;
use crate::failure::{Failure, Result};
use crate::output::folder_of;
use crate::progress::Progress;

/// Pictures between two writes of what was summed up, of whole chunks.
const SAVE_EVERY: u64 = 8 * CHUNK as u64;

/// What is read, and how.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) set: &'a Set<'a>,
    pub(super) extractor: &'a Extractor,
    pub(super) keep_features: bool,
}

impl Reading<'_> {
    /// The features of the set's pictures, or of a share of them, summed up so that it goes on where it was stopped: what was
    /// summed up is written to `file` now and then and when reading ends early, and of a share at its end. The file of another
    /// set, extractor or choice of features is begun anew.
    pub(super) fn read_into(&self, file: &Path, share: Option<Shard>, progress: &mut Progress) -> Result<Summary> {
        let source = self.set.source()?;
        let every: Vec<&Example> = source.examples().iter().collect();
        let examples = &every[stretch(every.len(), share)];
        let listed = listing(&source, share);
        let mut summary =
            match Summary::load_unfinished(file).ok().filter(|found| self.fits(found, &listed, examples.len())) {
                Some((summary, _)) => summary,
                None => Summary::new(self.extractor.protocol(), self.keep_features),
            };
        let there = summary.statistics().count();
        if there > 0 {
            progress.note(format_args!("going on after {there} of {} pictures ({})", examples.len(), file.display()));
        }
        if share.is_some() && there == examples.len() as u64 && file.exists() {
            return Ok(summary);
        }
        let now_and_then = |summary: &Summary| {
            if summary.statistics().count().is_multiple_of(SAVE_EVERY) {
                Ok(summary.save_unfinished(file, &listed)?)
            } else {
                Ok(())
            }
        };
        if let Err(failure) = summarise_on(&mut summary, &source, examples, self.extractor, progress, now_and_then) {
            let count = summary.statistics().count();
            if count > there {
                summary.save_unfinished(file, &listed)?;
            }
            return Err(match count {
                0 => failure,
                _ => failure.hint("what was read is kept: the same command goes on from there"),
            });
        }
        if share.is_some() {
            summary.save_unfinished(file, &listed)?;
        }
        Ok(summary)
    }

    /// Whether a file's content is the beginning of what is read here, or all of it.
    fn fits(&self, (summary, of): &(Summary, String), listed: &str, pictures: usize) -> bool {
        let count = summary.statistics().count() as usize;
        *of == listed
            && summary.protocol() == self.extractor.protocol()
            && summary.features().is_some() == self.keep_features
            && (count.is_multiple_of(CHUNK) || count == pictures)
            && count <= pictures
    }
}

/// The shares of a file of statistics.
pub(super) struct Shares<'a> {
    pub(super) output: &'a Path,
    pub(super) reading: Reading<'a>,
}

impl Shares<'_> {
    /// Of how many shares some are there.
    pub(super) fn there(&self) -> Option<usize> {
        self.files().into_iter().map(|(of, _)| of).max()
    }

    /// Reads a share as far as it is not read yet.
    pub(super) fn read(&self, shard: Shard, progress: &mut Progress) -> Result<Summary> {
        self.reading.read_into(&self.path(shard), Some(shard), progress)
    }

    /// All shares as one; none where one is not there or not finished.
    pub(super) fn join(&self, of: usize) -> Result<Option<Summary>> {
        let source = self.reading.set.source()?;
        let pictures = source.examples().len();
        let mut joined = Summary::new(self.reading.extractor.protocol(), self.reading.keep_features);
        for at in 0..of {
            let share = Some(Shard { at, of });
            let length = stretch(pictures, share).len();
            let found = Summary::load_unfinished(&self.path(Shard { at, of })).ok();
            let found = found.filter(|found| self.reading.fits(found, &listing(&source, share), length));
            let Some((summary, _)) = found.filter(|(summary, _)| summary.statistics().count() as usize == length)
            else {
                return Ok(None);
            };
            joined.merge(&summary)?;
        }
        Ok(Some(joined))
    }

    /// Removes all that was written on the way to the result.
    pub(super) fn remove(&self) -> Result<()> {
        let unfinished = self.output.with_extension("unfinished.safetensors");
        for path in self.files().into_iter().map(|(_, path)| path).chain([unfinished]) {
            match fs::remove_file(&path) {
                // another process that joined the same shares was quicker
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Failure::io("remove", &path, &e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, Shard { at, of }: Shard) -> PathBuf {
        self.output.with_extension(format!("share-{}-of-{of}.safetensors", at + 1))
    }

    /// The files of shares, each with the number of them that its name gives.
    fn files(&self) -> Vec<(usize, PathBuf)> {
        let stem = self.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let of = |name: &str| {
            let share = name.strip_prefix(&stem)?.strip_prefix(".share-")?.strip_suffix(".safetensors")?;
            let (at, of) = share.split_once("-of-")?;
            at.parse::<usize>().ok()?;
            of.parse::<usize>().ok()
        };
        let entries = fs::read_dir(folder_of(self.output)).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((of(entry.file_name().to_str()?)?, entry.path()))).collect()
    }
}

/// The part of so many pictures that a share is, of whole chunks.
fn stretch(pictures: usize, share: Option<Shard>) -> std::ops::Range<usize> {
    let Some(Shard { at, of }) = share else { return 0..pictures };
    let chunks = share_of(pictures.div_ceil(CHUNK), at, of);
    (chunks.start * CHUNK).min(pictures)..(chunks.end * CHUNK).min(pictures)
}

/// A digest of what tells a set from others, and its shares: its place, names and order of its pictures, and which share.
fn listing(source: &Source, share: Option<Shard>) -> String {
    let place = source.folder().canonicalize().unwrap_or_else(|_| source.folder().to_owned());
    let mut hash = Sha256::new();
    hash.update(place.as_os_str().as_encoded_bytes());
    for example in source.examples() {
        hash.update([0]);
        hash.update(&example.name);
    }
    if let Some(share) = share {
        hash.update(format!("\0\0{share}"));
    }
    format!("{:x}", hash.finalize())
}
