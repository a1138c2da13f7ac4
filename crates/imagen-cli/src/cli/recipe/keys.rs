//! `imagen recipe keys`: every key of a recipe, as Markdown that reads well in a terminal too.

use std::fmt::Write;

use imagen::train::{self, Key};

use crate::failure::{Failure, Result, print_line};

const EXAMPLES: &str = "\
Examples:
  imagen recipe keys
  imagen recipe keys ema";

/// What stands above the list.
const INTRODUCTION: &str = "\
# Keys of a recipe

A recipe is a TOML file: what is trained (`[stage]`, its network `[stage.unet]`, its default settings for sampling `[stage.sampling]`), on
what (`[data]`), and how (`[train]`). Keys without a default must be given, unless a preset gives them; unknown keys
are errors. `imagen train --set KEY=VALUE` replaces a value by its path, such as `train.lr=1e-4` or
`stage.unet.levels.0.channels=32`. `imagen recipe keys` prints this page.";

/// List every key of a recipe with its default and what it means
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Keys {
    /// Only keys that have this word in their name or their description
    word: Option<String>,
}

impl Keys {
    pub(super) fn run(self) -> Result<()> {
        let mut keys = train::recipe_keys();
        if let Some(word) = &self.word {
            let word = word.to_lowercase();
            keys.retain(|key| {
                let path = format!("{}.{}", key.table, key.name);
                [path, key.about.to_lowercase()].iter().any(|text| text.contains(&word))
            });
            if keys.is_empty() {
                let failure = Failure::usage(format_args!("no key of a recipe speaks of {word:?}"));
                return Err(failure.hint("`imagen recipe keys` lists all of them"));
            }
            return print_line(page(&keys).trim_start());
        }
        print_line(format_args!("{INTRODUCTION}\n{}", page(&keys)))
    }
}

/// The keys by table.
fn page(keys: &[Key]) -> String {
    let mut text = String::new();
    let mut table = "";
    for key in keys {
        if key.table != table {
            table = key.table;
            let title = if table == "stage.unet.levels" {
                "each of `stage.unet.levels`".to_owned()
            } else {
                format!("`[{table}]`")
            };
            write!(text, "\n## {title}\n\n").expect("writing to a string");
        }
        let default = match (&key.default, key.required) {
            (Some(default), _) => format!("; `{default}`"),
            (None, true) => String::new(),
            (None, false) => "; none".to_owned(),
        };
        writeln!(text, "- `{}` ({}{default}): {}", key.name, key.kind, key.about).expect("writing to a string");
        for (name, about) in &key.names {
            let about = if about.is_empty() { String::new() } else { format!(": {about}") };
            writeln!(text, "  - `{name}`{about}").expect("writing to a string");
        }
    }
    text.truncate(text.trim_end().len());
    text
}
