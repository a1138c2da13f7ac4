//! What ranks tell each other in a step: whether to stop, what their parts of the batch came to, and the gradients.
//!
//! With one rank nothing is told, and the same sums are made in the same order.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::batch_loss::Passes;
use super::gradients::GradientSum;
use super::recipe::Recipe;
use super::report::LossByTime;
use super::state::TrainState;
use crate::data::Loader;
use crate::diffusion::Time;
use crate::error::{Error, Result};
use crate::ranks::{Group, share_of};

/// What a batch says about the weights.
pub(super) enum Outcome {
    /// The direction in which the loss grows.
    Gradients {
        /// Of the mean loss.
        sum: GradientSum,
        /// Mean over the batch.
        loss: f64,
        /// Mean cross-entropy of the auxiliary head's names, where it is trained.
        naming: Option<f64>,
        /// The loss by the pictures' times.
        by_time: LossByTime,
        /// Norm of all gradients.
        norm: f64,
    },
    /// A number is infinite or none; this says which.
    NotFinite(String),
}

/// A step's exchange, with what all ranks know after it.
pub(super) struct Exchanged {
    /// What the whole batch came to.
    pub(super) outcome: Outcome,
    /// The pictures that any rank found unusable since the step before, with the reasons.
    pub(super) skipped: Vec<(String, String)>,
    /// How long the gradients took from rank to rank.
    pub(super) exchange: Duration,
    /// How long this rank waited until the others had computed.
    pub(super) waiting: Duration,
}

/// The exchange between the ranks of a run.
pub(super) struct Exchange<'a> {
    group: &'a Group<'a>,
    /// The parts of a batch.
    parts: usize,
    /// Pictures of the batch that a part has.
    part: usize,
    batch: usize,
    /// How many of the loader's skipped pictures were looked at, and the names of all that were told.
    seen: usize,
    told: HashSet<String>,
}

/// What a rank says after its passes. Numbers go as their bits.
#[derive(Default, Serialize, Deserialize)]
struct Said {
    not_finite: Option<String>,
    losses: Vec<u64>,
    naming: Vec<u64>,
    pictures: Vec<(u64, u64)>,
    /// Whether each parameter, by the order of their names, has a gradient.
    has: Vec<u8>,
    skipped: Vec<(String, String)>,
}

impl<'a> Exchange<'a> {
    /// The exchange of a recipe's batches.
    ///
    /// # Errors
    /// `Usage` where a batch has too few parts for so many ranks.
    pub(super) fn new(group: &'a Group<'a>, recipe: &Recipe) -> Result<Self> {
        let (batch, ranks) = (recipe.train.batch, group.size());
        let part = recipe.train.micro_batch.unwrap_or(batch);
        let parts = batch.div_ceil(part);
        if parts < ranks {
            let remedy = (1..=batch / ranks).rev().find(|size| batch % size == 0);
            let remedy = match remedy {
                Some(size) => format!("cut it with --set train.micro_batch={size}, or start fewer ranks"),
                None => "start fewer ranks".to_owned(),
            };
            return Err(Error::usage(format!(
                "a batch of train.batch = {batch} pictures goes through the network in {parts} part(s), too few for {ranks} \
                 ranks: {remedy}"
            )));
        }
        Ok(Self { group, parts, part, batch, seen: 0, told: HashSet::new() })
    }

    /// The places of each batch that this rank computes.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        let parts = share_of(self.parts, self.group.rank(), self.group.size());
        parts.start * self.part..(parts.end * self.part).min(self.batch)
    }

    /// Hears who wants to stop, and whether the first rank has something to draw; and whether all could write what they had
    /// to.
    ///
    /// # Errors
    /// On all ranks alike, that of a rank that could not.
    pub(super) fn turn(&self, wrote: Result<()>, stop: bool, draw: bool) -> Result<(bool, bool)> {
        let heard = self.group.hear(wrote.map(|()| vec![u8::from(stop), u8::from(draw)]))?;
        Ok((heard.iter().any(|said| said[0] != 0), heard[0][1] != 0))
    }

    /// From the passes of each rank to the gradient of the whole batch.
    ///
    /// # Errors
    /// On all ranks alike: that of a rank that could not compute; `Data` where too many pictures cannot be used.
    pub(super) fn step(&mut self, passes: Result<Passes>, state: &TrainState, loader: &Loader) -> Result<Exchanged> {
        let lengths: Vec<(&str, usize)> =
            state.slots.iter().map(|(name, slot)| (name.as_str(), slot.shape.iter().product())).collect();
        let begun = Instant::now();
        let own = passes.map(|passes| {
            let new = loader.skipped(self.seen);
            self.seen += new.len();
            let skipped = new.into_iter().filter(|(name, _)| !self.told.contains(name)).collect();
            let said = match &passes {
                Passes::NotFinite(what) => {
                    let not_finite = Some(what.clone());
                    Said { not_finite, skipped, ..Said::default() }
                }
                Passes::Gradients { tree, losses, naming, pictures } => {
                    let there = tree.names();
                    Said {
                        not_finite: None,
                        losses: losses.iter().map(|loss| loss.to_bits()).collect(),
                        naming: naming.iter().map(|loss| loss.to_bits()).collect(),
                        pictures: pictures.iter().map(|(time, loss)| (time.get().to_bits(), loss.to_bits())).collect(),
                        has: lengths.iter().map(|(name, _)| u8::from(there.contains(name))).collect(),
                        skipped,
                    }
                }
            };
            (passes, said)
        });
        let (passes, said) = match own {
            Ok((passes, said)) => (Some(passes), Ok(said)),
            Err(error) => (None, Err(error)),
        };
        let said = self.hear(said)?;
        let waiting = begun.elapsed();
        let skipped: Vec<_> = said.iter().flat_map(|said| said.skipped.iter().cloned()).collect();
        self.learn(&skipped, loader)?;
        let begun = Instant::now();
        let outcome = self.outcome(passes.expect("this rank has said no error"), &said, &lengths, state)?;
        let alone = self.group.size() == 1;
        let [exchange, waiting] = [begun.elapsed(), waiting].map(|time| if alone { Duration::ZERO } else { time });
        Ok(Exchanged { outcome, skipped, exchange, waiting })
    }

    fn hear(&self, said: Result<Said>) -> Result<Vec<Said>> {
        if self.group.size() == 1 {
            return said.map(|said| vec![said]);
        }
        let heard = self.group.hear(said.map(|said| serde_json::to_vec(&said).expect("plain data")))?;
        let read = |said: &Vec<u8>| {
            serde_json::from_slice(said).map_err(|e| Error::usage("a rank says what cannot be read").with_source(e))
        };
        heard.iter().map(read).collect()
    }

    /// Takes in what other ranks found unusable.
    fn learn(&mut self, skipped: &[(String, String)], loader: &Loader) -> Result<()> {
        if self.group.size() == 1 || skipped.is_empty() {
            return Ok(());
        }
        self.told.extend(skipped.iter().map(|(name, _)| name.clone()));
        // each rank may have found out another one, and only together they are too many
        self.group.agree(loader.learn_skipped(skipped))
    }

    fn outcome(&self, passes: Passes, said: &[Said], lengths: &[(&str, usize)], state: &TrainState) -> Result<Outcome> {
        if let Some(what) = said.iter().find_map(|said| said.not_finite.as_ref()) {
            return Ok(Outcome::NotFinite(what.clone()));
        }
        let Passes::Gradients { tree, .. } = passes else {
            unreachable!("no rank has said that a number is not finite")
        };
        let mean = |parts: &mut dyn Iterator<Item = &u64>| {
            let share = |place: usize| self.part.min(self.batch - place * self.part) as f64 / self.batch as f64;
            parts.enumerate().fold(0.0, |sum, (place, value)| sum + share(place) * f64::from_bits(*value))
        };
        let loss = mean(&mut said.iter().flat_map(|said| &said.losses));
        let named = said.iter().any(|said| !said.naming.is_empty());
        let naming = named.then(|| mean(&mut said.iter().flat_map(|said| &said.naming)));
        let mut by_time = LossByTime::default();
        for (time, loss) in said.iter().flat_map(|said| &said.pictures) {
            by_time.add(Time::new(f64::from_bits(*time))?, f64::from_bits(*loss));
        }
        let present = lengths.iter().enumerate().filter(|(i, _)| said.iter().any(|said| said.has[*i] != 0));
        let present: BTreeMap<&str, usize> = present.map(|(_, length)| *length).collect();
        let sum = tree.total(self.group, self.parts, &present, state.device())?;
        match sum.norm() {
            Ok(norm) => Ok(Outcome::Gradients { sum, loss, naming, by_time, norm }),
            Err(error) => Ok(Outcome::NotFinite(error.to_string())),
        }
    }
}
