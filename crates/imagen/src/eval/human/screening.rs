//! Whose answers count: raters who answer too few control trials rightly are left out (paper, section 4.2).
//!
//! Each mode is judged by its own controls. Where a mode had none, everybody counts, as in the paper's DrawBench.

use std::collections::BTreeMap;

use serde::Serialize;

use super::vote::{Mode, Vote};

/// Whether a rater's answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// They do.
    Kept,
    /// Too few controls were answered rightly.
    FailedControls,
    /// No control was answered yet, and others' were.
    NotJudged,
}

/// A rater in one mode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rater {
    /// The name that was entered.
    pub id: String,
    /// The mode.
    pub mode: Mode,
    /// Answers, without those to controls.
    pub answers: usize,
    /// Answers to controls.
    pub controls: usize,
    /// Right ones among them.
    pub correct: usize,
    /// Whether the answers count.
    pub standing: Standing,
}

/// Every rater of every mode, in the order of modes and names; `least` is the share of controls that has to be right.
pub(super) fn screen<'a>(votes: impl Iterator<Item = &'a Vote>, least: f64, keep_all: bool) -> Vec<Rater> {
    let mut raters: BTreeMap<(Mode, &str), [usize; 3]> = BTreeMap::new();
    for vote in votes {
        let [answers, controls, correct] = raters.entry((vote.trial.mode, &vote.rater)).or_default();
        match vote.correct() {
            None => *answers += 1,
            Some(right) => {
                *controls += 1;
                *correct += usize::from(right);
            }
        }
    }
    let with_controls = |mode: Mode| raters.iter().any(|((of, _), [_, controls, _])| *of == mode && *controls > 0);
    let judged = Mode::ALL.map(|mode| (mode, with_controls(mode)));
    let standing = |mode: Mode, controls: usize, correct: usize| {
        if keep_all || judged.contains(&(mode, false)) {
            Standing::Kept
        } else if controls == 0 {
            Standing::NotJudged
        } else if (correct as f64) < least * controls as f64 - 1e-9 {
            Standing::FailedControls
        } else {
            Standing::Kept
        }
    };
    let rater = |(&(mode, id), &[answers, controls, correct]): (&(Mode, &str), &[usize; 3])| Rater {
        id: id.to_owned(),
        mode,
        answers,
        controls,
        correct,
        standing: standing(mode, controls, correct),
    };
    raters.iter().map(rater).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::human::{Answer, Panel, Question, Trial};

    fn vote(rater: &str, mode: Mode, control: Option<Answer>, answer: Answer) -> Vote {
        let panels = vec![Panel { set: "a".into(), prompt: 0, spoilt: false }];
        Vote {
            rater: rater.into(),
            trial: Trial { mode, prompt: 0, panels, control },
            question: Question::Caption,
            answer,
        }
    }

    #[test]
    fn four_of_five_controls_are_enough_and_three_are_not() {
        let mut votes = Vec::new();
        for (rater, right) in [("three", 3), ("four", 4), ("five", 5)] {
            for k in 0..5 {
                let answer = if k < right { Answer::No } else { Answer::Yes };
                votes.push(vote(rater, Mode::Alignment, Some(Answer::No), answer));
            }
            votes.push(vote(rater, Mode::Alignment, None, Answer::Yes));
        }
        votes.push(vote("new", Mode::Alignment, None, Answer::Yes));
        votes.push(vote("other", Mode::Photorealism, None, Answer::Left));
        let standing = |keep_all| {
            let raters = screen(votes.iter(), 0.8, keep_all);
            raters.into_iter().map(|r| (r.id, r.controls, r.correct, r.standing)).collect::<Vec<_>>()
        };
        let expected = [
            ("other".to_owned(), 0, 0, Standing::Kept),
            ("five".to_owned(), 5, 5, Standing::Kept),
            ("four".to_owned(), 5, 4, Standing::Kept),
            ("new".to_owned(), 0, 0, Standing::NotJudged),
            ("three".to_owned(), 5, 3, Standing::FailedControls),
        ];
        assert_eq!(standing(false), expected);
        assert!(standing(true).iter().all(|rater| rater.3 == Standing::Kept));
    }
}
