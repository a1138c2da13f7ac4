//! How often one set is preferred to another, and how well captions describe pictures, each over all prompts and by category.
//!
//! The preference rate counts an indifferent answer as half a vote for each side, so that 50 % is no preference; the three
//! shares stand beside it. Answers about one prompt are one cluster of the bootstrap.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bootstrap::{Cluster, Estimate, crossed};
use super::study::Study;
use super::vote::{Question, Vote};
use crate::eval::Interval;
use crate::rng::Rng;

/// One bar of the paper's figure 3.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preference {
    /// What was asked.
    pub question: Question,
    /// The set whose rate this is.
    pub set: String,
    /// What it stood beside.
    pub against: String,
    /// Only prompts of this category; all by default.
    pub category: Option<String>,
    /// Prompts with an answer.
    pub prompts: usize,
    /// Answers.
    pub answers: usize,
    /// Answers for the set.
    pub preferred: usize,
    /// Answers for neither.
    pub indifferent: usize,
    /// Answers for the other set.
    pub opposed: usize,
    /// (preferred + ½ indifferent) / answers.
    pub rate: f64,
    /// Of 95 %; none where there is one prompt only.
    pub interval: Option<Interval>,
    /// Whether the two can be told apart: an interval that allows for all rows of its kind (those over all prompts, or those
    /// of categories) leaves 50 % out, so that in 95 of 100 studies without any preference no row of the kind claims one.
    pub separable: bool,
}

/// How well a caption describes a set's pictures: yes, somewhat and no as 100, 50 and 0 (the paper's table 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The set.
    pub set: String,
    /// Only prompts of this category; all by default.
    pub category: Option<String>,
    /// Prompts with an answer.
    pub prompts: usize,
    /// Answers.
    pub answers: usize,
    /// Mean of the points.
    pub mean: f64,
    /// Its standard error; none where there is one prompt only.
    pub standard_error: Option<f64>,
    /// Of 95 %.
    pub interval: Option<Interval>,
}

/// Answers of one row by prompt: the number within [0, 1] that each stands for.
type ByPrompt<'a> = BTreeMap<usize, Vec<(f64, &'a Vote)>>;

/// All rows about sides, of real trials: for each question and pair the whole, then the categories.
pub(super) fn preferences(study: &Study, votes: &[&Vote], rng: Rng) -> Vec<Preference> {
    let mut rows = Vec::new();
    for (number, question) in Question::ALL.into_iter().enumerate() {
        let mut pairs: BTreeMap<(usize, usize), Vec<&Vote>> = BTreeMap::new();
        for vote in votes.iter().filter(|vote| vote.question == question) {
            pairs.extend(pair(study, vote).filter(|p| !pairs.contains_key(p)).map(|p| (p, Vec::new())));
            if let Some(list) = pair(study, vote).and_then(|p| pairs.get_mut(&p)) {
                list.push(vote);
            }
        }
        for ((a, b), votes) in pairs {
            let (a, b) = (&study.sets[a].name, &study.sets[b].name);
            let value = |vote: &Vote| match vote.preferred() {
                None => 0.5,
                Some(set) => f64::from(u8::from(set == a)),
            };
            for (category, by_prompt) in parts(study, &votes, value) {
                let Some((estimate, answers)) = summed(&by_prompt, rng.fold(number as u64)) else { continue };
                let count = |value: f64| by_prompt.values().flatten().filter(|answer| answer.0 == value).count();
                let row = Preference {
                    question,
                    set: a.clone(),
                    against: b.clone(),
                    category,
                    prompts: by_prompt.len(),
                    answers,
                    preferred: count(1.0),
                    indifferent: count(0.5),
                    opposed: count(0.0),
                    rate: estimate.mean,
                    interval: estimate.interval(),
                    separable: false,
                };
                rows.push((row, estimate));
            }
        }
    }
    let parts = rows.iter().filter(|(row, _)| row.category.is_some()).count();
    let wholes = rows.len() - parts;
    let judged = |(row, estimate): (Preference, Estimate)| {
        let among = if row.category.is_some() { parts } else { wholes };
        let separable = estimate.interval_among(among).is_some_and(|interval| !interval.contains(0.5));
        Preference { separable, ..row }
    };
    rows.into_iter().map(judged).collect()
}

/// The scores of every set, the whole and then the categories.
pub(super) fn scores(study: &Study, votes: &[&Vote], rng: Rng) -> Vec<Score> {
    let mut rows = Vec::new();
    for set in &study.sets {
        let of_set = |vote: &&&Vote| vote.question == Question::Caption && vote.trial.panels[0].set == set.name;
        let votes: Vec<&Vote> = votes.iter().filter(of_set).copied().collect();
        let value = |vote: &Vote| vote.answer.points().unwrap_or(0.0) / 100.0;
        for (category, by_prompt) in parts(study, &votes, value) {
            let Some((estimate, answers)) = summed(&by_prompt, rng) else { continue };
            rows.push(Score {
                set: set.name.clone(),
                category,
                prompts: by_prompt.len(),
                answers,
                mean: 100.0 * estimate.mean,
                standard_error: estimate.standard_error().map(|error| 100.0 * error),
                interval: estimate.interval().map(|i| Interval { low: 100.0 * i.low, high: 100.0 * i.high }),
            });
        }
    }
    rows
}

/// The two sets of a trial by number, the one that is compared first: a model before the originals, else as they were added.
fn pair(study: &Study, vote: &Vote) -> Option<(usize, usize)> {
    let [a, b] = vote.trial.panels.as_slice() else { return None };
    let number = |name: &str| study.sets.iter().position(|set| set.name == name);
    let (a, b) = (number(&a.set)?, number(&b.set)?);
    let rank = |at: usize| (study.sets[at].is_original(), at);
    Some(if rank(a) < rank(b) { (a, b) } else { (b, a) })
}

/// All answers, then those of each category where there is more than one.
fn parts<'a>(study: &Study, votes: &[&'a Vote], value: impl Fn(&Vote) -> f64) -> Vec<(Option<String>, ByPrompt<'a>)> {
    let categories = study.categories();
    let only = |category: Option<&str>| {
        let mut by_prompt = ByPrompt::new();
        for vote in votes {
            let prompt = vote.trial.prompt;
            if category.is_none_or(|category| study.prompts[prompt].category == category) {
                by_prompt.entry(prompt).or_default().push((value(vote), vote));
            }
        }
        (category.map(str::to_owned), by_prompt)
    };
    let named = if categories.len() > 1 { categories } else { Vec::new() };
    [None].into_iter().chain(named.into_iter().map(Some)).map(only).collect()
}

/// The mean with its interval, and how many answers there were.
fn summed(by_prompt: &ByPrompt<'_>, rng: Rng) -> Option<(Estimate, usize)> {
    let (mut prompts, mut raters) = (Vec::new(), BTreeMap::<&str, Cluster>::new());
    for answers in by_prompt.values() {
        let mut prompt = Cluster::default();
        for (value, vote) in answers {
            prompt.add(*value);
            raters.entry(&vote.rater).or_default().add(*value);
        }
        prompts.push(prompt);
    }
    let raters: Vec<Cluster> = raters.into_values().collect();
    Some((crossed(&prompts, &raters, rng)?, by_prompt.values().map(Vec::len).sum()))
}
