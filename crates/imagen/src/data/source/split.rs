//! The parts of a set.

use crate::error::{Error, Result};
use crate::names::named;

/// Where no line says its split, one name in this many validates (2.5 %).
const HELD_OUT: u64 = 40;

/// Which part of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is learned from.
    Train,
    /// What is held out.
    Validation,
}

named!(Split, "part of a set", Train = "train", Validation = "validation");

impl Split {
    /// The part that a name belongs to where the set does not say: a fixed hash of the name, 2.5 % validation.
    ///
    /// It depends on the name alone, so a set may grow or be sorted anew without pictures changing sides.
    pub fn of_name(name: &str) -> Self {
        if hash(name) % HELD_OUT == 0 { Split::Validation } else { Split::Train }
    }
}

pub(super) fn parse_split(name: &str) -> Result<Split> {
    match name {
        "train" => Ok(Split::Train),
        "validation" | "valid" | "val" | "test" => Ok(Split::Validation),
        _ => Err(Error::data(format!("split {name:?} is unknown; expected \"train\" or \"validation\""))),
    }
}

/// FNV-1a with the finish of SplitMix64, whose low bits are as good as its high ones.
pub(super) fn hash(name: &str) -> u64 {
    let fnv =
        name.bytes().fold(0xCBF2_9CE4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mixed = (fnv ^ fnv >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}
