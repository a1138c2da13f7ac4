//! What a world says: colours, styles, scenes, relations and how often each arrangement occurs, as one TOML file.
//!
//! Everything that people read in captions is here or in the bank; a user writes such a file for cut-outs of their own.
//! Unknown keys are errors.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::arrangement::Place;
use super::effect::Effect;
use super::scene::Scene;
use crate::error::{Context, Error, Result};
use crate::input;

/// Where a colour's name goes in a wording.
pub(super) const COLOUR: &str = "{colour}";
/// The grammar's name in a world's folder.
pub(super) const FILE: &str = "grammar.toml";

/// The words and weights of a world.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grammar {
    /// The file's text.
    #[serde(skip)]
    pub text: String,
    /// Seed of all pictures.
    #[serde(default)]
    pub seed: u64,
    /// Nouns of the bank that are used; all by default.
    #[serde(default)]
    pub nouns: Option<Vec<String>>,
    /// Nouns that appear in every arrangement; those that the bank calls so by default.
    #[serde(default)]
    pub core: Option<Vec<String>>,
    /// Groups of nouns that keep their colours: nobody means paint by "a white man".
    #[serde(default)]
    pub uncoloured: Vec<String>,
    pub held_out: HeldOut,
    pub mix: Mix,
    pub colours: Vec<Colour>,
    /// Names of the colours that backgrounds have besides white.
    pub backgrounds: Vec<String>,
    /// How a background of one colour is said; `{colour}` stands for its name.
    pub background_phrases: Vec<String>,
    /// How each scene is said after a thing.
    pub scenes: BTreeMap<Scene, Vec<String>>,
    pub styles: Vec<Style>,
    pub relations: Relations,
    /// How a place on a plain background is said, by [`super::plan::Place`]'s names.
    pub places: BTreeMap<Place, Vec<String>>,
    /// Words for a thing that is small, and for one that is large.
    pub sizes: Sizes,
    /// Words for 2, 3, 4 and 5; the first of each is canonical.
    pub numbers: Vec<Vec<String>>,
}

/// Which cells never occur in training.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldOut {
    /// Changes the choice.
    #[serde(default)]
    pub seed: u64,
    /// The share of the cells of each kind.
    pub cells: f64,
    /// The share of whole nouns.
    pub nouns: f64,
    /// Nouns that are not held out as a whole.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// How often what occurs: weights of arrangements, probabilities of the rest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mix {
    /// Weight of one thing.
    pub one: f64,
    /// Weight of two things in a relation.
    pub pair: f64,
    /// Weight of two to five of a kind.
    pub count: f64,
    /// One thing: that it is not of the core.
    pub wide: f64,
    /// One thing or a pair: that it stands in a scene.
    pub scene: f64,
    /// A plain background: that it is white.
    pub white: f64,
    /// A thing: that it has a colour that it was not drawn in. Filled drawings, which are black otherwise, are coloured
    /// half as often as not beyond that.
    pub coloured: f64,
    /// One thing on a plain background: that it has a place.
    pub placed: f64,
    /// One thing on a plain background: that it is small or large.
    pub sized: f64,
}

/// A colour and its names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Colour {
    pub name: String,
    /// `#rrggbb`.
    #[serde(deserialize_with = "hexadecimal")]
    pub rgb: [u8; 3],
    /// Other names.
    #[serde(default)]
    pub words: Vec<String>,
    /// Whether things may have it; backgrounds are listed on their own.
    #[serde(default = "yes")]
    pub things: bool,
}

/// What may be done with a thing's colour in a style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tint {
    /// Nothing: the style has no colours.
    None,
    /// It is mapped to shades of another colour.
    Shade,
    /// It becomes another colour; black where none is said.
    Fill,
}

/// Which backgrounds a style has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Backgrounds {
    /// Its own.
    None,
    /// Colours.
    Plain,
    /// Colours and scenes.
    Any,
}

/// A way in which everything in a picture is drawn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Style {
    pub name: String,
    /// Styles of the bank's cut-outs that it is made of.
    pub cutouts: Vec<String>,
    /// What is computed from them.
    #[serde(default)]
    pub effect: Option<Effect>,
    /// What stands before the things, `a {colour} line icon of`; `{colour}` is left out where no colour is said.
    pub prefixes: Vec<String>,
    /// What stands behind everything, after a comma.
    pub suffixes: Vec<String>,
    /// Whether it need not be said of what can be drawn in it, and in no default style before it.
    #[serde(default)]
    pub default: bool,
    pub tint: Tint,
    /// Groups of nouns that are not drawn in it.
    #[serde(default)]
    pub without: Vec<String>,
    /// Names of the colours that things may be given; all that the grammar allows by default.
    #[serde(default)]
    pub colours: Option<Vec<String>>,
    pub backgrounds: Backgrounds,
    /// How often it occurs.
    pub weight: f64,
}

/// How relations are said: what follows the first thing and precedes the second.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relations {
    pub left: Vec<String>,
    pub right: Vec<String>,
    pub above: Vec<String>,
    pub below: Vec<String>,
    pub on: Vec<String>,
    pub under: Vec<String>,
    pub front: Vec<String>,
    pub behind: Vec<String>,
    /// Says of left and right only that they stand side by side.
    pub beside: Vec<String>,
}

/// Words for sizes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    pub small: Vec<String>,
    pub large: Vec<String>,
}

fn yes() -> bool {
    true
}

fn hexadecimal<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[u8; 3], D::Error> {
    let text = String::deserialize(from)?;
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let [_, rgb @ ..] = number
        .ok_or_else(|| serde::de::Error::custom(format!("colour {text:?} is not of the form \"#d8383c\"")))?
        .to_be_bytes();
    Ok(rgb)
}

impl Grammar {
    /// Reads the grammar of a world's folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = input::read(&path, input::MOST_TEXT)?;
        Self::parse(&input::text(&bytes).context(|| path.display().to_string())?.text)
            .context(|| path.display().to_string())
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut grammar: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            Error::data(format!("line {line}: {}", e.message()))
        })?;
        grammar.check()?;
        grammar.text = text.to_owned();
        Ok(grammar)
    }

    /// The place of a colour.
    pub(super) fn colour(&self, name: &str) -> Option<usize> {
        self.colours.iter().position(|colour| colour.name == name)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::data(what));
        let Mix { one, pair, count, wide, scene, white, coloured, placed, sized } = self.mix;
        let shares = [
            ("mix.wide", wide),
            ("mix.scene", scene),
            ("mix.white", white),
            ("mix.coloured", coloured),
            ("mix.placed", placed),
            ("mix.sized", sized),
            ("held_out.cells", self.held_out.cells),
            ("held_out.nouns", self.held_out.nouns),
        ];
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return refuse(format!("{name} = {value} is a probability; expected 0 to 1"));
        }
        if ![one, pair, count].iter().all(|weight| weight.is_finite() && *weight >= 0.0) || one + pair + count <= 0.0 {
            return refuse("mix.one, mix.pair and mix.count are weights; expected numbers from 0 on, not all 0".into());
        }
        for name in ["white", "black"] {
            if self.colour(name).is_none() {
                return refuse(format!("there is no colour {name:?}; every world needs white and black"));
            }
        }
        let mut names = HashSet::new();
        let mut words = self.colours.iter().flat_map(|colour| std::iter::once(&colour.name).chain(&colour.words));
        if let Some(twice) = words.find(|word| !names.insert(*word)) {
            return refuse(format!("the name {twice:?} is there twice in [[colours]]; a colour is known by its names"));
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.styles.iter().find(|style| !names.insert(&style.name)) {
            return refuse(format!("style {:?} is there twice; rename one of the two", twice.name));
        }
        if self.backgrounds.iter().any(|name| name == "white") {
            return refuse("backgrounds lists white, which is always one; remove it there".into());
        }
        if let Some(unknown) = self.backgrounds.iter().find(|name| self.colour(name).is_none()) {
            return refuse(format!("background {unknown:?} is no colour of [[colours]]"));
        }
        let named = self.styles.iter().flat_map(|style| style.colours.iter().flatten().map(move |name| (style, name)));
        if let Some((style, unknown)) = named.into_iter().find(|(_, name)| self.colour(name).is_none()) {
            return refuse(format!("style {:?} names {unknown:?}, which is no colour of [[colours]]", style.name));
        }
        if self.numbers.len() != 4 {
            return refuse(format!("numbers has {} lists; expected the words for 2, 3, 4 and 5", self.numbers.len()));
        }
        if !self.styles.iter().any(|style| style.default) {
            return refuse("no style says `default = true`; at least one need not be said".into());
        }
        if let Some(style) = self.styles.iter().find(|style| !style.weight.is_finite() || style.weight < 0.0) {
            return refuse(format!("style {:?} has the weight {}; expected 0 or more", style.name, style.weight));
        }
        if self.styles.iter().all(|style| style.weight == 0.0) {
            return refuse("every style has the weight 0; at least one has to occur".into());
        }
        for (name, words) in self.wordings() {
            if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
                return refuse(format!("{name} is empty or holds an empty wording; give at least one"));
            }
            // where a colour goes: always into a background's phrase, perhaps before a style's, nowhere else
            let (is_background, is_prefix) = (name == "background_phrases", name.ends_with(": prefixes"));
            for word in words {
                let holes = word.matches(COLOUR).count();
                let expected = match (is_background, is_prefix) {
                    (true, _) => "{colour} once",
                    (_, true) => "{colour} once or not at all, and no other braces",
                    _ => "no braces",
                };
                let fits = if is_background { holes == 1 } else { holes <= usize::from(is_prefix) };
                if !fits || word.replace(COLOUR, "").contains(['{', '}']) {
                    return refuse(format!("{name} holds {word:?}; expected {expected}"));
                }
            }
        }
        Ok(())
    }

    /// Every list of wordings with its name.
    fn wordings(&self) -> Vec<(String, &[String])> {
        let Relations { left, right, above, below, on, under, front, behind, beside } = &self.relations;
        let named = [
            ("relations.left", left),
            ("relations.right", right),
            ("relations.above", above),
            ("relations.below", below),
            ("relations.on", on),
            ("relations.under", under),
            ("relations.front", front),
            ("relations.behind", behind),
            ("relations.beside", beside),
            ("sizes.small", &self.sizes.small),
            ("sizes.large", &self.sizes.large),
            ("background_phrases", &self.background_phrases),
        ];
        let mut wordings: Vec<(String, &[String])> =
            named.into_iter().map(|(name, words)| (name.to_owned(), words.as_slice())).collect();
        wordings.extend(self.scenes.iter().map(|(name, words)| (format!("scenes.{name}"), words.as_slice())));
        wordings.extend(self.places.iter().map(|(name, words)| (format!("places.\"{name}\""), words.as_slice())));
        wordings.extend((2..).zip(&self.numbers).map(|(n, words)| (format!("numbers for {n}"), words.as_slice())));
        for style in &self.styles {
            wordings.push((format!("style {:?}: prefixes", style.name), &style.prefixes));
            wordings.push((format!("style {:?}: suffixes", style.name), &style.suffixes));
        }
        wordings
    }
}
