//! What people say of drawn pictures: the paper's DrawBench and its human evaluation on COCO (section 4, appendices C and E).
//!
//! [`PromptSuite`] is what is drawn, [`Study`] which pictures there are of it, [`RaterPlan`] what a rater is asked and in which
//! order, [`Vote`] what was answered, and [`Findings`] what it comes to, with intervals.
//!
//! Nothing here draws, serves pages or keeps votes: a program does, and hands them over.

mod agreement;
mod bootstrap;
mod findings;
mod plan;
mod preference;
mod screening;
mod study;
mod suite;
mod vote;

pub use agreement::krippendorff_alpha;
pub use findings::{Agreement, Findings, FindingsOptions, PositionBias};
pub use plan::{PlanOptions, RaterPlan};
pub use preference::{Preference, Score};
pub use screening::{Rater, Standing};
pub use study::{Origin, PictureSet, Study};
pub use suite::{Prompt, PromptSuite, speaks_of_people};
pub use vote::{Answer, Mode, Panel, Question, Trial, Vote};
