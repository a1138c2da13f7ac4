//! Parsers of others behind a wall: where one panics, the file is at fault, not the program.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many walls stand around what this thread does.
    static WALLS: Cell<usize> = const { Cell::new(0) };
}

/// Runs a parser of somebody else's; `Err` with what it said if it panicked. What it was working on must be thrown away then.
///
/// # Errors
/// The panic's message.
pub fn guarded<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    WALLS.set(WALLS.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(parse));
    WALLS.set(WALLS.get() - 1);
    outcome.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave up").to_owned()
    })
}

/// Whether this thread is behind a wall, so that a panic is no bug of the program and needs no report.
pub fn behind_wall() -> bool {
    WALLS.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_behind_the_wall_is_an_error_that_says_what_it_said() {
        assert_eq!(guarded(|| 7), Ok(7));
        let number = std::hint::black_box(9);
        let panicked = guarded(|| {
            assert!(behind_wall());
            [1, 2][number]
        });
        assert!(panicked.unwrap_err().contains("index out of bounds"), "what the parser said");
        assert!(!behind_wall());
    }
}
