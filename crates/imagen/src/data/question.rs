//! What a model is asked: a caption, the picture that it asks for, and pictures that differ from it in one factor.

/// A caption and what it may mean.
#[derive(Clone, Debug)]
pub struct Question<P> {
    /// What the model is asked for.
    pub caption: String,
    /// The truth, then what differs in one factor.
    pub candidates: Vec<Candidate<P>>,
}

/// A picture that may be what a caption asks for.
#[derive(Clone, Debug)]
pub struct Candidate<P> {
    /// Its canonical caption.
    pub caption: String,
    /// What is drawn.
    pub(super) plan: P,
}
