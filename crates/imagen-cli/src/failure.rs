//! How the program fails: an exit code that scripts can rely on, one line that says what went wrong, and a hint where
//! there is one.
//!
//! The library's errors become failures here and nowhere else. Usage errors that `clap` finds itself never come here:
//! it prints them and exits with the same code as [`Exit::Usage`].

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use imagen::ErrorKind;
use imagen::error::shown_lines;

/// Why the program ends; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read stdout has seen enough (`imagen … | head`): no failure, nothing is said.
    ReaderLeft = 0,
    /// Reading, writing or computing failed.
    Runtime = 1,
    /// Invalid arguments.
    Usage = 2,
    /// A recipe or data set is unusable.
    Data = 3,
    /// A model is missing, damaged or untrained.
    Model = 4,
    /// Not enough memory.
    Memory = 5,
    /// A bug: the program panicked.
    Bug = 101,
    /// Ctrl-C or a request to terminate.
    Interrupted = 130,
}

impl Exit {
    /// The reason with this exit code.
    pub(crate) fn numbered(code: u8) -> Self {
        use Exit::*;
        let all = [Usage, Data, Model, Memory, Bug, Interrupted];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Runtime)
    }
}

/// The exit codes, as the help explains them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    reading, writing or computing failed (disk full, a number that is not finite)
  2    invalid arguments
  3    a recipe, caption file or picture is unusable
  4    a model is missing, damaged or untrained
  5    not enough memory
  101  a bug; please report it
  130  interrupted (Ctrl-C); what was finished is kept";

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    /// Whether somebody else says it.
    said: bool,
}

/// `Result` with a [`Failure`].
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with this exit code and message.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None, said: false }
    }

    /// Invalid arguments.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The operating system refused: `cannot {verb} {path}: {cause}`, with the exit code that the library's error has.
    pub(crate) fn io(verb: &str, path: &Path, cause: &io::Error) -> Self {
        let exit = Self::from(imagen::Error::io(verb, path, cause.kind().into())).exit;
        Self::new(exit, format_args!("cannot {verb} {}: {cause}", path.display()))
    }

    /// Writing to stdout failed.
    pub(crate) fn stdout(cause: &io::Error) -> Self {
        let reader_left = cause.kind() == io::ErrorKind::BrokenPipe;
        let exit = if reader_left { Exit::ReaderLeft } else { Exit::Runtime };
        Self::new(exit, format_args!("cannot write to stdout: {cause}"))
    }

    /// Stopped by the user.
    pub(crate) fn interrupted(message: impl fmt::Display) -> Self {
        Self::new(Exit::Interrupted, message)
    }

    /// Stopped by the user after so many of all pictures: `3 of 8 pictures were drawn`.
    pub(crate) fn stopped(done: usize, of: usize, what: &str) -> Self {
        match of {
            1 => Self::interrupted(format_args!("the picture was not {what}")),
            _ => Self::interrupted(format_args!("{done} of {of} pictures were {what}")),
        }
    }

    /// Adds a remedy, unless the failure already has one.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint.get_or_insert_with(|| hint.to_string());
        self
    }

    /// The failure, of which nothing is printed, because another rank of the job prints it.
    pub(crate) fn said(mut self) -> Self {
        self.said = true;
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The remedy.
    pub(crate) fn hinted(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What went wrong, without the word in front and the hint behind.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints the failure on stderr and gives its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.exit != Exit::ReaderLeft && !self.said {
            // Nothing can be done about a stderr that cannot be written to.
            let _ = writeln!(io::stderr(), "{self}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.exit == Exit::Interrupted { "interrupted" } else { "error" };
        write!(f, "{word}: {}", shown_lines(&self.message))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {}", shown_lines(hint)))
    }
}

impl From<imagen::Error> for Failure {
    fn from(error: imagen::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&imagen::Error> for Failure {
    fn from(error: &imagen::Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Data => Exit::Data,
            ErrorKind::Model => Exit::Model,
            ErrorKind::Memory => Exit::Memory,
            _ => Exit::Runtime,
        };
        Self::new(exit, format_args!("{error:#}"))
    }
}

/// Prints a line on stdout.
pub(crate) fn print_line(line: impl fmt::Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|e| Failure::stdout(&e))
}

/// Whether a device computes: panics, on whatever thread, are then told by who asked it.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Panics print nothing until this is dropped.
pub(crate) fn quiet_panics() -> impl Drop {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            QUIET.store(false, Ordering::Relaxed);
        }
    }
    QUIET.store(true, Ordering::Relaxed);
    Loud
}

/// Makes a panic print what any other failure prints, and where it happened; Rust's own exit code, 101, stays.
pub(crate) fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // a parser of somebody else's that gave up on a file; the library says so
        if imagen::input::behind_wall() || QUIET.load(Ordering::Relaxed) {
            return;
        }
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)");
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        let failure = Failure::new(Exit::Bug, format_args!("internal error{place}: {text}"))
            .hint("this is a bug; please report it together with the output of `imagen doctor`");
        let _ = writeln!(io::stderr(), "{failure}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code() {
        use Exit::*;
        for exit in [Runtime, Usage, Data, Model, Memory, Bug, Interrupted] {
            let start = format!("\n  {:<5}", exit as u8);
            assert!(EXIT_CODES.contains(&start), "{exit:?} is not in the help");
        }
    }

    #[test]
    fn each_kind_of_library_error_has_its_exit_code() {
        let cases = [
            (ErrorKind::Usage, Exit::Usage),
            (ErrorKind::Data, Exit::Data),
            (ErrorKind::Model, Exit::Model),
            (ErrorKind::Memory, Exit::Memory),
            (ErrorKind::Io, Exit::Runtime),
            (ErrorKind::NonFinite, Exit::Runtime),
        ];
        for (kind, exit) in cases {
            let failure = Failure::from(imagen::Error::new(kind, "inner").context("outer"));
            assert_eq!(failure.exit, exit, "{kind:?}");
            assert_eq!(failure.to_string(), "error: outer: inner");
        }
    }

    #[test]
    fn the_innermost_hint_is_kept() {
        let failure = Failure::usage("no").hint("first").hint("second");
        assert_eq!(failure.to_string(), "error: no\nhint: first");
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
