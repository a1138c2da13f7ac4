//! `--shard`: which part of a command's work this process does.
//!
//! Work is cut by position alone, so that every process comes to the same cut without asking anybody, and what each makes is
//! kept under a name that says what it is: a share that is done is not done again, and the same command without the flag
//! finds what is there and does or joins the rest.

use std::fmt;
use std::str::FromStr;

use crate::ranks::Place;

/// `2/4`: the second of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// How many there are.
    pub(super) of: usize,
    /// From 0.
    pub(super) at: usize,
}

impl Shard {
    /// Whether what has this number is its part.
    pub(super) fn has(self, number: usize) -> bool {
        number % self.of == self.at
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        match value.split_once('/').and_then(|(at, of)| Some((number(at)?, number(of)?))) {
            Some((at, of)) if 1 <= at && at <= of => Ok(Self { of, at: at - 1 }),
            _ => Err("expected I/N with I from 1 to N, e.g. 2/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.at + 1, self.of)
    }
}

/// `--shard`
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Sharded {
    /// Do the I-th of N shares of the work; under mpirun or srun each process takes its own by itself
    #[arg(long, value_name = "I/N", hide_short_help = true)]
    shard: Option<Shard>,
}

impl Sharded {
    /// The share that was asked for, or the one that this process was started for; none where it does all.
    pub(super) fn get(&self) -> Option<Shard> {
        let of_place = || Place::found().map(|Place { rank, of }| Shard { of, at: rank });
        self.shard.or_else(of_place).filter(|shard| shard.of > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_by_its_number_from_one() {
        assert_eq!("2/4".parse(), Ok(Shard { of: 4, at: 1 }));
        assert_eq!("2/4".parse::<Shard>().unwrap().to_string(), "2/4");
        for wrong in ["0/4", "5/4", "4", "1/0", "a/b", "-1/4", "1/2/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_everything_and_have_nothing_in_common() {
        for of in 1..6 {
            let owners = |number| (0..of).filter(|at| Shard { of, at: *at }.has(number)).count();
            assert!((0..20).all(|number| owners(number) == 1));
        }
    }
}
