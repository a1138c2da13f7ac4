//! What a client asks for, and how what it leaves open is settled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use imagen::cascade::{Request, StageName, StageOptions, Subject, Toward};
use imagen::diffusion::{AugLevel, Interval, Sampler, Spacing, Thresholding, Timesteps};
use imagen::nn::Precision;

use super::model::ModelView;
use crate::begin::{self, BeginOrder, Vary};
use crate::ids;
use crate::limits::Limits;
use crate::problem::Problem;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// What to draw.
    pub(crate) prompt: String,
    /// One of the studio's models; the first by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// What is kept away from, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) negative: Option<String>,
    /// Pictures; 1, or as many as there are `seeds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<usize>,
    /// Seed of the first picture, the others count up from it; random by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// A seed for each picture, in place of `count` and `seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seeds: Option<Vec<u64>>,
    /// Another seed for the stages that enlarge, counting up as `seed` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sr_seed: Option<u64>,
    /// One of those for each picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sr_seeds: Option<Vec<u64>>,
    /// Variations of one seed: the seeds say where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vary: Option<Vary>,
    /// A picture to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begin: Option<BeginOrder>,
    /// The first stage that draws, where it is one that enlarges what the order begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<StageName>,
    /// The last stage that draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<StageName>,
    /// Departures from what the stages suggest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) stages: BTreeMap<StageName, StageOrder>,
    /// Pictures that are drawn together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
}

/// How a stage is to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timesteps: Option<Timesteps>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guidance: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guidance_interval: Option<Interval>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guidance_rescale: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spacing: Option<Spacing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sampler: Option<Sampler>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thresholding: Option<Thresholding>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aug_level: Option<AugLevel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) precision: Option<Precision>,
}

impl StageOrder {
    pub(crate) fn options(&self) -> StageOptions {
        let Self { steps, timesteps, guidance, guidance_interval, guidance_rescale, spacing, sampler, .. } = *self;
        let Self { thresholding, aug_level, precision, .. } = *self;
        StageOptions {
            steps,
            timesteps,
            guidance,
            guidance_interval,
            guidance_rescale,
            spacing,
            sampler,
            thresholding,
            aug_level,
            precision,
        }
    }
}

impl Order {
    /// What is drawn, with everything chosen that the client left open; the order says it then too.
    pub(crate) fn settle(&mut self, models: &[ModelView], limits: &Limits) -> Result<(), Problem> {
        self.prompt = self.prompt.trim().to_owned();
        let characters = self.prompt.chars().count();
        if self.prompt.contains('\0') {
            return Err(Problem::invalid(
                "prompt",
                "prompt holds a NUL character, which no picture can keep: remove it",
            ));
        }
        at_most("prompt", "characters", characters, limits.prompt_characters)?;
        self.negative = self.negative.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(negative) = &self.negative {
            if negative.contains('\0') {
                return Err(Problem::invalid("negative", "negative holds a NUL character: remove it"));
            }
            at_most("negative", "characters", negative.chars().count(), limits.prompt_characters)?;
        }
        let name = self.model.get_or_insert_with(|| models[0].name.clone());
        let Some(model) = models.iter().find(|model| model.name == *name) else {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let names = names.join(", ");
            return Err(Problem::invalid("model", format!("there is no such model here; there are: {names}")));
        };
        let until = *self.until.get_or_insert(model.default_until);
        if !model.stages.iter().any(|stage| stage.stage == until) {
            let names: Vec<&str> = model.stages.iter().map(|stage| stage.stage.name()).collect();
            return Err(Problem::invalid(
                "until",
                format!("{} has no stage {until}; it has {}", model.name, names.join(", ")),
            ));
        }
        self.settle_seeds(limits)?;
        let stages: Vec<StageName> = model.stages.iter().map(|stage| stage.stage).collect();
        begin::settle((&mut self.from, &mut self.begin), (&model.name, &stages), until, limits)?;
        let (first, from) = (model.stages[0].stage, self.from);
        if from.is_none() && until == first {
            // nothing is enlarged
            self.sr_seeds = None;
        }
        if let Some(batch) = self.batch {
            within("batch", batch, 1, limits.batch)?;
        }
        self.stages.retain(|_, order| *order != StageOrder::default());
        for (name, order) in &self.stages {
            let mut running = model.running(until).filter(|stage| from.is_none_or(|from| stage.stage >= from));
            let Some(stage) = running.find(|stage| stage.stage == *name) else {
                let begins = from.map_or_else(String::new, |from| format!("from {from} "));
                let message = format!("there are settings for {name}, but only stages {begins}up to {until} run");
                return Err(Problem::invalid("stages", message));
            };
            if let Some(steps) = order.steps {
                within("steps", steps, 1, limits.steps)?;
            }
            if order.guidance.is_some_and(|guidance| !(0.0..=limits.guidance).contains(&guidance)) {
                return Err(Problem::invalid("guidance", format!("guidance: expected 0 to {}", limits.guidance)));
            }
            order.options().over(&stage.defaults)?;
        }
        Ok(())
    }

    fn settle_seeds(&mut self, limits: &Limits) -> Result<(), Problem> {
        let seeds = match self.seeds.take() {
            Some(_) if self.seed.is_some() || self.count.is_some() => {
                return Err(Problem::invalid(
                    "seeds",
                    "seeds stands in place of seed and count: give one or the other",
                ));
            }
            Some(seeds) => seeds,
            None => {
                let count = self.count.unwrap_or(1);
                within("count", count, 1, limits.count)?;
                let first = self.seed.unwrap_or_else(ids::random_seed);
                (0..count as u64).map(|k| first.saturating_add(k)).collect()
            }
        };
        within("seeds", seeds.len(), 1, limits.count)?;
        if seeds.iter().any(|seed| *seed > limits.seed) {
            return Err(Problem::invalid("seed", format!("seeds are whole numbers from 0 to {}", limits.seed)));
        }
        self.sr_seeds = match (self.sr_seeds.take(), self.sr_seed.take()) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("sr_seeds", "sr_seeds stands in place of sr_seed: give one or the other"));
            }
            (None, first) => first.map(|first| (0..seeds.len() as u64).map(|k| first.saturating_add(k)).collect()),
            (given, None) => given,
        };
        let enlarging = self.sr_seeds.iter().flatten();
        if self.sr_seeds.as_ref().is_some_and(|given| given.len() != seeds.len()) {
            return Err(Problem::invalid("sr_seeds", format!("sr_seeds: expected {}, one a picture", seeds.len())));
        }
        if enlarging.chain(self.vary.as_ref().map(|vary| &vary.seed)).any(|seed| *seed > limits.seed) {
            return Err(Problem::invalid("seed", format!("seeds are whole numbers from 0 to {}", limits.seed)));
        }
        if self.vary.is_some_and(|vary| !(0.0..=1.0).contains(&vary.part)) {
            return Err(Problem::invalid("vary", "vary: expected a part from 0 to 1"));
        }
        (self.seed, self.count, self.seeds) = (None, None, Some(seeds));
        Ok(())
    }

    /// The seeds of a settled order.
    pub(crate) fn all_seeds(&self) -> &[u64] {
        self.seeds.as_deref().unwrap_or_default()
    }

    /// What picture `index` alone was asked for with.
    pub(crate) fn only(&self, index: usize) -> Self {
        let mut one = self.clone();
        for seeds in [&mut one.seeds, &mut one.sr_seeds] {
            *seeds = seeds.as_ref().and_then(|seeds| seeds.get(index)).map(|seed| vec![*seed]);
        }
        one
    }

    /// The library's request, without the picture that it begins with.
    pub(crate) fn request(&self) -> Request {
        let subject = |(k, seed): (usize, &u64)| {
            let enlarging = self.sr_seeds.as_ref().and_then(|seeds| seeds.get(k).copied());
            match self.vary {
                Some(Vary { seed: from, part }) => Subject {
                    enlarging,
                    toward: Some(Toward { prompt: 0, seed: *seed, part }),
                    ..Subject::new(0, from)
                },
                None => Subject { enlarging, ..Subject::new(0, *seed) },
            }
        };
        let pictures = self.all_seeds().iter().enumerate().map(subject).collect();
        Request {
            from: self.from,
            prompts: vec![self.prompt.clone()],
            negative: self.negative.iter().cloned().collect(),
            pictures,
            options: self.stages.iter().map(|(stage, order)| (*stage, order.options())).collect(),
            until: self.until,
            batch: self.batch,
            ..Request::default()
        }
    }
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Problem::invalid(name, format!("{name} = {value}: expected {least} to {most}")))
    }
}

fn at_most(name: &str, what: &str, value: usize, most: usize) -> Result<(), Problem> {
    if value <= most {
        Ok(())
    } else {
        Err(Problem::invalid(name, format!("{name} has {value} {what}: at most {most} are read")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StageView;
    use axum::http::StatusCode;
    use imagen::cascade::StageSettings;

    fn models() -> Vec<ModelView> {
        let stage = |stage, size, on_request| StageView {
            stage,
            size,
            defaults: StageSettings::default(),
            max_guidance: None,
            on_request,
            trained_steps: Some(1),
            parameters: 1,
            memory: 1,
            multiply_adds: 1,
        };
        let stages = vec![stage(StageName::Base, 64, false), stage(StageName::Sr256, 256, true)];
        let (name, examples) = ("one".into(), Vec::new());
        vec![ModelView { name, stages, default_until: StageName::Base, examples, checked: false, square: true }]
    }

    fn settled(json: &str) -> Result<Order, Problem> {
        let mut order: Order = serde_json::from_str(json).unwrap();
        order.settle(&models(), &Limits::default()).map(|()| order)
    }

    #[test]
    fn what_is_left_open_is_chosen_and_said() {
        let order = settled(r#"{"prompt": " a cat "}"#).unwrap();
        assert_eq!((order.prompt.as_str(), order.model.as_deref()), ("a cat", Some("one")));
        assert_eq!((order.until, order.all_seeds().len()), (Some(StageName::Base), 1));
        let order = settled(r#"{"prompt": "a", "count": 3, "seed": 7}"#).unwrap();
        assert_eq!(order.all_seeds(), [7, 8, 9]);
        let again: Order = serde_json::from_str(&serde_json::to_string(&order).unwrap()).unwrap();
        assert_eq!(again, order, "a settled order is an order");
        let mut settled_again = again.clone();
        settled_again.settle(&models(), &Limits::default()).unwrap();
        assert_eq!(settled_again, order);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_with_its_name() {
        for (json, param, reason) in [
            (r#"{"prompt": "a", "model": "../other"}"#, "model", "there are: one"),
            (r#"{"prompt": "a", "until": "sr1024"}"#, "until", "it has base, sr256"),
            (r#"{"prompt": "a", "count": 0}"#, "count", "expected 1 to"),
            (r#"{"prompt": "a", "count": 100000000}"#, "count", "expected 1 to"),
            (r#"{"prompt": "a", "seeds": []}"#, "seeds", "expected 1 to"),
            (r#"{"prompt": "a", "seeds": [1], "count": 2}"#, "seeds", "in place of"),
            (r#"{"prompt": "a", "seed": 18446744073709551615}"#, "seed", "from 0 to"),
            (r#"{"prompt": "a", "batch": 99999}"#, "batch", "expected 1 to"),
            (r#"{"prompt": "a\u0000b"}"#, "prompt", "NUL"),
            (r#"{"prompt": "a", "stages": {"base": {"steps": 99999999}}}"#, "steps", "expected 1 to"),
            (r#"{"prompt": "a", "stages": {"base": {"guidance": -1.0}}}"#, "guidance", "expected 0 to"),
            (r#"{"prompt": "a", "stages": {"sr256": {"steps": 3}}}"#, "stages", "only stages up to base run"),
        ] {
            let problem = settled(json).unwrap_err();
            assert_eq!((problem.status, problem.param.as_deref()), (StatusCode::BAD_REQUEST, Some(param)), "{json}");
            assert!(problem.message.contains(reason), "{json}: {}", problem.message);
        }
        let long = format!(r#"{{"prompt": {:?}}}"#, "é".repeat(2001));
        assert!(settled(&long).unwrap_err().message.contains("2001 characters"));
    }

    #[test]
    fn unknown_fields_are_errors() {
        for json in [r#"{"prompt": "a", "step": 3}"#, r#"{"prompt": "a", "stages": {"base": {"cfg": 3}}}"#, "{}", "[]"]
        {
            assert!(serde_json::from_str::<Order>(json).is_err(), "{json}");
        }
    }
}
