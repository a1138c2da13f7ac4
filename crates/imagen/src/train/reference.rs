//! Every key of a recipe with what it means, read off the types that recipes are parsed into, and recipes written out with
//! these words beside them.
//!
//! There is no second list. Names, kinds and words are those of the fields' documentation, of which the program carries the
//! sources; defaults are what a recipe without the keys is read as. Tests hold it against what serde knows.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::config::OptimizerName;
use super::lora::LoraPlace;
use super::recipe::Recipe;
use crate::cascade::{Preset, StageName};
use crate::diffusion::{LossWeight, NoiseSchedule, Parameterization, Sampler, Spacing, Thresholding, TimeSampling};

/// Where the types of a recipe are defined.
const SOURCES: [&str; 16] = [
    include_str!("recipe.rs"),
    include_str!("config.rs"),
    include_str!("preset.rs"),
    include_str!("optimizer.rs"),
    include_str!("lora.rs"),
    include_str!("../cascade/config.rs"),
    include_str!("../cascade/preset.rs"),
    include_str!("../cascade/settings.rs"),
    include_str!("../models/unet/config.rs"),
    include_str!("../diffusion/schedule.rs"),
    include_str!("../diffusion/parameterization.rs"),
    include_str!("../diffusion/sampler.rs"),
    include_str!("../diffusion/spacing.rs"),
    include_str!("../diffusion/thresholding.rs"),
    include_str!("../diffusion/loss.rs"),
    include_str!("../nn/precision.rs"),
];

/// The tables of a recipe and their types; the keys of a preset stand before the stage's own.
const TABLES: [(&str, &str); 9] = [
    ("stage", "StagePreset"),
    ("stage", "StageConfig"),
    ("stage.unet", "UnetConfig"),
    ("stage.unet.levels", "Level"),
    ("stage.unet.planner", "Planner"),
    ("stage.sampling", "StageSettings"),
    ("data", "DataConfig"),
    ("train", "TrainConfig"),
    ("train.lora", "LoraConfig"),
];

/// A recipe of nothing but the keys that every recipe without a preset must give.
const LEAST: &str = r#"
[stage]
stage = "base"
size = 8
schedule = "cosine"
parameterization = "v"
[stage.unet]
layout = "efficient"
image_channels = 3
low_resolution = false
channels = 8
embedding = 8
text_dim = 8
text_width = 8
levels = [{ channels = 8, blocks = 1 }]
heads = { count = 1 }
attention_expansion = 1
text_attention = "concatenated"
text_pooling = "attention"
skip_scale = "none"
skip_join = "concatenate"
groups = 8
[data]
folder = "data"
[train]
steps = 1
batch = 1
lr = 0.1
warmup = 0
"#;

/// Defaults that a written recipe leaves out.
const UNWRITTEN: [(&str, &str); 15] = [
    ("stage.width_multiplier", "1.0"),
    ("stage.network", "\"own\""),
    ("stage.max_aug_level", "1.0"),
    ("stage.aug_schedule", "\"cosine\""),
    ("stage.enlargement", "\"bilinear\""),
    ("stage.on_request", "false"),
    ("stage.unet.null_text", "0"),
    ("stage.unet.things", "0"),
    ("stage.unet.levels.position", "0"),
    ("stage.unet.levels.text_map", "0"),
    ("stage.sampling.guidance_rescale", "0.0"),
    ("stage.sampling.spacing", "\"time\""),
    ("stage.sampling.precision", "\"f32\""),
    ("train.precision", "\"f32\""),
    ("train.naming_weight", "0.0"),
];

/// A key of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its table, `stage.unet`; `stage.unet.levels` is each entry of that list.
    pub table: &'static str,
    /// Its name in the table.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: String,
    /// Its value where a recipe leaves it out, as TOML; absent where it must be given, or where it is then absent.
    pub default: Option<String>,
    /// Whether a recipe has to give it, unless a preset does.
    pub required: bool,
    /// What it means, as Markdown.
    pub about: String,
    /// The names that it takes, with what each means; empty where it takes others.
    pub names: Vec<(String, String)>,
}

/// Every key of a recipe, in the order of the types.
pub fn keys() -> Vec<Key> {
    let given: Value = toml::from_str::<Value>(LEAST).expect("the recipe above");
    let whole: Recipe = toml::from_str(LEAST).expect("the recipe above");
    let whole = serde_json::to_value(whole).expect("a recipe is plain data");
    let value_at = |recipe: &Value, path: &str| {
        let found = path.split('.').try_fold(recipe, |table, name| table.get(name).or_else(|| table.get(0)?.get(name)));
        found.cloned()
    };
    let fields =
        TABLES.into_iter().flat_map(|(table, name)| members(name).into_iter().map(move |field| (table, field)));
    let key = |(table, field): (&'static str, Member)| {
        let path = format!("{table}.{}", field.name);
        let required = value_at(&given, &path).is_some();
        let nested = TABLES.iter().any(|(table, _)| *table == path);
        let unwritten = UNWRITTEN.iter().find(|(key, _)| *key == path).map(|(_, default)| (*default).to_owned());
        let written = value_at(&whole, &path).filter(|value| !value.is_null()).map(|value| toml_of(&value));
        let default = unwritten.or(written).filter(|_| !required && !nested);
        let of = field.of.trim_start_matches("Option<").trim_end_matches('>');
        let kind = kind(field.of);
        Key { table, name: field.name, kind, default, required, about: field.about, names: names(of) }
    };
    fields.map(key).collect()
}

/// A field of a struct or a variant of an enum, as its source has it.
struct Member {
    name: &'static str,
    /// The field's type, or what a variant holds.
    of: &'static str,
    about: String,
}

/// The source before a type's name, and from its first member on.
fn source_of(what: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let begin = format!("{what} {name} {{\n");
    SOURCES.into_iter().find_map(|source| source.split_once(begin.as_str()))
}

/// The fields or variants of a type in their order; none where it is not one of the sources'.
fn members(name: &str) -> Vec<Member> {
    let source = source_of("struct", name).or_else(|| source_of("enum", name));
    let Some((_, body)) = source else { return Vec::new() };
    let mut found = Vec::new();
    let mut about = Vec::new();
    for line in body.lines().take_while(|line| !line.starts_with('}')) {
        // what is further in belongs to a variant
        let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with([' ', '}', '#'])) else { continue };
        if let Some(words) = line.strip_prefix("///") {
            about.push(words.trim());
            continue;
        }
        let line = line
            .trim_start_matches("pub ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("r#")
            .trim_end_matches(',');
        let end = line.find([':', '(', ' ']).unwrap_or(line.len());
        let of = line[end..].trim_start_matches([':', '(', ' ']).trim_end_matches([')', '{', ' ']);
        // the brackets of links are for the documentation of the code
        let words = std::mem::take(&mut about).join(" ").replace("[`", "`").replace("`]", "`");
        found.push(Member { name: &line[..end], of, about: words });
    }
    found
}

/// The names that a type takes, with what each means; of those with settings the defaults' names.
fn names(of: &str) -> Vec<(String, String)> {
    fn shown<T: ToString, const N: usize>(all: [T; N]) -> Vec<String> {
        all.iter().map(T::to_string).collect()
    }
    let listed = match of {
        "StageName" => shown(StageName::ALL),
        "Preset" => shown(Preset::ALL),
        "NoiseSchedule" => shown(NoiseSchedule::ALL),
        "Sampler" => shown(Sampler::ALL),
        "Spacing" => shown(Spacing::ALL),
        "Thresholding" => shown(Thresholding::ALL),
        "LossWeight" => shown(LossWeight::ALL),
        "Parameterization" => shown(Parameterization::ALL),
        "TimeSampling" => shown(TimeSampling::ALL),
        "OptimizerName" => shown(OptimizerName::ALL),
        "LoraPlace" => shown(LoraPlace::ALL),
        _ => Vec::new(),
    };
    let Some((before, _)) = source_of("enum", of) else { return Vec::new() };
    let variants = members(of);
    let kebab = before.lines().rev().take(4).any(|line| line.contains("kebab-case"));
    let name = |(place, variant): (usize, &Member)| {
        if let Some(name) = listed.get(place) {
            return name.clone();
        }
        let mut name = String::new();
        for c in variant.name.chars() {
            if kebab && c.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(c.to_lowercase());
        }
        if variant.of.is_empty() { name } else { format!("{{ {name} = N }}") }
    };
    let named: Vec<String> = variants.iter().enumerate().map(name).collect();
    // what names another choice names it as recipes do
    let about = |variant: &Member| {
        let spoken = variants.iter().zip(&named);
        spoken.fold(variant.about.clone(), |about, (other, name)| {
            about.replace(&format!("`{}`", other.name), &format!("`{name}`"))
        })
    };
    named.iter().cloned().zip(variants.iter().map(about)).collect()
}

/// The kind of a value in a word or two.
fn kind(of: &str) -> String {
    if let Some(of) = of.strip_prefix("Option<").and_then(|of| of.strip_suffix('>')) {
        return kind(of);
    }
    match of {
        "usize" | "u64" => "whole number".to_owned(),
        "f64" | "AugLevel" => "number".to_owned(),
        "bool" => "true or false".to_owned(),
        "Vec<Level>" => "list of tables".to_owned(),
        "UnetConfig" | "Planner" | "StageSettings" | "Heads" | "LoraConfig" => "table".to_owned(),
        of => match of.strip_prefix("Vec<").and_then(|of| of.strip_suffix('>')) {
            Some(of) => format!("list of {}s", kind(of)),
            None => "text".to_owned(),
        },
    }
}

/// A value as it stands in a recipe, on one line.
fn toml_of(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(values) => format!("[{}]", values.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", toml_of(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
        other => other.to_string(),
    }
}

/// A recipe as a person would write it: what differs from the defaults, with the first sentence of what each key means, or
/// with `notes` (by path, `train.steps`) instead. Keys with a note are written even where they are the default.
pub fn annotated(recipe: &Recipe, notes: &BTreeMap<&str, String>) -> String {
    let keys: BTreeMap<String, Key> =
        keys().into_iter().map(|key| (format!("{}.{}", key.table, key.name), key)).collect();
    let value = serde_json::to_value(recipe).expect("a recipe is plain data");
    let mut text = String::new();
    for (name, table) in value.as_object().into_iter().flatten() {
        write_table(name, table, &keys, notes, &mut text);
    }
    text
}

fn write_table(
    path: &str,
    table: &Value,
    keys: &BTreeMap<String, Key>,
    notes: &BTreeMap<&str, String>,
    text: &mut String,
) {
    let mut tables = Vec::new();
    write!(text, "\n[{path}]\n").expect("writing to a string");
    for (name, value) in table.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let inner = format!("{path}.{name}");
        let key = keys.get(&inner);
        let nested = keys.values().any(|key| key.table == inner);
        if nested && value.is_object() {
            tables.push((inner, value));
            continue;
        }
        let note = notes.get(inner.as_str());
        let written = if nested { entries(&inner, value, keys) } else { lines(value) };
        if note.is_none() && key.is_some_and(|key| key.default.as_deref() == Some(&toml_of(value))) {
            continue;
        }
        let words = note.cloned().or_else(|| key.map(|key| first_sentence(&key.about)));
        for line in words.iter().flat_map(|words| wrapped(words)) {
            writeln!(text, "# {line}").expect("writing to a string");
        }
        writeln!(text, "{name} = {written}").expect("writing to a string");
    }
    for (path, table) in tables {
        write_table(&path, table, keys, notes, text);
    }
}

/// A list of tables, one a line, without what is the default.
fn entries(path: &str, list: &Value, keys: &BTreeMap<String, Key>) -> String {
    let entry = |table: &Value| {
        let own = table.as_object().into_iter().flatten();
        let own = own.filter(|(name, value)| {
            let default = keys.get(&format!("{path}.{name}")).and_then(|key| key.default.clone());
            default.as_deref() != Some(&toml_of(value))
        });
        toml_of(&Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect()))
    };
    let all: String = list.as_array().into_iter().flatten().map(|table| format!("    {},\n", entry(table))).collect();
    format!("[\n{all}]")
}

/// A value, a list of texts one a line.
fn lines(value: &Value) -> String {
    match value {
        Value::Array(all) if all.iter().any(Value::is_string) => {
            let all: String = all.iter().map(|text| format!("    {},\n", toml_of(text))).collect();
            format!("[\n{all}]")
        }
        _ => toml_of(value),
    }
}

/// The first sentence, without the point at its end.
fn first_sentence(text: &str) -> String {
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// A text in lines of at most a hundred characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use toml::Table;

    use super::*;
    use crate::cascade::{StageConfig, StageSettings};
    use crate::models::unet::{Level, UnetConfig};
    use crate::train::preset::StagePreset;
    use crate::train::{DataConfig, TrainConfig};

    /// The keys that serde lists when it meets one that it does not know.
    fn known<T: DeserializeOwned>() -> Vec<String> {
        let nothing = Table::from_iter([("no such key".to_owned(), toml::Value::Boolean(true))]);
        let message = nothing.try_into::<T>().err().unwrap().message().to_owned();
        message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_has_every_key_that_recipes_are_read_with() {
        let keys = keys();
        let of = |table: &str| -> Vec<&str> {
            let own = keys.iter().filter(|key| key.table == table && !StagePreset::KEYS.contains(&key.name));
            own.map(|key| key.name).collect()
        };
        for (table, expected) in [
            ("stage", known::<StageConfig>()),
            ("stage.unet", known::<UnetConfig>()),
            ("stage.unet.levels", known::<Level>()),
            ("stage.sampling", known::<StageSettings>()),
            ("data", known::<DataConfig>()),
            ("train", known::<TrainConfig>()),
        ] {
            assert!(expected.len() > 4, "{table}: {expected:?}");
            assert_eq!(of(table), expected, "{table}");
        }
        let presets: Vec<&str> =
            keys.iter().map(|key| key.name).filter(|name| StagePreset::KEYS.contains(name)).collect();
        assert_eq!(presets, StagePreset::KEYS);
        let mute: Vec<&Key> = keys.iter().filter(|key| key.about.is_empty()).collect();
        assert!(mute.is_empty(), "{mute:?}");
    }

    #[test]
    fn a_key_without_a_default_is_one_that_a_recipe_needs() {
        let whole: Recipe = toml::from_str(LEAST).unwrap();
        for key in keys().iter().filter(|key| key.table != "stage.unet.levels") {
            let path = format!("{}.{}", key.table, key.name);
            let mut table: Table = toml::from_str(LEAST).unwrap();
            let place = key.table.split('.').fold(&mut table, |table, name| {
                table.entry(name).or_insert_with(|| Table::new().into()).as_table_mut().unwrap()
            });
            if key.required {
                place.remove(key.name);
                let error = table.try_into::<Recipe>().unwrap_err();
                assert!(error.message().contains(&format!("missing field `{}`", key.name)), "{path}: {error}");
            } else if let Some(default) = key.default.as_deref().filter(|_| !StagePreset::KEYS.contains(&key.name)) {
                let value: Table = toml::from_str(&format!("value = {default}")).unwrap();
                place.insert(key.name.to_owned(), value["value"].clone());
                let read: Recipe = table.try_into().unwrap_or_else(|e| panic!("{path} = {default}: {e}"));
                assert_eq!(read, whole, "{path} = {default} is the default");
            }
        }
    }

    #[test]
    fn the_names_of_the_reference_are_names_that_recipes_take() {
        let mut seen = 0;
        for key in keys() {
            for (name, _) in &key.names {
                let value = match name.strip_suffix("= N }") {
                    Some(table) => format!("{table}= 1 }}"),
                    None => format!("{name:?}"),
                };
                let set = format!("{}.{}={value}", key.table, key.name);
                // that a name does not go with the rest is no matter
                let message = Recipe::parse_with(LEAST, &[&set]).err().map(|e| format!("{e:#}")).unwrap_or_default();
                let unknown = ["unknown", "invalid type", "expected one of"].iter().any(|word| message.contains(word));
                assert!(!unknown, "{set}: {message}");
                seen += 1;
            }
        }
        assert!(seen > 40, "only {seen} names");
    }

    #[test]
    fn a_recipe_that_is_written_out_reads_as_itself() {
        for text in [
            include_str!("../../../../recipes/shapes/base.toml"),
            include_str!("../../../../recipes/fluent-emoji/sr1024.toml"),
            include_str!("../../../../recipes/paper/base64.toml"),
        ] {
            let recipe = Recipe::parse(text).unwrap();
            let notes = BTreeMap::from([("train.seed", "why this seed".to_owned())]);
            let written = annotated(&recipe, &notes);
            assert_eq!(Recipe::parse(&written).unwrap(), recipe, "{written}");
            assert!(written.contains("# why this seed\nseed = "), "{written}");
            assert!(written.contains("# Optimizer steps\nsteps = "), "{written}");
            assert!(!written.contains("max_skipped"), "a default is left out: {written}");
        }
    }
}
