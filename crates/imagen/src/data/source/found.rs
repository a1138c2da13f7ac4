//! A set while its layout is being read.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::odd::Odd;
use super::pictures::{Example, Layout, Source, Stored};
use super::split::Split;
use crate::error::Result;
use crate::input;

/// Examples and captions while a layout is being read.
#[derive(Default)]
pub(super) struct Found {
    examples: Vec<Example>,
    captions: Vec<String>,
    numbers: HashMap<String, usize>,
    /// Places of the examples by name.
    pub(super) places: HashMap<String, usize>,
    pub(super) odd: Odd,
}

impl Found {
    /// Takes a picture and its captions in; those of a picture that is there already are joined.
    pub(super) fn add<S: AsRef<str>>(&mut self, name: String, captions: impl IntoIterator<Item = S>) -> &mut Example {
        let captions: Vec<usize> = captions.into_iter().filter_map(|caption| self.number(caption.as_ref())).collect();
        let place = match self.places.get(&name) {
            Some(&place) => {
                self.odd.repeated.push(name);
                place
            }
            None => {
                let (split, place) = (Split::of_name(&name), self.examples.len());
                self.places.insert(name.clone(), place);
                let stored = Stored::File;
                self.examples.push(Example { name, split, captions: Vec::new(), concept: None, stored });
                place
            }
        };
        let example = &mut self.examples[place];
        for caption in captions {
            if !example.captions.contains(&caption) {
                example.captions.push(caption);
            }
        }
        example
    }

    /// The text of a caption file; a guess is noted, and what cannot be read counts as unusable and says nothing.
    pub(super) fn text_of(&mut self, name: &str, read: Result<input::Text>) -> String {
        match read {
            Ok(input::Text { text, guessed }) => {
                self.odd.guessed.extend(guessed.map(|taken| format!("{name}: {taken}")));
                text
            }
            Err(e) => {
                self.odd.unusable.push((name.to_owned(), format!("{e:#}")));
                String::new()
            }
        }
    }

    /// The number of a caption, equal ones being kept once; none for a blank one.
    fn number(&mut self, caption: &str) -> Option<usize> {
        let caption = caption.trim();
        if caption.is_empty() {
            return None;
        }
        if let Some(&number) = self.numbers.get(caption) {
            return Some(number);
        }
        self.numbers.insert(caption.to_owned(), self.captions.len());
        self.captions.push(caption.to_owned());
        Some(self.captions.len() - 1)
    }

    /// The source, without what has no caption where captions are expected, sorted.
    pub(super) fn into_source(mut self, path: &Path, root: &Path, layout: Layout, origin: String) -> Source {
        let bare = |example: &mut Example| example.captions.is_empty();
        // Shards have no sign of their own that captions are meant.
        let expected = match layout {
            Layout::Unconditional => false,
            Layout::Shards => !self.captions.is_empty(),
            _ => true,
        };
        if expected {
            self.odd.uncaptioned.extend(self.examples.extract_if(.., bare).map(|example| example.name));
            self.odd.uncaptioned.sort();
        }
        self.examples.sort_by(|a, b| a.name.cmp(&b.name));
        let Self { examples, captions, odd, .. } = self;
        let (path, root) = (path.to_owned(), root.to_owned());
        Source { path, root, layout, origin, shards: Vec::new(), examples, captions, odd, world: None }
    }
}

/// What a value says of a picture: a text, a number as one, or a list of them.
pub(super) fn captions_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(values) => values.iter().flat_map(captions_of).collect(),
        _ => Vec::new(),
    }
}
