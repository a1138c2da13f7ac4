//! `/api/v1`, and the interfaces that clients of others know: jobs, their events, pictures, and what there is. A job is known by an id that nobody can guess and that is told to
//! the one who submitted it alone; whoever knows it may look, listen and cancel.

pub(crate) mod about;
pub(crate) mod evals;
mod extract;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod openai;
pub(crate) mod openapi;
mod peers;
pub(crate) mod sdapi;
pub(crate) mod streams;
pub(crate) mod trainings;
pub(crate) mod uploads;
mod wait;

pub(crate) use extract::{Body, Client, IdempotencyKey, PictureBody, Sought, blocking};
