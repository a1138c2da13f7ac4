//! Composed pictures: a world of cut-outs, styles, colours, scenes and relations in which everything recombines.
//!
//! A world is a folder with `grammar.toml` (what may be said, and how often) and `bank.json` (nouns and their drawings).
//! Picture k of a split is a function of the folder and k: a plan is drawn from the grammar (`plan`), refused if it holds a
//! cell that is held out (`cells`), said in several captions (`caption`) and drawn at any size (`draw`). So the set is
//! endless, nothing is stored, and what a caption says is what is there.

mod bank;
mod caption;
mod cells;
mod draw;
mod effect;
mod grammar;
mod layer;
mod plan;
mod question;
mod scene;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use self::bank::Bank;
use self::cells::Cell;
use self::grammar::{Grammar, Style};
use self::plan::{Place, Plan, Thing};
pub use self::question::{Candidate, Factor, Question};
use self::scene::Scene;
use super::super::write::{Captioned, write_set};
use super::{Split, hash};
use crate::data::dice::Dice;
use crate::error::{Context, Error, Result};
use crate::image::Picture;
use crate::rng::Rng;

/// Streams of a picture's key.
mod stream {
    pub(super) const PLAN: u64 = 0;
    pub(super) const WORDS: u64 = 1;
    pub(super) const DRAWING: u64 = 2;
}

/// An endless set of captioned pictures.
pub struct World {
    words: Vocabulary,
}

/// A grammar and a bank, each place of one resolved to places of the other.
pub(super) struct Vocabulary {
    grammar: Grammar,
    bank: Bank,
    /// Of each noun, whether it appears in every arrangement.
    core: Vec<bool>,
    /// Of each style, what can be drawn in it.
    styles: Vec<Form>,
    /// Of each noun, the style that need not be said.
    unsaid: Vec<Option<usize>>,
    /// The scenes that the grammar names.
    scenes: Vec<Scene>,
    /// The mean colour of where things stand in each.
    scene_means: Vec<[u8; 3]>,
    /// The colours of backgrounds.
    backgrounds: Vec<usize>,
    /// The colour of plain backgrounds that need not be said.
    white: usize,
    /// The colour that filled drawings have where none is said.
    black: usize,
    /// The places that the grammar names.
    places: Vec<Option<Place>>,
}

/// What can be drawn in a style: nouns with the places of their drawings.
struct Form {
    weight: f64,
    /// The colours that things may be given.
    tints: Vec<usize>,
    core: Vec<(usize, Vec<usize>)>,
    wide: Vec<(usize, Vec<usize>)>,
}

/// Whether a folder holds cut-outs and nothing that says how to compose them.
pub(super) fn lacks_grammar(folder: &Path) -> bool {
    folder.join(bank::INDEX).is_file() && !World::is_at(folder)
}

impl World {
    /// Whether a folder holds a world.
    pub(super) fn is_at(folder: &Path) -> bool {
        folder.join(grammar::FILE).is_file()
    }

    /// Reads grammar and index of a folder, and holds them against each other.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] if one cannot be read; [`crate::ErrorKind::Data`] if one is malformed, a noun of the grammar has no
    /// cut-out, nothing can be drawn in a style, or a drawing is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        let words = Vocabulary::new(Grammar::open(folder)?, Bank::open(folder)?);
        Ok(Self { words: words.context(|| folder.join(grammar::FILE).display().to_string())? })
    }

    /// What tells this world from others: its bank and its grammar.
    pub fn digest(&self) -> String {
        let grammar = hash(&self.words.grammar.text);
        format!("{}-{grammar:016x}", self.words.bank.digest())
    }

    /// The captions of picture `number` of a split, the canonical one first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if no picture of the split can be composed.
    pub fn captions(&self, split: Split, number: u64) -> Result<Vec<String>> {
        let key = self.key(split, number);
        let plan = self.plan(split, key)?;
        Ok(caption::captions(&self.words, &plan, &mut Dice::new(key.fold(stream::WORDS))))
    }

    /// Every noun that is taught, with its article, those of the core first.
    pub fn things(&self) -> Vec<String> {
        let words = &self.words;
        let core: BTreeSet<usize> = words.styles.iter().flat_map(|form| &form.core).map(|(noun, _)| *noun).collect();
        let wide: BTreeSet<usize> = words.styles.iter().flat_map(|form| &form.wide).map(|(noun, _)| *noun).collect();
        let taught = core
            .into_iter()
            .chain(wide)
            .filter(|noun| !words.holds_out(Cell::Noun(*noun)))
            .map(|noun| &words.bank.nouns()[noun]);
        taught.map(|noun| format!("{} {}", noun.article, noun.noun).trim().to_owned()).collect()
    }

    /// Picture `number` of a split, RGB, `side`×`side`; the same picture at every size.
    ///
    /// # Errors
    /// As [`Self::captions`]; [`crate::ErrorKind::Data`] and [`crate::ErrorKind::Io`] if a drawing cannot be read.
    pub fn picture(&self, split: Split, number: u64, side: usize) -> Result<Picture> {
        let key = self.key(split, number);
        let plan = self.plan(split, key)?;
        draw::draw(&self.words, &plan, side, key.fold(stream::DRAWING))
    }

    /// How many of the first pictures of a split are of each style, and how many hold a held-out cell of each kind.
    ///
    /// # Errors
    /// As [`Self::captions`].
    pub fn census(&self, split: Split, count: u64) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for number in 0..count {
            let plan = self.plan(split, self.key(split, number))?;
            let style = &self.words.grammar.styles[plan.style].name;
            let held_out = plan.cells(&self.words).into_iter().filter(|&cell| self.words.holds_out(cell));
            let kinds: BTreeSet<&str> = held_out.map(Cell::kind).collect();
            let kinds = kinds.into_iter().map(|kind| format!("held-out {kind}"));
            for what in kinds.chain([style.clone()]) {
                *counts.entry(what).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Whether any combination is held out, so that there are pictures to validate on.
    pub fn holds_out(&self) -> bool {
        self.captions(Split::Validation, 0).is_ok()
    }

    /// About how many bytes of drawings are kept once all were drawn in pictures of this side.
    pub fn kept_bytes(&self, side: usize) -> u64 {
        self.words.bank.kept_bytes(side)
    }

    /// Reads every drawing; the files that cannot be used, each with the reason.
    pub fn broken_drawings(&self) -> Vec<(String, String)> {
        self.words.bank.check_drawings()
    }

    /// Writes the first pictures of both splits, `train` and `held_out` of them, as an ordinary set. `progress` is told how
    /// many are done and may break; what was written is then no set yet, and the result is `false`.
    ///
    /// # Errors
    /// As [`Self::picture`]; [`crate::ErrorKind::Io`] if the folder cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        [train, held_out]: [usize; 2],
        side: usize,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<bool> {
        let example = |index: usize| {
            let (split, number) =
                if index < train { (Split::Train, index) } else { (Split::Validation, index - train) };
            let captions = self.captions(split, number as u64)?;
            Ok(Captioned { picture: self.picture(split, number as u64, side)?, captions, split: Some(split) })
        };
        Ok(write_set(folder, train + held_out, example, progress)?.is_some())
    }

    fn key(&self, split: Split, number: u64) -> Rng {
        Rng::new(self.words.grammar.seed).fold(u64::from(split == Split::Validation)).fold(number)
    }

    fn plan(&self, split: Split, key: Rng) -> Result<Plan> {
        Plan::draw(&self.words, split == Split::Validation, key.fold(stream::PLAN))
    }
}

/// `1012 nouns, 13 styles, 11 scenes, 16 colours; 8431 drawings, digest 0123456789abcdef`
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vocabulary { grammar, bank, scenes, .. } = &self.words;
        let drawings: usize = bank.nouns().iter().map(|noun| noun.cutouts.len()).sum();
        write!(
            f,
            "{} nouns, {} styles, {} scenes, {} colours; {drawings} drawings, digest {}",
            bank.nouns().len(),
            grammar.styles.len(),
            scenes.len(),
            grammar.colours.len(),
            bank.digest()
        )
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({self})")
    }
}

impl Vocabulary {
    fn new(grammar: Grammar, bank: Bank) -> Result<Self> {
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
        let scenes = grammar.scenes();
        let scene_means = scenes.iter().map(|scene| mean_of(*scene)).collect();
        let backgrounds = grammar.backgrounds.iter().filter_map(|name| grammar.colour(name)).collect();
        let known = |name: &str| Place::ALL.into_iter().find(|place| place.name() == name);
        let mut named = Vec::new();
        for name in grammar.places.keys() {
            let place = known(name).ok_or_else(|| {
                let places = Place::ALL.map(Place::name).join(", ");
                Error::data(format!("place {name:?} is unknown; there are {places}"))
            })?;
            named.push(Some(place));
        }
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
    fn keeps_colours(&self, noun: usize) -> bool {
        self.grammar.uncoloured.contains(&self.bank.nouns()[noun].group)
    }

    /// The colour that a caption says of a thing: one that was put on it, or one that its drawing is known by and that the
    /// style keeps.
    fn said_colour(&self, style: usize, thing: &Thing) -> Option<usize> {
        let words = &self.grammar.styles[style];
        let drawn = self.bank.nouns()[thing.noun].cutouts[thing.cutout].colour.as_deref();
        let allowed = |name: &&str| words.colours.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
        let keeps = words.tint == grammar::Tint::Shade;
        let drawn = drawn.filter(|name| keeps && allowed(name)).and_then(|name| self.grammar.colour(name));
        thing.tint.or(drawn)
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
