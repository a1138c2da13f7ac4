//! `metadata.jsonl` and `metadata.csv`: the image-folder layouts of the Hugging Face hub, one file for all, or one in each
//! folder, such as those of the splits.
//!
//! A line is an object, or a row under a heading, with `file_name` (below the folder of its file; `filename`, `file`, `image`,
//! `image_path` or `path` where there is none), `text` (a caption; `caption` or `prompt` where there is none) and, optionally, `split` (`"train"` or `"validation"`; else that which a folder is named
//! after) and `concept` (pictures that share it are versions of one thing); an object may also have `texts` (paraphrases). Names
//! are read in any case, other fields are passed over. A picture on several lines has the captions of all. A line that cannot
//! be used is named, and the others count.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::files::{Folder, file_of, folder_of, inside, is_picture};
use super::found::{Found, captions_of};
use super::pictures::{Layout, Source};
use super::split::parse_split;
use crate::error::{Context, Error, Result};
use crate::input;

/// The names of such files.
const NAMES: [&str; 2] = ["metadata.jsonl", "metadata.csv"];
/// Names that a caption may have; the first that is there is it.
const CAPTIONS: [&str; 3] = ["text", "caption", "prompt"];
/// Names that a picture's file may have; the first that is there is it.
const FILE_NAMES: [&str; 6] = ["file_name", "filename", "file", "image", "image_path", "path"];
/// What may stand between the columns of a table; the first with which its heading names files.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// One picture.
struct Row {
    file_name: String,
    captions: Vec<String>,
    split: Option<String>,
    concept: Option<String>,
}

/// The metadata files below a folder.
///
/// # Errors
/// `Data` where a folder has one of each kind.
pub(super) fn in_folder(folder: &Path, files: &BTreeSet<String>) -> Result<Vec<String>> {
    let there: Vec<String> = files.iter().filter(|name| NAMES.contains(&file_of(name))).cloned().collect();
    if let Some([one, _]) = there.array_windows().find(|[one, other]| folder_of(one) == folder_of(other)) {
        return Err(Error::data(format!(
            "{} holds both metadata.jsonl and metadata.csv; remove the one that is not meant",
            folder.join(folder_of(one)).display()
        )));
    }
    Ok(there)
}

pub(super) fn read(folder: &Path, metadata: &[String], below: Folder) -> Result<Source> {
    let mut found = Found::default();
    for name in metadata {
        let path = folder.join(name);
        let bytes = input::read(&path, u64::MAX)?;
        let input::Lines { text, guessed, broken } = input::lines(&bytes);
        found.odd.guessed.extend(guessed.into_iter().map(|(line, taken)| format!("{name} line {line}: {taken}")));
        found
            .odd
            .unusable
            .extend(broken.into_iter().map(|(line, e)| (format!("{name} line {line}"), format!("{e:#}"))));
        let rows =
            if name.ends_with(".csv") { csv(&text).context(|| path.display().to_string())? } else { jsonl(&text) };
        for (line, row) in rows {
            if let Err(e) = row.and_then(|row| take(row, folder_of(name), &below.files, &mut found)) {
                found.odd.unusable.push((format!("{name} line {line}"), format!("{e:#}")));
            }
        }
    }
    let unlisted = below.files.iter().filter(|name| is_picture(name) && !found.places.contains_key(*name));
    found.odd.uncaptioned.extend(unlisted.cloned());
    found.odd.passed = below.left_out(|name| metadata.iter().any(|other| other == name));
    let origin = if let [one] = metadata { one.clone() } else { format!("{} metadata files", metadata.len()) };
    Ok(found.into_source(folder, folder, Layout::Metadata, origin))
}

/// The rows of a text, with the numbers of their lines.
fn jsonl(text: &str) -> Vec<(u64, Result<Row>)> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let row = |line: &str| {
        let fields: Map<String, Value> = input::json(line.as_bytes()).map_err(|e| {
            let said = format!("{e:#}").replace(" at line 1 column ", " at column ");
            Error::data(format!("expected a JSON object with `file_name` and `text`: {said}"))
        })?;
        let fields: Map<String, Value> = fields.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        let text = |name: &str| fields.get(name).and_then(|value| captions_of(value).into_iter().next());
        let caption = CAPTIONS.iter().find_map(|name| fields.get(*name));
        let captions = caption.into_iter().chain(fields.get("texts")).flat_map(captions_of).collect();
        let file_name = FILE_NAMES.iter().find_map(|name| fields.get(*name)?.as_str()).map(str::to_owned);
        let file_name = file_name.ok_or_else(|| Error::data("it has no `file_name` that is a text"))?;
        Ok(Row { file_name, captions, split: text("split"), concept: text("concept") })
    };
    lines.map(|(line, number)| (number, row(line))).collect()
}

/// The rows of a table, with the numbers of their lines.
fn csv(text: &str) -> Result<Vec<(u64, Result<Row>)>> {
    let heading_of = |separator: u8| -> Result<Vec<String>> {
        let mut reader = ::csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
        let heading = reader.headers().map_err(malformed)?;
        Ok(heading.iter().map(|column| column.trim().to_lowercase()).collect())
    };
    let place = |heading: &[String], names: &[&str]| {
        names.iter().find_map(|name| heading.iter().position(|column| column == name))
    };
    let mut separator = SEPARATORS[0];
    let mut heading = heading_of(separator)?;
    for other in &SEPARATORS[1..] {
        if place(&heading, &FILE_NAMES).is_none() {
            let found = heading_of(*other)?;
            if place(&found, &FILE_NAMES).is_some() {
                (heading, separator) = (found, *other);
            }
        }
    }
    let (file_name, caption) = (place(&heading, &FILE_NAMES), place(&heading, &CAPTIONS));
    let (Some(file_name), Some(caption)) = (file_name, caption) else {
        let absent = if file_name.is_some() { "text" } else { "file_name" };
        let heading = heading.join(",");
        return Err(Error::data(format!(
            "the heading {heading:?} has no column `{absent}`; expected `file_name,text`"
        )));
    };
    let (split, concept) = (place(&heading, &["split"]), place(&heading, &["concept"]));
    let mut reader = ::csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, ::csv::Position::line);
                let field = |column: usize| record.get(column).unwrap_or_default().to_owned();
                let some = |column: Option<usize>| column.map(field).filter(|text| !text.is_empty());
                let row = Row {
                    file_name: field(file_name),
                    captions: vec![field(caption)],
                    split: some(split),
                    concept: some(concept),
                };
                rows.push((line, Ok(row)));
            }
            Err(e) => rows.push((e.position().map_or(0, ::csv::Position::line), Err(malformed(e)))),
        }
    }
    Ok(rows)
}

fn malformed(e: ::csv::Error) -> Error {
    Error::data("expected rows under a heading with `file_name` and `text`").with_source(e)
}

fn take(row: Row, folder: &str, files: &BTreeSet<String>, found: &mut Found) -> Result<()> {
    let name = format!("{folder}{}", inside(&row.file_name)?);
    let split = row.split.as_deref().map(parse_split).transpose()?;
    if !files.contains(&name) {
        found.odd.missing.push(name);
        return Ok(());
    }
    let new = !found.places.contains_key(&name);
    let example = found.add(name, row.captions);
    if new {
        // a folder such as `train` says what is in it, if its file is its own
        let by_folder = folder.split('/').find_map(|part| parse_split(part).ok());
        example.split = split.or(by_folder).unwrap_or(example.split);
        example.concept = row.concept;
    }
    Ok(())
}
