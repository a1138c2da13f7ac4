//! What is said of a picture: the canonical caption and up to five others.
//!
//! ```text
//! caption := [style "picture of"] things [place] [background] | things [place] background "," style
//! things  := det [size] [colour] noun | number plural | things relation things
//! ```
//!
//! A caption names only what is in the picture. What it may leave out is the default style (the first of several that a
//! thing can be drawn in), a white background, and sometimes which of two things side by side is on the left.
//! A style and a background that are left out always mean
//! the default, so that short prompts get a look of their own.

use super::arrangement::{Arrangement, Backdrop, Relation, Size, Thing};
use super::bank::Noun;
use super::grammar::{COLOUR, Relations, Style, Tint};
use super::plan::Plan;
use super::vocabulary::Vocabulary;
use crate::data::dice::Dice;

/// Captions of a picture at most.
const CAPTIONS: usize = 6;
/// How often it is tried to say something that was not said yet.
const TRIES: usize = 14;

/// How things are said this time.
struct Wording<'a> {
    words: &'a Vocabulary,
    plan: &'a Plan,
    /// None chooses what is canonical.
    dice: Option<&'a mut Dice>,
}

/// The captions of a plan, the canonical one first, none twice.
pub(super) fn captions(words: &Vocabulary, plan: &Plan, dice: &mut Dice) -> Vec<String> {
    let mut captions = vec![canonical(words, plan)];
    for _ in 0..TRIES {
        let caption = Wording { words, plan, dice: Some(dice) }.caption();
        if !captions.contains(&caption) {
            captions.push(caption);
            if captions.len() == CAPTIONS {
                break;
            }
        }
    }
    captions
}

/// The canonical caption of a plan.
pub(super) fn canonical(words: &Vocabulary, plan: &Plan) -> String {
    Wording { words, plan, dice: None }.caption()
}

impl<'a> Wording<'a> {
    /// One of these wordings, the first where it is canonical.
    fn one(&mut self, wordings: &'a [String]) -> &'a str {
        let place = self.dice.as_mut().map_or(0, |dice| dice.below(wordings.len()));
        &wordings[place]
    }

    /// Whether a choice of this probability is made; not where it is canonical.
    fn happens(&mut self, probability: f64) -> bool {
        self.dice.as_mut().is_some_and(|dice| dice.happens(probability))
    }

    fn caption(mut self) -> String {
        let style = &self.words.grammar.styles[self.plan.style];
        let mut nouns = self.plan.arrangement.things().map(|thing| thing.noun);
        let unsaid = nouns.all(|noun| self.words.unsaid[noun] == Some(self.plan.style)) && !self.happens(0.35);
        // one colour of filled drawings is said of the style or of the things
        let shared = self.plan.arrangement.things().next().and_then(|thing| thing.tint);
        let shared = shared.filter(|_| style.tint == Tint::Fill);
        let keeps = self.plan.arrangement.things().any(|thing| self.words.keeps_colours(thing.noun));
        let wants_prefix = !self.happens(0.4);
        // a colour that may not be said of the things needs a place in the style's wording
        let has_place = shared.is_none() || !keeps || self.holds_colour(style);
        let prefixed = !unsaid && wants_prefix && has_place;
        let of_style = shared
            .filter(|_| !unsaid && (keeps || if prefixed { self.holds_colour(style) } else { self.happens(0.5) }));
        let things = self.things(of_style.is_some());
        let background = self.background();
        let place = self.place();
        let said = format!("{things}{place}{background}");
        if unsaid {
            return said;
        }
        let colour = of_style.map(|colour| self.colour(colour));
        if prefixed {
            let prefixes: Vec<String> = style.prefixes.iter().map(|prefix| filled(prefix, colour)).collect();
            let place = self.dice.as_mut().map_or(0, |dice| dice.below(prefixes.len()));
            return format!("{} {said}", prefixes[place]);
        }
        let suffix = self.one(&style.suffixes);
        match colour {
            Some(colour) => format!("{said}, {colour} {suffix}"),
            None => format!("{said}, {suffix}"),
        }
    }

    /// Whether the style's wordings have a place for a colour.
    fn holds_colour(&self, style: &Style) -> bool {
        style.prefixes.iter().all(|prefix| prefix.contains(COLOUR))
    }

    /// A colour's name.
    fn colour(&mut self, colour: usize) -> &'a str {
        let colour = &self.words.grammar.colours[colour];
        if colour.words.is_empty() || !self.happens(0.25) {
            return &colour.name;
        }
        self.one(&colour.words)
    }

    fn things(&mut self, colourless: bool) -> String {
        match self.plan.arrangement {
            Arrangement::One { thing, size, .. } => {
                let sizes = &self.words.grammar.sizes;
                let size = size.map(|size| match size {
                    Size::Small => self.one(&sizes.small),
                    Size::Large => self.one(&sizes.large),
                });
                self.thing(thing, size, colourless)
            }
            Arrangement::Pair { first, relation, second } => {
                let Relations { left, right, above, below, on, under, front, behind, beside } =
                    &self.words.grammar.relations;
                let (said, reversed) = match relation {
                    Relation::Left => (left, right),
                    Relation::Above => (above, below),
                    Relation::On => (on, under),
                    Relation::Front => (front, behind),
                };
                let (first, second) = (self.thing(first, None, colourless), self.thing(second, None, colourless));
                if relation == Relation::Left && self.happens(0.12) {
                    return format!("{first} {} {second}", self.one(beside));
                }
                if self.happens(0.45) {
                    return format!("{second} {} {first}", self.one(reversed));
                }
                format!("{first} {} {second}", self.one(said))
            }
            Arrangement::Count { thing, count } => {
                let number = self.one(&self.words.grammar.numbers[count - 2]);
                let colour = self.of_thing(&thing, colourless);
                let plural = self.noun(&thing).1;
                [Some(number), colour, Some(plural)].into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// A thing with its article.
    fn thing(&mut self, thing: Thing, size: Option<&str>, colourless: bool) -> String {
        let colour = self.of_thing(&thing, colourless);
        let (noun, _, article) = self.noun(&thing);
        let mut words: Vec<&str> = [size, colour, Some(noun)].into_iter().flatten().collect();
        let article = match article {
            "a" | "an" if words.len() > 1 => indefinite(words[0]),
            article => article,
        };
        if !article.is_empty() {
            words.insert(0, article);
        }
        words.join(" ")
    }

    /// The colour that is said of a thing.
    fn of_thing(&mut self, thing: &Thing, colourless: bool) -> Option<&'a str> {
        let colour = self.words.said_colour(self.plan.style, thing).filter(|_| !colourless);
        colour.map(|colour| self.colour(colour))
    }

    /// A name of a thing, its plural and its article.
    fn noun(&mut self, thing: &Thing) -> (&'a str, &'a str, &'a str) {
        let Noun { noun, plural, article, synonyms, .. } = &self.words.bank.nouns()[thing.noun];
        if synonyms.is_empty() || !self.happens(0.3) {
            return (noun, plural, article);
        }
        let synonym = self.dice.as_mut().expect("something happened").one(synonyms);
        (&synonym.noun, &synonym.plural, &synonym.article)
    }

    fn place(&mut self) -> String {
        let Arrangement::One { place: Some(place), .. } = self.plan.arrangement else { return String::new() };
        format!(" {}", self.one(&self.words.grammar.places[&place]))
    }

    fn background(&mut self) -> String {
        let grammar = &self.words.grammar;
        match self.plan.backdrop {
            Backdrop::Own => String::new(),
            Backdrop::Colour(colour) => {
                if colour == self.words.white && !self.happens(0.25) {
                    return String::new();
                }
                let colour = self.colour(colour);
                format!(" {}", filled(self.one(&grammar.background_phrases), Some(colour)))
            }
            Backdrop::Scene(scene) => format!(" {}", self.one(&grammar.scenes[&self.words.scenes[scene]])),
        }
    }
}

/// A wording with a colour in its place, and the article before it.
fn filled(wording: &str, colour: Option<&str>) -> String {
    let Some((before, after)) = wording.split_once(COLOUR) else { return wording.to_owned() };
    let rest = match colour {
        Some(colour) => format!("{colour}{after}"),
        None => after.trim_start().to_owned(),
    };
    let start = before.strip_suffix("an ").or_else(|| before.strip_suffix("a "));
    match start.filter(|start| start.is_empty() || start.ends_with(' ')) {
        Some(start) => format!("{start}{} {rest}", indefinite(&rest)),
        None => format!("{before}{rest}"),
    }
}

/// `a` or `an` before an adjective or a style's word; nouns bring their own.
fn indefinite(next: &str) -> &'static str {
    if next.starts_with(['a', 'e', 'i', 'o', 'u', '8']) { "an" } else { "a" }
}
