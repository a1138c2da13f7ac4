//! Tar shards as WebDataset makes them: the files of a sample share their path up to the first dot of the file's name.
//!
//! A sample is one picture (`000017.jpg`), captions in `000017.txt` (one a line), and `000017.json` with any of `caption`,
//! `text`, `texts`, `split` and `concept`; other files are passed over. What follows the first dot may name a field
//! (`17.image.png` with `17.caption.txt`), but where a picture and a text share more than that (`photo v2.0.png`,
//! `photo v2.0.txt`), the dots are part of a name. The archives are walked once, from header to header, and read at offsets from
//! then on: nothing is unpacked, and any order costs the same. A shard that ends early gives what stands before its end.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::files::{ENDINGS, ending, file_of, stem};
use super::found::{Found, captions_of};
use super::pictures::{Layout, Slice, Source, Stored};
use super::split::{Split, parse_split};
use crate::error::{Error, Result};
use crate::input;

/// The most bytes of a text or JSON file.
const TEXT_LIMIT: u64 = 1 << 20;
/// Fields that are a sample's picture where it has several, such as a mask.
const PICTURES: [&str; 5] = ["image", "img", "picture", "photo", "rgb"];
/// The unit of an archive.
const BLOCK: u64 = 512;

/// What a sample has besides its picture.
#[derive(Default)]
struct Notes {
    /// Where they stand; of several the first.
    member: String,
    text: String,
    json: Map<String, Value>,
}

/// The files of a shard that have the same name up to their first dot.
#[derive(Default)]
struct Group {
    pictures: Vec<(String, Slice)>,
    /// By the name up to the last dot.
    notes: BTreeMap<String, Notes>,
}

/// What was seen of a shard.
#[derive(Default)]
struct Members {
    groups: BTreeMap<String, Group>,
    /// The groups in their order.
    order: Vec<String>,
    /// How many files of each ending were passed over.
    others: BTreeMap<String, usize>,
}

/// The shards `names` below `root`; `path` is what the user named.
pub(super) fn read(path: &Path, root: &Path, names: &[String]) -> Result<Source> {
    let mut found = Found::default();
    let shards: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for (number, (shard, name)) in shards.iter().zip(names).enumerate() {
        let mut members = Members::default();
        if let Err(e) = index(shard, name, number, &mut members, &mut found) {
            found.odd.unusable.push((name.clone(), format!("{e:#}")));
        }
        for (ending, count) in std::mem::take(&mut members.others) {
            *others.entry(ending).or_default() += count;
        }
        take(name, members, &mut found);
    }
    found.odd.passed.extend(others.into_iter().map(|(ending, count)| {
        (format!("{count} files .{ending} in the shards"), "not a picture's, text's or JSON's file type".to_owned())
    }));
    let origin = if let [one] = names { one.clone() } else { format!("{} tar shards", names.len()) };
    let mut source = found.into_source(path, root, Layout::Shards, origin);
    source.shards = shards;
    Ok(source)
}

/// Walks one shard.
///
/// # Errors
/// `Data` where it ends early or is none; what was seen before stays in `members`.
fn index(path: &Path, shard: &str, number: usize, members: &mut Members, found: &mut Found) -> Result<()> {
    let file = input::open(path)?;
    let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    if size == 0 {
        return Err(Error::data("the archive is empty (0 bytes); make or fetch it again"));
    }
    let mut end = 0;
    let mut last = String::new();
    let damaged = |end: u64| {
        move |e| {
            Error::data(format!("the archive is damaged, or no tar, from byte {end} on; make or fetch it again"))
                .with_source(e)
        }
    };
    let mut archive = ::tar::Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek().map_err(damaged(0))? {
        let mut entry = entry.map_err(damaged(end))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let slice = Slice { shard: number, start: entry.raw_file_position(), length: entry.size() };
        let beyond = slice.start.checked_add(slice.length).filter(|end| *end <= size);
        let Some(beyond) = beyond else {
            return Err(Error::data(format!(
                "the archive ends at byte {size} in the middle of {name}, which begins at byte {}; make or fetch it again",
                slice.start
            )));
        };
        end = beyond.next_multiple_of(BLOCK);
        last.clone_from(&name);
        let kind = entry.header().entry_type();
        let called = format!("{shard}/{name}");
        if !kind.is_file() {
            if kind.is_hard_link() || kind.is_symlink() {
                found.odd.passed.push((called, "a link within an archive".to_owned()));
            }
            continue;
        }
        if file_of(&name).starts_with('.') {
            found.odd.passed.push((called, "hidden".to_owned()));
            continue;
        }
        let ending = ending(&name);
        match ending.as_str() {
            "txt" | "caption" | "json" => {
                let read = match slice.length {
                    0..=TEXT_LIMIT => {
                        let mut bytes = Vec::new();
                        entry.read_to_end(&mut bytes).map_err(damaged(slice.start))?;
                        Ok(bytes)
                    }
                    more => Err(Error::data(format!("{more} bytes; at most {TEXT_LIMIT} of text are read"))),
                };
                let notes = members.notes(&name);
                if ending != "json" {
                    notes.text = found.text_of(&called, read.and_then(|bytes| input::text(&bytes)));
                } else {
                    match read.and_then(|bytes| input::json(&bytes)) {
                        Ok(json) => notes.json = json,
                        Err(e) => found
                            .odd
                            .unusable
                            .push((called, format!("expected a JSON object with `caption` or `text`: {e:#}"))),
                    }
                }
            }
            kind if ENDINGS.contains(&kind) => members.group(&name).pictures.push((name, slice)),
            _ => *members.others.entry(ending).or_default() += 1,
        }
    }
    // An archive ends with blocks of zeros; one that was cut between two files does not.
    if size < end + BLOCK {
        let last = if last.is_empty() { String::new() } else { format!(" after {last}") };
        return Err(Error::data(format!(
            "the archive ends at byte {size}{last} without its end mark, so that more may have followed; make or fetch it again"
        )));
    }
    Ok(())
}

impl Members {
    /// The group of a name.
    fn group(&mut self, name: &str) -> &mut Group {
        let key = key(name);
        if !self.groups.contains_key(key) {
            self.order.push(key.to_owned());
        }
        self.groups.entry(key.to_owned()).or_default()
    }

    fn notes(&mut self, name: &str) -> &mut Notes {
        let notes = self.group(name).notes.entry(stem(name).to_owned()).or_default();
        if notes.member.is_empty() {
            notes.member = name.to_owned();
        }
        notes
    }
}

/// Joins the pictures of a shard with what else is said of them.
fn take(shard: &str, mut members: Members, found: &mut Found) {
    // What follows the first dot in several samples is the name of a field.
    let (mut once, mut fields) = (HashSet::new(), HashSet::new());
    for (key, group) in &members.groups {
        let ends: HashSet<&str> = group.pictures.iter().map(|(name, _)| &name[key.len()..]).collect();
        fields.extend(ends.into_iter().filter(|end| !once.insert(*end)).map(str::to_owned));
    }
    for key in &members.order {
        let Group { pictures, mut notes } = members.groups.remove(key).unwrap_or_default();
        let mut stems = HashSet::new();
        let (mut pictures, again): (Vec<_>, Vec<_>) =
            pictures.into_iter().partition(|(name, _)| stems.insert(stem(name).to_owned()));
        found.odd.repeated.extend(again.into_iter().map(|(name, _)| format!("{shard}/{name}")));
        pictures.sort_by_key(|(name, _)| !name[key.len()..].split('.').any(|field| PICTURES.contains(&field)));
        let mut own: Vec<Option<Notes>> = pictures.iter().map(|(name, _)| notes.remove(stem(name))).collect();
        let alone = own.len() == 1;
        if let Some(shared) = notes.into_values().reduce(Notes::and) {
            match own.iter_mut().find(|own| own.is_none() || alone) {
                Some(place) => *place = Some(place.take().unwrap_or_default().and(shared)),
                None => found.odd.missing.push(format!("{shard}/{}", shared.member)),
            }
        }
        let said = own.iter().any(Option::is_some);
        let plain = stems.contains(key);
        for (place, ((member, slice), notes)) in pictures.into_iter().zip(own).enumerate() {
            let name = format!("{shard}/{member}");
            // A sample has one picture: the one that is spoken of, or the first.
            let field = plain || fields.contains(&member[key.len()..]);
            if notes.is_none() && (said || place > 0) && field {
                found.odd.repeated.push(name);
            } else {
                add(name, &member, slice, notes.unwrap_or_default(), found);
            }
        }
    }
}

/// Takes a sample in.
fn add(name: String, member: &str, slice: Slice, Notes { text, json, .. }: Notes, found: &mut Found) {
    let said = |name: &str| json.get(name).into_iter().flat_map(captions_of);
    let captions: Vec<String> =
        text.lines().map(str::to_owned).chain(["text", "caption", "texts"].into_iter().flat_map(said)).collect();
    let split = said("split").next().map(|split| parse_split(&split)).transpose();
    let concept = said("concept").next();
    let split = split.unwrap_or_else(|e| {
        found.odd.unusable.push((name.clone(), format!("{e:#}")));
        None
    });
    let example = found.add(name, captions);
    // By the name within the shard, so that the same samples in other shards stay on their side.
    example.split = split.unwrap_or_else(|| Split::of_name(member));
    example.concept = concept;
    example.stored = Stored::Shard(slice);
}

impl Notes {
    /// What both say.
    fn and(mut self, other: Self) -> Self {
        if self.member.is_empty() {
            self.member = other.member;
        }
        if !self.text.is_empty() && !other.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &other.text;
        for (name, value) in other.json {
            self.json.entry(name).or_insert(value);
        }
        self
    }
}

/// A member's name up to its first dot.
fn key(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    name[base..].find('.').map_or(name, |dot| &name[..base + dot])
}
