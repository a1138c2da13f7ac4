//! Documentation that can be read line by line, in plain words.

use std::fs;
use std::path::{Path, PathBuf};

use crate::floors::source_files;

/// What no line of documentation begins with: read alone, as lists of items show it, it says nothing.
const BEGINNINGS: [&str; 2] = ["The same", "Those of"];
/// Idioms that a native engineer does not write, and references to what is not in the repository.
const IDIOMS: [&str; 6] = ["make no sense", "the way back", "take it away", "where absent", "; spec ", "(spec "];

#[test]
fn documentation_is_in_plain_words() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let parts = fs::read_dir(crates).unwrap().flat_map(|package| {
        let package = package.unwrap().path();
        ["src", "examples", "build"].map(|part| package.join(part))
    });
    let files: Vec<PathBuf> = parts.filter(|part| part.is_dir()).flat_map(|part| source_files(&part)).collect();
    assert!(files.len() > 200, "{}", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            let line = line.trim_start();
            let words = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim_start);
            let begins = words.is_some_and(|words| BEGINNINGS.iter().any(|beginning| words.starts_with(beginning)));
            if begins || IDIOMS.iter().any(|idiom| line.contains(idiom)) {
                wrong.push(format!("{}:{}: {line}", file.strip_prefix(crates).unwrap().display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
