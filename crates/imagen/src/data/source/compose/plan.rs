//! What a composed picture shows, before anything is drawn or said.
//!
//! A plan is drawn from the grammar with a key; the caption is said of it, the picture is made of it, and its cells (a
//! style with a noun, a colour with a noun, two nouns in a relation …) say whether it may be trained on.

use super::arrangement::{Arrangement, Backdrop, Relation, Size, Thing};
use super::cells::Cell;
use super::grammar::{Backgrounds, Tint};
use super::vocabulary::Vocabulary;
use crate::data::dice::Dice;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// How many plans are drawn before it is said that none will do.
const TRIES: u64 = 20_000;
/// The least distance of a thing's colour from its background's, of the diagonal of the cube of colours.
const CONTRAST: f32 = 0.17;

/// Everything that a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Place in the grammar.
    pub style: usize,
    pub backdrop: Backdrop,
    pub arrangement: Arrangement,
}

impl Plan {
    /// A plan that holds a held-out cell, or none that does.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if there seems to be none.
    pub(super) fn draw(words: &Vocabulary, held_out: bool, key: Rng) -> Result<Self> {
        for attempt in 0..TRIES {
            let plan = Self::any(words, &mut Dice::new(key.fold(attempt)));
            if let Some(plan) = plan.filter(|plan| plan.is_held_out(words) == held_out) {
                return Ok(plan);
            }
        }
        let what = if held_out { "with a held-out cell" } else { "without a held-out cell" };
        Err(Error::data(format!(
            "no picture {what} can be composed; give the grammar more styles, colours or nouns, or change held_out"
        )))
    }

    /// Whether any of its cells is held out.
    pub(super) fn is_held_out(&self, words: &Vocabulary) -> bool {
        self.cells(words).into_iter().any(|cell| words.holds_out(cell))
    }

    /// A plan, unless what was drawn does not fit together.
    pub(super) fn any(words: &Vocabulary, dice: &mut Dice) -> Option<Self> {
        let (grammar, mix) = (&words.grammar, &words.grammar.mix);
        let kind = dice.weighted([mix.one, mix.pair, mix.count].into_iter());
        let style = dice.weighted(words.styles.iter().map(|style| style.weight));
        let (form, style_words) = (&words.styles[style], &grammar.styles[style]);
        let wide = kind == 0 && dice.happens(mix.wide);
        let nouns = if wide && !form.wide.is_empty() || form.core.is_empty() { &form.wide } else { &form.core };
        if nouns.is_empty() {
            return None;
        }
        let scenes = words.scenes.len();
        let in_scene = style_words.backgrounds == Backgrounds::Any && scenes > 0 && kind < 2 && dice.happens(mix.scene);
        let backdrop = match style_words.backgrounds {
            Backgrounds::None => Backdrop::Own,
            _ if in_scene => Backdrop::Scene(dice.below(scenes)),
            _ if grammar.backgrounds.is_empty() || dice.happens(mix.white) => Backdrop::Colour(words.white),
            _ => Backdrop::Colour(*dice.one(&words.backgrounds)),
        };
        // Filled drawings of one picture share their colour.
        let shared =
            (style_words.tint == Tint::Fill && dice.happens(0.5 + mix.coloured / 2.0)).then(|| *dice.one(&form.tints));
        let thing = |dice: &mut Dice, noun: usize| {
            let (noun, cutouts) = &nouns[noun];
            let tint = match style_words.tint {
                Tint::None => None,
                Tint::Fill => shared,
                Tint::Shade if words.keeps_colours(*noun) => None,
                Tint::Shade => dice.happens(mix.coloured).then(|| *dice.one(&form.tints)),
            };
            Thing { noun: *noun, cutout: *dice.one(cutouts), tint }
        };
        let first = dice.below(nouns.len());
        let arrangement = match kind {
            0 => {
                let thing = thing(dice, first);
                let plain = !in_scene;
                let place = (plain && dice.happens(mix.placed)).then(|| *dice.one(&words.places)).flatten();
                let sized = plain && place.is_none() && dice.happens(mix.sized);
                let size = sized.then(|| *dice.one(&[Size::Small, Size::Large]));
                Arrangement::One { thing, place, size }
            }
            1 if nouns.len() < 2 => return None,
            1 => {
                let second = (first + 1 + dice.below(nouns.len() - 1)) % nouns.len();
                // in a scene nothing hangs above another thing
                let weights = if in_scene { [0.7, 0.0, 0.12, 0.18] } else { [0.46, 0.34, 0.1, 0.1] };
                let relations = [Relation::Left, Relation::Above, Relation::On, Relation::Front];
                let relation = relations[dice.weighted(weights.into_iter())];
                Arrangement::Pair { first: thing(dice, first), relation, second: thing(dice, second) }
            }
            _ if words.bank.nouns()[nouns[first].0].plural.is_empty() => return None,
            _ => Arrangement::Count { thing: thing(dice, first), count: 2 + dice.below(4) },
        };
        let plan = Self { style, backdrop, arrangement };
        plan.is_visible(words).then_some(plan)
    }

    /// Whether every thing stands out from a plain background.
    pub(super) fn is_visible(&self, words: &Vocabulary) -> bool {
        let tint = words.grammar.styles[self.style].tint;
        let behind = match self.backdrop {
            Backdrop::Own => return true,
            // a silhouette has nothing but its colour to be seen by
            Backdrop::Scene(_) if tint != Tint::Fill => return true,
            Backdrop::Scene(scene) => words.scene_means[scene],
            Backdrop::Colour(colour) => words.grammar.colours[colour].rgb,
        };
        let far = |thing: &Thing| {
            let colour = match (thing.tint, tint) {
                (Some(colour), _) => words.grammar.colours[colour].rgb,
                (None, Tint::Fill) => words.grammar.colours[words.black].rgb,
                // what was drawn to be seen on white has its outlines and shades
                (None, _) if self.backdrop == Backdrop::Colour(words.white) => return true,
                (None, _) => words.bank.nouns()[thing.noun].cutouts[thing.cutout].mean,
            };
            distance(colour, behind) >= CONTRAST
        };
        self.arrangement.things().all(far)
    }

    /// The cells that it occupies.
    pub(super) fn cells(&self, words: &Vocabulary) -> Vec<Cell> {
        let mut cells = Vec::new();
        for thing in self.arrangement.things() {
            let noun = thing.noun;
            cells.push(Cell::Noun(noun));
            cells.push(Cell::Style(self.style, noun));
            // black is what filled drawings are where nothing is said
            let filled = words.grammar.styles[self.style].tint == Tint::Fill;
            let colour = words.said_colour(self.style, thing);
            cells.extend(colour.filter(|&colour| !filled || colour != words.black).map(|c| Cell::Colour(c, noun)));
            match self.backdrop {
                Backdrop::Own => {}
                Backdrop::Colour(colour) => cells.push(Cell::Background(colour, noun)),
                Backdrop::Scene(scene) => cells.push(Cell::Scene(scene, noun)),
            }
        }
        match self.arrangement {
            Arrangement::One { .. } => {}
            Arrangement::Pair { first, relation, second } => {
                cells.push(Cell::Pair(first.noun.min(second.noun), first.noun.max(second.noun)));
                cells.push(Cell::Order(first.noun, relation, second.noun));
            }
            Arrangement::Count { thing, count } => cells.push(Cell::Count(count, thing.noun)),
        }
        cells
    }
}

/// How far two colours are apart, of the diagonal of their cube.
fn distance(a: [u8; 3], b: [u8; 3]) -> f32 {
    let square = |i: usize| (f32::from(a[i]) - f32::from(b[i])).powi(2);
    ((square(0) + square(1) + square(2)) / 3.0).sqrt() / 255.0
}
