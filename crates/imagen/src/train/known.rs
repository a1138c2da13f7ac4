//! Which captions a model was taught, for the file that tells how far a prompt is from them (`text::known`).

use std::collections::BTreeSet;

use crate::data::{Source, Split};
use crate::error::Result;
use crate::text::{KnownCaptions, TextEncoder};

/// The most captions that are remembered of a set.
const MOST: usize = 1000;
/// Composed captions of a world that are remembered beside its nouns.
const COMPOSED: u64 = 400;
/// Captions kept aside, which say what is far.
const ASIDE: usize = 200;

/// What a model is taught by a set; nothing where the set has no captions.
///
/// # Errors
/// The set's and the encoder's.
pub fn known_captions(source: &Source, encoder: &dyn TextEncoder) -> Result<Option<KnownCaptions>> {
    let (mut captions, aside) = match source.world() {
        Some(world) => {
            let said = |split, number| Ok::<_, crate::Error>(world.captions(split, number)?.swap_remove(0));
            let split = if world.holds_out() { Split::Validation } else { Split::Train };
            let aside = (COMPOSED..COMPOSED + ASIDE as u64).map(|k| said(split, k)).collect::<Result<Vec<_>>>()?;
            let composed = (0..COMPOSED).map(|k| said(Split::Train, k)).collect::<Result<Vec<_>>>()?;
            (world.things().into_iter().chain(composed).collect(), aside)
        }
        None => of_set(source),
    };
    let mut seen = BTreeSet::new();
    captions.retain(|caption| seen.insert(caption.clone()));
    if captions.is_empty() {
        return Ok(None);
    }
    KnownCaptions::new(encoder, captions, &aside).map(Some)
}

/// The canonical caption of each thing that is learned, spread over the set; and those of the others.
fn of_set(source: &Source) -> (Vec<String>, Vec<String>) {
    let of = |split: Split| -> Vec<String> {
        let mut concepts = BTreeSet::new();
        let examples = source.examples().iter().filter(|example| example.split == split);
        let new = examples.filter(|example| example.concept.as_ref().is_none_or(|concept| concepts.insert(concept)));
        new.filter_map(|example| example.captions.first()).map(|caption| source.captions()[*caption].clone()).collect()
    };
    (spread(of(Split::Train), MOST), spread(of(Split::Validation), ASIDE))
}

/// At most so many of them, at equal distances.
fn spread(all: Vec<String>, most: usize) -> Vec<String> {
    let every = all.len().div_ceil(most).max(1);
    all.into_iter().step_by(every).collect()
}
