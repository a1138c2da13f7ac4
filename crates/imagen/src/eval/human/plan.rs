//! What one rater is asked: every trial of a mode in an order and on sides of the rater's own, cut into batches, with
//! controls mixed in.
//!
//! A plan is a function of the study, the mode, the rater's name and the options, so a rater who comes back finds the same
//! one. Sides are drawn for each trial by itself: leaving categories out moves no side.

use xxhash_rust::xxh64::xxh64;

use super::study::{PictureSet, Study};
use super::vote::{Answer, Mode, Panel, Trial};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Sets plans apart from every other use of a seed.
const PLAN: u64 = 0x0070_6c61_6e73;
/// One key for each purpose below a plan's.
const ORDER: u64 = 0;
const SIDES: u64 = 1;
const CONTROLS: u64 = 2;
const PLACES: u64 = 3;
/// Words up to this length do not make two captions alike.
const SHORT_WORD: usize = 2;

/// What may be chosen about plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Trials in a batch, without controls; the paper shows 50.
    pub batch: usize,
    /// Controls for each ten trials of a batch, at least one where not 0.
    pub controls: usize,
    /// Only prompts of these categories; all where empty. The paper runs one study for each.
    pub categories: Vec<String>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { batch: 50, controls: 1, categories: Vec::new() }
    }
}

/// The trials of a rater, batch by batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaterPlan {
    /// The batches, each in the order in which it is shown.
    pub batches: Vec<Vec<Trial>>,
}

impl RaterPlan {
    /// What this rater is asked in this mode.
    ///
    /// # Errors
    /// `Usage` where the study has not the sets that the mode compares, or a category does not exist.
    pub fn of(study: &Study, mode: Mode, rater: &str, options: &PlanOptions) -> Result<Self> {
        let known = study.categories();
        if let Some(category) = options.categories.iter().find(|category| !known.contains(&category.as_str())) {
            let known = known.join(", ");
            return Err(Error::usage(format!("the study has no category `{category}`; it has {known}")));
        }
        let chosen = |prompt: &usize| {
            options.categories.is_empty() || options.categories.contains(&study.prompts[*prompt].category)
        };
        let prompts: Vec<usize> = (0..study.prompts.len()).filter(chosen).collect();
        let rng = Rng::new(study.seed).fold(PLAN).fold(mode as u64).fold(xxh64(rater.as_bytes(), 0));
        let trials = trials(study, mode, &prompts, rng.fold(SIDES))?;
        let order = rng.fold(ORDER).permutation(trials.len());
        let trials: Vec<Trial> = order.into_iter().map(|at| trials[at].clone()).collect();
        let mut controls = Controls::new(study, mode, prompts, rng.fold(CONTROLS));
        let mut batches = Vec::new();
        for (number, part) in trials.chunks(options.batch.max(1)).enumerate() {
            let mut batch = part.to_vec();
            for _ in 0..(part.len() * options.controls).div_ceil(10) {
                let Some(control) = controls.next() else { break };
                let place = rng.fold(PLACES).fold(number as u64).fold(batch.len() as u64).below(batch.len() as u64 + 1);
                batch.insert(place as usize, control);
            }
            batches.push(batch);
        }
        Ok(Self { batches })
    }

    /// All trials in order.
    pub fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.batches.iter().flatten()
    }
}

/// The trials of a mode in the study's order, sides drawn.
fn trials(study: &Study, mode: Mode, prompts: &[usize], sides: Rng) -> Result<Vec<Trial>> {
    let contenders: Vec<&PictureSet> = study.contenders().collect();
    let pairs: Vec<Vec<&PictureSet>> = match mode {
        Mode::DrawBench => match contenders.split_first() {
            Some((first, others)) if !others.is_empty() => others.iter().map(|other| vec![*first, *other]).collect(),
            _ => return Err(Error::usage("side by side takes two sets of pictures; add one to the study")),
        },
        Mode::Photorealism => match (study.originals(), contenders.is_empty()) {
            (Some(original), false) => contenders.iter().map(|set| vec![*set, original]).collect(),
            _ => {
                return Err(Error::usage("photorealism takes originals and a model's set; make the study with --data"));
            }
        },
        Mode::Alignment if study.sets.is_empty() => return Err(Error::usage("the study has no pictures yet")),
        Mode::Alignment => study.sets.iter().map(|set| vec![set]).collect(),
    };
    let mut trials = Vec::new();
    for (pair, sets) in pairs.iter().enumerate() {
        for &prompt in prompts {
            let panel = |set: &&PictureSet| Panel { set: set.name.clone(), prompt, spoilt: false };
            let mut panels: Vec<Panel> = sets.iter().map(panel).collect();
            if sides.fold(pair as u64).fold(prompt as u64).below(2) == 1 {
                panels.reverse();
            }
            trials.push(Trial { mode, prompt, panels, control: None });
        }
    }
    Ok(trials)
}

/// The controls of a rater: no prompt serves twice.
struct Controls<'a> {
    study: &'a Study,
    mode: Mode,
    prompts: Vec<usize>,
    rng: Rng,
    next: usize,
}

impl<'a> Controls<'a> {
    fn new(study: &'a Study, mode: Mode, prompts: Vec<usize>, rng: Rng) -> Self {
        let order = rng.permutation(prompts.len());
        let prompts = order.into_iter().map(|at| prompts[at]).collect();
        Self { study, mode, prompts, rng, next: 0 }
    }

    /// Pictures of one set beside the same ones spoilt; or an original with its own caption, or with one that has no word of it.
    fn make(&self, prompt: usize, rng: Rng) -> Option<Trial> {
        let contender = self.study.contenders().next();
        let set = match self.mode {
            Mode::DrawBench => contender?,
            Mode::Photorealism | Mode::Alignment => self.study.originals().or(contender)?,
        };
        let panel = |prompt, spoilt| Panel { set: set.name.clone(), prompt, spoilt };
        let heads = rng.fold(0).below(2) == 1;
        let (panels, right) = match self.mode {
            Mode::Alignment if !set.is_original() => (vec![panel(prompt, true)], Answer::No),
            Mode::Alignment if heads => (vec![panel(prompt, false)], Answer::Yes),
            Mode::Alignment => match self.another(prompt, rng.fold(1)) {
                Some(other) => (vec![panel(other, false)], Answer::No),
                None => (vec![panel(prompt, true)], Answer::No),
            },
            _ if heads => (vec![panel(prompt, true), panel(prompt, false)], Answer::Right),
            _ => (vec![panel(prompt, false), panel(prompt, true)], Answer::Left),
        };
        Some(Trial { mode: self.mode, prompt, panels, control: Some(right) })
    }

    /// A prompt whose text shares no word with this one's.
    fn another(&self, prompt: usize, rng: Rng) -> Option<usize> {
        let words = |prompt: usize| {
            let text = self.study.prompts[prompt].text.to_lowercase();
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > SHORT_WORD);
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let own = words(prompt);
        let order = rng.permutation(self.study.prompts.len());
        order.into_iter().find(|other| !words(*other).iter().any(|word| own.contains(word)) && *other != prompt)
    }
}

impl Iterator for Controls<'_> {
    type Item = Trial;

    fn next(&mut self) -> Option<Trial> {
        let prompt = *self.prompts.get(self.next)?;
        self.next += 1;
        self.make(prompt, self.rng.fold(prompt as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::eval::human::{Origin, PromptSuite};

    fn study(originals: bool) -> Study {
        let mut study = Study::new("built-in", PromptSuite::built_in().prompts, 2, 5).unwrap();
        if originals {
            study.add("real", Origin::Originals { folder: "r".into() }, |_, _| "png".into()).unwrap();
        }
        for name in ["ours", "b", "c"] {
            study.add(name, Origin::Imported { folder: "f".into() }, |_, _| "png".into()).unwrap();
        }
        study
    }

    fn plan(study: &Study, mode: Mode, rater: &str) -> RaterPlan {
        RaterPlan::of(study, mode, rater, &PlanOptions::default()).unwrap()
    }

    #[test]
    fn each_rater_is_asked_everything_once_in_an_order_of_their_own() {
        let study = study(true);
        let n = study.prompts.len();
        for (mode, trials) in [(Mode::DrawBench, 2 * n), (Mode::Photorealism, 3 * n), (Mode::Alignment, 4 * n)] {
            let (anna, ben) = (plan(&study, mode, "anna"), plan(&study, mode, "ben"));
            assert_eq!(anna, plan(&study, mode, "anna"), "{mode}: whoever comes back finds the same plan");
            let real = |plan: &RaterPlan| plan.trials().filter(|t| t.control.is_none()).cloned().collect::<Vec<_>>();
            assert_ne!(real(&anna), real(&ben), "{mode}");
            let ids: BTreeSet<String> = anna.trials().map(Trial::id).collect();
            assert_eq!(ids.len(), anna.trials().count(), "{mode}: ids tell trials apart");
            assert_eq!(real(&anna).len(), trials, "{mode}");
            for batch in &anna.batches {
                let controls = batch.iter().filter(|trial| trial.control.is_some()).count();
                assert_eq!(controls, (batch.len() - controls).div_ceil(10), "{mode}");
            }
        }
    }

    #[test]
    fn sides_and_places_are_even_over_raters() {
        let study = study(false);
        let (mut left, mut control_left, mut controls, mut trials) = (0, 0, 0, 0);
        let mut places = BTreeMap::new();
        for rater in 0..200 {
            let plan = plan(&study, Mode::DrawBench, &format!("r{rater}"));
            for (place, trial) in plan.trials().enumerate() {
                match trial.control {
                    None => {
                        trials += 1;
                        left += usize::from(trial.panels[0].set == "ours");
                        if trial.prompt == 0 {
                            *places.entry(place / 30).or_insert(0) += 1;
                        }
                    }
                    Some(right) => {
                        controls += 1;
                        control_left += usize::from(right == Answer::Left);
                        let intact = trial.panels.iter().position(|panel| !panel.spoilt).unwrap();
                        assert_eq!(right, [Answer::Left, Answer::Right][intact]);
                    }
                }
            }
        }
        for (what, hits, of) in [("ours on the left", left, trials), ("controls", control_left, controls)] {
            let z = (hits as f64 - of as f64 / 2.0) / (of as f64 / 4.0).sqrt();
            assert!(z.abs() < 4.0, "{what}: {hits} of {of}");
        }
        // 400 showings of prompt 0 over some 122 places
        assert!((0..4).all(|quarter| (70..130).contains(&places[&quarter])), "{places:?}");
    }

    #[test]
    fn fewer_categories_move_no_side() {
        let study = study(false);
        let options = PlanOptions { categories: vec!["Counting".into()], ..PlanOptions::default() };
        let some = RaterPlan::of(&study, Mode::DrawBench, "anna", &options).unwrap();
        let all: BTreeSet<String> = plan(&study, Mode::DrawBench, "anna").trials().map(Trial::id).collect();
        let real: Vec<&Trial> = some.trials().filter(|trial| trial.control.is_none()).collect();
        assert_eq!(real.len(), 10);
        for trial in real {
            assert_eq!(study.prompts[trial.prompt].category, "Counting");
            assert!(all.contains(&trial.id()));
        }
        let options = PlanOptions { categories: vec!["Counting".into(), "Colour".into()], ..options };
        let error = RaterPlan::of(&study, Mode::DrawBench, "anna", &options).unwrap_err();
        assert!(error.to_string().contains("no category `Colour`; it has Colors"), "{error}");
    }

    #[test]
    fn captions_of_controls_are_right_or_share_no_word() {
        let study = study(true);
        let mut answers = BTreeMap::new();
        for rater in 0..20 {
            for trial in plan(&study, Mode::Alignment, &rater.to_string()).trials() {
                let Some(right) = trial.control else { continue };
                *answers.entry(right).or_insert(0) += 1;
                let panel = &trial.panels[0];
                assert!(panel.set == "real" && !panel.spoilt);
                assert_eq!(right == Answer::Yes, panel.prompt == trial.prompt);
            }
        }
        assert!(answers.len() == 2 && answers.values().all(|count| *count > 100), "{answers:?}");
    }

    #[test]
    fn a_mode_without_its_sets_is_refused() {
        let mut study = study(false);
        let refused = |study: &Study, mode| RaterPlan::of(study, mode, "a", &PlanOptions::default()).unwrap_err();
        assert!(refused(&study, Mode::Photorealism).to_string().contains("originals"));
        study.sets.truncate(1);
        assert!(refused(&study, Mode::DrawBench).to_string().contains("two sets"));
    }
}
