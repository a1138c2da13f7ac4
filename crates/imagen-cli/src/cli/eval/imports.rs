//! Another model's pictures: which files of a folder show which prompt.
//!
//! Prompts are told by their number, from 0 in the order of the suite. Either each has a folder of its own, whose name is the
//! number (`0003/` or `3/`), or its pictures begin with it (`0003-0.png`, `3_0.jpg`). The first pictures by number, then by
//! name, are taken; there is no choosing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imagen::eval::human::Prompt;

use crate::failure::{Exit, Failure, Result};

/// Endings that are pictures.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// The first `each` pictures of every prompt.
///
/// # Errors
/// `Data` where a prompt has fewer.
pub(super) fn find(folder: &Path, prompts: &[Prompt], each: usize) -> Result<Vec<Vec<PathBuf>>> {
    let mut found: BTreeMap<u64, Vec<(Vec<u64>, PathBuf)>> = BTreeMap::new();
    for path in entries(folder)? {
        let numbers = numbers(&path);
        let Some((prompt, rest)) = numbers.split_first() else { continue };
        if path.is_dir() {
            for picture in entries(&path)?.into_iter().filter(|path| is_picture(path)) {
                found.entry(*prompt).or_default().push((self::numbers(&picture), picture));
            }
        } else if is_picture(&path) {
            found.entry(*prompt).or_default().push((rest.to_vec(), path));
        }
    }
    let mut files = Vec::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let mut pictures = found.remove(&(number as u64)).unwrap_or_default();
        pictures.sort();
        if pictures.len() < each {
            let message = format!(
                "{} has {} pictures of prompt {number} (`{}`), and the study needs {each}",
                folder.display(),
                pictures.len(),
                prompt.text
            );
            let hint = format!(
                "expected {number:04}/ANY-NAME.png or {number:04}-0.png to {number:04}-{}.png (also jpg and webp); the first \
                 prompt is 0000",
                each - 1
            );
            return Err(Failure::new(Exit::Data, message).hint(hint));
        }
        files.push(pictures.into_iter().take(each).map(|(_, path)| path).collect());
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().map_err(|e| Failure::io("read the folder", folder, &e))?;
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) && path.is_file()
}

/// The numbers that a name begins with or holds: 3 and 0 of `0003-0.png`; none of a name that begins with something else.
fn numbers(path: &Path) -> Vec<u64> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    if path.is_dir() && !stem.chars().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    stem.split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .filter_map(|d| d.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(n: usize) -> Vec<Prompt> {
        (0..n).map(|k| Prompt { text: format!("prompt {k}"), category: "c".into() }).collect()
    }

    fn make(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn both_layouts_are_read_in_the_order_of_their_numbers() {
        let files =
            ["0/b10.png", "0/b9.jpg", "0/b2.PNG", "0/prompt.txt", "0001-10.png", "1_2.webp", "1-3.png", "notes.txt"];
        let folder = make(&files);
        let found = find(folder.path(), &prompts(2), 2).unwrap();
        let name = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().replace('\\', "/");
        let names: Vec<Vec<String>> = found.iter().map(|files| files.iter().map(name).collect()).collect();
        assert_eq!(names, [["0/b2.PNG", "0/b9.jpg"], ["1_2.webp", "1-3.png"]]);
    }

    #[test]
    fn a_prompt_without_enough_pictures_is_named_with_what_was_expected() {
        let folder = make(&["0000-0.png", "0001-0.png", "0002-0.png"]);
        let failure = find(folder.path(), &prompts(3), 2).unwrap_err().to_string();
        assert!(failure.contains("1 pictures of prompt 0 (`prompt 0`)") && failure.contains("0000-1.png"), "{failure}");
        assert_eq!(find(folder.path(), &prompts(3), 1).unwrap().len(), 3);
    }
}
