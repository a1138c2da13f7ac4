//! Cells: what is combined in a picture, and which combinations are kept from training.
//!
//! A cell is held out by the hash of its name, so before anything is drawn and whatever the order of a bank: styles,
//! colours, scenes, relations, numbers and nouns occur in training, but not all with each other. Only nouns of the core are held
//! out in combinations; the default style, white and the colours that a noun is drawn in never are, since they are what
//! a prompt gets that does not name any.

use super::arrangement::Relation;

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
