//! Drawing, as far as several verbs share it: which model, how it draws, whether that fits, and a session with it. `sample`, the
//! evaluations and `plan` are its clients.

mod fit;
mod lora;
mod model;
pub(super) mod notes;
mod per_stage;
mod session;
mod settings;

pub(super) use fit::MaxMemory;
pub(super) use model::{FrozenArgs, ModelArgs, OpenModel};
pub(super) use session::{Drawn, Session, Subject, describe};
pub(super) use settings::{DrawArgs, flags};

/// Headings of help.
pub(super) const DRAW: &str = "What to draw";
pub(super) const HOW: &str = "How to draw it (one value for all stages, or one for each: 50,20)";
pub(super) const MACHINE: &str = "Model and machine";
