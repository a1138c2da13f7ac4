//! What ranks do together: each hears all, and what fails on one ends in the same error on all.

use std::cell::Cell;

use super::Ranks;
use crate::error::{Error, ErrorKind, Result};

/// The kinds of errors by the number that goes between ranks.
const KINDS: [ErrorKind; 6] =
    [ErrorKind::Usage, ErrorKind::Data, ErrorKind::Model, ErrorKind::Memory, ErrorKind::Io, ErrorKind::NonFinite];

/// First byte of what a rank says: that it is well, or of what kind its error is, from 1 on.
const WELL: u8 = 0;

/// The ranks of a job, as one of them sees them.
pub struct Group<'a> {
    ranks: &'a dyn Ranks,
    /// Whether all ranks know of the error that this one returns.
    agreed: Cell<bool>,
}

impl<'a> Group<'a> {
    /// The ranks that these are connected with.
    pub fn new(ranks: &'a dyn Ranks) -> Self {
        Self { ranks, agreed: Cell::new(false) }
    }

    /// This rank's number.
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// Whether this is the rank that writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Does the work of one rank of the group. An error that the others do not know of ends the whole job, for they wait for
    /// this rank.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn run<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let done = work(self);
        if let Err(error) = &done
            && self.size() > 1
            && !self.agreed.get()
        {
            self.ranks.abort(error);
        }
        done
    }

    /// What every rank says, in their order.
    ///
    /// # Errors
    /// On all ranks alike: that of the first rank that says an error, with its name. `Io` where a rank is gone.
    pub fn hear(&self, own: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        if self.size() == 1 {
            return own.map(|said| vec![said]);
        }
        let mut framed = match &own {
            Ok(_) => vec![WELL],
            Err(error) => {
                let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
                let mut framed = vec![kind as u8 + 1];
                framed.extend_from_slice(self.ranks.name().as_bytes());
                framed.push(0);
                framed.extend_from_slice(format!("{error:#}").as_bytes());
                framed
            }
        };
        framed.extend(own.iter().flatten());
        let mut heard = self.gather(framed)?;
        if let Some(error) = first_error(&heard) {
            self.agreed.set(true);
            return Err(error);
        }
        heard.iter_mut().for_each(|said| _ = said.remove(0));
        Ok(heard)
    }

    /// Its own value, once every rank has one.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        let (value, error) = match own {
            Ok(value) => (Some(value), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        self.hear(error)?;
        Ok(value.expect("a rank without a value has said an error"))
    }

    /// Lets the first rank do something while the others wait; none on those.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn by_first<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.agree(if self.is_first() { work().map(Some) } else { Ok(None) })
    }

    /// An error that every rank has come to by itself, from what it heard.
    pub fn all_fail(&self, error: Error) -> Error {
        self.agreed.set(true);
        error
    }

    /// Refuses ranks that differ: each says what it has, as (what, digest).
    ///
    /// # Errors
    /// On all alike, `Usage`, naming the first rank that differs from the first, and in what.
    pub fn same(&self, own: Result<Vec<(String, String)>>) -> Result<()> {
        if self.size() == 1 {
            return own.map(drop);
        }
        let said = own.map(|own| {
            serde_json::to_vec(&(self.ranks.name(), self.ranks.program(), own)).expect("names are plain data")
        });
        let heard = self.hear(said)?;
        let read = |said: &Vec<u8>| -> (String, String, Vec<(String, String)>) {
            serde_json::from_slice(said).unwrap_or_default()
        };
        let heard: Vec<_> = heard.iter().map(read).collect();
        let (first, program, has) = &heard[0];
        for (name, other, other_has) in &heard[1..] {
            if program != other {
                return Err(self.all_fail(Error::usage(format!(
                    "{name} runs {other}, {first} runs {program}: start the same program everywhere, and where processors differ \
                     give all of them what the least of them has (IMAGEN_MAX_ISA)"
                ))));
            }
            for ((what, digest), (_, of_other)) in has.iter().zip(other_has) {
                if digest != of_other {
                    return Err(self.all_fail(Error::usage(format!(
                        "{name} has another {what} ({of_other}) than {first} ({digest}): ranks need the same files, best in a \
                         folder that all of them share"
                    ))));
                }
            }
        }
        Ok(())
    }

    /// Sends a message of any length.
    ///
    /// # Errors
    /// `Io` where the other is gone.
    pub fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.ranks.exchange(to, &(message.len() as u64).to_le_bytes(), to, &mut [])?;
        self.ranks.exchange(to, message, to, &mut [])
    }

    /// Receives what [`Self::send`] sent.
    ///
    /// # Errors
    /// `Io` where the other is gone.
    pub fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let mut length = [0; 8];
        self.ranks.exchange(from, &[], from, &mut length)?;
        let mut message = vec![0; u64::from_le_bytes(length) as usize];
        self.ranks.exchange(from, &[], from, &mut message)?;
        Ok(message)
    }

    /// In every round each rank exchanges with two others, so that all of them are at work: `exchange(to, from)`.
    pub(super) fn rounds(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rank, size) = (self.rank(), self.size());
        (1..size).map(move |far| ((rank + far) % size, (rank + size - far) % size))
    }

    pub(super) fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()> {
        self.ranks.exchange(to, sent, from, received)
    }

    /// Messages of all ranks, of any length, in their order.
    fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let mut all = vec![Vec::new(); self.size()];
        for (to, from) in self.rounds() {
            let mut length = [0; 8];
            self.exchange(to, &(own.len() as u64).to_le_bytes(), from, &mut length)?;
            let mut message = vec![0; u64::from_le_bytes(length) as usize];
            self.exchange(to, &own, from, &mut message)?;
            all[from] = message;
        }
        all[self.rank()] = own;
        Ok(all)
    }
}

/// The error of the first rank that says one; without its name where all say the same.
fn first_error(heard: &[Vec<u8>]) -> Option<Error> {
    let parsed: Vec<Option<(ErrorKind, String, String)>> = heard
        .iter()
        .map(|said| {
            let (&kind, text) = said.split_first()?;
            let kind = *KINDS.get(usize::from(kind).checked_sub(1)?)?;
            let text = String::from_utf8_lossy(text);
            let (name, message) = text.split_once('\0')?;
            Some((kind, name.to_owned(), message.to_owned()))
        })
        .collect();
    let (kind, name, message) = parsed.iter().flatten().next()?;
    let all_alike = parsed.iter().all(|said| said.as_ref().is_some_and(|(_, _, other)| other == message));
    let error = Error::new(*kind, message.clone());
    Some(if all_alike { error } else { error.context(name.clone()) })
}
