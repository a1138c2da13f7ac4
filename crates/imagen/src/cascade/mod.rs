//! The cascade: text encoder, base model, super-resolution models, and how a picture passes through them (section 2, A6).
//!
//! [`Imagen::sample`] returns an iterator of events that the caller pulls: progress bars, previews and cancellation are
//! ordinary adapters, and dropping the iterator cancels. A picture is a function of (weights, prompt, seed, options) alone.
//!
//! A model is of one of two families: this project's own format, and DeepFloyd IF in the folders of diffusers. They differ in
//! what `model` lists; request, settings, loop, events and needs are the same for both.

mod checkpoint;
mod config;
pub mod deepfloyd;
mod draw;
mod edges;
pub mod imagen_pytorch;
mod info;
pub mod lora;
mod model;
mod need;
mod needs;
mod own;
mod preset;
mod prompt_text;
mod remarks;
mod request;
mod restore;
mod settings;
mod stage;
mod start;
mod state_dict;
mod texts;
mod tiles;
mod upsample;

pub use checkpoint::{ModelFiles, PartialLoad, Record, StageFile, Status, Training, random_stage, write_stage};
pub use config::{Enlargement, NetworkKind, NullText, StageConfig, StageName};
pub use draw::{Drawing, Event, to_pictures};
pub use edges::Edges;
pub use info::StageInfo;
pub use model::Imagen;
pub use need::Need;
pub(crate) use needs::drawing_bytes;
pub use preset::Preset;
pub use prompt_text::PromptText;
pub use remarks::{Remark, RemarkKind, Remarks};
pub use request::{Request, Subject, Toward};
pub use restore::{Restoration, Restorer};
pub use settings::{StageOptions, StageSettings};
pub use stage::{Conditions, Stage, trajectory};
pub use start::{Start, StartPicture};
pub use state_dict::from_state_dict;
pub use upsample::upsample;
