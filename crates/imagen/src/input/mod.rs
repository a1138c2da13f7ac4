//! What comes from outside: files, texts, JSON, and the parsers of others that read it.
//!
//! [`open`] and [`read`] take regular files only, up to a limit; [`text`], [`lines`] and [`json`] understand what Windows and
//! Python write; [`guarded`] runs a parser that may panic. How a name from outside is printed is [`crate::error::shown`]'s. Nothing
//! here knows what a file is for.

mod json;
mod text;
mod wall;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use self::json::json;
pub use self::text::{Lines, Text, lines, text};
pub use self::wall::{behind_wall, guarded};
use crate::error::{Error, Result};

/// The most bytes of a text that a person or a program wrote by hand: recipes, configurations, manifests, indexes.
pub const MOST_TEXT: u64 = 256 << 20;

/// Opens a file for reading; pipes, sockets, devices and folders, which may never end or answer, are refused.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if it is none of the regular files; [`crate::ErrorKind::Io`] if it cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
        return Err(Error::data(format!("{} is {what}; expected a regular file", path.display())));
    }
    File::open(path).map_err(|e| Error::io("read", path, e))
}

/// As [`read`]; none where there is no such file.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read(path, most).map(Some),
    }
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; [`crate::ErrorKind::Data`] if there are more.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    if length > most {
        return Err(Error::data(format!("{} has {length} bytes; at most {most} are read", path.display())));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}
