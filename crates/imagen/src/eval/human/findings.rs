//! What all votes of a study come to.
//!
//! [`Findings::of`] is a function of the study, its votes and the options: the same votes give the same intervals.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::agreement::krippendorff_alpha;
use super::bootstrap::{Cluster, estimate};
use super::preference::{Preference, Score, preferences, scores};
use super::screening::{Rater, Standing, screen};
use super::study::Study;
use super::vote::{Answer, Mode, Question, Vote};
use crate::error::{Error, Result};
use crate::eval::Interval;
use crate::rng::Rng;

/// Sets the bootstrap apart from every other use of a seed.
const BOOTSTRAP: u64 = 0x626f_6f74;

/// How votes are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FindingsOptions {
    /// The share of control answers that a rater has to have right: 0.8 in the paper.
    pub controls: f64,
    /// Count every rater, as in the paper's DrawBench.
    pub keep_all: bool,
}

impl Default for FindingsOptions {
    fn default() -> Self {
        Self { controls: 0.8, keep_all: false }
    }
}

/// Everything that a report shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Every rater of every mode, and whether the answers count.
    pub raters: Vec<Rater>,
    /// Which set was preferred.
    pub preferences: Vec<Preference>,
    /// How well captions describe pictures.
    pub scores: Vec<Score>,
    /// How far raters agree, by question.
    pub agreement: Vec<Agreement>,
    /// Whether sides were chosen for being sides, by question.
    pub position: Vec<PositionBias>,
}

/// Krippendorff's α, nominal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// What was asked.
    pub question: Question,
    /// Things that were asked about: prompts of each pair or set.
    pub units: usize,
    /// Answers.
    pub answers: usize,
    /// α; none where nothing was answered twice or only one answer was ever given.
    pub alpha: Option<f64>,
}

/// How often the left side was chosen; sides are drawn, so without a bias it is one half.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PositionBias {
    /// What was asked.
    pub question: Question,
    /// Answers that name a side.
    pub answers: usize,
    /// The share of the left among them.
    pub left: f64,
    /// Of 95 %, clustered by rater; none for one rater.
    pub interval: Option<Interval>,
    /// Whether the interval leaves 50 % out.
    pub biased: bool,
}

impl Findings {
    /// What the votes come to. Of two votes of a rater on one question of a trial the later counts.
    ///
    /// # Errors
    /// `Data` where a vote names what the study does not have.
    pub fn of(study: &Study, votes: &[Vote], options: FindingsOptions) -> Result<Self> {
        let mut latest: BTreeMap<(&str, String, Question), &Vote> = BTreeMap::new();
        for vote in votes {
            check(study, vote)?;
            latest.insert((&vote.rater, vote.trial.id(), vote.question), vote);
        }
        let raters = screen(latest.values().copied(), options.controls, options.keep_all);
        let kept = |rater: &&Rater| rater.standing == Standing::Kept;
        let kept: BTreeSet<(&str, Mode)> = raters.iter().filter(kept).map(|rater| (&*rater.id, rater.mode)).collect();
        let counts = |vote: &&Vote| vote.trial.control.is_none() && kept.contains(&(&*vote.rater, vote.trial.mode));
        let votes: Vec<&Vote> = latest.values().copied().filter(counts).collect();
        let rng = Rng::new(study.seed).fold(BOOTSTRAP);
        Ok(Self {
            preferences: preferences(study, &votes, rng.fold(0)),
            scores: scores(study, &votes, rng.fold(1)),
            agreement: Question::ALL.into_iter().filter_map(|question| agreement(question, &votes)).collect(),
            position: Question::ALL.into_iter().filter_map(|q| position(q, &votes, rng.fold(2))).collect(),
            raters,
        })
    }

    /// The rows that say something of all prompts.
    pub fn overall(&self) -> impl Iterator<Item = &Preference> {
        self.preferences.iter().filter(|row| row.category.is_none())
    }
}

/// Refuses a vote from another study.
fn check(study: &Study, vote: &Vote) -> Result<()> {
    let (trial, questions) = (&vote.trial, vote.trial.mode.questions());
    let sides = if trial.mode == Mode::Alignment { 1 } else { 2 };
    let known = |set: &str| study.set(set).is_some();
    let fits = trial.prompt < study.prompts.len()
        && trial.panels.len() == sides
        && trial.panels.iter().all(|panel| known(&panel.set) && panel.prompt < study.prompts.len())
        && questions.contains(&vote.question)
        && vote.question.answers().contains(&vote.answer);
    if fits {
        return Ok(());
    }
    let (id, rater) = (trial.id(), &vote.rater);
    Err(Error::data(format!("the vote of {rater} on {id} is of another study; give each study a folder of its own")))
}

fn agreement(question: Question, votes: &[&Vote]) -> Option<Agreement> {
    // the sets and the prompt of each thing
    let mut units: BTreeMap<(BTreeSet<&str>, usize), Vec<_>> = BTreeMap::new();
    for vote in votes.iter().filter(|vote| vote.question == question) {
        let sets = vote.trial.panels.iter().map(|panel| &*panel.set).collect();
        // what was preferred counts, not the side on which it stood
        let answer = match vote.preferred() {
            Some(set) => (Some(set), Answer::Left),
            None => (None, vote.answer),
        };
        units.entry((sets, vote.trial.prompt)).or_default().push(answer);
    }
    let answers = units.values().map(Vec::len).sum();
    (answers > 0).then(|| Agreement {
        question,
        units: units.len(),
        answers,
        alpha: krippendorff_alpha(units.into_values()),
    })
}

fn position(question: Question, votes: &[&Vote], rng: Rng) -> Option<PositionBias> {
    let mut raters: BTreeMap<&str, Cluster> = BTreeMap::new();
    let mut answers = 0;
    for vote in votes.iter().filter(|vote| vote.question == question && vote.preferred().is_some()) {
        answers += 1;
        raters.entry(&vote.rater).or_default().add(f64::from(u8::from(vote.answer == Answer::Left)));
    }
    let estimate = estimate(&raters.into_values().collect::<Vec<_>>(), rng.fold(question as u64))?;
    let biased = estimate.interval().is_some_and(|interval| !interval.contains(0.5));
    Some(PositionBias { question, answers, left: estimate.mean, interval: estimate.interval(), biased })
}
