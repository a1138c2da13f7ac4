//! The library is built in floors and arrows only run down: reads every path that starts at `crate` in the sources and
//! fails on an edge that the table does not list. The table is that of ARCHITECTURE.md; changing one means changing both.
//!
//! Comments are not code: a link in the documentation may point anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module, and the modules that it may use.
const FLOORS: [(&str, &[&str]); 16] = [
    ("error", &[]),
    ("rng", &[]),
    ("said", &[]),
    ("names", &["error"]),
    ("ranks", &["error"]),
    ("files", &["said", "error"]),
    ("input", &["error"]),
    ("image", &["files", "input", "error"]),
    ("diffusion", &["names", "rng", "error"]),
    ("nn", &["names", "rng", "error"]),
    ("models", &["nn", "names", "files", "input", "error"]),
    ("text", &["models", "nn", "input", "error"]),
    ("data", &["image", "names", "rng", "files", "input", "said", "error"]),
    ("cascade", &["diffusion", "models", "nn", "text", "image", "names", "rng", "files", "input", "error"]),
    // image: a run draws grids of samples; ranks: several processes may train together
    (
        "train",
        &[
            "cascade",
            "data",
            "text",
            "diffusion",
            "models",
            "nn",
            "image",
            "ranks",
            "names",
            "rng",
            "files",
            "input",
            "said",
            "error",
        ],
    ),
    // rng: which pictures share a block; models: safetensors
    ("eval", &["models", "text", "image", "names", "rng", "input", "error"]),
];

/// What the crate's root re-exports from `error`.
const ERRORS: [&str; 3] = ["Error", "ErrorKind", "Result"];

/// The source without comments and without the contents of string literals.
fn code(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |i| i + 2)
        } else if let Some(quote) = ["'\"'", "'\\\"'"].iter().find(|q| rest.starts_with(**q)) {
            quote.len()
        } else if c == '"' {
            string_end(rest)
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skip..];
    }
    out
}

/// Length of the string literal that `rest` starts with.
fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// First segments of the paths that start at `prefix` (`crate::`): `a` of `crate::a::b`, `a` and `c` of `crate::{a::b, c}`.
fn first_segments(code: &str, prefix: &str) -> BTreeSet<String> {
    let identifier = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue; // the tail of another path or word
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(identifier(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.insert(identifier(group[start..i].trim_start()));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

/// Every source file below a folder, in order.
pub(crate) fn source_files(root: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Every source file with the floor that it belongs to; the crate's root belongs to none.
fn sources(root: &Path) -> Vec<(String, PathBuf)> {
    let floor = |path: &PathBuf| {
        let first = path.strip_prefix(root).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let mut files: Vec<(String, PathBuf)> = source_files(root).into_iter().map(|path| (floor(&path), path)).collect();
    files.retain(|(floor, _)| floor != "lib");
    files.sort();
    files
}

#[test]
fn no_module_uses_one_that_its_floor_does_not_list() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.into();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut failures = Vec::new();
    for (floor, path) in sources(&root) {
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        let Some(allowed) = floors.get(floor.as_str()) else {
            failures.push(format!("{file}: the module {floor} has no floor; add it to the table"));
            continue;
        };
        let code = code(&std::fs::read_to_string(&path).unwrap());
        let mut used = first_segments(&code, "crate::");
        // a way up through `super` that leaves the module's own folder
        let top = root.join(&floor);
        let within = |folder: &&Path| folder.starts_with(&top);
        let has = |folder: &Path, name: &str| folder.join(format!("{name}.rs")).exists() || folder.join(name).exists();
        let own = |name: &str| path.ancestors().take_while(within).any(|folder| has(folder, name));
        for climbed in ["super::", "super::super::", "super::super::super::"] {
            used.extend(
                first_segments(&code, climbed).into_iter().filter(|n| floors.contains_key(n.as_str()) && !own(n)),
            );
        }
        for name in used {
            let name = if ERRORS.contains(&name.as_str()) { "error".to_owned() } else { name };
            if name != floor && !allowed.contains(&name.as_str()) {
                failures.push(format!("{file}: {floor} may not use {name}, only {allowed:?}"));
            }
        }
        // diffusion: quantiles of pictures
        if !["nn", "diffusion"].contains(&floor.as_str()) && code.contains("imagen_kernels::") {
            failures
                .push(format!("{file}: only nn and diffusion may use the kernels; who computes goes through nn::ops"));
        }
    }
    assert!(failures.is_empty(), "edges that the table does not list:\n{}", failures.join("\n"));
}

#[test]
fn the_table_has_no_circle_and_keeps_apart_what_must_not_know_each_other() {
    // each module may only use modules above its own line, so there can be no circle
    for (i, (module, allowed)) in FLOORS.iter().enumerate() {
        for used in *allowed {
            let at = FLOORS.iter().position(|(name, _)| name == used);
            assert!(at.is_some_and(|at| at < i), "{module} may use {used}, which does not stand before it");
        }
    }
    let floors: BTreeMap<&str, &[&str]> = FLOORS.into();
    for (a, b) in [("diffusion", "nn"), ("train", "eval"), ("eval", "cascade")] {
        assert!(!floors[a].contains(&b) && !floors[b].contains(&a), "{a} and {b} must not know each other");
    }
}

#[test]
fn paths_are_found_in_every_form() {
    let source = r#"
        //! See [`crate::train`].
        use crate::nn::{Conv3x3, Init};
        use crate::{
            error::{Error, Result}, // crate::eval
            rng,
        };
        pub(crate) use super::super::diffusion::Time;
        /* crate::text */
        fn f() -> crate::Result<()> { crate::image::decode("crate::data \" crate::data", '"', other_crate::cascade::X) }
    "#;
    let code = code(source);
    let found = first_segments(&code, "crate::");
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["Result", "error", "image", "nn", "rng"]);
    assert!(first_segments(&code, "super::super::").contains("diffusion"));
}
