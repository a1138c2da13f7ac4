//! A recipe: everything that a training run is a function of, as one TOML file.
//!
//! Unknown keys are errors (`keys` says what was meant). Paths are relative to the directory in which the program runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::{DataConfig, TrainConfig};
use super::ema::Average;
use super::keys;
use super::lora::LoraConfig;
use super::optimizer::Optimizer;
use crate::cascade::{NetworkKind, StageConfig};
use crate::data::{Deal, Loader, LoaderOptions, Source, Transform};
use crate::error::{Context, Error, Result};
use crate::files::write_whole;
use crate::input;

/// A training recipe for one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained; becomes the header of its weights.
    pub stage: StageConfig,
    /// The pictures and captions.
    pub data: DataConfig,
    /// The loop.
    pub train: TrainConfig,
}

/// The most bytes of a recipe.
const MAX_BYTES: u64 = 1 << 20;

/// Numbers beyond which a recipe is mistaken.
const MAX_BATCH: usize = 1 << 20;
const MAX_STEPS: u64 = 1 << 40;

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// `Io` where the file cannot be read; `Data` with line and column where it is no recipe.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &[] as &[&str])
    }

    /// Reads a recipe in which some values are replaced: `train.lr=1e-4`, `stage.unet.levels.0.channels=32`.
    ///
    /// # Errors
    /// As [`Self::read`]; `Usage` where an assignment cannot be read or names a key that there is not.
    pub fn read_with<S: AsRef<str>>(path: &Path, assignments: &[S]) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::usage(format!(
                "{} is a folder, and a recipe is a TOML file: `imagen recipe new --data FOLDER` writes one for a set of pictures",
                path.display()
            )));
        }
        let bytes = input::read(path, MAX_BYTES)?;
        let parse = || Self::parse_with(&input::text(&bytes)?.text, assignments);
        parse().context(|| format!("recipe {}", path.display()))
    }

    /// Parses and validates a recipe.
    ///
    /// ```
    /// use imagen::train::Recipe;
    ///
    /// let recipe = Recipe::parse(include_str!("../../../../recipes/shapes/base.toml"))?;
    /// assert_eq!((recipe.stage.size, recipe.train.batch), (32, 16));
    /// assert!(Recipe::parse("[stage]\nsize = \"large\"").is_err());
    /// # Ok::<(), imagen::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Data` where it is no recipe or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &[] as &[&str])
    }

    /// [`Self::parse`] with some values replaced, as in [`Self::read_with`].
    ///
    /// # Errors
    /// As [`Self::parse`]; `Usage` where an assignment cannot be read or names a key that there is not.
    pub fn parse_with<S: AsRef<str>>(text: &str, assignments: &[S]) -> Result<Self> {
        let recipe: Self = keys::parse(text, assignments)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Writes the recipe with every default spelt out, whole or not at all.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, |file| file.write_all(self.to_toml().as_bytes())).map_err(|e| Error::io("write", path, e))
    }

    /// What tells this recipe from others: eight digits that depend on every value of which a step is a function. How
    /// many steps there are is none of them, unless the learning rate falls towards the last, nor is what is saved when.
    pub fn digest(&self) -> String {
        let mut step = self.clone();
        if !step.train.cosine_decay {
            step.train.steps = 0;
        }
        (step.train.checkpoint_every, step.train.sample_every, step.data.cache_mib) = (0, 0, 0);
        (step.train.keep_last, step.train.validate_every, step.train.validate_pictures) = (0, 0, 0);
        (step.train.log_every, step.train.probe_every, step.train.enlarge_pictures) = (1, None, 0);
        step.train.sample_prompts.clear();
        step.train.device = None;
        format!("{:08x}", crc32fast::hash(step.to_toml().as_bytes()))
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is plain data")
    }

    /// The values that differ from those of another recipe, as `key = value (was value)`; how many steps there are is none, nor
    /// is where they are taken.
    pub fn changes_from(&self, before: &Self) -> Vec<String> {
        let mut changes = changes("", self, before);
        changes.retain(|change| !["train.steps = ", "train.device = "].iter().any(|key| change.starts_with(key)));
        changes
    }

    fn validate(&self) -> Result<()> {
        self.stage.validate().context(|| "stage")?;
        if self.stage.network != NetworkKind::Own {
            return Err(Error::usage(
                "stage.network = \"imagen-pytorch\" is for converted weights, which are drawn from and not trained; leave it out",
            ));
        }
        let t = &self.train;
        let fail = |message: &str| Err(Error::data(message.to_owned()));
        if t.batch == 0 || t.steps == 0 {
            return fail("train: batch and steps must be at least 1");
        }
        if t.batch > MAX_BATCH || t.steps > MAX_STEPS {
            return fail(&format!("train: expected a batch of at most {MAX_BATCH} and at most {MAX_STEPS} steps"));
        }
        if t.log_every == 0 {
            return fail("train.log_every must be at least 1: metrics.jsonl gets a line every so many steps");
        }
        if t.micro_batch.is_some_and(|m| m == 0 || t.batch % m != 0) {
            let (part, batch) = (t.micro_batch.unwrap_or_default(), t.batch);
            return fail(&format!("train.micro_batch = {part} must divide train.batch = {batch}"));
        }
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        if t.lr == 0.0 || !below_one(t.lr) {
            return fail("train: 0 < lr < 1");
        }
        Optimizer::of(t)?;
        Average::of(t)?;
        t.lora.as_ref().map_or(Ok(()), LoraConfig::validate)?;
        if !(0.0..=1.0).contains(&t.text_drop_prob) || t.clip_norm.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return fail("train: text_drop_prob is a probability, clip_norm is above 0");
        }
        if !(t.naming_weight.is_finite() && t.naming_weight >= 0.0) {
            return fail("train.naming_weight is at least 0");
        }
        if self.names_things() && (self.data.crop.is_some() || self.stage.low_size.is_some()) {
            return fail("train.naming_weight names what is where in whole pictures: it is for base stages");
        }
        if t.checkpoint_every == 0 || t.keep_last == 0 || t.validate_pictures == 0 || t.max_skipped == 0 {
            return fail("train: checkpoint_every, keep_last, validate_pictures and max_skipped must be at least 1");
        }
        let parts = [self.data.max_bad, self.data.canonical_prob];
        if parts.iter().any(|part| !(0.0..=1.0).contains(part)) {
            return fail("data: max_bad and canonical_prob are from 0 to 1");
        }
        if let Some(crop) = self.data.crop {
            let unit = self.stage.unet.granularity();
            let scale = self.stage.low_size.map(|low| self.stage.size / low);
            let fits = crop > 0 && crop <= self.stage.size && crop % unit == 0;
            if self.stage.unet.side().is_some() {
                return fail("data.crop: a network with learned positions needs whole pictures; remove one of the two");
            }
            if !fits || scale.is_none_or(|scale| crop % scale != 0) {
                return fail(
                    "data.crop is for super-resolution stages: at most stage.size, a multiple of the network's \
                     granularity and of size / low_size",
                );
            }
        }
        Ok(())
    }

    /// How pictures become the stage's examples.
    pub(super) fn transform(&self) -> Transform {
        let (stage, data) = (&self.stage, &self.data);
        Transform {
            size: stage.size,
            low_size: stage.low_size,
            crop: data.crop,
            flip: data.flip,
            channels: stage.unet.image_channels,
            ..Transform::default()
        }
    }

    /// What deals the pictures of a set as the recipe says.
    pub(super) fn loader(&self, source: Source) -> Result<Loader> {
        let data = &self.data;
        let deal = Deal {
            batch: self.train.batch,
            seed: self.train.seed,
            by_concept: data.by_concept,
            canonical_prob: data.canonical_prob,
            min_side: data.min_side,
            max_bad: data.max_bad,
            cells: if self.names_things() { self.stage.size / self.stage.unet.granularity() } else { 0 },
        };
        let options = LoaderOptions { cache_bytes: data.cache_mib << 20, ..LoaderOptions::default() };
        Loader::with_options(source, self.transform(), deal, options)
    }

    /// Whether the auxiliary head is trained.
    pub(super) fn names_things(&self) -> bool {
        self.train.naming_weight > 0.0
    }

    /// Whether the auxiliary head fits the set that it is trained on.
    ///
    /// # Errors
    /// `Data` where nobody knows what is in the pictures, or the head tells another number of things apart.
    pub(super) fn check_naming(&self, pictures: &Source) -> Result<()> {
        if !self.names_things() {
            return Ok(());
        }
        let Some(world) = pictures.world() else {
            return Err(Error::data(
                "train.naming_weight needs a composed world, which knows what is where in its pictures: leave it out",
            ));
        };
        let (things, own) = (world.thing_count(), self.stage.unet.things);
        if things == own {
            return Ok(());
        }
        Err(Error::data(format!(
            "stage.unet.things = {own}, but {} has {things} with the background: set it to that",
            pictures.folder().display()
        )))
    }

    /// Learning rate of step `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let t = &self.train;
        if step < t.warmup {
            return t.lr * (step + 1) as f64 / t.warmup as f64;
        }
        if !t.cosine_decay {
            return t.lr;
        }
        let progress = (step - t.warmup) as f64 / (t.steps.saturating_sub(t.warmup)).max(1) as f64;
        t.lr * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
    }
}

/// The values of `now` that differ from those of `before`, as `key = value (was value)`, their keys below `path`.
pub(super) fn changes<T: Serialize>(path: &str, now: &T, before: &T) -> Vec<String> {
    fn leaves(value: &toml::Value, path: &str, into: &mut BTreeMap<String, String>) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| leaves(value, &below(key), into)),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                list.iter().enumerate().for_each(|(i, value)| leaves(value, &below(&i.to_string()), into));
            }
            leaf => drop(into.insert(path.to_owned(), leaf.to_string())),
        }
    }
    let [new, old] = [now, before].map(|values| {
        let mut found = BTreeMap::new();
        leaves(&toml::Value::try_from(values).expect("a recipe is plain data"), path, &mut found);
        found
    });
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key))
        .map(|key| format!("{key} = {} (was {})", shown(new.get(key)), shown(old.get(key))))
        .collect()
}
