//! Folders without metadata: a text file beside each picture (`cat.jpg`, `cat.txt` or `cat.caption`), each line of which is a
//! caption; or pictures alone, which are unconditional.
//!
//! A picture without a text file in a folder such as `10_red_car`, as kohya's scripts name them, is called by that folder: "red
//! car". How often such a folder is repeated is not heeded.

use std::collections::BTreeSet;
use std::path::Path;

use super::files::{is_picture, with_ending};
use super::{Found, Layout, Source};
use crate::error::{Error, Result};

/// Endings of caption files; the first that is there is read.
const TEXTS: [&str; 4] = ["txt", "caption", "TXT", "CAPTION"];

pub(super) fn read(folder: &Path, files: &BTreeSet<String>) -> Result<Source> {
    let mut found = Found::default();
    let mut used = BTreeSet::new();
    let mut named = false;
    for name in files.iter().filter(|name| is_picture(name)) {
        let mut text = String::new();
        if let Some(beside) =
            TEXTS.map(|ending| with_ending(name, ending)).into_iter().find(|file| files.contains(file))
        {
            let path = folder.join(&beside);
            text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
            used.insert(beside);
        } else if let Some(called) = by_folder(name) {
            text = called;
            named = true;
        }
        found.add(name.clone(), text.lines());
    }
    if used.is_empty() && !named {
        return Ok(found.into_source(folder, folder, Layout::Unconditional, "pictures alone".to_owned()));
    }
    let is_text = |name: &&String| TEXTS.contains(&name.rsplit_once('.').map_or("", |(_, ending)| ending));
    let alone = files.iter().filter(|name| is_text(name) && !used.contains(*name));
    found.odd.missing.extend(alone.cloned());
    let origin = if used.is_empty() { "names of folders" } else { "text files" };
    Ok(found.into_source(folder, folder, Layout::CaptionFiles, origin.to_owned()))
}

/// What a folder such as `10_red_car` says of its pictures.
fn by_folder(name: &str) -> Option<String> {
    let (folders, _) = name.rsplit_once('/')?;
    let (repeats, called) = folders.rsplit('/').next()?.split_once('_')?;
    let counts = !repeats.is_empty() && repeats.bytes().all(|byte| byte.is_ascii_digit());
    counts.then(|| called.replace('_', " "))
}
