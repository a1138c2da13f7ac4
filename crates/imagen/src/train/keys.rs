//! From text to a recipe: values replaced by `key=value`, and for a key that there is not, the one that was meant.
//!
//! Which keys there are is not written here: serde's own message lists them.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::config::{DataConfig, TrainConfig};
use super::preset::{self, StagePreset};
use crate::cascade::StageConfig;
use crate::error::{Error, ErrorKind, Result};

/// How alike two words must be for one to be taken for the other, from 0 to 1.
const ALIKE: f64 = 0.5;

/// The recipe in `text`, not yet validated, with these assignments over it.
pub(super) fn parse<R: DeserializeOwned>(text: &str, assignments: &[impl AsRef<str>]) -> Result<R> {
    let mut table: Table = toml::from_str(text).map_err(|e| Error::data(placed(text, &e)))?;
    if assignments.is_empty() && !StagePreset::is_in(&table) {
        // read from the text, an error has a line and a column
        return toml::from_str(text).map_err(|e| explained(ErrorKind::Data, placed(text, &e), e.message()));
    }
    // what the preset is comes before what is changed in it
    let names_preset = |assignment: &&str| {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        StagePreset::KEYS.iter().any(|name| key.strip_prefix("stage.") == Some(*name))
    };
    let given: Vec<&str> = assignments.iter().map(AsRef::as_ref).collect();
    let (preset, others): (Vec<&str>, Vec<&str>) = given.iter().copied().partition(names_preset);
    preset.iter().try_for_each(|assignment| assign(&mut table, assignment))?;
    let by_arguments = |error: Error| Error::usage(format!("{}: {error:#}", given.join(", ")));
    preset::expand(&mut table).map_err(|error| if preset.is_empty() { error } else { by_arguments(error) })?;
    others.iter().try_for_each(|assignment| assign(&mut table, assignment))?;
    table.try_into().or_else(|e: toml::de::Error| {
        if assignments.is_empty() {
            return Err(explained(ErrorKind::Data, one_line(&e.to_string()), e.message()));
        }
        let blamed =
            explained(ErrorKind::Usage, format!("{}: {}", given.join(", "), one_line(&e.to_string())), e.message());
        parse::<R>(text, &[""; 0]).and_then(|_| Err(blamed))
    })
}

/// Replaces or adds one value; `key` is a path of keys and of places in lists, joined by dots.
fn assign(table: &mut Table, assignment: &str) -> Result<()> {
    let wrong = |why: &str| Error::usage(format!("{assignment:?}: {why}; expected KEY=VALUE, e.g. train.lr=1e-4"));
    let (path, text) = assignment.split_once('=').ok_or_else(|| wrong("there is no ="))?;
    let path: Vec<&str> = path.trim().split('.').collect();
    let (last, above) = path.split_last().expect("split yields at least one part");
    if path.iter().any(|key| key.is_empty()) {
        return Err(wrong("a key is empty"));
    }
    // what is no TOML value is a text without its quotes
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut t| t.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(text.trim().to_owned()));
    let mut names = path.iter();
    let first = names.next().expect("checked above");
    if above.is_empty() {
        table.insert((*last).to_owned(), value);
        return Ok(());
    }
    let mut place = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
    for name in names {
        place = match place {
            Value::Table(inner) => inner.entry(*name).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => {
                let length = list.len();
                let item = name.parse::<usize>().ok().and_then(|i| list.get_mut(i));
                item.ok_or_else(|| wrong(&format!("{name:?} is no place in a list of {length} (counted from 0)")))?
            }
            _ => return Err(wrong(&format!("{name:?} is below a single value"))),
        };
    }
    *place = value;
    Ok(())
}

/// What other programs call some keys.
const ELSEWHERE: [(&str, &str); 10] = [
    ("learning_rate", "lr"),
    ("batch_size", "batch"),
    ("train_batch_size", "batch"),
    ("max_train_steps", "steps"),
    ("num_steps", "steps"),
    ("gradient_checkpointing", "checkpoint_blocks"),
    ("save_every", "checkpoint_every"),
    ("resolution", "size"),
    ("image_size", "size"),
    ("mixed_precision", "precision"),
];

/// The parser's message; of a word that it does not know what was meant, in place of the list of all that it knows.
fn explained(kind: ErrorKind, text: String, message: &str) -> Error {
    let unknown = text.split_once(", expected one of ").map_or(text.as_str(), |(unknown, _)| unknown);
    match meant(message) {
        Some(hint) => Error::new(kind, format!("{unknown}; {hint}")),
        None if message.starts_with("unknown field") => {
            Error::new(kind, format!("{unknown}; `imagen recipe keys` lists those that there are"))
        }
        None => Error::new(kind, text),
    }
}

/// What is wrong with a text, and where.
fn placed(text: &str, error: &toml::de::Error) -> String {
    let message = one_line(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {message}")
}

/// A message of the parser without its line breaks, and in words that need no knowledge of its language.
fn one_line(message: &str) -> String {
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = [("f64", "a number"), ("f32", "a number"), ("usize", "a whole number"), ("u64", "a whole number")];
    plain
        .into_iter()
        .fold(words, |text, (rust, plain)| text.replace(&format!("expected {rust}"), &format!("expected {plain}")))
}

/// What a message of the form "unknown field `a`, expected one of `b`, `c`" suggests.
fn meant(message: &str) -> Option<String> {
    let (what, words) = ["unknown field `", "unknown variant `"]
        .into_iter()
        .find_map(|start| message.split_once(start).map(|(_, words)| (start, words)))?;
    let mut words = words.split('`').step_by(2);
    let unknown = words.next()?;
    // these two stand for keys of the table and are no fields of it
    let presets = StagePreset::KEYS.into_iter().filter(|_| message.contains("`parameterization`"));
    let words = words.chain(presets);
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(unknown, word);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let elsewhere = ELSEWHERE.iter().filter(|(_, own)| words.contains(own));
    let names = words.iter().map(|word| (*word, *word)).chain(elsewhere.copied());
    let closest = names.max_by(|a, b| likeness(a.0).total_cmp(&likeness(b.0)));
    if let Some(section) = section_of(unknown).filter(|_| what.contains("field")) {
        return Some(format!("{unknown:?} belongs to [{section}]"));
    }
    closest.filter(|(name, _)| likeness(name) >= ALIKE).map(|(_, own)| format!("did you mean {own:?}?"))
}

/// The table of a recipe that has this key.
fn section_of(key: &str) -> Option<&'static str> {
    fn has<T: DeserializeOwned>(key: &str) -> bool {
        // the message about a key that no table has lists the keys that this one has
        let nothing = Table::from_iter([(String::new(), Value::Boolean(true))]);
        let error = nothing.try_into::<T>().err();
        error.is_some_and(|e| e.message().split('`').any(|word| word == key))
    }
    let sections =
        [("stage", has::<StageConfig>(key)), ("data", has::<DataConfig>(key)), ("train", has::<TrainConfig>(key))];
    sections.into_iter().find(|(_, has)| *has).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Recipe;

    const RECIPE: &str = include_str!("../../../../recipes/shapes/base.toml");

    #[test]
    fn a_misspelt_key_is_an_error_that_names_the_one_that_was_meant() {
        let cases = [
            ("clip_norm", "clipnorm", "did you mean \"clip_norm\"?"),
            ("canonical", "canonical", ""),
            ("text_drop_prob = 0.1", "text_dorp_prob = 0.1", "did you mean \"text_drop_prob\"?"),
            ("skip_join", "skip_joint", "did you mean \"skip_join\"?"),
            ("\"attention\"", "\"atention\"", "did you mean \"attention\"?"),
            ("folder = ", "lr = 1.0\nfolder = ", "\"lr\" belongs to [train]"),
            ("seed = 1", "seed = 1\nzzzzzz = 2", "unknown field `zzzzzz`"),
            ("seed = 1", "seed = 1\nlerning_rate = 2", "did you mean \"lr\"?"),
            ("seed = 1", "seed = 1\nmax_train_steps = 2", "did you mean \"steps\"?"),
            ("seed = 1", "seed = 1\nzzzzzz = 2", "`imagen recipe keys` lists"),
        ];
        for (from, to, expected) in cases {
            match Recipe::parse(&RECIPE.replacen(from, to, 1)) {
                Ok(_) => assert_eq!(expected, "", "{to} was accepted"),
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(text.contains(expected) && !expected.is_empty(), "{to}: {text}");
                    assert_eq!(error.kind(), ErrorKind::Data);
                }
            }
        }
    }

    #[test]
    fn values_are_replaced_by_their_path() {
        let set = [
            "train.lr=1e-4",
            "data.folder = pictures/some where",
            "stage.unet.levels.1.channels=32",
            "train.micro_batch=8",
            "stage.sampling.thresholding=static",
            "train.sample_prompts=[\"a = b\"]",
        ];
        let recipe = Recipe::parse_with(RECIPE, &set).unwrap();
        assert_eq!(recipe.train.lr, 1e-4);
        assert_eq!(recipe.data.folder.to_str(), Some("pictures/some where"));
        assert_eq!(recipe.stage.unet.levels[1].channels, 32);
        assert_eq!(recipe.train.micro_batch, Some(8));
        assert_eq!(recipe.stage.sampling.thresholding.to_string(), "static");
        assert_eq!(recipe.train.sample_prompts, ["a = b"]);
        let plain = Recipe::parse(RECIPE).unwrap();
        assert_eq!(recipe.train.batch, plain.train.batch);
        assert_ne!(recipe.digest(), plain.digest());
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe, "the resolved copy is the recipe");
    }

    #[test]
    fn assignments_that_make_no_sense_are_usage_errors() {
        let cases = [
            ("train.lr", "there is no ="),
            ("train..lr=1", "a key is empty"),
            ("train.lrr=1", "did you mean \"lr\"?"),
            ("lr=1", "\"lr\" belongs to [train]"),
            ("train.lr=fast", "train.lr=fast"),
            ("train.lr.x=1", "below a single value"),
            ("stage.unet.levels.7.blocks=1", "no place in a list of 3"),
        ];
        for (set, expected) in cases {
            let error = Recipe::parse_with(RECIPE, &[set]).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{set}: {error:#}");
            assert_eq!(error.kind(), ErrorKind::Usage, "{set}");
        }
        let error = Recipe::parse_with("stage = 1", &["train.lr=1"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "the fault is the file's: {error:#}");
    }
}
