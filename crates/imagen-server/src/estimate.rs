//! How long drawing takes, learnt from what was drawn: multiply-adds a second, stage by stage.

use std::collections::BTreeMap;
use std::time::Duration;

use imagen::cascade::StageName;

use crate::begin::BeginOrder;
use crate::wire::{ModelView, Order};

/// Multiply-adds a second of a machine that nothing is known of yet.
const GUESS: f64 = 3e10;
/// How much a new measurement counts.
const NEW: f64 = 0.2;

/// What was learnt.
#[derive(Debug, Default)]
pub(crate) struct Estimate(BTreeMap<(String, StageName), f64>);

impl Estimate {
    /// A batch of `pictures`, each so much work beside a square one, took so long for one step.
    pub(crate) fn learn(&mut self, model: &ModelView, stage: StageName, pictures: f64, took: Duration) {
        let work = model.stages.iter().find(|view| view.stage == stage).map_or(0, |view| view.multiply_adds);
        let rate = work as f64 * pictures / took.as_secs_f64().max(1e-6);
        if rate > 0.0 {
            let known = self.0.entry((model.name.clone(), stage)).or_insert(rate);
            *known += NEW * (rate - *known);
        }
    }

    /// Seconds of one step of one picture.
    pub(crate) fn step(&self, model: &ModelView, stage: StageName) -> f64 {
        let work = model.stages.iter().find(|view| view.stage == stage).map_or(0, |view| view.multiply_adds);
        work as f64 / self.0.get(&(model.name.clone(), stage)).copied().unwrap_or(GUESS)
    }

    /// Seconds of a settled order of pictures of this size.
    pub(crate) fn order(&self, model: &ModelView, order: &Order, size: f64) -> f64 {
        let until = order.until.unwrap_or(model.default_until);
        let stage = |view: &crate::wire::StageView| {
            let steps = order.stages.get(&view.stage).and_then(|order| order.steps).unwrap_or(view.defaults.steps);
            steps as f64 * self.step(model, view.stage)
        };
        let running = model.running(until).filter(|view| order.from.is_none_or(|from| view.stage >= from));
        let begun = order.begin.as_ref().filter(|_| order.from.is_none());
        let effort = begun.map_or(1.0, BeginOrder::effort) * size;
        running.map(stage).sum::<f64>() * effort * order.all_seeds().len() as f64
    }
}
