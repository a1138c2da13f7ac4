//! Sets of pictures on disk: whatever `Source` reads, a part of it, or a file of statistics; read in parallel,
//! interruptible.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rayon::prelude::*;

use imagen::data::{Example, Source, Split};
use imagen::eval::{Extractor, Summary};
use imagen::image::{DecodeOptions, Picture};

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// Pictures that are read between two looks at Ctrl-C.
const CHUNK: usize = 32;

/// Parts of a set by name, known to the help and the completions.
pub(super) fn split_names() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(["train", "validation"]).map(|name| match name.as_str() {
        "train" => Split::Train,
        _ => Split::Validation,
    })
}

/// The name of a part, as it is given.
pub(super) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "validation",
    }
}

/// A set that was named on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set<'a> {
    pub(super) path: &'a Path,
    pub(super) split: Option<Split>,
}

impl Set<'_> {
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

    /// Its pictures.
    pub(super) fn source(&self) -> Result<Source> {
        let source = Source::open(self.path)?;
        Ok(self.split.map_or(Ok(source.clone()), |split| source.split(split))?)
    }

    /// The features of its pictures, summed up.
    pub(super) fn read(&self, extractor: &Extractor, keep_features: bool, progress: &mut Progress) -> Result<Summary> {
        let source = self.source()?;
        summarise(&source, &source.examples().iter().collect::<Vec<_>>(), extractor, keep_features, progress)
    }

    /// What names it.
    pub(super) fn label(&self) -> String {
        let part = self.split.map(|split| format!(" ({})", split_name(split))).unwrap_or_default();
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
    chunks(
        source,
        examples,
        progress,
        |picture| extractor.prepare(picture),
        |prepared| Ok(summary.add_rows(&extractor.features(&prepared)?)?),
    )?;
    Ok(summary)
}

/// Reads pictures in parallel, makes something of each, and takes the results in order.
pub(super) fn each<T: Send>(
    source: &Source,
    examples: &[&Example],
    progress: &mut Progress,
    make: impl Fn(&Picture) -> imagen::Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    chunks(source, examples, progress, make, |made| made.into_iter().try_for_each(&mut take))
}

/// The same, taken by chunks, which are cut by position alone.
pub(super) fn chunks<T: Send>(
    source: &Source,
    examples: &[&Example],
    progress: &mut Progress,
    make: impl Fn(&Picture) -> imagen::Result<T> + Sync,
    mut take: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    for chunk in examples.chunks(CHUNK) {
        if interrupt::requested() {
            return Err(Failure::interrupted(format_args!("{done} of {} pictures were read", examples.len())));
        }
        let read = |example: &&Example| make(&source.picture(example, &DecodeOptions::default())?);
        take(chunk.par_iter().map(read).collect::<imagen::Result<_>>()?)?;
        done += chunk.len();
        progress.step("read", done as u64, examples.len() as u64, "");
    }
    progress.finish();
    Ok(())
}
