//! Folders without metadata: a text file beside each picture (`cat.jpg`, `cat.txt` or `cat.caption`, in capitals or not, also
//! `cat.jpg.txt`), each line of which is a caption; or pictures alone, which are unconditional.
//!
//! A picture without a text file in a folder such as `10_red_car`, as kohya's scripts name them, is called by that folder: "red
//! car". How often such a folder is repeated is not heeded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::files::{Folder, ending, file_of, folder_of, is_picture, stem};
use super::found::Found;
use super::pictures::{Layout, Source};
use crate::error::Result;
use crate::input;

/// Endings of caption files; the first that is there is read.
const TEXTS: [&str; 2] = ["txt", "caption"];
/// Texts that lie beside pictures and are of none of them.
const NOTES: [&str; 10] = [
    "readme",
    "license",
    "licence",
    "copying",
    "copyright",
    "notice",
    "changelog",
    "credits",
    "attribution",
    "requirements",
];
/// The most bytes of a caption file.
const TEXT_LIMIT: u64 = 1 << 20;

/// Caption files by the name of what they are beside.
fn texts(files: &BTreeSet<String>) -> BTreeMap<&str, Vec<&String>> {
    let mut texts: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for wanted in TEXTS {
        for name in files.iter().filter(|name| ending(name) == wanted) {
            texts.entry(stem(name)).or_default().push(name);
        }
    }
    texts
}

/// Whether any picture has a caption file.
pub(super) fn has_captions(files: &BTreeSet<String>) -> bool {
    let texts = texts(files);
    files.iter().any(|name| is_picture(name) && (texts.contains_key(stem(name)) || texts.contains_key(name.as_str())))
}

pub(super) fn read(folder: &Path, below: Folder) -> Result<Source> {
    let mut found = Found::default();
    let files = &below.files;
    let (texts, mut used, mut named) = (texts(files), HashSet::new(), false);
    for name in files.iter().filter(|name| is_picture(name)) {
        let mut text = String::new();
        if let Some(beside) = texts.get(stem(name)).or_else(|| texts.get(name.as_str())) {
            used.insert(beside[0].clone());
            let read = input::read(&folder.join(beside[0]), TEXT_LIMIT).and_then(|bytes| input::text(&bytes));
            text = found.text_of(beside[0], read);
        } else if let Some(called) = by_folder(name) {
            text = called;
            named = true;
        }
        found.add(name.clone(), text.lines());
    }
    if used.is_empty() && !named {
        found.odd.passed = below.left_out(|_| false);
        return Ok(found.into_source(folder, folder, Layout::Unconditional, "pictures alone".to_owned()));
    }
    // A text where there are pictures, but not its own, has lost it.
    let places: HashSet<&str> = files.iter().filter(|name| is_picture(name)).map(|name| folder_of(name)).collect();
    let stems: HashSet<&str> = used.iter().map(|name| stem(name)).collect();
    let is_note = |name: &str| {
        let called = stem(file_of(name)).to_ascii_lowercase();
        NOTES.iter().any(|note| called.strip_prefix(note).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)))
    };
    let alone = texts.into_values().flatten().filter(|name| {
        let second = stems.contains(stem(name));
        !used.contains(*name) && !second && !is_note(name) && places.contains(folder_of(name))
    });
    let alone: BTreeSet<String> = alone.cloned().collect();
    let origin = if used.is_empty() { "names of folders" } else { "text files" };
    found.odd.missing.extend(alone.iter().cloned());
    found.odd.passed = below.left_out(|name| used.contains(name) || alone.contains(name));
    Ok(found.into_source(folder, folder, Layout::CaptionFiles, origin.to_owned()))
}

/// What a folder such as `10_red_car` says of its pictures.
fn by_folder(name: &str) -> Option<String> {
    let (folders, _) = name.rsplit_once('/')?;
    let (repeats, called) = folders.rsplit('/').next()?.split_once('_')?;
    let counts = !repeats.is_empty() && repeats.bytes().all(|byte| byte.is_ascii_digit());
    counts.then(|| called.replace('_', " "))
}
