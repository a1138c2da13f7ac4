//! Jobs and their pictures, as clients see them.

use serde::{Deserialize, Serialize};

use imagen::cascade::StageName;

use super::order::Order;
use super::remark::RemarkView;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It waits for its turn.
    Queued,
    /// It is being drawn.
    Running,
    /// All its pictures are there.
    Done,
    /// Something went wrong, and `error` says what.
    Failed,
    /// Somebody who knows it ended it.
    Cancelled,
    /// The server ended in the middle of it; it can be run again.
    Interrupted,
}

impl State {
    const ALL: [Self; 6] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled, Self::Interrupted];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job, as the one who knows its id sees it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) request: Order,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) begun_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Jobs before it, where it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<usize>,
    /// Seconds until it is done, as far as can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eta_seconds: Option<f64>,
    /// What the pictures will not follow of the prompt, once the drawing has begun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remarks: Vec<RemarkView>,
    pub(crate) pictures: Vec<PictureView>,
}

/// A finished picture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PictureView {
    pub(crate) id: String,
    pub(crate) job: String,
    /// Which of its job, from 0.
    pub(crate) index: usize,
    pub(crate) prompt: String,
    pub(crate) seed: u64,
    pub(crate) model: String,
    pub(crate) until: StageName,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// What was asked for, so that it can be asked for again.
    pub(crate) request: Order,
    /// How each stage ran.
    pub(crate) stages: serde_json::Value,
    /// The command that draws it again.
    pub(crate) command: String,
    pub(crate) seconds: f64,
    pub(crate) created_ms: i64,
    pub(crate) favourite: bool,
    /// Where it is, below this server.
    pub(crate) url: String,
}
