//! Validation: the loss on pictures that are not trained on, with the averaged weights and always the same noise, so that
//! two moments of a run can be compared; the best moment's weights are kept as a stage of their own.

use std::rc::Rc;

use super::batch_loss::BatchLoss;
use super::run::Run;
use super::state::{Best, TrainState};
use super::texts::Texts;
use crate::data::{Loader, Source};
use crate::error::Result;
use crate::models::unet::Unet;
use crate::rng::Rng;

/// Stream of the run's seed.
const VALIDATION: u64 = 0x104;

/// The held-out pictures with their noise.
pub(super) struct Validation<'a> {
    loader: Loader,
    loss: BatchLoss<'a>,
    batches: u64,
}

impl<'a> Validation<'a> {
    /// Of these pictures, as many as the recipe asks for; `texts` has the embeddings of their captions.
    pub(super) fn new(run: &'a Run, source: Source, texts: Option<Rc<Texts<'a>>>) -> Result<Self> {
        let config = &run.recipe.train;
        let pictures = config.validate_pictures.min(source.examples().len());
        let batch = config.micro_batch.unwrap_or(config.batch).min(pictures);
        let mut recipe = run.recipe.clone();
        // each picture once, under its own caption, without the names of what is in it
        (recipe.train.batch, recipe.data.by_concept, recipe.data.canonical_prob) = (batch, false, 1.0);
        recipe.train.naming_weight = 0.0;
        let loader = recipe.loader(source)?;
        let loss = BatchLoss::new(&run.recipe, Rng::new(config.seed).fold(VALIDATION), texts, 0.0);
        Ok(Self { loader, loss, batches: (pictures / batch) as u64 })
    }

    /// The mean loss of the averaged weights, and whether it is the best so far (then the state remembers it).
    pub(super) fn run(&self, averaged: &Unet, state: &mut TrainState) -> Result<(f64, bool)> {
        let mut total = 0.0;
        for number in 0..self.batches {
            let batch = self.loader.batch_at(number * self.loader.batch_size() as u64)?;
            total += self.loss.value(averaged, &batch, number, state.device())?;
        }
        let loss = total / self.batches as f64;
        let better = loss.is_finite() && state.log.best.is_none_or(|best| loss < best.loss);
        if better {
            state.log.best = Some(Best { step: state.step, loss });
        }
        Ok((loss, better))
    }
}
