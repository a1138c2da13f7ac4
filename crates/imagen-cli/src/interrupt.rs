//! Ctrl-C: the first asks the verb to stop at its next good moment, the second leaves at once.
//!
//! A request to terminate, a closed terminal or SIGUSR1 (with which a cluster announces the end of a job's time) counts as
//! Ctrl-C: a training run that a machine shuts down saves itself. What
//! whoever started the program had told the system to ignore stays ignored, so that `nohup imagen train` outlives its
//! terminal. A file that becomes too large for the system's limit is an error of writing and not the end of the program.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Exit, Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C prints `notice` and makes [`requested`] true; pressed again it ends the program.
pub(crate) fn watch(notice: &'static str) -> Result<()> {
    listen(move || {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        let _ = writeln!(std::io::stderr(), "\n{notice} (Ctrl-C again to quit at once)");
    })
    .map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot watch for Ctrl-C: {e}")))
}

/// Whether the verb has been asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// What goes on unless the verb has been asked to stop.
pub(crate) fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[cfg(unix)]
fn listen(heard: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::iterator::Signals;

    let wanted: Vec<i32> = [SIGINT, SIGTERM, SIGHUP, SIGUSR1].into_iter().filter(|signal| !ignored(*signal)).collect();
    let mut signals = Signals::new(wanted)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| heard()))?;
    Ok(())
}

#[cfg(not(unix))]
fn listen(heard: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use std::sync::Arc;
    use std::time::Duration;

    let pressed = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, pressed.clone())?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            if pressed.swap(false, Ordering::Relaxed) {
                heard();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })?;
    Ok(())
}

/// Whether a signal was to be ignored when the program was started, as far as the system tells.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// Lets a write beyond the limit of a file's size fail, in place of ending the program without a word.
pub(crate) fn mind_file_limits() {
    #[cfg(unix)]
    {
        // the flag is never read: that somebody listens is all it takes
        let heard = std::sync::Arc::new(AtomicBool::new(false));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, heard);
    }
}
