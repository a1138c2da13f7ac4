//! How the operations of a thread run: as defined or by kernels, keeping what for the backward pass.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    static BY_DEFINITION: Cell<bool> = const { Cell::new(false) };
    static RECOMPUTING: Cell<bool> = const { Cell::new(false) };
    pub(super) static KEEPING: Cell<bool> = const { Cell::new(false) };
}

/// Sets a switch of this thread while `f` runs.
pub(super) fn with<R>(switch: &'static LocalKey<Cell<bool>>, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(switch, switch.replace(true));
    f()
}

/// Runs `f` with the definition of each operation in place of the kernels, on this thread; what is recorded then is also
/// differentiated so. Slow: it is what a network's results are held against.
pub fn by_definition<R>(f: impl FnOnce() -> R) -> R {
    with(&BY_DEFINITION, f)
}

/// Runs `f` so that what it records for the backward pass keeps fewer maps and makes them again when they are wanted (gradient
/// checkpointing): a residual block keeps its input alone, for one more convolution.
pub fn recomputing<R>(f: impl FnOnce() -> R) -> R {
    with(&RECOMPUTING, f)
}

/// Whether `ops::keeping_weights` runs on this thread.
pub(super) fn keeps_weights() -> bool {
    KEEPING.get()
}

/// Whether [`recomputing`] runs on this thread.
pub(super) fn recomputes() -> bool {
    RECOMPUTING.get()
}

/// Whether [`by_definition`] runs on this thread.
pub(super) fn defined() -> bool {
    BY_DEFINITION.get()
}
