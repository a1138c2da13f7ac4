//! Ctrl-C: the first asks the verb to stop at its next good moment, the second leaves at once.
//!
//! A request to terminate or a closed terminal counts as Ctrl-C: a training run that a machine shuts down saves itself.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Exit, Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C prints `notice` and makes [`requested`] true; pressed again it ends the program.
pub(crate) fn watch(notice: &'static str) -> Result<()> {
    let handler = move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        let _ = writeln!(std::io::stderr(), "\n{notice} (again to leave at once)");
    };
    ctrlc::set_handler(handler).map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot watch for Ctrl-C: {e}")))
}

/// Whether the verb has been asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
