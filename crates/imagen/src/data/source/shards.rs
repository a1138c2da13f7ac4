//! Tar shards as WebDataset makes them: the files of a sample share their path up to the first dot of the file's name.
//!
//! A sample is one picture (`000017.jpg`), captions in `000017.txt` (one a line), and `000017.json` with any of `caption`,
//! `text`, `texts`, `split` and `concept`; other files are passed over. The archives are walked once, from header to
//! header, and read at offsets from then on: nothing is unpacked, and any order costs the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::files::ENDINGS;
use super::{Found, Layout, Slice, Source, Split, Stored, parse_split};
use crate::error::{Context, Error, Result};

/// The most bytes of a text or JSON file.
const TEXT_LIMIT: u64 = 1 << 20;

/// What a sample has besides its picture.
#[derive(Default)]
struct Notes {
    text: String,
    json: Facts,
}

/// What is read of a sample's JSON.
#[derive(Default, serde::Deserialize)]
struct Facts {
    caption: Option<String>,
    text: Option<String>,
    texts: Option<Vec<String>>,
    split: Option<String>,
    concept: Option<String>,
}

/// The shards `names` below `root`; `path` is what the user named.
pub(super) fn read(path: &Path, root: &Path, names: &[String]) -> Result<Source> {
    let mut found = Found::default();
    let shards: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    for (number, (shard, name)) in shards.iter().zip(names).enumerate() {
        index(shard, name, number, &mut found).context(|| format!("shard {}", shard.display()))?;
    }
    let origin = if let [one] = names { one.clone() } else { format!("{} tar shards", names.len()) };
    let mut source = found.into_source(path, root, Layout::Shards, origin);
    source.shards = shards;
    Ok(source)
}

/// Walks one shard.
fn index(path: &Path, shard: &str, number: usize, found: &mut Found) -> Result<()> {
    let damaged = |e| Error::data("the archive is damaged or no tar; make or fetch it again").with_source(e);
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    let mut pictures: Vec<(String, String, Slice)> = Vec::new();
    let mut notes: HashMap<String, Notes> = HashMap::new();
    let mut archive = ::tar::Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let Some((key, kind)) = key_and_kind(&name) else { continue };
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let slice = Slice { shard: number, start: entry.raw_file_position(), length: entry.size() };
        if slice.start.checked_add(slice.length).is_none_or(|end| end > size) {
            return Err(Error::data(format!("the archive ends in the middle of {name}; make or fetch it again")));
        }
        match kind.as_str() {
            "txt" | "json" => {
                if slice.length > TEXT_LIMIT {
                    let message = format!("{name} has {} bytes; at most {TEXT_LIMIT} of text are read", slice.length);
                    return Err(Error::data(message));
                }
                let mut text = String::new();
                entry
                    .read_to_string(&mut text)
                    .map_err(|e| Error::data(format!("{name} is no text in UTF-8")).with_source(e))?;
                let notes = notes.entry(key).or_default();
                if kind == "txt" {
                    notes.text = text;
                } else {
                    notes.json = serde_json::from_str(&text)
                        .map_err(|e| Error::data("expected a JSON object with `caption` or `text`").with_source(e))
                        .context(|| name)?;
                }
            }
            kind if ENDINGS.contains(&kind) => pictures.push((key, name, slice)),
            _ => {}
        }
    }
    take(shard, pictures, notes, found)
}

/// Joins the pictures of a shard with what else is said of them.
fn take(
    shard: &str,
    pictures: Vec<(String, String, Slice)>,
    mut notes: HashMap<String, Notes>,
    found: &mut Found,
) -> Result<()> {
    let mut first: HashMap<String, String> = HashMap::new();
    for (key, member, slice) in pictures {
        let name = format!("{shard}/{member}");
        if first.contains_key(&key) {
            // A sample has one picture; the first one is it.
            found.odd.repeated.push(name);
            continue;
        }
        let Notes { text, json } = notes.remove(&key).unwrap_or_default();
        let captions = text.lines().chain(json.text.as_deref()).chain(json.caption.as_deref());
        let example = found.add(name, captions.chain(json.texts.iter().flatten().map(String::as_str)));
        let split = json.split.as_deref().map(parse_split).transpose().context(|| member.clone())?;
        // By the name within the shard, so that the same samples in other shards stay on their side.
        example.split = split.unwrap_or_else(|| Split::of_name(&member));
        example.concept = json.concept;
        example.stored = Stored::Shard(slice);
        first.insert(key, member);
    }
    let mut alone: Vec<String> = notes.into_keys().map(|key| format!("{shard}/{key}")).collect();
    alone.sort();
    found.odd.missing.extend(alone);
    Ok(())
}

/// A member's sample and what follows the first dot of its name, in lower case; nothing for hidden files.
fn key_and_kind(name: &str) -> Option<(String, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    (dot > base).then(|| (name[..dot].to_owned(), name[dot + 1..].to_ascii_lowercase()))
}
