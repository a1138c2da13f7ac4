//! The library's one error: a kind that a program can act on, and a context that a person can read.
//!
//! A message names the thing, what was expected and what mends it. Contexts are added from the inside out and
//! printed from the outside in, so that `{:#}` reads as one line.

use std::borrow::Cow;
use std::fmt;

/// A name or text from outside as it may be printed: what could move the cursor, end the line, change colours or turn the
/// direction of writing is escaped (`\u{1b}`).
pub fn shown(text: &str) -> Cow<'_, str> {
    let unsafe_to_print = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
    };
    if !text.contains(unsafe_to_print) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().flat_map(|c| {
        let (escape, plain) = if unsafe_to_print(c) { (Some(c.escape_default()), None) } else { (None, Some(c)) };
        escape.into_iter().flatten().chain(plain)
    });
    Cow::Owned(escaped.collect())
}

/// As [`shown`], of a text that has lines of its own.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    if shown(text) == text {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(shown).collect::<Vec<_>>().join("\n"))
}

/// What sort of thing went wrong; the program maps each kind to a documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value that the caller chose is out of range or contradicts another.
    Usage,
    /// A recipe, caption file or picture is malformed, missing or unusable.
    Data,
    /// A model file is missing, damaged, untrained or does not fit its configuration.
    Model,
    /// More memory would be needed than there is or than was allowed.
    Memory,
    /// The operating system refused to read or write.
    Io,
    /// A number became infinite or not a number.
    NonFinite,
}

/// An error of this library.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    contexts: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind with a message that names the thing, the expectation and the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), contexts: Vec::new(), source: None }))
    }

    /// Shorthand for [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Shorthand for [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// Shorthand for [`ErrorKind::Model`].
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }

    /// An operating-system error at a path: `cannot {verb} {path}: {cause}`; of [`ErrorKind::Data`] where what was read is no
    /// text or no file, of [`ErrorKind::Usage`] where a file stands in a folder's place, a folder in a file's, or no file can have
    /// the name.
    pub fn io(verb: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Cause;
        let reading = verb.starts_with("read");
        let kind = match source.kind() {
            Cause::InvalidData => ErrorKind::Data,
            Cause::InvalidInput | Cause::IsADirectory | Cause::NotADirectory if reading => ErrorKind::Data,
            Cause::AlreadyExists | Cause::IsADirectory | Cause::NotADirectory | Cause::InvalidFilename if !reading => {
                ErrorKind::Usage
            }
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {verb} {}", path.display())).with_source(source)
    }

    /// The error with [`ErrorKind::Model`] in place of [`ErrorKind::Data`]: what could not be read was to be a model's file.
    pub fn of_model(mut self) -> Self {
        if self.0.kind == ErrorKind::Data {
            self.0.kind = ErrorKind::Model;
        }
        self
    }

    /// Attaches the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds an outer context, e.g. the file or the stage that was being worked on.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.contexts.push(context.into());
        self
    }

    /// What sort of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    /// Names from outside are printed as [`shown`]. `{}` prints the outermost line; `{:#}` prints the whole chain on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(&shown(self.0.contexts.last().unwrap_or(&self.0.message)));
        }
        for context in self.0.contexts.iter().rev() {
            write!(f, "{}: ", shown(context))?;
        }
        f.write_str(&shown(&self.0.message))?;
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            // a parser may point at a line of its text
            write!(f, ": {}", shown_lines(&error.to_string()))?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Adds a context to the error of a result.
pub trait Context<T> {
    /// Adds `context()` to the error.
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| e.context(context()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_printed_without_what_commands_a_terminal() {
        assert_eq!(
            shown("a\u{1b}[31mred\u{1b}]0;title\u{7}.png\nfake: line"),
            r"a\u{1b}[31mred\u{1b}]0;title\u{7}.png\nfake: line"
        );
        assert_eq!(shown("gnp.\u{202e}\u{9b}2J"), r"gnp.\u{202e}\u{9b}2J");
        assert!(matches!(shown("crème brûlée 猫 🍎"), Cow::Borrowed(_)));
        assert_eq!(shown_lines("a\u{1b}\nb"), "a\\u{1b}\nb");
        let cause = std::io::Error::other("unknown field \u{1b}[2J");
        let error = Error::data("b\nerror: fake").with_source(cause).context("a\u{7}");
        assert_eq!(format!("{error:#}"), r"a\u{7}: b\nerror: fake: unknown field \u{1b}[2J");
        assert_eq!(error.to_string(), r"a\u{7}");
    }

    #[test]
    fn the_chain_reads_from_the_outside_in() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::data("caption is empty").with_source(cause).context("line 3").context("metadata.jsonl");
        assert_eq!(format!("{error}"), "metadata.jsonl");
        assert_eq!(format!("{error:#}"), "metadata.jsonl: line 3: caption is empty: disk on fire");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
