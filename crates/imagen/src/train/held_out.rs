//! Real pictures that a run is judged by: the same ones at every step and in every run on the same folder.
//!
//! They come from the validation split, or from the training split where nothing is held out. Chance chooses them, but
//! always the same chance. What cannot be read is passed over; the loader is who complains.

use crate::data::{Example, Source, Split, Transform};
use crate::error::{Error, Result};
use crate::image::{DecodeOptions, Picture};
use crate::rng::Rng;

/// Key of the choice: not the run's seed, so that runs can be compared.
const CHOICE: u64 = 0x9e1d;

/// The pictures to choose from.
pub(super) fn source(pictures: &Source) -> Result<Source> {
    pictures.split(Split::Validation).or_else(|_| pictures.split(Split::Train))
}

/// The examples of a set in an order of their own, each with its picture at the stage's size.
pub(super) fn examples<'a>(
    source: &'a Source,
    transform: &'a Transform,
) -> impl Iterator<Item = (&'a Example, Picture)> + 'a {
    let order = Rng::new(CHOICE).permutation(source.examples().len());
    order.into_iter().filter_map(|number| {
        let example = &source.examples()[number];
        open(source, example, transform).ok().map(|picture| (example, picture))
    })
}

/// The picture of an example at the stage's size.
pub(super) fn open(source: &Source, example: &Example, transform: &Transform) -> Result<Picture> {
    let options = DecodeOptions { channels: transform.channels, ..DecodeOptions::default() };
    transform.prepare(&source.picture(example, &options)?)
}

/// Nothing could be read.
pub(super) fn unreadable(source: &Source) -> Error {
    Error::data(format!("no picture of {} can be read; `imagen data check` says why", source.folder().display()))
}
