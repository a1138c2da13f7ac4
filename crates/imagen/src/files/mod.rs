//! How files are written: whole or not at all, by one process at a time, and without a trace of what was not finished.

mod lock;
mod space;
mod whole;

pub use lock::Lock;
pub use space::room_for;
pub use whole::{sweep, sweep_orphans, write_whole};
