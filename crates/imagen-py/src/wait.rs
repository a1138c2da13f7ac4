//! Waiting for a computation: without the interpreter's lock, and with an eye on Ctrl-C.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::prelude::*;

use crate::error::{ImagenError, raise};

/// How often signals are looked at, at least.
const LOOK: Duration = Duration::from_millis(50);

/// What comes through a channel.
///
/// # Errors
/// What a signal's handler raises (`KeyboardInterrupt`); `ImagenError` where the other end has gone.
pub(crate) fn wait<T: Send>(py: Python<'_>, mut receiver: Receiver<T>) -> PyResult<T> {
    loop {
        // before every result, or a computation in quick steps would never be interrupted
        py.check_signals()?;
        let (back, received) = py.detach(move || {
            let received = receiver.recv_timeout(LOOK);
            (receiver, received)
        });
        match received {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ImagenError::new_err(
                    "the computation ended without a result, which is a fault of this module",
                ));
            }
        }
        receiver = back;
    }
}

/// The result of a computation on a thread of its own. After Ctrl-C nobody waits for it, and it ends by itself.
///
/// # Errors
/// As [`wait`] and of the computation.
pub(crate) fn compute<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> imagen::Result<T> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = channel();
    // whoever has stopped waiting does not want the result
    std::thread::spawn(move || drop(sender.send(work())));
    wait(py, receiver)?.map_err(raise)
}
