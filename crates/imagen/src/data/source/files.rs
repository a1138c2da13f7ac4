//! Names of files below a folder. Which of them are pictures is told by their ending; nothing is opened.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::error::{Error, Result};

/// Endings of picture files.
pub(super) const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// A file name with plain parts only: no root, no `..`.
pub(super) fn inside(name: &str) -> Result<String> {
    let parts: Option<Vec<&str>> = Path::new(name)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect();
    match parts {
        Some(parts) if !parts.is_empty() => Ok(parts.join("/")),
        _ => Err(Error::data(format!("`file_name` {name:?} leaves the folder; expected a path below it"))),
    }
}

/// Every file below a folder, with `/` between parts; hidden files and folders are passed over, links to folders too.
pub(super) fn files_below(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        let entries = std::fs::read_dir(&path).map_err(|e| Error::io("read the folder", &path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read the folder", &path, e))?;
            let Some(name) = entry.file_name().to_str().map(str::to_string) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|e| Error::io("read", &entry.path(), e))?;
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// Whether the name is that of a picture; what the file holds is told by content when it is read.
pub(super) fn is_picture(name: &str) -> bool {
    ENDINGS.contains(&ending(name).as_str())
}

/// What follows the last dot, in lower case; nothing without a dot.
pub(super) fn ending(name: &str) -> String {
    name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

/// The name with another ending.
pub(super) fn with_ending(name: &str, ending: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{ending}")
}
