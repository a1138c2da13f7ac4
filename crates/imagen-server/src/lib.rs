//! The studio: a page and an API over HTTP for the models of [`imagen`], and what every service of this project shares.
//!
//! [`Server::open`] starts the one thread that owns the models; [`Server::app`] is the whole service as a value, so that tests
//! need no socket; [`listen::serve`] answers connections. [`Guard`] stands before every route of every service, the raters' study
//! included. Types on the wire are twins of the library's. No tensor is touched in an async function.

mod api;
mod app;
mod begin;
mod beginning;
mod estimate;
mod events;
mod guard;
mod ids;
mod lender;
mod limits;
pub mod listen;
mod metrics;
mod page;
mod preview;
mod problem;
mod queue;
mod record;
mod runs;
mod store;
mod studio;
mod wire;
mod worker;

pub use app::{Options, Server};
pub use guard::{Guard, Keyed};
pub use lender::{Began, Describe, Description, Evaluations, Finished, Lender, Model, Open, Pace};
pub use limits::Limits;
