//! `metadata.jsonl` and `metadata.csv`: the image-folder layouts of the Hugging Face hub.
//!
//! A line is an object, or a row under a heading, with `file_name`, `text` (a caption; `caption` or `prompt` where there is
//! none) and, optionally, `split` (`"train"` or `"validation"`) and `concept` (pictures that share it are versions of one
//! thing); an object may also have `texts` (paraphrases). Names are read in any case, other fields are passed over. A picture
//! on several lines has the captions of all.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::files::{inside, is_picture};
use super::{Found, Layout, Source, parse_split};
use crate::error::{Context, Error, Result};

/// Which file.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Jsonl,
    Csv,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Jsonl => "metadata.jsonl",
            Kind::Csv => "metadata.csv",
        }
    }
}

/// Names that a caption may have; the first that is there is it.
const CAPTIONS: [&str; 3] = ["text", "caption", "prompt"];

/// One picture.
#[derive(serde::Deserialize)]
struct Row {
    file_name: String,
    text: Option<String>,
    #[serde(default)]
    texts: Vec<String>,
    split: Option<String>,
    concept: Option<String>,
}

/// The metadata of a folder, if it has any.
pub(super) fn in_folder(folder: &Path, files: &BTreeSet<String>) -> Result<Option<Kind>> {
    let there: Vec<Kind> = [Kind::Jsonl, Kind::Csv].into_iter().filter(|kind| files.contains(kind.name())).collect();
    match there[..] {
        [] => Ok(None),
        [kind] => Ok(Some(kind)),
        _ => Err(Error::data(format!(
            "{} holds both metadata.jsonl and metadata.csv; remove the one that is not meant",
            folder.display()
        ))),
    }
}

pub(super) fn read(folder: &Path, kind: Kind, files: &BTreeSet<String>) -> Result<Source> {
    let path = folder.join(kind.name());
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    let mut found = Found::default();
    let read = match kind {
        Kind::Jsonl => jsonl(&text, files, &mut found),
        Kind::Csv => csv(&text, files, &mut found),
    };
    read.context(|| path.display().to_string())?;
    let unlisted = files.iter().filter(|name| is_picture(name) && !found.places.contains_key(*name));
    found.odd.uncaptioned.extend(unlisted.cloned());
    Ok(found.into_source(folder, folder, Layout::Metadata, kind.name().to_owned()))
}

fn jsonl(text: &str, files: &BTreeSet<String>, found: &mut Found) -> Result<()> {
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        serde_json::from_str::<Map<String, Value>>(line)
            .and_then(|fields| serde_json::from_value(Value::Object(in_lower_case(fields))))
            .map_err(|e| Error::data("expected a JSON object with `file_name` and `text`").with_source(e))
            .and_then(|row| take(row, files, found))
            .context(|| format!("line {}", number + 1))?;
    }
    Ok(())
}

/// The fields with names as [`Row`] has them.
fn in_lower_case(fields: Map<String, Value>) -> Map<String, Value> {
    let mut lower: Map<String, Value> = fields.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    if !lower.contains_key(CAPTIONS[0])
        && let Some(value) = CAPTIONS.iter().find_map(|name| lower.get(*name).cloned())
    {
        lower.insert(CAPTIONS[0].to_owned(), value);
    }
    lower
}

fn csv(text: &str, files: &BTreeSet<String>, found: &mut Found) -> Result<()> {
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let malformed = |e| Error::data("expected rows under a heading with `file_name` and `text`").with_source(e);
    let mut heading: Vec<String> = reader.headers().map_err(malformed)?.iter().map(str::to_lowercase).collect();
    let caption = CAPTIONS.iter().find_map(|name| heading.iter().position(|column| column == name));
    if let Some(caption) = caption {
        heading[caption] = CAPTIONS[0].to_owned();
    }
    if let Some(absent) = ["file_name", "text"].iter().find(|name| !heading.iter().any(|column| column == **name)) {
        let heading = heading.join(",");
        return Err(Error::data(format!(
            "the heading {heading:?} has no column `{absent}`; expected `file_name,text`"
        )));
    }
    let heading = ::csv::StringRecord::from(heading);
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let row = record.deserialize(Some(&heading)).map_err(malformed);
        row.and_then(|row| take(row, files, found)).context(|| format!("line {line}"))?;
    }
    Ok(())
}

fn take(row: Row, files: &BTreeSet<String>, found: &mut Found) -> Result<()> {
    let name = inside(&row.file_name)?;
    let split = row.split.as_deref().filter(|split| !split.is_empty()).map(parse_split).transpose()?;
    if !files.contains(&name) {
        found.odd.missing.push(name);
        return Ok(());
    }
    let new = !found.places.contains_key(&name);
    let example = found.add(name, row.text.iter().chain(&row.texts));
    if new {
        example.split = split.unwrap_or(example.split);
        example.concept = row.concept.filter(|concept| !concept.is_empty());
    }
    Ok(())
}
