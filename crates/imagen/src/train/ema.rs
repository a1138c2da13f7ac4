//! Moving averages of the weights: which ones a run keeps. Several cost one pass over memory each, and their lengths can
//! be compared afterwards.
//!
//! A decay is given by itself (`train.ema_decay`, per step) or as a half-life in pictures (`train.ema_half_lives`), which
//! means the same for every batch size.

use super::config::TrainConfig;
use crate::error::{Error, Result};

/// One moving average.
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    /// Its number as the recipe writes it: a decay below 1, or a half-life in pictures.
    pub name: String,
    /// What a step leaves of the old average.
    pub decay: f64,
}

impl Average {
    /// The averages that a recipe asks for; the first is the one that is drawn with.
    ///
    /// # Errors
    /// `Data` where there is none, one is out of range or two are the same.
    pub fn of(config: &TrainConfig) -> Result<Vec<Self>> {
        let fail = |message: &str| Err(Error::data(format!("train: {message}")));
        let decays = config.ema_decay.into_iter().map(|decay| Self { name: decay.to_string(), decay });
        let half_lives = config.ema_half_lives.iter().map(|pictures| Self {
            name: pictures.to_string(),
            decay: 0.5f64.powf(config.batch as f64 / *pictures as f64),
        });
        let averages: Vec<Self> = decays.chain(half_lives).collect();
        if averages.is_empty() {
            return fail("give ema_decay (e.g. 0.999) or ema_half_lives (in pictures, e.g. [10000, 50000])");
        }
        if averages.iter().any(|average| !(0.0..1.0).contains(&average.decay)) || config.ema_half_lives.contains(&0) {
            return fail("0 ≤ ema_decay < 1; ema_half_lives are at least 1 picture");
        }
        let twice = |i: usize| averages[..i].iter().any(|average| average.name == averages[i].name);
        match (0..averages.len()).find(|&i| twice(i)) {
            Some(i) => fail(&format!("ema_half_lives names {} twice", averages[i].name)),
            None => Ok(averages),
        }
    }

    /// The decay of update `number`, counted from 1: at most (1 + n)/(10 + n), so that early averages are not of random
    /// weights.
    pub(super) fn decay_at(&self, number: u64) -> f64 {
        let n = number as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }
}

/// What an average's tensors begin with in a state's file; the first of a run is plain `ema`.
pub(super) fn prefix(averages: &[Average], index: usize) -> String {
    if index == 0 { "ema".to_owned() } else { format!("ema[{}]", averages[index].name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Recipe;

    const RECIPE: &str = include_str!("../../../../recipes/shapes/base.toml");

    #[test]
    fn a_half_life_is_the_number_of_pictures_after_which_half_is_left() {
        let recipe = Recipe::parse_with(RECIPE, &["train.ema_half_lives=[320, 6400]"]).unwrap();
        let averages = Average::of(&recipe.train).unwrap();
        assert_eq!(averages.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["0.998", "320", "6400"]);
        assert!((averages[1].decay.powi(320 / 16) - 0.5).abs() < 1e-12);
        assert!((averages[2].decay_at(1_000_000).powi(6400 / 16) - 0.5).abs() < 1e-12);
        assert_eq!(averages[2].decay_at(1), 2.0 / 11.0);
        assert_eq!((0..2).map(|i| prefix(&averages, i)).collect::<Vec<_>>(), ["ema", "ema[320]"]);
    }

    #[test]
    fn a_run_without_an_average_or_with_two_of_a_name_is_refused() {
        for (from, to) in [
            ("ema_decay = 0.998", ""),
            ("ema_decay = 0.998", "ema_decay = 1.0"),
            ("ema_decay = 0.998", "ema_half_lives = [0]"),
            ("ema_decay = 0.998", "ema_half_lives = [5, 5]"),
        ] {
            let error = Recipe::parse(&RECIPE.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains("ema_"), "{to}: {error:#}");
        }
    }
}
