//! The library's one error: a kind that a program can act on, and a context that a person can read.
//!
//! A message names the thing, what was expected and what mends it. Contexts are added from the inside out and
//! printed from the outside in, so that `{:#}` reads as one line.

use std::fmt;

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

    /// An operating-system error at a path: `cannot {verb} {path}: {cause}`.
    pub fn io(verb: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).with_source(source)
    }

    /// The same error with its cause attached.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with an outer context, e.g. the file or the stage that was being worked on.
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
    /// `{}` prints the outermost line; `{:#}` prints the whole chain on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return f.write_str(self.0.contexts.last().unwrap_or(&self.0.message));
        }
        for context in self.0.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.message)?;
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
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
    /// The same result, its error wrapped in `context()`.
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
    fn the_chain_reads_from_the_outside_in() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::data("caption is empty").with_source(cause).context("line 3").context("metadata.jsonl");
        assert_eq!(format!("{error}"), "metadata.jsonl");
        assert_eq!(format!("{error:#}"), "metadata.jsonl: line 3: caption is empty: disk on fire");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
