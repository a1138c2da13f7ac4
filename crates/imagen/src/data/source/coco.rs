//! The captions of COCO: one JSON file with `images` (`id`, `file_name`) and `annotations` (`image_id`, `caption`).
//!
//! The file may be named itself; the pictures are then beside it or in a folder nearby. Or the folder of the pictures is
//! named, and a `captions_*.json` lies in it or beside it, with or without a folder `annotations` between.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{file_name, file_of, files_below, inside, is_picture};
use super::found::{Found, captions_of};
use super::names;
use super::pictures::{Layout, Source};
use crate::error::{Context, Error, Result};
use crate::input;

/// Pictures in folders of their own by which the folder of a captions file is recognised; one of them must be there.
const PROBES: usize = 32;

#[derive(serde::Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(serde::Deserialize)]
struct Image {
    id: Id,
    file_name: String,
}

#[derive(serde::Deserialize)]
struct Annotation {
    image_id: Id,
    /// Absent in files of boxes and key points.
    caption: Option<Value>,
}

/// COCO numbers its pictures; sets made in its likeness also name them, or write the number as a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id(String);

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(name) => Ok(Self(name)),
            Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(serde::de::Error::custom(format!("an id is a number or a name, not {other}"))),
        }
    }
}

impl File {
    fn open(json: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let bytes = input::read(json, u64::MAX)?;
            let file: Self = input::json(&bytes).map_err(|e| {
                Error::data(format!("expected COCO captions: an object with `images` and `annotations`: {e:#}"))
            })?;
            if !file.annotations.is_empty() && file.annotations.iter().all(|annotation| annotation.caption.is_none()) {
                return Err(Error::data("no annotation has a `caption`; name the captions_*.json that is meant"));
            }
            Ok(file)
        };
        read().context(|| json.display().to_string())
    }

    /// Whether any of the pictures is in this folder: of a part of the set, few may be.
    fn is_of(&self, folder: &Path) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let there: HashSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let names = || self.images.iter().filter_map(|image| inside(&image.file_name).ok());
        let mut below = names().filter(|name| name.contains('/')).take(PROBES);
        names().any(|name| there.contains(&name)) || below.any(|name| folder.join(name).is_file())
    }
}

/// A caption and the picture that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CocoCaption {
    /// The picture's file name.
    pub file_name: String,
    /// The caption, without blanks around it.
    pub text: String,
}

/// Every caption of a file, in its order; the pictures need not be there.
///
/// # Errors
/// `Io`; `Data` where the file is none of COCO's, or an annotation is of no image.
pub fn coco_captions(json: &Path) -> Result<Vec<CocoCaption>> {
    let File { images, annotations } = File::open(json)?;
    let names: HashMap<Id, String> = images.into_iter().map(|image| (image.id, image.file_name)).collect();
    let mut captions = Vec::with_capacity(annotations.len());
    for Annotation { image_id, caption } in annotations {
        let Some(file_name) = names.get(&image_id) else {
            let Id(id) = image_id;
            return Err(Error::data(format!("{}: `images` has no id {id:?}, which a caption names", json.display())));
        };
        let texts = caption.iter().flat_map(captions_of);
        captions.extend(texts.map(|text| CocoCaption { file_name: file_name.clone(), text: text.trim().to_owned() }));
    }
    Ok(captions)
}

/// The captions file in a folder of pictures, or in its folder `annotations`.
pub(super) fn in_folder(folder: &Path, files: &BTreeSet<String>) -> Result<Option<PathBuf>> {
    let found: Vec<&String> =
        files.iter().filter(|name| is_captions(name.strip_prefix("annotations/").unwrap_or(name))).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        [one, other, ..] => Err(Error::data(format!(
            "{} holds several captions files ({one}, {other}); name the one that is meant instead of the folder",
            folder.display()
        ))),
    }
}

/// The captions file one level above a folder of pictures without captions of their own. Of several the one with the folder's
/// name is taken, as COCO has it; else the only one, if it speaks of these pictures.
pub(super) fn above(folder: &Path, files: &BTreeSet<String>) -> Result<Option<PathBuf>> {
    let has_captions = names::has_captions(files);
    // The parent of a relative name may be the empty path.
    let whole = std::path::absolute(folder).map_err(|e| Error::io("find", folder, e))?;
    let Some(parent) = whole.parent().filter(|_| !has_captions) else { return Ok(None) };
    let mut found = Vec::new();
    for place in [parent.to_owned(), parent.join("annotations")] {
        // Whoever may not look into the folder above has no captions there.
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(names.filter(|name| is_captions(name)).map(|name| place.join(name)));
    }
    let own = format!("captions_{}.json", file_name(&whole));
    let named = found.iter().find(|json| file_name(json) == own);
    let json = match (named, &found[..]) {
        (Some(json), _) | (None, [json]) => json,
        _ => return Ok(None),
    };
    // A file that is no COCO file is none of ours, unless it bears the folder's name.
    match File::open(json) {
        Ok(captions) => Ok(captions.is_of(folder).then(|| json.clone())),
        Err(error) if named.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// The folder with the pictures of a captions file: its own, one in it, the one above, or one beside its own.
pub(super) fn root_of(json: &Path) -> Result<PathBuf> {
    let captions = File::open(json)?;
    let whole = std::path::absolute(json).map_err(|e| Error::io("find", json, e))?;
    let places = whole.ancestors().skip(1).take(2).flat_map(|folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut inner: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        inner.sort();
        inner.insert(0, folder.to_owned());
        inner
    });
    places.into_iter().find(|place| captions.is_of(place)).ok_or_else(|| {
        let first = captions.images.first().map_or("", |image| &image.file_name);
        Error::data(format!(
            "the pictures of {} are nowhere near, such as {first:?}; expected them beside it, or in a folder there or above",
            json.display()
        ))
    })
}

pub(super) fn read(path: &Path, json: &Path, root: &Path) -> Result<Source> {
    let File { images, annotations } = File::open(json)?;
    let below = files_below(root)?;
    let mut captions: HashMap<Id, Vec<String>> = HashMap::new();
    for Annotation { image_id, caption } in annotations {
        captions.entry(image_id).or_default().extend(caption.iter().flat_map(captions_of));
    }
    let mut found = Found::default();
    for Image { id, file_name: picture } in images {
        let captions = captions.remove(&id).unwrap_or_default();
        match inside(&picture) {
            Ok(name) if below.files.contains(&name) => {
                found.add(name, captions);
            }
            Ok(name) => found.odd.missing.push(name),
            Err(e) => found.odd.unusable.push((file_name(json), format!("{e:#}"))),
        }
    }
    let mut unknown: Vec<String> = captions.into_keys().map(|Id(id)| format!("image_id {id:?}")).collect();
    unknown.sort();
    found.odd.missing.extend(unknown);
    let unlisted = below.files.iter().filter(|name| is_picture(name) && !found.places.contains_key(*name));
    found.odd.uncaptioned.extend(unlisted.cloned());
    found.odd.passed = below.left_out(|name| file_of(name) == file_name(json));
    Ok(found.into_source(path, root, Layout::Coco, format!("the COCO captions {}", file_name(json))))
}

fn is_captions(name: &str) -> bool {
    name.starts_with("captions_") && name.ends_with(".json")
}
