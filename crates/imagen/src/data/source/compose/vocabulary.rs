//! What may be said and drawn: a grammar held against a bank, and which combinations are kept from training.

use std::collections::HashMap;

use super::arrangement::{Place, Thing};
use super::bank::{self, Bank};
use super::cells::Cell;
use super::grammar::{self, Grammar, Style};
use super::layer;
use super::scene::Scene;
use crate::data::source::split::hash;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// A grammar and a bank, each place of one resolved to places of the other.
pub(super) struct Vocabulary {
    pub(super) grammar: Grammar,
    pub(super) bank: Bank,
    /// Of each noun, whether it appears in every arrangement.
    pub(super) core: Vec<bool>,
    /// Of each style, what can be drawn in it.
    pub(super) styles: Vec<Form>,
    /// Of each noun, the style that need not be said.
    pub(super) unsaid: Vec<Option<usize>>,
    /// The scenes that the grammar names.
    pub(super) scenes: Vec<Scene>,
    /// The mean colour of where things stand in each.
    pub(super) scene_means: Vec<[u8; 3]>,
    /// The colours of backgrounds.
    pub(super) backgrounds: Vec<usize>,
    /// The colour of plain backgrounds that need not be said.
    pub(super) white: usize,
    /// The colour that filled drawings have where none is said.
    pub(super) black: usize,
    /// The places that the grammar names.
    pub(super) places: Vec<Option<Place>>,
}

/// What can be drawn in a style: nouns with the places of their drawings.
pub(super) struct Form {
    pub(super) weight: f64,
    /// The colours that things may be given.
    pub(super) tints: Vec<usize>,
    pub(super) core: Vec<(usize, Vec<usize>)>,
    pub(super) wide: Vec<(usize, Vec<usize>)>,
}

impl Vocabulary {
    pub(super) fn new(grammar: Grammar, bank: Bank) -> Result<Self> {
        let places: HashMap<&str, usize> =
            bank.nouns().iter().enumerate().map(|(place, noun)| (noun.noun.as_str(), place)).collect();
        let listed = |names: &Option<Vec<String>>| -> Result<Option<Vec<bool>>> {
            let Some(names) = names else { return Ok(None) };
            let mut is = vec![false; bank.nouns().len()];
            for name in names {
                let place = places.get(name.as_str()).ok_or_else(|| {
                    Error::data(format!("noun {name:?} has no cut-out in {}; add one or remove the noun", bank::INDEX))
                })?;
                is[*place] = true;
            }
            Ok(Some(is))
        };
        let used = listed(&grammar.nouns)?.unwrap_or_else(|| vec![true; bank.nouns().len()]);
        let core = listed(&grammar.core)?.unwrap_or_else(|| bank.nouns().iter().map(|noun| noun.core).collect());
        if let Some(unknown) = grammar.held_out.keep.iter().find(|name| !places.contains_key(name.as_str())) {
            return Err(Error::data(format!("held_out.keep names {unknown:?}, which is no noun of {}", bank::INDEX)));
        }
        let form = |style: &Style| {
            let allowed = |colour: &&grammar::Colour| {
                colour.things && style.colours.as_ref().is_none_or(|names| names.contains(&colour.name))
            };
            let tints = grammar.colours.iter().filter(allowed).filter_map(|colour| grammar.colour(&colour.name));
            let (weight, tints) = (style.weight, tints.collect());
            let mut form = Form { weight, tints, core: Vec::new(), wide: Vec::new() };
            let drawn = |place: usize, noun: &bank::Noun| used[place] && !style.without.contains(&noun.group);
            for (place, noun) in bank.nouns().iter().enumerate().filter(|(place, noun)| drawn(*place, noun)) {
                let fits = |cutout: &bank::Cutout| style.cutouts.contains(&cutout.style);
                let cutouts: Vec<usize> = (0..noun.cutouts.len()).filter(|&i| fits(&noun.cutouts[i])).collect();
                if !cutouts.is_empty() {
                    if core[place] { &mut form.core } else { &mut form.wide }.push((place, cutouts));
                }
            }
            form
        };
        let styles: Vec<Form> = grammar.styles.iter().map(form).collect();
        for (form, style) in styles.iter().zip(&grammar.styles) {
            if form.tints.is_empty() && style.tint != grammar::Tint::None {
                return Err(Error::data(format!(
                    "style {:?} colours things, but no colour is allowed there; allow some, or set its tint to \"none\"",
                    style.name
                )));
            }
            if form.core.is_empty() && form.wide.is_empty() {
                return Err(Error::data(format!(
                    "nothing can be drawn in style {:?}: no noun has a cut-out of {}; add cut-outs or remove the style",
                    style.name,
                    style.cutouts.join(", ")
                )));
            }
        }
        let unsaid = (0..bank.nouns().len()).map(|noun| unsaid_style(&grammar, &styles, noun)).collect();
        let scenes: Vec<Scene> = grammar.scenes.keys().copied().collect();
        let scene_means = scenes.iter().map(|scene| mean_of(*scene)).collect();
        let backgrounds = grammar.backgrounds.iter().filter_map(|name| grammar.colour(name)).collect();
        let mut named: Vec<Option<Place>> = grammar.places.keys().copied().map(Some).collect();
        named.sort_by_key(|place| place.map(Place::name));
        if named.is_empty() {
            named.push(None);
        }
        let [white, black] = ["white", "black"].map(|name| grammar.colour(name).expect("the grammar was checked"));
        let words =
            Self { grammar, bank, core, styles, unsaid, scenes, scene_means, backgrounds, white, black, places: named };
        words.check_held_out()?;
        Ok(words)
    }

    /// Refuses a core noun that could never be trained on although it is not held out as a whole.
    fn check_held_out(&self) -> Result<()> {
        for (noun, words) in self.bank.nouns().iter().enumerate().filter(|(noun, _)| self.core[*noun]) {
            let drawn = |style: usize| self.styles[style].core.iter().any(|(drawn, _)| *drawn == noun);
            let mut styles = (0..self.styles.len()).filter(|&style| drawn(style)).peekable();
            let is_used = styles.peek().is_some() && !self.holds_out(Cell::Noun(noun));
            if is_used && styles.all(|style| self.holds_out(Cell::Style(style, noun))) {
                return Err(Error::data(format!(
                    "every style that {:?} can be drawn in is held out; give it drawings in more styles, or another held_out.seed",
                    words.noun
                )));
            }
        }
        Ok(())
    }

    /// Whether a noun is not given other colours.
    pub(super) fn keeps_colours(&self, noun: usize) -> bool {
        self.grammar.uncoloured.contains(&self.bank.nouns()[noun].group)
    }

    /// The colour that a caption says of a thing: one that was put on it, or one that its drawing is known by and that the
    /// style keeps.
    pub(super) fn said_colour(&self, style: usize, thing: &Thing) -> Option<usize> {
        let words = &self.grammar.styles[style];
        let drawn = self.bank.nouns()[thing.noun].cutouts[thing.cutout].colour.as_deref();
        let allowed = |name: &&str| words.colours.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
        let keeps = words.tint == grammar::Tint::Shade;
        let drawn = drawn.filter(|name| keeps && allowed(name)).and_then(|name| self.grammar.colour(name));
        thing.tint.or(drawn)
    }

    /// Whether a cell is of a kind that is held out by chance: not the default style, white, colours that a noun is drawn
    /// in, nouns that the grammar keeps, nor combinations beyond the core.
    pub(super) fn may_hold_out(&self, cell: Cell) -> bool {
        let noun = |place: usize| &self.bank.nouns()[place];
        match cell {
            Cell::Noun(n) => !self.grammar.held_out.keep.contains(&noun(n).noun),
            Cell::Style(style, n) => self.core[n] && self.unsaid[n] != Some(style),
            Cell::Background(background, n) => self.core[n] && background != self.white,
            Cell::Colour(colour, n) => {
                let name = Some(&self.grammar.colours[colour].name);
                self.core[n] && noun(n).cutouts.iter().all(|cutout| cutout.colour.as_ref() != name)
            }
            Cell::Scene(_, n) | Cell::Count(_, n) => self.core[n],
            Cell::Pair(a, b) | Cell::Order(a, _, b) => self.core[a] && self.core[b],
        }
    }

    /// Whether a cell is kept from training.
    pub(super) fn holds_out(&self, cell: Cell) -> bool {
        if !self.may_hold_out(cell) {
            return false;
        }
        let grammar = &self.grammar;
        let noun = |place: usize| self.bank.nouns()[place].noun.as_str();
        let colour = |place: usize| grammar.colours[place].name.as_str();
        let name = match cell {
            Cell::Noun(n) => noun(n).to_owned(),
            Cell::Style(style, n) => format!("{}|{}", grammar.styles[style].name, noun(n)),
            Cell::Colour(c, n) | Cell::Background(c, n) => format!("{}|{}", colour(c), noun(n)),
            Cell::Scene(scene, n) => format!("{}|{}", self.scenes[scene].name(), noun(n)),
            Cell::Count(count, n) => format!("{count}|{}", noun(n)),
            Cell::Pair(a, b) => {
                let (a, b) = (noun(a).min(noun(b)), noun(a).max(noun(b)));
                format!("{a}|{b}")
            }
            Cell::Order(a, relation, b) => format!("{}|{}|{}", noun(a), relation.name(), noun(b)),
        };
        let share = if matches!(cell, Cell::Noun(_)) { grammar.held_out.nouns } else { grammar.held_out.cells };
        let draw = hash(&format!("{}|{}|{name}", grammar.held_out.seed, cell.kind()));
        (draw >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < share
    }
}

/// The mean colour of a scene where things stand: of its middle, and below.
fn mean_of(scene: Scene) -> [u8; 3] {
    const SIDE: usize = 32;
    let layer = scene.draw(SIDE, Rng::new(0));
    let inside = (SIDE / 4..SIDE - SIDE / 8).flat_map(|y| (SIDE / 4..SIDE - SIDE / 4).map(move |x| (x, y)));
    let pixels: Vec<layer::Pixel> = inside.map(|(x, y)| layer.at(x, y)).collect();
    let mean = |i: usize| pixels.iter().map(|pixel| pixel[i]).sum::<f32>() / pixels.len() as f32;
    [0, 1, 2].map(|i| (255.0 * mean(i)).round() as u8)
}

/// The style that need not be said of a noun: the first default that it can be drawn in.
fn unsaid_style(grammar: &Grammar, styles: &[Form], noun: usize) -> Option<usize> {
    let has = |form: &Form| form.core.iter().chain(&form.wide).any(|(drawn, _)| *drawn == noun);
    grammar.styles.iter().zip(styles).position(|(style, form)| style.default && has(form))
}
