//! Questions to a model: a caption, the picture that it asks for, and pictures that differ from it in one factor.
//!
//! A question about seen combinations holds no held-out cell; one about held-out combinations holds that of its factor and
//! no other, so that an accuracy says what carries over to combinations of this kind. Candidates are drawn as often as is
//! wanted, each time from other drawings of the same nouns in other places.

use std::fmt;
use std::str::FromStr;

use super::cells::Cell;
use super::dice::Dice;
use super::grammar::{Backgrounds, Tint};
use super::plan::{Arrangement, Backdrop, Plan, Relation, Thing};
use super::{Vocabulary, World, caption, draw, stream};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::rng::Rng;

/// Candidates of a question at most, the truth included.
const CANDIDATES: usize = 10;
/// How many plans are drawn before it is said that none asks about a factor.
const TRIES: u64 = 200_000;
/// Sets questions apart from pictures.
const QUESTIONS: u64 = 0x7175_6573;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// The colour of a plain background.
    Background,
    /// What one thing on a plain background is.
    Subject,
    /// The style of one thing.
    Style,
    /// The colour that was put on one thing.
    Colour,
    /// The scene behind one thing.
    Scene,
    /// Which of two things is on the left.
    LeftRight,
    /// Which of two things is above.
    AboveBelow,
    /// Two or three of a kind, among one to five.
    CountFew,
    /// Four or five of a kind, among one to five.
    CountMany,
}

/// A caption and what it may mean.
#[derive(Clone, Debug)]
pub struct Question {
    /// The canonical caption of the truth.
    pub caption: String,
    /// The truth, then what differs in one factor.
    pub candidates: Vec<Candidate>,
}

/// A picture that may be what a caption asks for.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The canonical caption.
    pub caption: String,
    plan: Plan,
}

impl Factor {
    /// Every factor.
    pub const ALL: [Self; 9] = [
        Self::Background,
        Self::Subject,
        Self::Style,
        Self::Colour,
        Self::Scene,
        Self::LeftRight,
        Self::AboveBelow,
        Self::CountFew,
        Self::CountMany,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Subject => "subject",
            Self::Style => "style",
            Self::Colour => "colour",
            Self::Scene => "scene",
            Self::LeftRight => "left-right",
            Self::AboveBelow => "above-below",
            Self::CountFew => "count-2-3",
            Self::CountMany => "count-4-5",
        }
    }

    /// The cells that a question about it holds out, where a plan is about it at all.
    fn cells(self, words: &Vocabulary, plan: &Plan) -> Option<Vec<Cell>> {
        let one = |thing: &Thing| {
            matches!(plan.arrangement, Arrangement::One { place: None, size: None, .. }) && words.core[thing.noun]
        };
        let plain = matches!(plan.backdrop, Backdrop::Colour(_) | Backdrop::Own);
        match (self, plan.arrangement, plan.backdrop) {
            (Self::Background, Arrangement::One { thing, .. }, Backdrop::Colour(colour)) if one(&thing) => {
                Some(vec![Cell::Background(colour, thing.noun)])
            }
            (Self::Subject | Self::Style, Arrangement::One { thing, .. }, _) if plain && one(&thing) => {
                Some(vec![Cell::Style(plan.style, thing.noun)])
            }
            (Self::Colour, Arrangement::One { thing, .. }, _) if plain && one(&thing) => {
                Some(vec![Cell::Colour(thing.tint?, thing.noun)])
            }
            (Self::Scene, Arrangement::One { thing, .. }, Backdrop::Scene(scene)) if one(&thing) => {
                Some(vec![Cell::Scene(scene, thing.noun)])
            }
            (Self::LeftRight | Self::AboveBelow, Arrangement::Pair { first, relation, second }, _) if plain => {
                let asked = if self == Self::LeftRight { Relation::Left } else { Relation::Above };
                let (a, b) = (first.noun.min(second.noun), first.noun.max(second.noun));
                (relation == asked).then(|| vec![Cell::Pair(a, b), Cell::Order(first.noun, relation, second.noun)])
            }
            (Self::CountFew | Self::CountMany, Arrangement::Count { thing, count }, _) => {
                ((count < 4) == (self == Self::CountFew)).then(|| vec![Cell::Count(count, thing.noun)])
            }
            _ => None,
        }
    }

    /// Whether a plan asks about it, of combinations that are all seen or of its own that is held out.
    fn is_asked(self, words: &Vocabulary, plan: &Plan, held_out: bool) -> bool {
        let Some(own) = self.cells(words, plan) else { return false };
        let others = plan.cells(words).into_iter().filter(|cell| !own.contains(cell));
        own.iter().any(|&cell| words.holds_out(cell)) == held_out
            && !others.into_iter().any(|cell| words.holds_out(cell))
    }

    /// Plans that differ from this one in the factor.
    fn others(self, words: &Vocabulary, plan: &Plan, dice: &mut Dice) -> Vec<Plan> {
        let thing = *plan.arrangement.things().next().expect("a plan has a thing");
        let with_thing = |thing: Thing| Plan { arrangement: replaced(plan.arrangement, thing), ..*plan };
        let backdrop = |backdrop: Backdrop| Plan { backdrop, ..*plan };
        match self {
            Self::Background => {
                let colours = words.backgrounds.iter().chain([&words.white]);
                let all = colours.map(|&colour| backdrop(Backdrop::Colour(colour)));
                all.filter(|other| other.is_visible(words)).collect()
            }
            Self::Scene => (0..words.scenes.len()).map(|scene| backdrop(Backdrop::Scene(scene))).collect(),
            Self::Subject => {
                let other = |(noun, cutouts): &(usize, Vec<usize>)| {
                    with_thing(Thing { noun: *noun, cutout: cutouts[0], tint: thing.tint })
                };
                words.styles[plan.style].core.iter().map(other).collect()
            }
            Self::Colour => {
                let tinted =
                    words.styles[plan.style].tints.iter().map(|&tint| with_thing(Thing { tint: Some(tint), ..thing }));
                tinted.filter(|other| other.is_visible(words)).collect()
            }
            Self::Style => words.in_every_style(plan, thing, dice),
            Self::LeftRight | Self::AboveBelow => match plan.arrangement {
                Arrangement::Pair { first, relation, second } => {
                    vec![Plan { arrangement: Arrangement::Pair { first: second, relation, second: first }, ..*plan }]
                }
                _ => Vec::new(),
            },
            Self::CountFew | Self::CountMany => {
                let one = Arrangement::One { thing, place: None, size: None };
                let counts = (2..=5).map(|count| Arrangement::Count { thing, count });
                std::iter::once(one).chain(counts).map(|arrangement| Plan { arrangement, ..*plan }).collect()
            }
        }
    }
}

/// An arrangement of one thing with another thing in its place.
fn replaced(arrangement: Arrangement, thing: Thing) -> Arrangement {
    match arrangement {
        Arrangement::One { place, size, .. } => Arrangement::One { thing, place, size },
        Arrangement::Count { count, .. } => Arrangement::Count { thing, count },
        pair @ Arrangement::Pair { .. } => pair,
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Factor {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|factor| factor.name() == name);
        let known = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| Error::usage(format!("factor {name:?} is unknown; there are {}", known())))
    }
}

impl Vocabulary {
    /// One thing in every style that it can be drawn in, before the same background where the style has any.
    fn in_every_style(&self, plan: &Plan, thing: Thing, dice: &mut Dice) -> Vec<Plan> {
        let mut plans = Vec::new();
        for (style, form) in self.styles.iter().enumerate() {
            let Some((_, cutouts)) = form.core.iter().find(|(noun, _)| *noun == thing.noun) else { continue };
            let words = &self.grammar.styles[style];
            let tint = thing.tint.filter(|tint| words.tint != Tint::None && form.tints.contains(tint));
            let backdrop = match (words.backgrounds, plan.backdrop) {
                (Backgrounds::None, _) => Backdrop::Own,
                (_, Backdrop::Own) => Backdrop::Colour(self.white),
                (_, backdrop) => backdrop,
            };
            let thing = Thing { cutout: *dice.one(cutouts), tint, ..thing };
            plans.push(Plan { style, backdrop, arrangement: replaced(plan.arrangement, thing) });
        }
        plans
    }

    /// Another drawing of the same thing in the style, of the same colour where that is said.
    fn redrawn(&self, style: usize, thing: Thing, dice: &mut Dice) -> Thing {
        let form = &self.styles[style];
        let Some((_, cutouts)) = form.core.iter().chain(&form.wide).find(|(noun, _)| *noun == thing.noun) else {
            return thing;
        };
        let other = Thing { cutout: *dice.one(cutouts), ..thing };
        if self.said_colour(&other) == self.said_colour(&thing) { other } else { thing }
    }
}

impl World {
    /// Question `number` about a factor, about held-out combinations or about seen ones; none where the world has none.
    pub fn question(&self, factor: Factor, held_out: bool, number: u64) -> Option<Question> {
        let words = &self.words;
        let key =
            Rng::new(words.grammar.seed).fold(QUESTIONS).fold(factor as u64).fold(u64::from(held_out)).fold(number);
        let mut plans = (0..TRIES).filter_map(|attempt| Plan::any(words, &mut Dice::new(key.fold(attempt))));
        let plan = plans.find(|plan| factor.is_asked(words, plan, held_out))?;
        let mut dice = Dice::new(key.fold(TRIES));
        let mut others = factor.others(words, &plan, &mut dice);
        let said = |plan: &Plan| caption::canonical(words, plan);
        let truth = said(&plan);
        others.retain(|other| said(other) != truth);
        let order = dice.key().permutation(others.len());
        let chosen = order.into_iter().take(CANDIDATES - 1).map(|at| others[at]);
        let candidate = |plan: Plan| Candidate { caption: said(&plan), plan };
        let candidates: Vec<Candidate> = std::iter::once(plan).chain(chosen).map(candidate).collect();
        (candidates.len() > 1).then_some(Question { caption: truth, candidates })
    }

    /// Picture `number` of a candidate, `side`×`side`: each from other drawings in other places.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] and [`crate::ErrorKind::Io`] if a drawing cannot be read.
    pub fn candidate(&self, candidate: &Candidate, number: u64, side: usize) -> Result<Picture> {
        let key = Rng::new(self.words.grammar.seed).fold(QUESTIONS).fold(number);
        let mut dice = Dice::new(key);
        let plan = &candidate.plan;
        let arrangement = match plan.arrangement {
            Arrangement::Pair { first, relation, second } => Arrangement::Pair {
                first: self.words.redrawn(plan.style, first, &mut dice),
                relation,
                second: self.words.redrawn(plan.style, second, &mut dice),
            },
            Arrangement::One { thing, .. } | Arrangement::Count { thing, .. } => {
                replaced(plan.arrangement, self.words.redrawn(plan.style, thing, &mut dice))
            }
        };
        draw::draw(&self.words, &Plan { arrangement, ..*plan }, side, key.fold(stream::DRAWING))
    }
}
