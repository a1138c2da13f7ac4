//! The command line: one verb is one file here and one line of [`Verb`].
//!
//! Help, completions and manual pages all come from these definitions, so that they cannot drift apart.

/// A verb with verbs below it, each of them a file with a type that runs: adding one is a line.
macro_rules! verbs {
    ($(#[$about:meta])* $name:ident { $($sub:ident($kind:ty)),* $(,)? }) => {
        #[derive(Debug, clap::Args)]
        $(#[$about])*
        pub(in crate::cli) struct $name {
            #[command(subcommand)]
            verb: Verb,
        }

        #[derive(Debug, clap::Subcommand)]
        enum Verb {
            $($sub(Box<$kind>)),*
        }

        impl $name {
            pub(in crate::cli) fn run(self) -> crate::failure::Result<()> {
                match self.verb {
                    $(Verb::$sub(verb) => verb.run()),*
                }
            }
        }
    };
}

mod bench;
mod ceiling;
mod completions;
mod data;
mod doctor;
mod draw;
mod eval;
mod export;
mod inspect;
mod man;
mod models;
mod peers;
mod plan;
mod recipe;
mod report;
mod restore;
mod sample;
mod serve;
mod shard;
mod shared;
mod train;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::{EXIT_CODES, Result, print_line};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

/// Columns of help.
const WIDTH: usize = 100;

const WELCOME: &str = "\
imagen draws pictures from text. Try:

  imagen sample \"a red apple\"

`imagen --help` lists everything it can do; `imagen sample --help` explains drawing.";

const EXAMPLES: &str = "\
Examples:
  imagen sample \"a red apple\"
  imagen sample \"a red apple\" --count 4 --output \"apples/{index}.png\"
  imagen train recipes/shapes/base.toml --run runs/shapes
  imagen inspect";

/// Draws pictures from text with a cascade of diffusion models, and trains such cascades.
#[derive(Debug, Parser)]
#[command(name = "imagen", version, styles = STYLES, max_term_width = WIDTH, infer_subcommands = false)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Sample(Box<sample::Sample>),
    Restore(Box<restore::Restore>),
    Serve(Box<serve::Serve>),
    Train(train::Train),
    Recipe(recipe::RecipeVerb),
    Report(report::Report),
    Export(export::Export),
    Inspect(inspect::Inspect),
    Plan(Box<plan::PlanVerb>),
    Data(data::Data),
    Models(models::Models),
    Eval(eval::Eval),
    Bench(Box<bench::Bench>),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Cli {
    /// Reads the arguments of the process; where they cannot be understood, says why and leaves. Help and version leave too.
    pub(crate) fn read() -> Result<Self> {
        Self::try_parse_from(peers::arguments(std::env::args_os())).map_err(|error| match peers::explain(&error) {
            Some(failure) => failure,
            None => error.exit(),
        })
    }

    /// Does what was asked; without a verb, says what could be.
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            None => print_line(WELCOME),
            Some(Verb::Sample(verb)) => verb.run(),
            Some(Verb::Restore(verb)) => verb.run(),
            Some(Verb::Serve(verb)) => verb.run(),
            Some(Verb::Train(verb)) => verb.run(),
            Some(Verb::Recipe(verb)) => verb.run(),
            Some(Verb::Report(verb)) => verb.run(),
            Some(Verb::Export(verb)) => verb.run(),
            Some(Verb::Inspect(verb)) => verb.run(),
            Some(Verb::Plan(verb)) => verb.run(),
            Some(Verb::Data(verb)) => verb.run(),
            Some(Verb::Models(verb)) => verb.run(),
            Some(Verb::Eval(verb)) => verb.run(),
            Some(Verb::Bench(verb)) => verb.run(),
            Some(Verb::Doctor(verb)) => verb.run(),
            Some(Verb::Completions(verb)) => verb.run(&mut Self::command()),
            Some(Verb::Man(verb)) => verb.run(Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_below_help_is_not_wrapped_again() {
        fn look(command: &clap::Command, long: &mut Vec<String>) {
            let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let wide = below.lines().filter(|line| line.chars().count() > WIDTH);
            long.extend(wide.map(|line| format!("{}: {line}", command.get_name())));
            command.get_subcommands().for_each(|verb| look(verb, long));
        }
        let mut long = Vec::new();
        look(&Cli::command(), &mut long);
        assert!(long.is_empty(), "{}", long.join("\n"));
    }
}
