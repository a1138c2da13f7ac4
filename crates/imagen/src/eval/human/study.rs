//! A study on disk: which pictures there are of which prompts, from which model, with which seeds.
//!
//! `study.json` in the study's folder is the whole description; pictures lie beside it under the names that it gives. It is
//! written before anything is drawn, so that what is missing is what is not there yet.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::suite::Prompt;
use crate::error::{Context, Error, Result};
use crate::input;

/// The form of `study.json`; another is not read.
const VERSION: u32 = 1;

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    version: u32,
    /// What sides, orders and intervals are drawn from.
    pub seed: u64,
    /// Where the prompts are from.
    pub suite: String,
    /// Pictures of each prompt in each set; originals have one.
    pub pictures: usize,
    /// What was drawn. A prompt's number is its place here, from 0.
    pub prompts: Vec<Prompt>,
    /// The sets in the order in which they were added. The first that holds no originals is compared with each of the others.
    pub sets: Vec<PictureSet>,
}

/// Pictures of all prompts from one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureSet {
    /// What reports call it, and the folder of its pictures.
    pub name: String,
    /// Where it is from.
    pub origin: Origin,
    /// Files relative to the study's folder, by prompt.
    pub files: Vec<Vec<String>>,
}

/// Where a set is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// Drawn by this program, uncurated: picture k of prompt p has [`Origin::seed`].
    Drawn {
        /// The model and how many steps each stage was trained.
        model: serde_json::Value,
        /// How each stage was sampled.
        stages: serde_json::Value,
        /// The seed of each picture of a prompt.
        seeds: Vec<u64>,
        /// Whether each prompt has seeds of its own, so that no noise is seen twice; studies of older programs do not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_prompt: bool,
    },
    /// Another model's pictures, copied.
    Imported {
        /// The folder's own name.
        folder: String,
    },
    /// The pictures that the captions were written for.
    Originals {
        /// The data set's own name.
        folder: String,
    },
}

impl Origin {
    /// The seed of picture k of a prompt, both from 0; of pictures that this program drew.
    pub fn seed(&self, prompt: usize, k: usize) -> Option<u64> {
        let Self::Drawn { seeds, by_prompt, .. } = self else { return None };
        let first = if *by_prompt { (prompt * seeds.len()) as u64 } else { 0 };
        seeds.get(k).map(|seed| first + seed)
    }
}

impl Study {
    /// The manifest's name in the study's folder.
    pub const FILE: &str = "study.json";

    /// A study of these prompts without pictures.
    ///
    /// # Errors
    /// `Usage` without prompts or pictures.
    pub fn new(suite: impl Into<String>, prompts: Vec<Prompt>, pictures: usize, seed: u64) -> Result<Self> {
        if prompts.is_empty() || pictures == 0 {
            return Err(Error::usage("a study needs a prompt and a picture of each"));
        }
        Ok(Self { version: VERSION, seed, suite: suite.into(), pictures, prompts, sets: Vec::new() })
    }

    /// Reads a folder's manifest.
    ///
    /// # Errors
    /// `Data` where there is none, or where it contradicts itself.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            let hint = "name a folder that `imagen eval drawbench` made";
            return Err(Error::data(format!("{} holds no study ({}); {hint}", folder.display(), Self::FILE)));
        }
        let bytes = input::read(&path, input::MOST_TEXT)?;
        Self::parse(&bytes).context(|| path.display().to_string())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// `Data` where it is malformed, of another version, or contradicts itself.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let study: Self =
            serde_json::from_slice(json).map_err(|e| Error::data("this is no study's manifest").with_source(e))?;
        if study.version != VERSION {
            return Err(Error::data(format!("version {} of a manifest; this program reads {VERSION}", study.version)));
        }
        let mut names = BTreeSet::new();
        for set in &study.sets {
            check_name(&set.name)?;
            if !names.insert(&set.name) {
                return Err(Error::data(format!("two sets are called {}", set.name)));
            }
            let each = study.pictures_in(set);
            if set.files.len() != study.prompts.len() || set.files.iter().any(|files| files.len() != each) {
                let expected = format!("{each} pictures of each of {} prompts", study.prompts.len());
                return Err(Error::data(format!("the set {} does not list {expected}", set.name)));
            }
            let outside = |file: &String| {
                Path::new(file).components().any(|part| !matches!(part, std::path::Component::Normal(_)))
            };
            if let Some(file) = set.files.iter().flatten().find(|file| outside(file)) {
                return Err(Error::data(format!("the picture {file} would lie outside the study's folder")));
            }
        }
        Ok(study)
    }

    /// The manifest as a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest is plain data") + "\n"
    }

    /// Adds a set whose picture k of prompt p is called `NAME/pppp-k.ENDING`, where the ending is what `ending(p, k)` says.
    ///
    /// # Errors
    /// `Usage` where the name is taken or cannot be a folder's, or where there are originals already.
    pub fn add(
        &mut self,
        name: &str,
        origin: Origin,
        mut ending: impl FnMut(usize, usize) -> String,
    ) -> Result<&PictureSet> {
        check_name(name)?;
        let original = matches!(origin, Origin::Originals { .. });
        if self.sets.iter().any(|set| set.name == name) {
            return Err(Error::usage(format!("the study has a set {name} already; choose another name")));
        }
        if original && self.originals().is_some() {
            return Err(Error::usage("the study has its originals already"));
        }
        let each = if original { 1 } else { self.pictures };
        let files = (0..self.prompts.len())
            .map(|p| (0..each).map(|k| format!("{name}/{p:04}-{k}.{}", ending(p, k))).collect())
            .collect();
        self.sets.push(PictureSet { name: name.to_owned(), origin, files });
        Ok(self.sets.last().expect("it was just pushed"))
    }

    /// Pictures of each prompt in this set.
    fn pictures_in(&self, set: &PictureSet) -> usize {
        if set.is_original() { 1 } else { self.pictures }
    }

    /// A set by its name.
    pub fn set(&self, name: &str) -> Option<&PictureSet> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The sets of models, in order.
    pub fn contenders(&self) -> impl Iterator<Item = &PictureSet> {
        self.sets.iter().filter(|set| !set.is_original())
    }

    /// The pictures that the captions were written for.
    pub fn originals(&self) -> Option<&PictureSet> {
        self.sets.iter().find(|set| set.is_original())
    }

    /// The categories in the order in which they appear.
    pub fn categories(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let categories = self.prompts.iter().map(|prompt| prompt.category.as_str());
        categories.filter(|category| seen.insert(*category)).collect()
    }

    /// Files that the manifest names and the folder does not hold.
    pub fn missing(&self, folder: &Path) -> Vec<&str> {
        let files = self.sets.iter().flat_map(|set| set.files.iter().flatten());
        files.map(String::as_str).filter(|file| !folder.join(file).exists()).collect()
    }
}

impl PictureSet {
    /// Whether these are the pictures that the captions were written for.
    pub fn is_original(&self) -> bool {
        matches!(self.origin, Origin::Originals { .. })
    }
}

/// A set's name is a folder's and stands in tables.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 40 || name.starts_with('.') || !name.chars().all(fits) {
        let expected = "1 to 40 letters, digits, `-`, `_` and `.`, not beginning with a point";
        return Err(Error::usage(format!("a set cannot be called `{name}`: expected {expected}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study() -> Study {
        let prompts = [("a", "x"), ("b", "y"), ("c", "x")];
        let prompts = prompts.map(|(text, category)| Prompt { text: text.into(), category: category.into() });
        let mut study = Study::new("mine", prompts.into(), 2, 7).unwrap();
        study.add("real", Origin::Originals { folder: "set".into() }, |_, _| "jpg".into()).unwrap();
        study.add("ours", Origin::Imported { folder: "o".into() }, |_, _| "png".into()).unwrap();
        study
    }

    #[test]
    fn a_manifest_survives_its_json_and_knows_what_is_missing() {
        let study = study();
        assert_eq!(Study::parse(study.to_json().as_bytes()).unwrap(), study);
        assert_eq!(study.categories(), ["x", "y"]);
        assert_eq!(study.sets[1].files[2], ["ours/0002-0.png", "ours/0002-1.png"]);
        assert_eq!(study.originals().unwrap().files, [["real/0000-0.jpg"], ["real/0001-0.jpg"], ["real/0002-0.jpg"]]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::write(folder.path().join("real/0001-0.jpg"), b"x").unwrap();
        assert_eq!(study.missing(folder.path()).len(), 3 + 6 - 1);
    }

    #[test]
    fn names_that_are_taken_or_lead_outside_are_refused() {
        let mut study = study();
        for name in ["ours", "", "a/b", "..", ".a", "a b", "ä"] {
            let origin = Origin::Imported { folder: "f".into() };
            assert!(study.add(name, origin, |_, _| "png".into()).is_err(), "{name:?}");
        }
        for (from, to, expected) in [
            ("ours/0002-1.png", "../secret.png", "outside"),
            ("\"version\": 1", "\"version\": 9", "version 9"),
            ("\"seed\"", "\"sead\"", "no study's manifest"),
            ("\"pictures\": 2", "\"pictures\": 3", "does not list"),
        ] {
            let error = Study::parse(study.to_json().replace(from, to).as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
