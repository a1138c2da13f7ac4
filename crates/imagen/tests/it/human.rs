//! Human evaluation by simulation: raters with a known preference rate through their real plans, and the findings have to
//! say what was planted, and nothing where nothing was.

use imagen::eval::human::{
    Answer, Findings, FindingsOptions, Mode, Origin, PlanOptions, PromptSuite, Question, RaterPlan, Standing, Study,
    Trial, Vote,
};
use imagen::rng::Rng;

/// A study of the suite that ships, with two models and originals.
fn study(seed: u64) -> Study {
    let mut study = Study::new("built-in", PromptSuite::built_in().prompts, 8, seed).unwrap();
    for name in ["ours", "other"] {
        study.add(name, Origin::Imported { folder: "f".into() }, |_, _| "png".into()).unwrap();
    }
    study.add("real", Origin::Originals { folder: "f".into() }, |_, _| "png".into()).unwrap();
    study
}

/// How simulated raters decide.
#[derive(Clone, Copy)]
struct Habit {
    /// For `ours`, where the rater is not indifferent.
    ours: f64,
    /// The left side is taken unseen.
    left: f64,
    /// Controls are answered rightly.
    careful: f64,
}

fn votes(study: &Study, mode: Mode, raters: usize, rng: Rng, habit: impl Fn(usize) -> Habit) -> Vec<Vote> {
    let mut votes = Vec::new();
    for number in 0..raters {
        let rater = format!("rater-{number}");
        let plan = RaterPlan::of(study, mode, &rater, &PlanOptions::default()).unwrap();
        for (at, trial) in plan.trials().enumerate() {
            for (q, &question) in mode.questions().iter().enumerate() {
                let rng = rng.fold(number as u64).fold(at as u64).fold(q as u64);
                let answer = decide(trial, question, habit(number), rng);
                votes.push(Vote { rater: rater.clone(), trial: trial.clone(), question, answer });
            }
        }
    }
    votes
}

fn decide(trial: &Trial, question: Question, habit: Habit, rng: Rng) -> Answer {
    let below = |key: u64, share: f64| rng.fold(key).unit() < share;
    let offered = question.answers();
    if let Some(right) = trial.control {
        let wrong = offered.iter().copied().find(|answer| *answer != right).unwrap();
        return if below(0, habit.careful) { right } else { wrong };
    }
    if question == Question::Caption {
        let share = if trial.panels[0].set == "ours" { habit.ours } else { 0.5 };
        return if below(1, share) { Answer::Yes } else { Answer::No };
    }
    if below(2, habit.left) {
        return Answer::Left;
    }
    if offered.contains(&Answer::Indifferent) && below(3, 0.2) {
        return Answer::Indifferent;
    }
    let side = usize::from((trial.panels[0].set == "ours") != below(4, habit.ours));
    [Answer::Left, Answer::Right][side]
}

fn findings(study: &Study, votes: &[Vote]) -> Findings {
    Findings::of(study, votes, FindingsOptions::default()).unwrap()
}

const FAIR: Habit = Habit { ours: 0.5, left: 0.0, careful: 0.99 };

#[test]
fn a_planted_preference_is_found_and_none_where_none_was_planted() {
    let study = study(1);
    let planted = votes(&study, Mode::DrawBench, 25, Rng::new(1), |_| Habit { ours: 0.75, ..FAIR });
    let planted = findings(&study, &planted);
    // 0.2 · ½ + 0.8 · 0.75
    for row in planted.overall() {
        assert!(row.separable && row.interval.unwrap().contains(0.7), "{row:?}");
        assert_eq!((row.prompts, row.answers), (56, 56 * 25));
        assert_eq!(row.preferred + row.indifferent + row.opposed, row.answers);
    }
    assert_eq!(planted.overall().count(), 2, "one row a question");
    assert_eq!(planted.preferences.len(), 2 * 12, "and one for each category");

    let none = findings(&study, &votes(&study, Mode::DrawBench, 25, Rng::new(2), |_| FAIR));
    assert!(none.overall().all(|row| !row.separable && row.interval.unwrap().contains(0.5)));
    assert!(none.position.iter().all(|bias| !bias.biased), "{:?}", none.position);
    assert!(none.agreement.iter().all(|agreement| agreement.alpha.unwrap().abs() < 0.05), "{:?}", none.agreement);
}

#[test]
fn without_a_preference_one_in_twenty_studies_finds_one_at_most() {
    let claims = |round: u64| {
        let study = study(round);
        let votes = votes(&study, Mode::DrawBench, 4, Rng::new(round), |_| FAIR);
        let found = findings(&study, &votes);
        let any = |categories: bool| {
            found.preferences.iter().any(|row| row.category.is_some() == categories && row.separable)
        };
        [any(false), any(true)]
    };
    let claims: Vec<[bool; 2]> = (0..200).map(claims).collect();
    for (kind, what) in ["over all prompts", "of categories"].into_iter().enumerate() {
        let wrong = claims.iter().filter(|claims| claims[kind]).count();
        // 5 % of 200 is 10; three standard errors above it are 19
        assert!(wrong <= 19, "{what}: {wrong} of 200");
    }
    let alone = claims.iter().filter(|claims| claims[0] || claims[1]).count();
    assert!(alone > 0, "intervals that never err are too wide");
}

#[test]
fn raters_who_do_not_look_are_left_out_and_move_nothing() {
    let study = study(3);
    let spoiler = Habit { ours: 0.0, left: 0.0, careful: 0.3 };
    let habit = |number: usize| if number < 8 { spoiler } else { Habit { ours: 0.75, careful: 1.0, ..FAIR } };
    let all = votes(&study, Mode::DrawBench, 25, Rng::new(3), habit);
    let found = findings(&study, &all);
    let left_out: Vec<&str> =
        found.raters.iter().filter(|r| r.standing == Standing::FailedControls).map(|r| r.id.as_str()).collect();
    assert_eq!(left_out.len(), 8, "{left_out:?}");
    assert!(found.overall().all(|row| row.answers == 56 * 17 && row.interval.unwrap().contains(0.7)));
    let options = FindingsOptions { keep_all: true, ..FindingsOptions::default() };
    let kept = Findings::of(&study, &all, options).unwrap();
    assert!(kept.overall().all(|row| row.answers == 56 * 25 && !row.interval.unwrap().contains(0.7)));
}

#[test]
fn raters_who_like_a_side_are_noticed_and_prefer_no_set() {
    let study = study(4);
    let found = findings(&study, &votes(&study, Mode::DrawBench, 25, Rng::new(4), |_| Habit { left: 0.4, ..FAIR }));
    for bias in &found.position {
        // 0.4 + 0.6 · 0.8 · ½ of all answers that name a side, which are 0.4 + 0.6 · 0.8
        assert!(bias.biased && bias.interval.unwrap().contains(0.64 / 0.88), "{bias:?}");
    }
    assert!(found.overall().all(|row| !row.separable), "sides are drawn, so a liking for one is nobody's gain");
}

#[test]
fn captions_are_scored_in_points_for_models_and_originals_alike() {
    let study = study(5);
    let found = findings(&study, &votes(&study, Mode::Alignment, 10, Rng::new(5), |_| Habit { ours: 0.9, ..FAIR }));
    for (set, truth) in [("ours", 90.0), ("other", 50.0), ("real", 50.0)] {
        let score = found.scores.iter().find(|score| score.set == set && score.category.is_none()).unwrap();
        assert!(score.interval.unwrap().contains(truth), "{score:?}");
        // √(p (1 − p) / n) of independent answers
        let expected = 100.0 * (truth / 100.0 * (1.0 - truth / 100.0) / 560.0f64).sqrt();
        let ratio = score.standard_error.unwrap() / expected;
        assert!((0.75..1.35).contains(&ratio), "{set}: {ratio}");
    }
    assert!(found.preferences.is_empty() && found.position.is_empty());
}

#[test]
fn the_later_answer_counts_and_a_vote_of_another_study_is_refused() {
    let study = study(6);
    let mut votes = votes(&study, Mode::DrawBench, 2, Rng::new(6), |_| FAIR);
    let before = findings(&study, &votes);
    let at = votes.iter().position(|vote| vote.preferred() == Some("other") && vote.trial.control.is_none()).unwrap();
    let mut changed = votes[at].clone();
    changed.answer = if changed.answer == Answer::Left { Answer::Right } else { Answer::Left };
    votes.push(changed.clone());
    let after = findings(&study, &votes);
    let of = |f: &Findings| f.overall().find(|row| row.question == changed.question).unwrap().clone();
    let (before, after) = (of(&before), of(&after));
    assert_eq!((after.answers, after.preferred), (before.answers, before.preferred + 1));

    changed.trial.panels[0].set = "elsewhere".into();
    let error = Findings::of(&study, &[changed], FindingsOptions::default()).unwrap_err();
    assert!(error.to_string().contains("of another study"), "{error}");
}
