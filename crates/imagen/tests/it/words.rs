//! Documentation that can be read line by line, in plain words, and names what is there; files that can be read at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::floors::source_files;

/// The folder of all crates.
fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What no line of documentation begins with: read alone, as lists of items show it, it says nothing.
const BEGINNINGS: [&str; 2] = ["The same", "Those of"];
/// Idioms that a native engineer does not write, and references to what is not in the repository.
const IDIOMS: [&str; 6] = ["make no sense", "the way back", "take it away", "where absent", "; spec ", "(spec "];

#[test]
fn documentation_is_in_plain_words() {
    let crates = crates();
    let parts = fs::read_dir(crates).unwrap().flat_map(|package| {
        let package = package.unwrap().path();
        ["src", "examples", "build"].map(|part| package.join(part))
    });
    let mut files: Vec<PathBuf> = parts.filter(|part| part.is_dir()).flat_map(|part| source_files(&part)).collect();
    assert!(files.len() > 200, "{}", files.len());
    let documents = fs::read_dir(crates.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    files.extend(documents.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    let mut wrong = Vec::new();
    for file in &files {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            let line = line.trim_start();
            let words = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim_start);
            let begins = words.is_some_and(|words| BEGINNINGS.iter().any(|beginning| words.starts_with(beginning)));
            if begins || IDIOMS.iter().any(|idiom| line.contains(idiom)) {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines of a file that is read and changed as one thing.
const LONGEST: usize = 500;

#[test]
fn no_file_of_code_is_too_long_to_be_read_at_once() {
    let crates = crates();
    let sources = fs::read_dir(crates).unwrap().map(|package| package.unwrap().path().join("src"));
    let mut long = Vec::new();
    for file in sources.filter(|source| source.is_dir()).flat_map(|source| source_files(&source)) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().count();
        if lines > LONGEST && file.file_name().unwrap() != "tests.rs" {
            long.push(format!("{}: {lines} lines", file.strip_prefix(crates).unwrap().display()));
        }
    }
    assert!(long.is_empty(), "divide by subject what is longer than {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn what_paper_md_names_is_where_it_says() {
    let page = fs::read_to_string(crates().parent().unwrap().join("PAPER.md")).unwrap();
    let mut wrong = Vec::new();
    let named = page.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::"));
    let named: Vec<(&str, &str)> = named.collect();
    assert!(named.len() > 40, "{}", named.len());
    for (path, item) in named {
        let below = if path.starts_with("imagen-") { crates().to_owned() } else { crates().join("imagen/src") };
        let source = fs::read_to_string(below.join(format!("{path}.rs"))).unwrap_or_default();
        let defined = |name: &str| {
            let is = |word: &str| word.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(name);
            ["fn ", "struct ", "enum ", "trait ", "type "].iter().any(|kind| source.split(kind).skip(1).any(is))
                || source.lines().any(|line| is(line.trim_start()))
        };
        if !item.split("::").all(defined) {
            wrong.push(format!("{path}.rs::{item}"));
        }
    }
    assert!(wrong.is_empty(), "PAPER.md names what is not there: {wrong:?}");
}

#[test]
fn every_folder_of_golden_data_is_described() {
    let page = fs::read_to_string(crates().parent().unwrap().join("CONTRIBUTING.md")).unwrap();
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap();
    let names = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = names.filter(|name| !page.contains(&format!("| `{name}/` |"))).collect();
    assert!(missing.is_empty(), "CONTRIBUTING.md does not say what {missing:?} holds");
}
