//! Sets of pictures on disk: whatever `Source` reads, a part of it, or a file of statistics; read in parallel,
//! interruptible.

use std::path::Path;

use rayon::prelude::*;

use imagen::data::{Example, Source, Split};
use imagen::eval::{Extractor, Protocol, Summary};
use imagen::image::{DecodeOptions, Picture};

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// Pictures that are read between two looks at Ctrl-C.
pub(super) const CHUNK: usize = 32;

/// A set that was named on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set<'a> {
    pub(super) path: &'a Path,
    pub(super) split: Option<Split>,
}

impl Set<'_> {
    /// Whether it is an archive of pytorch-fid or clean-fid, which does not say under which protocol it was made.
    pub(super) fn is_npz(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"))
    }

    /// What such an archive holds, taken for made under this protocol.
    pub(super) fn load_npz(&self, protocol: &Protocol) -> Result<Summary> {
        if self.split.is_some() {
            return Err(Failure::usage(format_args!("{} is a file and has no splits", self.path.display())));
        }
        Ok(Summary::load_npz(self.path, protocol)?)
    }

    /// What a file of statistics holds; nothing of pictures, which have to be looked at.
    pub(super) fn stored(&self) -> Result<Option<Summary>> {
        if self.path.extension().is_none_or(|ending| ending != "safetensors") {
            return Ok(None);
        }
        match self.split {
            None => Ok(Some(Summary::load(self.path)?)),
            Some(_) => Err(Failure::usage(format_args!("{} is a file and has no splits", self.path.display()))
                .hint("choose the part when the file is made: imagen eval stats FOLDER --split train -o FILE")),
        }
    }

    /// Its pictures, whatever their captions.
    pub(super) fn source(&self) -> Result<Source> {
        let source = Source::open_pictures(self.path)?;
        Ok(self.split.map_or(Ok(source.clone()), |split| source.split(split))?)
    }

    /// The features of its pictures, summed up.
    pub(super) fn read(&self, extractor: &Extractor, keep_features: bool, progress: &mut Progress) -> Result<Summary> {
        let source = self.source()?;
        summarise(&source, &source.examples().iter().collect::<Vec<_>>(), extractor, keep_features, progress)
    }

    /// What names it.
    pub(super) fn label(&self) -> String {
        let part = self.split.map(|split| format!(" ({})", split.name())).unwrap_or_default();
        format!("{}{part}", self.path.display())
    }
}

/// The features of these pictures of a set.
pub(super) fn summarise(
    source: &Source,
    examples: &[&Example],
    extractor: &Extractor,
    keep_features: bool,
    progress: &mut Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(extractor.protocol(), keep_features);
    summarise_on(&mut summary, source, examples, extractor, progress, |_| Ok(()))?;
    Ok(summary)
}

/// Goes on with a summary that holds the first of these pictures; `after` looks at it after every [`CHUNK`] of them.
pub(super) fn summarise_on(
    summary: &mut Summary,
    source: &Source,
    examples: &[&Example],
    extractor: &Extractor,
    progress: &mut Progress,
    mut after: impl FnMut(&Summary) -> Result<()>,
) -> Result<()> {
    let there = summary.statistics().count() as usize;
    let add = |prepared: Vec<_>| {
        summary.add_rows(&extractor.features(&prepared)?)?;
        after(summary)
    };
    chunks(source, examples, there, progress, |picture| extractor.prepare(picture), add)
}

/// Reads pictures in parallel, makes something of each, and takes the results in order.
pub(super) fn each<T: Send>(
    source: &Source,
    examples: &[&Example],
    progress: &mut Progress,
    make: impl Fn(&Picture) -> imagen::Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    chunks(source, examples, 0, progress, make, |made| made.into_iter().try_for_each(&mut take))
}

/// Makes something of all examples but the first `done`, by chunks, which are cut by position alone if `done` is of whole chunks.
pub(super) fn chunks<T: Send>(
    source: &Source,
    examples: &[&Example],
    mut done: usize,
    progress: &mut Progress,
    make: impl Fn(&Picture) -> imagen::Result<T> + Sync,
    mut take: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    for chunk in examples[done..].chunks(CHUNK) {
        if interrupt::requested() {
            return Err(Failure::stopped(done, examples.len(), "read"));
        }
        let read = |example: &&Example| make(&source.picture(example, &DecodeOptions::default())?);
        take(chunk.par_iter().map(read).collect::<imagen::Result<_>>()?)?;
        done += chunk.len();
        progress.step("read", done as u64, examples.len() as u64, "");
    }
    progress.finish();
    Ok(())
}
