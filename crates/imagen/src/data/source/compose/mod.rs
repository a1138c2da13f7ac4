//! Composed pictures: a world of cut-outs, styles, colours, scenes and relations in which everything recombines.
//!
//! A world is a folder with `grammar.toml` (what may be said, and how often) and `bank.json` (nouns and their drawings).
//! Picture k of a split is a function of the folder and k: a plan is drawn from the grammar (`plan`), refused if it holds a
//! cell that is held out (`cells`), said in several captions (`caption`) and drawn at any size (`draw`). So the set is
//! endless, nothing is stored, and what a caption says is what is there.

mod arrangement;
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
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use self::bank::Bank;
use self::cells::Cell;
use self::grammar::Grammar;
use self::plan::Plan;
pub use self::question::{Composed, Factor};
use self::vocabulary::Vocabulary;
use super::split::{Split, hash};
use crate::data::dice::Dice;
use crate::data::write::{Captioned, write_set};
use crate::error::{Context, Result};
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

/// One picture of a [`World`], before it is drawn.
pub struct Composition<'a> {
    words: &'a Vocabulary,
    plan: Plan,
    key: Rng,
}

impl Composition<'_> {
    /// Its captions, the canonical one first.
    pub fn captions(&self) -> Vec<String> {
        caption::captions(self.words, &self.plan, &mut Dice::new(self.key.fold(stream::WORDS)))
    }

    /// The picture, RGB, `side`×`side`.
    ///
    /// # Errors
    /// As [`World::picture`].
    pub fn picture(&self, side: usize) -> Result<Picture> {
        draw::draw(self.words, &self.plan, side, self.key.fold(stream::DRAWING))
    }

    /// What is at each of `cells`×`cells` places, in rows: 0 is the background, the others are nouns.
    ///
    /// # Errors
    /// As [`World::picture`].
    pub fn things(&self, cells: usize) -> Result<Vec<usize>> {
        let nouns = draw::nouns(self.words, &self.plan, cells, self.key.fold(stream::DRAWING))?;
        Ok(nouns.into_iter().map(|noun| noun.map_or(0, |noun| noun + 1)).collect())
    }
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
        Ok(self.composition(split, number)?.captions())
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
        self.composition(split, number)?.picture(side)
    }

    /// What picture `number` of a split is to show, to be drawn and said.
    ///
    /// # Errors
    /// As [`Self::captions`].
    pub fn composition(&self, split: Split, number: u64) -> Result<Composition<'_>> {
        let key = self.key(split, number);
        Ok(Composition { words: &self.words, plan: self.plan(split, key)?, key })
    }

    /// How many things [`Composition::things`] tells apart: the nouns, and the background.
    pub fn thing_count(&self) -> usize {
        self.words.bank.nouns().len() + 1
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
            let composition = self.composition(split, number as u64)?;
            Ok(Captioned { picture: composition.picture(side)?, captions: composition.captions(), split: Some(split) })
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
