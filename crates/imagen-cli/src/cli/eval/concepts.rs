//! The concepts of a set: what its pictures show, by number, and the pictures themselves, small, to look among.

use std::collections::HashMap;

use imagen::data::{Example, Source};
use imagen::eval::retrieval::{References, Thumbnail};

use super::pictures::each;
use crate::failure::Result;
use crate::progress::Progress;

/// Which pictures show one thing.
pub(super) struct Concepts {
    numbers: HashMap<String, usize>,
    /// The thing of each picture, by the picture's name.
    names: HashMap<String, String>,
    /// How many pictures show each.
    counts: Vec<usize>,
}

impl Concepts {
    /// The concepts of a set: by `concept` where a picture has one, else by its canonical caption, else each picture is its own.
    pub(super) fn of(source: &Source) -> Self {
        let (mut numbers, mut names, mut counts) = (HashMap::new(), HashMap::new(), Vec::new());
        for example in source.examples() {
            let caption = || example.captions.first().map(|caption| source.captions()[*caption].clone());
            let name = example.concept.clone().or_else(caption).unwrap_or_else(|| example.name.clone());
            let number = *numbers.entry(name.clone()).or_insert(counts.len());
            if number == counts.len() {
                counts.push(0);
            }
            counts[number] += 1;
            names.insert(example.name.clone(), name);
        }
        Self { numbers, names, counts }
    }

    /// The thing that a picture shows.
    pub(super) fn name(&self, example: &Example) -> &str {
        &self.names[&example.name]
    }

    /// The thing's number.
    pub(super) fn number(&self, example: &Example) -> usize {
        self.numbers[self.name(example)]
    }

    /// Every picture of the set, small.
    pub(super) fn references(&self, source: &Source, progress: &mut Progress) -> Result<References> {
        let examples: Vec<&Example> = source.examples().iter().collect();
        let mut things = source.examples().iter().map(|example| self.number(example));
        let mut references = References::default();
        each(source, &examples, progress, Thumbnail::of, |thumbnail| {
            references.push(thumbnail, things.next().expect("one for each picture"));
            Ok(())
        })?;
        Ok(references)
    }

    /// How many things there are.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// How many pictures show this one.
    pub(super) fn pictures_of(&self, thing: usize) -> usize {
        self.counts[thing]
    }
}
