//! What of a set cannot be used, and how much may be.

use crate::error::shown;

/// The part of a set that may be unusable where nobody says another.
pub const MAX_BAD: f64 = 0.01;
/// How many names a report shows.
pub(super) const SHOWN: usize = 5;

/// What was found and left out; each list in the order of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Odd {
    /// Captions whose picture does not exist; unusable.
    pub missing: Vec<String>,
    /// Texts, lines and shards that cannot be read, or not to their end, with the reason; unusable.
    pub unusable: Vec<(String, String)>,
    /// Texts that do not say their encoding and are not in UTF-8, and what they were taken for.
    pub guessed: Vec<String>,
    /// Files that are none of the set's, with the reason.
    pub passed: Vec<(String, String)>,
    /// Pictures without a caption in a set that has captions.
    pub uncaptioned: Vec<String>,
    /// Pictures listed more than once; their captions are joined.
    pub repeated: Vec<String>,
}

impl Odd {
    /// How many entries of the set cannot be used, before a picture is opened.
    pub fn unusable(&self) -> usize {
        self.missing.len() + self.unusable.len()
    }

    /// How many files of each reason were passed over, with a few of their names.
    pub fn passed_by_reason(&self) -> Vec<(&str, Vec<&str>)> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, reason) in &self.passed {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        reasons
    }
}

/// How many of `entries` may be unusable where `max_bad` is the largest part: above 0, one is always forgiven.
pub fn allowed(max_bad: f64, entries: usize) -> usize {
    if max_bad > 0.0 { ((entries as f64 * max_bad) as usize).max(1) } else { 0 }
}

/// Some of many names.
pub(super) fn few<S: AsRef<str>>(names: &[S]) -> String {
    let few: Vec<_> = names.iter().take(SHOWN).map(|name| shown(name.as_ref())).collect();
    let few = few.join(", ");
    if names.len() > SHOWN { format!("{few}, ...") } else { few }
}
