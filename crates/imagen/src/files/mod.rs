//! How files are written: whole or not at all, by one process at a time, and without a trace of what was not finished.

mod lock;
mod whole;

pub use lock::Lock;
pub use whole::{sweep, sweep_orphans, write_whole};
