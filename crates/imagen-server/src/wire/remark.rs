//! What a picture will not follow of its prompt, as it is said to clients.

use serde::{Deserialize, Serialize};

use imagen::cascade::Remark;

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemarkView {
    /// `empty`, `cut`, `unknown`, `nothing`, `loose` or `far`.
    pub(crate) kind: String,
    /// The text that is meant.
    pub(crate) text: String,
    /// What of it is cut or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) words: Option<String>,
    /// The captions that it lies nearest to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nearest: Vec<String>,
    /// All of it in a sentence.
    pub(crate) message: String,
}

impl From<&Remark> for RemarkView {
    fn from(remark: &Remark) -> Self {
        Self {
            kind: remark.kind.name().to_owned(),
            text: remark.text.clone(),
            words: remark.kind.words().map(str::to_owned),
            nearest: remark.kind.nearest().to_vec(),
            message: remark.to_string(),
        }
    }
}
