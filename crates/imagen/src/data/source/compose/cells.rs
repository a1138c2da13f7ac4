//! Cells: what is combined in a picture, and which combinations are kept from training.
//!
//! A cell is held out by the hash of its name, so before anything is drawn and whatever the order of a bank: styles,
//! colours, scenes, relations, numbers and nouns occur in training, but not all with each other. Only nouns of the core are held
//! out in combinations; the default style, white and the colours that a noun is drawn in never are, since they are what
//! a prompt gets that does not name any.

use super::super::hash;
use super::Vocabulary;
use super::plan::Relation;

/// A combination; numbers are places in the grammar and the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cell {
    /// A noun at all.
    Noun(usize),
    /// A style and a noun.
    Style(usize, usize),
    /// A colour of a thing and a noun.
    Colour(usize, usize),
    /// A colour of the background and a noun.
    Background(usize, usize),
    /// A scene and a noun.
    Scene(usize, usize),
    /// A number and a noun.
    Count(usize, usize),
    /// Two nouns together, the smaller place first.
    Pair(usize, usize),
    /// Two nouns in a relation, in this order.
    Order(usize, Relation, usize),
}

impl Cell {
    /// The kind, as reports say it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Noun(_) => "noun",
            Self::Style(..) => "style",
            Self::Colour(..) => "colour",
            Self::Background(..) => "background",
            Self::Scene(..) => "scene",
            Self::Count(..) => "count",
            Self::Pair(..) => "pair",
            Self::Order(..) => "order",
        }
    }
}

impl Vocabulary {
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
