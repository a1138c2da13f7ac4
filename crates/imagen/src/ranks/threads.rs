//! Ranks that are threads of one process: for tests, and for whoever has no other connection.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::Ranks;
use crate::error::{Error, ErrorKind, Result};

/// A rank that is a thread; made by [`in_threads`].
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    /// To each rank.
    to: Vec<Sender<Vec<u8>>>,
    /// From each rank.
    from: Vec<Receiver<Vec<u8>>>,
}

/// So many ranks that are connected with each other; each is to be moved to a thread of its own.
pub fn in_threads(size: usize) -> Vec<ThreadRank> {
    let mut to: Vec<Vec<Sender<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
    let mut ranks = Vec::new();
    for rank in 0..size {
        let (senders, from): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        to.iter_mut().zip(senders).for_each(|(to, sender)| to.push(sender));
        ranks.push(ThreadRank { rank, to: Vec::new(), from });
    }
    ranks.iter_mut().zip(to).for_each(|(rank, to)| rank.to = to);
    ranks
}

impl Ranks for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()> {
        let gone = |rank: usize| Error::new(ErrorKind::Io, format!("rank {rank} is gone"));
        if !sent.is_empty() {
            self.to[to].send(sent.to_vec()).map_err(|_| gone(to))?;
        }
        if !received.is_empty() {
            let message = self.from[from].recv().map_err(|_| gone(from))?;
            if message.len() != received.len() {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("rank {from} sent {} bytes where {} were expected", message.len(), received.len()),
                ));
            }
            received.copy_from_slice(&message);
        }
        Ok(())
    }

    /// Does nothing: once this rank's thread has let go of it, the others find it gone.
    fn abort(&self, _: &Error) {}
}
