//! What a training run needs before anything of it is allocated: memory by what holds it, and multiply-adds.
//!
//! Counted from the recipe alone (`models::unet::cost`). Two things are estimates: the working memory of one operation on
//! its way back, for which the largest map stands, and the program itself. Frozen parameters count like others.

use super::optimizer::Optimizer;
use super::recipe::Recipe;
use super::state::Learning;
use crate::error::Result;
use crate::models::unet::{LevelCost, cost};

/// Maps of the largest size that exist besides those that are kept: gradients on their way, outputs, scratch.
const WORKING_MAPS: u64 = 6;
/// The program with its text encoder.
const PROGRAM: u64 = 100 << 20;

/// What a run takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Numbers that are learned.
    pub parameters: u64,
    /// Bytes that are held all the time, by what they hold.
    pub held: Vec<(&'static str, u64)>,
    /// Bytes that a step needs besides.
    pub step: Vec<(&'static str, u64)>,
    /// Bytes that saving needs besides, in place of a step's: the state once more, on its way to the disk.
    pub saving: u64,
    /// Multiply-adds of a step, all its pictures there and back.
    pub step_multiply_adds: u64,
    /// Steps of the run.
    pub steps: u64,
}

impl Plan {
    /// The plan of a recipe; `pictures` is the number of pictures that are trained on, where it is known.
    ///
    /// # Errors
    /// `Data` where the recipe contradicts itself.
    pub fn of(recipe: &Recipe, pictures: Option<u64>) -> Result<Self> {
        let (stage, config) = (&recipe.stage, &recipe.train);
        let learning = Learning::of(recipe)?;
        let levels = cost(&stage.unet, recipe.data.crop.unwrap_or(stage.size));
        let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
        let parameters = sum(|level| level.parameters);
        let moments = match learning.optimizer {
            Optimizer::Adam { .. } => 2 * parameters,
            Optimizer::Adafactor { beta1, .. } => sum(|level| level.factored_moments) + beta1.map_or(0, |_| parameters),
        };
        let (spared, again) = match config.checkpoint_blocks {
            true => (sum(|level| level.recomputable_bytes), sum(|level| level.recomputing_multiply_adds)),
            false => (0, 0),
        };
        let at_once = config.micro_batch.unwrap_or(config.batch) as u64;
        // of a part of the batch, and the sum of those before it
        let gradients = if at_once < config.batch as u64 { 2 } else { 1 };
        let largest_map = levels.iter().map(|level| level.largest_map_bytes).max().unwrap_or(0);
        let decoded = pictures.unwrap_or(0) * 3 * (stage.size * stage.size) as u64;
        let (weights, averages) = (4 * parameters, 4 * parameters * learning.averages.len() as u64);
        Ok(Self {
            parameters,
            held: vec![
                ("weights", weights),
                ("moments", 4 * moments),
                ("averages", averages),
                ("pictures", decoded.min((recipe.data.cache_mib as u64) << 20)),
                ("program", PROGRAM),
            ],
            step: vec![
                ("gradients", gradients * weights),
                ("kept maps", at_once * (sum(|level| level.activation_bytes) - spared)),
                ("working maps", WORKING_MAPS * at_once * largest_map),
            ],
            saving: weights + 4 * moments + averages,
            step_multiply_adds: config.batch as u64 * (3 * sum(|level| level.multiply_adds) + again),
            steps: config.steps,
        })
    }

    /// The most bytes at a time.
    pub fn bytes(&self) -> u64 {
        let sum = |rows: &[(&str, u64)]| rows.iter().map(|(_, bytes)| bytes).sum::<u64>();
        sum(&self.held) + sum(&self.step).max(self.saving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = include_str!("../../../../recipes/fluent-emoji/base.toml");

    fn plan(set: &[&str]) -> Plan {
        Plan::of(&Recipe::parse_with(RECIPE, set).unwrap(), None).unwrap()
    }

    fn of(rows: &[(&str, u64)], name: &str) -> u64 {
        rows.iter().find(|(row, _)| *row == name).unwrap().1
    }

    #[test]
    fn memory_follows_what_the_recipe_asks_for() {
        let whole = plan(&[]);
        let parts = plan(&["train.micro_batch=4"]);
        assert_eq!(of(&parts.step, "kept maps") * 4, of(&whole.step, "kept maps"));
        assert_eq!(of(&parts.step, "gradients"), 2 * of(&whole.step, "gradients"));
        assert_eq!(parts.step_multiply_adds, whole.step_multiply_adds);
        let again = plan(&["train.checkpoint_blocks=true"]);
        assert!(of(&again.step, "kept maps") < of(&whole.step, "kept maps"));
        assert!(again.step_multiply_adds > whole.step_multiply_adds);
        // with small batches it is saving that takes the most
        let large = plan(&["train.batch=64"]);
        assert!(plan(&["train.batch=64", "train.checkpoint_blocks=true"]).bytes() < large.bytes());
        assert!(large.bytes() > whole.bytes());
        let averages = plan(&["train.ema_half_lives=[1000, 2000]"]);
        assert_eq!(of(&averages.held, "averages"), 3 * of(&whole.held, "averages"));
        let text = RECIPE.replace("beta2 = 0.99", "optimizer = \"adafactor\"");
        let adafactor = Plan::of(&Recipe::parse(&text).unwrap(), None).unwrap();
        assert!(of(&adafactor.held, "moments") * 20 < of(&whole.held, "moments"));
        let pictures = Plan::of(&Recipe::parse(RECIPE).unwrap(), Some(1000)).unwrap();
        assert_eq!(of(&pictures.held, "pictures"), 1000 * 64 * 64 * 3);
    }
}
