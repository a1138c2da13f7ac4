//! Of what a picture is composed: things, where they are, and what is behind them.

use crate::names::named;

/// What is behind the things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backdrop {
    /// What the style brings along: paper, darkness.
    Own,
    /// One colour, by its place in the grammar.
    Colour(usize),
    /// A scene, by its place in [`super::grammar::Grammar::scenes`].
    Scene(usize),
}

/// A thing of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thing {
    /// Place in the bank.
    pub noun: usize,
    /// Which of its drawings.
    pub cutout: usize,
    /// A colour that is put on it, by its place in the grammar.
    pub tint: Option<usize>,
}

/// Where one thing is when it is not in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    TopLeft,
    Top,
    TopRight,
    Left,
    Right,
    BottomLeft,
    Bottom,
    BottomRight,
}

named!(
    Place,
    "place",
    TopLeft = "top left",
    Top = "top",
    TopRight = "top right",
    Left = "left",
    Right = "right",
    BottomLeft = "bottom left",
    Bottom = "bottom",
    BottomRight = "bottom right"
);

/// How large one thing is when it is not as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

/// Where the first of two things is, seen from the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Relation {
    Left,
    Above,
    On,
    Front,
}

named!(Relation, "relation", Left = "left of", Above = "above", On = "on", Front = "in front of");

/// How many things there are, and how they are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    One { thing: Thing, place: Option<Place>, size: Option<Size> },
    Pair { first: Thing, relation: Relation, second: Thing },
    Count { thing: Thing, count: usize },
}

impl Place {
    /// Its column and row among three, from 0.
    pub(super) fn cell(self) -> [usize; 2] {
        match self {
            Self::TopLeft => [0, 0],
            Self::Top => [1, 0],
            Self::TopRight => [2, 0],
            Self::Left => [0, 1],
            Self::Right => [2, 1],
            Self::BottomLeft => [0, 2],
            Self::Bottom => [1, 2],
            Self::BottomRight => [2, 2],
        }
    }
}

impl Arrangement {
    /// The things that differ from each other.
    pub(super) fn things(&self) -> impl Iterator<Item = &Thing> {
        let (first, second) = match self {
            Self::One { thing, .. } | Self::Count { thing, .. } => (thing, None),
            Self::Pair { first, second, .. } => (first, Some(second)),
        };
        std::iter::once(first).chain(second)
    }
}
