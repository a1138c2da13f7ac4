//! Questions to a model: a caption, the picture that it asks for, and pictures that differ from it in one factor.
//!
//! A question about seen combinations holds no held-out cell, nor do the pictures that it has to be told from; one about
//! held-out combinations holds that of its factor and no other, so that an accuracy says what carries over to combinations of
//! this kind. Both ask about cells that may be held out: never about the default style or white. Candidates are drawn as often as is
//! wanted, each time from other drawings of the same nouns in other places.

use super::arrangement::{Arrangement, Backdrop, Relation, Thing};
use super::cells::Cell;
use super::grammar::{Backgrounds, Tint};
use super::plan::Plan;
use super::vocabulary::Vocabulary;
use super::{World, caption, draw, stream};
use crate::data::dice::Dice;
use crate::data::question::{Candidate, Question};
use crate::error::Result;
use crate::image::Picture;
use crate::names::named;
use crate::rng::Rng;

/// Candidates of a question at most, the truth included.
const CANDIDATES: usize = 10;
/// How many plans are drawn before it is said that none asks about a factor.
const TRIES: u64 = 200_000;
/// Set questions and their candidates apart from pictures.
const QUESTIONS: u64 = 0x7175_6573;
const CANDIDATES_DRAWN: u64 = 0x6361_6e64;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// The colour of a plain background.
    Background,
    /// What one thing on a plain background is.
    Subject,
    /// What one thing is whose noun is held out as a whole.
    Noun,
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

named!(
    Factor,
    "factor",
    Background = "background",
    Subject = "subject",
    Noun = "noun",
    Style = "style",
    Colour = "colour",
    Scene = "scene",
    LeftRight = "left-right",
    AboveBelow = "above-below",
    CountFew = "count-2-3",
    CountMany = "count-4-5"
);

/// What a candidate shows.
#[derive(Clone, Debug)]
pub struct Composed(Plan);

impl Factor {
    /// The cells that it is about, in a plan that is about it at all.
    fn cells(self, words: &Vocabulary, plan: &Plan) -> Option<Vec<Cell>> {
        let one = |thing: &Thing| {
            let as_usual = matches!(plan.arrangement, Arrangement::One { place: None, size: None, .. });
            as_usual && words.core[thing.noun]
        };
        let plain = matches!(plan.backdrop, Backdrop::Colour(_) | Backdrop::Own);
        // styles that bring their own background along are not told from others by that of the caption
        let unsaid = plan.backdrop == Backdrop::Own || plan.backdrop == Backdrop::Colour(words.white);
        match (self, plan.arrangement, plan.backdrop) {
            (Self::Background, Arrangement::One { thing, .. }, Backdrop::Colour(colour)) if one(&thing) => {
                Some(vec![Cell::Background(colour, thing.noun)])
            }
            (Self::Subject, Arrangement::One { thing, .. }, _) if plain && one(&thing) => {
                Some(vec![Cell::Style(plan.style, thing.noun)])
            }
            (Self::Style, Arrangement::One { thing, .. }, _) if unsaid && one(&thing) => {
                Some(vec![Cell::Style(plan.style, thing.noun)])
            }
            (Self::Noun, Arrangement::One { thing, .. }, _) if plain && one(&thing) => {
                Some(vec![Cell::Noun(thing.noun)])
            }
            (Self::Colour, Arrangement::One { thing, .. }, _) if plain && one(&thing) => {
                let filled = words.grammar.styles[plan.style].tint == Tint::Fill;
                let tint = thing.tint.filter(|&tint| !filled || tint != words.black)?;
                Some(vec![Cell::Colour(tint, thing.noun)])
            }
            (Self::Scene, Arrangement::One { thing, .. }, Backdrop::Scene(scene)) if one(&thing) => {
                Some(vec![Cell::Scene(scene, thing.noun)])
            }
            (Self::LeftRight | Self::AboveBelow, Arrangement::Pair { first, relation, second }, _) if plain => {
                let asked = if self == Self::LeftRight { Relation::Left } else { Relation::Above };
                let (a, b) = (first.noun, second.noun);
                let orders = [Cell::Order(a, relation, b), Cell::Order(b, relation, a)];
                (relation == asked).then(|| [&[Cell::Pair(a.min(b), a.max(b))][..], &orders].concat())
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
        if !own.iter().all(|&cell| words.may_hold_out(cell)) || others.into_iter().any(|cell| words.holds_out(cell)) {
            return false;
        }
        let held = |cell: &Cell| words.holds_out(*cell);
        match own[..] {
            // of two orders neither was seen, so that knowing the other one by heart is no answer
            [pair, one, other] if held_out => held(&pair) || held(&one) && held(&other),
            _ => own.iter().any(held) == held_out,
        }
    }

    /// Plans that differ from this one in the factor.
    fn others(self, words: &Vocabulary, plan: &Plan, dice: &mut Dice) -> Vec<Plan> {
        let thing = *plan.arrangement.things().next().expect("a plan has a thing");
        let with_thing = |thing: Thing| Plan { arrangement: replaced(plan.arrangement, thing), ..*plan };
        let backdrop = |backdrop: Backdrop| Plan { backdrop, ..*plan };
        match self {
            Self::Background => {
                let colours = words.backgrounds.iter().chain([&words.white]);
                colours.map(|&colour| backdrop(Backdrop::Colour(colour))).collect()
            }
            Self::Scene => (0..words.scenes.len()).map(|scene| backdrop(Backdrop::Scene(scene))).collect(),
            Self::Subject | Self::Noun => {
                let said = words.said_colour(plan.style, &thing);
                let other = |(noun, cutouts): &(usize, Vec<usize>)| {
                    let things = cutouts.iter().map(|&cutout| Thing { noun: *noun, cutout, tint: thing.tint });
                    let mut like = things.filter(|other| words.said_colour(plan.style, other) == said);
                    like.next().filter(|_| thing.tint.is_none() || !words.keeps_colours(*noun)).map(with_thing)
                };
                words.styles[plan.style].core.iter().filter_map(other).collect()
            }
            Self::Colour => {
                let tints = &words.styles[plan.style].tints;
                tints.iter().map(|&tint| with_thing(Thing { tint: Some(tint), ..thing })).collect()
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

impl Vocabulary {
    /// One thing in every style that it can be drawn in with the colour that is said of it.
    fn in_every_style(&self, plan: &Plan, thing: Thing, dice: &mut Dice) -> Vec<Plan> {
        let said = self.said_colour(plan.style, &thing);
        let mut plans = Vec::new();
        for (style, form) in self.styles.iter().enumerate() {
            let Some((_, cutouts)) = form.core.iter().find(|(noun, _)| *noun == thing.noun) else { continue };
            let words = &self.grammar.styles[style];
            if thing.tint.is_some_and(|tint| words.tint == Tint::None || !form.tints.contains(&tint)) {
                continue;
            }
            let backdrop = match words.backgrounds {
                Backgrounds::None => Backdrop::Own,
                _ => Backdrop::Colour(self.white),
            };
            let thing = Thing { cutout: *dice.one(cutouts), ..thing };
            if self.said_colour(style, &thing) == said {
                plans.push(Plan { style, backdrop, arrangement: replaced(plan.arrangement, thing) });
            }
        }
        plans
    }

    /// A plan with other drawings of the same things, of the same colours where those are said.
    fn redrawn(&self, plan: &Plan, dice: &mut Dice) -> Plan {
        let form = &self.styles[plan.style];
        let mut another = |thing: Thing| {
            let drawn = form.core.iter().chain(&form.wide).find(|(noun, _)| *noun == thing.noun);
            let other = Thing { cutout: drawn.map_or(thing.cutout, |(_, cutouts)| *dice.one(cutouts)), ..thing };
            let same = self.said_colour(plan.style, &other) == self.said_colour(plan.style, &thing);
            if same { other } else { thing }
        };
        let arrangement = match plan.arrangement {
            Arrangement::Pair { first, relation, second } => {
                Arrangement::Pair { first: another(first), relation, second: another(second) }
            }
            Arrangement::One { thing, .. } | Arrangement::Count { thing, .. } => {
                replaced(plan.arrangement, another(thing))
            }
        };
        let redrawn = Plan { arrangement, ..*plan };
        if redrawn.is_visible(self) { redrawn } else { *plan }
    }
}

impl World {
    /// Question `number` about a factor, about held-out combinations or about seen ones; none where the world has none.
    pub fn question(&self, factor: Factor, held_out: bool, number: u64) -> Option<Question<Composed>> {
        let words = &self.words;
        let key =
            Rng::new(words.grammar.seed).fold(QUESTIONS).fold(factor as u64).fold(u64::from(held_out)).fold(number);
        let mut plans = (0..TRIES).filter_map(|attempt| Plan::any(words, &mut Dice::new(key.fold(attempt))));
        let plan = plans.find(|plan| factor.is_asked(words, plan, held_out))?;
        let mut dice = Dice::new(key.fold(TRIES));
        let mut others = factor.others(words, &plan, &mut dice);
        let said = |plan: &Plan| caption::canonical(words, plan);
        let truth = said(&plan);
        let is_held_out = |other: &Plan| other.is_held_out(words);
        others.retain(|other| said(other) != truth && other.is_visible(words) && (held_out || !is_held_out(other)));
        let order = dice.key().permutation(others.len());
        let chosen = order.into_iter().take(CANDIDATES - 1).map(|at| others[at]);
        let candidate = |plan: Plan| Candidate { caption: said(&plan), plan: Composed(plan) };
        let candidates: Vec<_> = std::iter::once(plan).chain(chosen).map(candidate).collect();
        (candidates.len() > 1).then_some(Question { caption: truth, candidates })
    }

    /// Picture `number` of a candidate, `side`×`side`: each from other drawings in other places.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] and [`crate::ErrorKind::Io`] if a drawing cannot be read.
    pub fn candidate(&self, candidate: &Candidate<Composed>, number: u64, side: usize) -> Result<Picture> {
        let key = Rng::new(self.words.grammar.seed).fold(CANDIDATES_DRAWN).fold(number);
        let plan = self.words.redrawn(&candidate.plan.0, &mut Dice::new(key.fold(stream::PLAN)));
        draw::draw(&self.words, &plan, side, key.fold(stream::DRAWING))
    }
}
