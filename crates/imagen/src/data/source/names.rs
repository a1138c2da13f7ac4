//! Folders without metadata: a text file beside each picture (`cat.jpg`, `cat.txt`), each line of which is a caption; or
//! pictures alone, which are unconditional.

use std::collections::BTreeSet;
use std::path::Path;

use super::files::{is_picture, with_ending};
use super::{Found, Layout, Source};
use crate::error::{Error, Result};

pub(super) fn read(folder: &Path, files: &BTreeSet<String>) -> Result<Source> {
    let mut found = Found::default();
    let mut used = BTreeSet::new();
    for name in files.iter().filter(|name| is_picture(name)) {
        let beside = with_ending(name, "txt");
        let mut text = String::new();
        if files.contains(&beside) {
            let path = folder.join(&beside);
            text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
            used.insert(beside);
        }
        found.add(name.clone(), text.lines());
    }
    if used.is_empty() {
        return Ok(found.into_source(folder, folder, Layout::Unconditional, "pictures alone".to_owned()));
    }
    let alone = files.iter().filter(|name| name.ends_with(".txt") && !used.contains(*name));
    found.odd.missing.extend(alone.cloned());
    Ok(found.into_source(folder, folder, Layout::CaptionFiles, "text files".to_owned()))
}
