//! Ranks: the equal processes (or threads) of one job, numbered from 0, that compute one thing together.
//!
//! [`Ranks`] is all that is asked of what connects them; the program has it over MPI, [`in_threads`] within a process, and
//! [`Alone`] is one rank. [`Group`] builds on it what ranks do together: hear each other, fail together, sum. Ranks do the
//! same in the same order; that is the whole protocol.
//!
//! Deliberately not here: what is computed, and how processes are started.

mod group;
mod sum;
#[cfg(test)]
mod tests;
mod threads;

pub use group::Group;
pub use sum::{Node, TreeSum, share_of, summed};
pub use threads::{ThreadRank, in_threads};

use crate::error::{Error, Result};

/// One rank's connection with the others of its job.
pub trait Ranks {
    /// This rank's number, below [`Self::size`].
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// What messages call this rank: its number and where it runs.
    fn name(&self) -> String {
        format!("rank {}", self.rank())
    }

    /// The program that this rank runs and what it computes with, in a few words: ranks that differ in it may differ in the
    /// last bits of a sum, and do not work together.
    fn program(&self) -> String {
        String::new()
    }

    /// Sends `sent` to the rank `to` and fills `received` with what the rank `from` sends; where a slice is empty, nothing goes
    /// that way. Both know the lengths beforehand.
    ///
    /// # Errors
    /// `Io` where another rank is gone.
    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()>;

    /// Ends the whole job, since this rank cannot go on and the others do not know it. Returns where ranks are no processes;
    /// the others then find it gone.
    fn abort(&self, why: &Error);
}

/// One rank without others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, _: usize, _: &[u8], _: usize, _: &mut [u8]) -> Result<()> {
        Err(Error::usage("one rank has no other to exchange with"))
    }

    fn abort(&self, _: &Error) {}
}
