//! Names of files below a folder, and why some of them are none of a set's. Which are pictures is told by their ending;
//! nothing is opened.

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Endings of picture files.
pub(super) const ENDINGS: [&str; 12] =
    ["png", "apng", "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "webp", "gif", "bmp", "dib"];
/// Endings of pictures that are not read, and of their formats.
const OTHERS: [(&str, &[&str]); 8] = [
    ("AVIF", &["avif"]),
    ("HEIF", &["heic", "heif", "hif"]),
    ("JPEG XL", &["jxl"]),
    ("JPEG 2000", &["jp2", "j2k", "jpx"]),
    ("TIFF", &["tif", "tiff"]),
    ("SVG", &["svg", "svgz"]),
    ("a camera's raw", &["dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2"]),
    ("a painting program's", &["psd", "xcf", "kra", "tga", "ico", "exr", "hdr", "ppm", "pgm", "pbm", "qoi"]),
];
/// Compressed archives, in which nothing can be read in place.
const PACKED: [&str; 8] = ["gz", "tgz", "zst", "xz", "bz2", "zip", "rar", "7z"];
/// What this library writes beside a set.
const OWN: &str = "captions.safetensors";

/// What is below a folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// The regular files, with `/` between the parts of their names.
    pub(super) files: BTreeSet<String>,
    /// What cannot be one of them, with the reason.
    pub(super) passed: Vec<(String, String)>,
}

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

/// Every file below a folder. Links are followed, to folders too, each of which is read once.
pub(super) fn files_below(folder: &Path) -> Result<Folder> {
    let mut found = Folder::default();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    // What is there in its own right is read under its own name.
    let mut linked = Vec::new();
    while let Some((path, prefix)) = open.pop().or_else(|| linked.pop()) {
        let place = path.canonicalize().map_err(|e| Error::io("read the folder", &path, e))?;
        if !seen.insert(place) {
            found.pass(prefix.trim_end_matches('/'), "a link to a folder that is read already");
            continue;
        }
        let entries = std::fs::read_dir(&path).map_err(|e| Error::io("read the folder", &path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read the folder", &path, e))?;
            let (name, path) = (entry.file_name(), entry.path());
            let Some(name) = name.to_str() else {
                found.pass(&format!("{prefix}{}", name.to_string_lossy()), "its name is not UTF-8; rename it");
                continue;
            };
            let whole = format!("{prefix}{name}");
            if name.starts_with('.') {
                found.pass(&whole, "hidden");
                continue;
            }
            let link = entry.file_type().map_err(|e| Error::io("read", &path, e))?.is_symlink();
            match std::fs::metadata(&path).map(|about| about.file_type()) {
                Ok(kind) if kind.is_dir() => {
                    let later = if link { &mut linked } else { &mut open };
                    later.push((path, format!("{whole}/")));
                }
                Ok(kind) if kind.is_file() => {
                    found.files.insert(whole);
                }
                Ok(_) => found.pass(&whole, "a pipe, a socket or a device"),
                Err(_) if link => found.pass(&whole, "a link that leads nowhere"),
                Err(e) => return Err(Error::io("read", &path, e)),
            }
        }
        linked.sort_by(|a, b| b.cmp(a));
    }
    found.passed.sort();
    Ok(found)
}

impl Folder {
    fn pass(&mut self, name: &str, reason: &str) {
        self.passed.push((name.to_owned(), reason.to_owned()));
    }

    /// What of this folder a set leaves out: what cannot be read, and the files that are neither pictures nor `used`.
    pub(super) fn left_out(self, used: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let Self { files, mut passed } = self;
        let rest = files.into_iter().filter(|name| !is_picture(name) && !used(name) && file_of(name) != OWN);
        passed.extend(rest.map(|name| {
            let reason = why_none(&name);
            (name, reason)
        }));
        passed.sort();
        passed
    }
}

/// Why a file is no picture of a set, as its ending says.
fn why_none(name: &str) -> String {
    let ending = ending(name);
    let ending = ending.as_str();
    if let Some((format, _)) = OTHERS.iter().find(|(_, endings)| endings.contains(&ending)) {
        return format!("pictures of {format} form are not read; save them as PNG, JPEG or WebP");
    }
    match ending {
        "parquet" | "arrow" | "feather" => {
            "a table whose rows are not read; save pictures and metadata.jsonl".to_owned()
        }
        "csv" | "tsv" | "jsonl" | "json" => {
            "a table of captions is read under the name metadata.csv or metadata.jsonl".to_owned()
        }
        "txt" | "caption" => "no caption of a picture".to_owned(),
        _ if is_packed(name) => "a compressed archive; unpack it, or make a plain .tar shard of it".to_owned(),
        "tar" => "a shard among pictures".to_owned(),
        _ => "not a picture's file type".to_owned(),
    }
}

/// Whether the name is that of a compressed archive.
pub(super) fn is_packed(name: &str) -> bool {
    PACKED.contains(&ending(name).as_str())
}

/// Whether the name is that of a picture; what the file holds is told by content when it is read.
pub(super) fn is_picture(name: &str) -> bool {
    ENDINGS.contains(&ending(name).as_str())
}

/// The last part of a name.
pub(super) fn file_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The folder of a name, with `/` behind it; empty for the root.
pub(super) fn folder_of(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..=slash])
}

/// What follows the last dot, in lower case; nothing without a dot.
pub(super) fn ending(name: &str) -> String {
    file_of(name).rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

/// The name up to its ending.
pub(super) fn stem(name: &str) -> &str {
    name.len().checked_sub(ending(name).len() + 1).map_or(name, |end| &name[..end])
}

/// The name of a file without its folders.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
