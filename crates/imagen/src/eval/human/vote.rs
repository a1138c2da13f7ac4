//! What raters are asked, and what they may answer.
//!
//! A [`Trial`] is one page: one or two panels of pictures and one or two questions. A [`Vote`] is the answer to one
//! question. Sides are sides of the screen: which model stood there is in the trial.

use serde::{Deserialize, Serialize};

use crate::names::named;

/// The three studies of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Two sets of pictures of one prompt side by side, two questions (section 4.3, appendix E).
    DrawBench,
    /// A picture of a model beside the original of its caption (section 4.2).
    Photorealism,
    /// One picture and its caption (section 4.2).
    Alignment,
}

named!(Mode, "mode", DrawBench = "drawbench", Photorealism = "photorealism", Alignment = "alignment");

/// A question of the paper, in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Which set is of higher quality?
    Fidelity,
    /// Which set better represents the caption?
    Alignment,
    /// Which picture looks more real?
    Photorealism,
    /// Does the caption describe the picture?
    Caption,
}

named!(
    Question,
    "question",
    Fidelity = "fidelity",
    Alignment = "alignment",
    Photorealism = "photorealism",
    Caption = "caption"
);

/// An answer; each question has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// What stands on the left.
    Left,
    /// Neither.
    Indifferent,
    /// What stands on the right.
    Right,
    /// It does: 100.
    Yes,
    /// In part: 50.
    Somewhat,
    /// It does not: 0.
    No,
}

named!(
    Answer,
    "answer",
    Left = "left",
    Indifferent = "indifferent",
    Right = "right",
    Yes = "yes",
    Somewhat = "somewhat",
    No = "no"
);

/// Pictures that stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// The set that they are from.
    pub set: String,
    /// The prompt that they were drawn for.
    pub prompt: usize,
    /// Whether they are shown spoilt: a control.
    pub spoilt: bool,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The study that it belongs to.
    pub mode: Mode,
    /// The prompt whose text is shown.
    pub prompt: usize,
    /// What is shown, from the left: two panels, or one in [`Mode::Alignment`].
    pub panels: Vec<Panel>,
    /// The right answer, where there is one: a control, which says something about the rater and nothing about a model.
    pub control: Option<Answer>,
}

/// A rater's answer to one question of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Who answered.
    pub rater: String,
    /// What was shown.
    pub trial: Trial,
    /// What was asked.
    pub question: Question,
    /// What was answered.
    pub answer: Answer,
}

impl Mode {
    /// What a trial asks, in this order.
    pub fn questions(self) -> &'static [Question] {
        match self {
            Self::DrawBench => &[Question::Fidelity, Question::Alignment],
            Self::Photorealism => &[Question::Photorealism],
            Self::Alignment => &[Question::Caption],
        }
    }
}

impl Question {
    /// What may be answered, in the order in which it is offered.
    pub fn answers(self) -> &'static [Answer] {
        match self {
            Self::Fidelity | Self::Alignment => &[Answer::Left, Answer::Indifferent, Answer::Right],
            Self::Photorealism => &[Answer::Left, Answer::Right],
            Self::Caption => &[Answer::Yes, Answer::Somewhat, Answer::No],
        }
    }
}

impl Answer {
    /// How well the caption describes the picture, in the paper's points; none for an answer about sides.
    pub fn points(self) -> Option<f64> {
        match self {
            Self::Yes => Some(100.0),
            Self::Somewhat => Some(50.0),
            Self::No => Some(0.0),
            Self::Left | Self::Indifferent | Self::Right => None,
        }
    }
}

impl Trial {
    /// What tells it from every other trial of a rater; it names the sets, so a rater must not read it.
    pub fn id(&self) -> String {
        let panel = |panel: &Panel| {
            let spoilt = if panel.spoilt { "!" } else { "" };
            format!("{}:{}{spoilt}", panel.set, panel.prompt)
        };
        let panels: Vec<String> = self.panels.iter().map(panel).collect();
        let control = self.control.map_or("", |_| "/control");
        format!("{}/{}/{}{control}", self.mode, self.prompt, panels.join("/"))
    }
}

impl Vote {
    /// The set that was preferred, where the answer names a side.
    pub fn preferred(&self) -> Option<&str> {
        let side = match self.answer {
            Answer::Left => self.trial.panels.first(),
            Answer::Right => self.trial.panels.get(1),
            _ => None,
        };
        side.map(|panel| panel.set.as_str())
    }

    /// Whether a control was answered rightly; `None` where it is none.
    pub fn correct(&self) -> Option<bool> {
        self.trial.control.map(|right| right == self.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_is_turned_into_the_set_that_stood_there() {
        let panel = |set: &str| Panel { set: set.into(), prompt: 3, spoilt: false };
        let trial =
            Trial { mode: Mode::DrawBench, prompt: 3, panels: vec![panel("worse"), panel("ours")], control: None };
        let vote = |answer| Vote { rater: "r".into(), trial: trial.clone(), question: Question::Fidelity, answer };
        assert_eq!(vote(Answer::Left).preferred(), Some("worse"));
        assert_eq!(vote(Answer::Right).preferred(), Some("ours"));
        assert_eq!(vote(Answer::Indifferent).preferred(), None);
        assert_eq!(vote(Answer::Left).correct(), None);
    }
}
