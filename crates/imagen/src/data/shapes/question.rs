//! Questions to a model that has learned shapes: a caption, the picture that it asks for, and pictures that differ from it
//! in one factor.
//!
//! A caption says no more than its factor needs: a background is said where it is what is asked about, and elsewhere
//! candidates are drawn on every background in turn. Nothing judges here; `eval::forced_choice` does.

use super::{BACKGROUNDS, COLOURS, GROUPS, Kind, Plan, SHAPES, SIDES, SIZES, Scene, is_visible};
use crate::data::dice::Dice;
use crate::data::question::{Candidate, Question};
use crate::image::Picture;
use crate::names::named;
use crate::rng::Rng;

/// Set questions and their candidates apart from the pictures of every seed.
const QUESTIONS: u64 = 0x7175_6573;
const CANDIDATES: u64 = 0x6361_6e64;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// The colour of what is there, alone or several times, among all ten.
    Colour,
    /// Its shape, among all eight.
    Shape,
    /// Two, three or four of a kind, among one to four.
    Count,
    /// The side of the picture that one thing is on, among four.
    Side,
    /// A small or a large one, among these and the ordinary size.
    Size,
    /// Which of two things is where, or the other way about.
    Order,
    /// The background, among all four.
    Background,
}

named!(
    Factor,
    "factor",
    Colour = "colour",
    Shape = "shape",
    Count = "count",
    Side = "side",
    Size = "size",
    Order = "order",
    Background = "background"
);

/// A scene with the backgrounds before which it may be.
#[derive(Clone, Debug)]
pub struct Placed {
    scene: Scene,
    backgrounds: Vec<usize>,
}

/// Question `number` about a factor; always the same.
pub fn question(factor: Factor, number: u64) -> Question<Placed> {
    let key = Rng::new(QUESTIONS).fold(factor as u64).fold(number);
    let mut plans = (0..).map(|attempt| Plan::new(&mut Dice::new(key.fold(attempt))));
    let truth = plans.find(|plan| factor.is_asked(&plan.scene)).expect("a scene in five asks about a factor");
    let said = factor == Factor::Background;
    let plans = std::iter::once(truth).chain(factor.others(truth));
    let candidates: Vec<_> = plans.map(|plan| candidate(plan, said)).collect();
    Question { caption: candidates[0].caption.clone(), candidates }
}

impl Factor {
    fn is_asked(self, scene: &Scene) -> bool {
        match self {
            Self::Colour | Self::Shape | Self::Background => !matches!(scene, Scene::Pair { .. }),
            Self::Count => matches!(scene, Scene::Several(..)),
            Self::Side => matches!(scene, Scene::Placed(..)),
            Self::Size => matches!(scene, Scene::Sized(..)),
            Self::Order => matches!(scene, Scene::Pair { .. }),
        }
    }

    /// What differs from a plan in the factor alone.
    fn others(self, truth: Plan) -> Vec<Plan> {
        let kind = truth.scene.kind();
        let scenes: Vec<Scene> = match self {
            Self::Colour => (0..COLOURS.len()).map(|colour| truth.scene.of(Kind { colour, ..kind })).collect(),
            Self::Shape => (0..SHAPES.len()).map(|shape| truth.scene.of(Kind { shape, ..kind })).collect(),
            Self::Count => {
                let groups = (0..GROUPS.len()).map(|group| Scene::Several(kind, group));
                std::iter::once(Scene::One(kind)).chain(groups).collect()
            }
            Self::Side => (0..SIDES.len()).map(|side| Scene::Placed(kind, side)).collect(),
            Self::Size => {
                let sizes = (0..SIZES.len()).map(|size| Scene::Sized(kind, size));
                std::iter::once(Scene::One(kind)).chain(sizes).collect()
            }
            Self::Order => match truth.scene {
                Scene::Pair { first, second, beside } => vec![Scene::Pair { first: second, second: first, beside }],
                _ => Vec::new(),
            },
            Self::Background => {
                let all = (0..BACKGROUNDS.len()).filter(|&background| is_visible(kind.colour, background));
                let others = all.filter(|&background| background != truth.background);
                return others.map(|background| Plan { background, ..truth }).collect();
            }
        };
        let others = scenes.into_iter().filter(|&scene| scene != truth.scene);
        others.map(|scene| Plan { scene, ..truth }).collect()
    }
}

impl Scene {
    /// What is there; of a pair the first.
    fn kind(self) -> Kind {
        match self {
            Self::One(kind) | Self::Sized(kind, _) | Self::Placed(kind, _) | Self::Several(kind, _) => kind,
            Self::Pair { first, .. } => first,
        }
    }

    /// The scene with something else in it; of a pair the first.
    fn of(self, kind: Kind) -> Self {
        match self {
            Self::One(_) => Self::One(kind),
            Self::Sized(_, size) => Self::Sized(kind, size),
            Self::Placed(_, side) => Self::Placed(kind, side),
            Self::Several(_, group) => Self::Several(kind, group),
            Self::Pair { second, beside, .. } => Self::Pair { first: kind, second, beside },
        }
    }

    /// Whether everything in it can be seen on a background.
    fn is_visible(self, background: usize) -> bool {
        let seen = |kind: Kind| is_visible(kind.colour, background);
        match self {
            Self::Pair { first, second, .. } => seen(first) && seen(second),
            one => seen(one.kind()),
        }
    }
}

fn candidate(Plan { background, scene }: Plan, background_said: bool) -> Candidate<Placed> {
    let [canonical, ..] = scene.phrases();
    let (caption, backgrounds) = if background_said {
        (format!("{canonical} on a {} background", BACKGROUNDS[background].0), vec![background])
    } else {
        (canonical, (0..BACKGROUNDS.len()).filter(|&at| scene.is_visible(at)).collect())
    };
    Candidate { caption, plan: Placed { scene, backgrounds } }
}

impl Candidate<Placed> {
    /// Drawing `number` of it, `size`×`size`: each in other places, of other sizes within its words, on the next background.
    pub fn draw(&self, number: u64, size: usize) -> Picture {
        let Placed { scene, backgrounds } = &self.plan;
        let background = backgrounds[(number % backgrounds.len() as u64) as usize];
        let key = Rng::new(CANDIDATES).fold(number);
        Plan { background, scene: *scene }.draw(size, &mut Dice::new(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn candidates_differ_from_the_truth_in_the_factor_alone() {
        let most = |factor| match factor {
            Factor::Colour => 10,
            Factor::Shape => 8,
            Factor::Size => 3,
            Factor::Order => 2,
            Factor::Count | Factor::Side | Factor::Background => 4,
        };
        for (factor, number) in Factor::ALL.into_iter().flat_map(|factor| (0..40).map(move |n| (factor, n))) {
            let Question { caption, candidates } = question(factor, number);
            assert_eq!(caption, candidates[0].caption);
            // white on white cannot be told, nor black on black
            let fewer = usize::from(factor == Factor::Background && candidates.len() == 3);
            assert_eq!(candidates.len() + fewer, most(factor), "{factor}: {caption}");
            let captions: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.caption.as_str()).collect();
            assert_eq!(captions.len(), candidates.len(), "{factor}: {captions:?}");
            let words = |caption: &str| caption.split(' ').filter(|word| *word != "a" && *word != "an").count();
            let lengths: BTreeSet<usize> = captions.iter().map(|caption| words(caption)).collect();
            assert!(lengths.len() == 1 || [Factor::Count, Factor::Size, Factor::Background].contains(&factor));
            let drawings: BTreeSet<Vec<u8>> = candidates.iter().map(|one| one.draw(5, 32).pixels().to_vec()).collect();
            assert_eq!(drawings.len(), candidates.len(), "{factor}: {caption}");
        }
    }

    #[test]
    fn a_question_is_always_the_same_and_no_two_drawings_are() {
        let [one, again] = [0, 0].map(|_| question(Factor::Side, 3));
        assert_eq!(one.caption, again.caption);
        let [first, same, next] = [(&one, 0), (&again, 0), (&one, 1)].map(|(q, n)| q.candidates[0].draw(n, 16));
        assert_eq!(first.pixels(), same.pixels());
        assert_ne!(first.pixels(), next.pixels());
    }

    #[test]
    fn a_background_that_is_not_said_is_every_one_in_turn() {
        let Question { caption, candidates } = question(Factor::Count, 1);
        assert!(!caption.contains("background"), "{caption}");
        let corners: BTreeSet<Vec<u8>> = (0..4).map(|n| candidates[0].draw(n, 16).pixels()[..3].to_vec()).collect();
        assert!(corners.len() >= 3, "{corners:?}");
    }
}
