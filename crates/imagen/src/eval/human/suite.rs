//! Prompts with categories: the published form of DrawBench (`prompt,category`), and a small suite of our own of the same
//! eleven kinds, in the words of the default model's world.
//!
//! Misspelt prompts are meant to be misspelt: nothing is cleaned but white space around them.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::input;

/// The suite that ships with the library; `suite.csv` is its text.
const BUILT_IN: &str = include_str!("suite.csv");

/// Words that take a caption out of the paper's "no people" part (section 4.2).
const PEOPLE: [&str; 20] = [
    "man",
    "men",
    "woman",
    "women",
    "person",
    "people",
    "child",
    "adult",
    "adults",
    "boy",
    "boys",
    "girl",
    "girls",
    "guy",
    "lady",
    "ladies",
    "someone",
    "toddler",
    "workers",
    "spectators",
];

/// What is drawn, and what it tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The text, as the model and the raters read it.
    pub text: String,
    /// Its kind, e.g. `Counting`.
    pub category: String,
}

/// A list of prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSuite {
    /// The prompts in the order of the file; a prompt's number counts from 0.
    pub prompts: Vec<Prompt>,
}

impl PromptSuite {
    /// The name of the suite that ships with the library.
    pub const BUILT_IN: &str = "built-in";

    /// The suite that ships with the library: DrawBench's eleven kinds in prompts of our own.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN.as_bytes()).expect("the suite that is compiled in is one")
    }

    /// Reads a CSV file with the columns `prompt` (or `Prompts`, as DrawBench is published) and `category`.
    ///
    /// # Errors
    /// `Io` where the file cannot be read; those of [`PromptSuite::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = input::read(path, MAX_BYTES)?;
        Self::parse(&bytes).context(|| path.display().to_string())
    }

    /// Reads the contents of such a file. Quotes, commas and line breaks within quotes are CSV's (RFC 4180); other columns
    /// are not read.
    ///
    /// # Errors
    /// `Data` where a column is missing, a row is malformed, empty or there twice, or no row is there.
    pub fn parse(csv: &[u8]) -> Result<Self> {
        let text = input::text(csv)?.text;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let malformed = |e: csv::Error| Error::data("this is no table of prompts").with_source(e);
        let header = reader.headers().map_err(malformed)?.clone();
        let column = |names: [&str; 2]| {
            let missing = || {
                Error::data(format!("there is no column `{}`; the first line has to be `prompt,category`", names[0]))
            };
            let is_it = |field: &str| names.iter().any(|name| field.eq_ignore_ascii_case(name));
            header.iter().position(is_it).ok_or_else(missing)
        };
        let (prompt, category) = (column(["prompt", "prompts"])?, column(["category", "categories"])?);
        let (mut prompts, mut seen) = (Vec::new(), HashSet::new());
        for row in reader.records() {
            let row = row.map_err(malformed)?;
            let line = row.position().map_or(0, csv::Position::line);
            let [text, category] = [&row[prompt], &row[category]];
            if text.is_empty() || category.is_empty() {
                let message = format!("line {line}: a prompt and a category are expected, and one of them is empty");
                return Err(Error::data(message));
            }
            if !seen.insert(text.to_owned()) {
                return Err(Error::data(format!("line {line}: `{text}` is there twice; remove one of them")));
            }
            prompts.push(Prompt { text: text.to_owned(), category: category.to_owned() });
        }
        if prompts.is_empty() {
            return Err(Error::data("there is no prompt below the first line"));
        }
        Ok(Self { prompts })
    }
}

/// The most bytes of a table of prompts.
const MAX_BYTES: u64 = 64 << 20;

/// Whether a caption names people by the words that the paper filters by; `player` counts with them.
pub fn speaks_of_people(caption: &str) -> bool {
    let mut words = caption.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    words.any(|word| word == "player" || PEOPLE.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_table_is_read_as_csv_and_not_by_commas() {
        let csv = "\u{feff}prompt,category\n\"A sign that says \"\"a, b\"\".\",Text\nTcennis rpacket. , Misspellings \r\n\
                   \"two\nlines\",Text\n";
        let suite = PromptSuite::parse(csv.as_bytes()).unwrap();
        let found: Vec<(&str, &str)> = suite.prompts.iter().map(|p| (&*p.text, &*p.category)).collect();
        let expected =
            [("A sign that says \"a, b\".", "Text"), ("Tcennis rpacket.", "Misspellings"), ("two\nlines", "Text")];
        assert_eq!(found, expected);
        let other = PromptSuite::parse(b"id,Category,Prompt\n1,Text,a\n").unwrap();
        assert_eq!(other.prompts, [Prompt { text: "a".into(), category: "Text".into() }]);
        assert_eq!(PromptSuite::parse(b"Prompts,Category\na,Text\n").unwrap(), other, "DrawBench's own heading");
    }

    #[test]
    fn what_is_no_suite_is_refused_with_the_line() {
        for (csv, expected) in [
            ("", "no column `prompt`"),
            ("text,category\na,b\n", "no column `prompt`"),
            ("prompt,category\n", "no prompt below"),
            ("prompt,category\na\n", "no table of prompts"),
            ("prompt,category\na,x\n,y\n", "line 3: a prompt and a category"),
            ("prompt,category\na,x\nb,x\na,y\n", "line 4: `a` is there twice"),
        ] {
            let error = format!("{:#}", PromptSuite::parse(csv.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{csv:?}: {error}");
        }
    }

    #[test]
    fn the_built_in_suite_has_a_few_prompts_of_each_of_the_papers_kinds() {
        let mut counts = BTreeMap::new();
        for prompt in PromptSuite::built_in().prompts {
            *counts.entry(prompt.category).or_insert(0) += 1;
        }
        let kinds: Vec<&str> = counts.keys().map(String::as_str).collect();
        let expected = [
            "Colors",
            "Conflicting",
            "Counting",
            "DALL-E",
            "Descriptions",
            "Gary Marcus et al.",
            "Misspellings",
            "Positional",
            "Rare Words",
            "Reddit",
            "Text",
        ];
        assert_eq!(kinds, expected);
        assert!(counts.values().all(|count| (4..=6).contains(count)), "{counts:?}");
    }

    #[test]
    fn people_are_told_by_whole_words() {
        for (caption, people) in [
            ("A man, smiling", true),
            ("Two Women", true),
            ("a tennis player", true),
            ("a mango on a chair", false),
            ("a mansion", false),
        ] {
            assert_eq!(speaks_of_people(caption), people, "{caption}");
        }
    }
}
