//! Digests by which ranks find out, before the first step, that they would not compute the same (recipe, text encoder,
//! pictures, and the state that they begin with), and a resumed run that its pictures are others.
//!
//! Names and captions of all pictures count, and the bytes of a few: what differs in a picture's bytes alone may go unseen. Of a
//! composed world it is the digest in its bank and the text of its grammar.

use xxhash_rust::xxh64::Xxh64;

use super::flat::flat;
use super::recipe::Recipe;
use super::state::TrainState;
use crate::data::Source;

/// How many pictures are read.
const READ: usize = 16;
/// The most bytes of a picture that is read.
const MOST: u64 = 64 << 20;

/// What all ranks of a run must have alike, as (what, digest).
pub(super) fn of_run(recipe: &Recipe, encoder: &str, pictures: &Source, state: &TrainState) -> Vec<(String, String)> {
    let named = |what: &str, digest: String| (what.to_owned(), digest);
    vec![
        named("recipe", of_recipe(recipe)),
        named("text encoder", encoder.to_owned()),
        named("set of pictures", of_pictures(pictures)),
        named("state", of_state(state)),
    ]
}

/// Everything in a recipe but where things lie.
fn of_recipe(recipe: &Recipe) -> String {
    let mut recipe = recipe.clone();
    recipe.data.folder.clear();
    (recipe.data.captions, recipe.data.cache_mib) = (None, 0);
    let mut digest = Xxh64::new(0);
    digest.update(recipe.to_toml().as_bytes());
    shown(&digest)
}

/// Names and captions of a set, and the bytes of some pictures; where it lies does not count.
pub(super) fn of_pictures(pictures: &Source) -> String {
    if let Some(world) = pictures.world() {
        return world.digest();
    }
    let mut digest = Xxh64::new(0);
    let mut take = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    for caption in pictures.captions() {
        take(caption.as_bytes());
    }
    for example in pictures.examples() {
        take(example.name.as_bytes());
        for caption in &example.captions {
            take(&caption.to_le_bytes());
        }
    }
    let every = pictures.examples().len().div_ceil(READ).max(1);
    for example in pictures.examples().iter().step_by(every) {
        // who reads it for the training says what is wrong with it
        take(&pictures.bytes(example, MOST).unwrap_or_default());
    }
    shown(&digest)
}

/// Weights, averages and moments, the step, and where the data go on.
pub(super) fn of_state(state: &TrainState) -> String {
    let mut digest = Xxh64::new(0);
    for number in [state.step, state.log.dealt, state.log.skipped, state.log.skipped_in_a_row] {
        digest.update(&number.to_le_bytes());
    }
    for (name, _, tensor) in state.tensors() {
        digest.update(name.as_bytes());
        digest.update(bytemuck::cast_slice(&flat(&tensor)));
    }
    shown(&digest)
}

fn shown(digest: &Xxh64) -> String {
    format!("{:016x}", digest.digest())
}
