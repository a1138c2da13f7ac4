//! `imagen completions SHELL`: a completion script, made from the same definition as the help.

use std::io::Write;

use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::failure::{Failure, Result};

/// Print a completion script for your shell
///
/// For example: imagen completions bash > ~/.local/share/bash-completion/completions/imagen
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell; the one that SHELL names by default
    shell: Option<Shell>,
}

impl Completions {
    /// Prints the script of the whole program, which is `program`.
    pub(crate) fn run(&self, program: &mut Command) -> Result<()> {
        let unknown = || {
            let names: Vec<String> = Shell::value_variants().iter().map(Shell::to_string).collect();
            Failure::usage(format_args!(
                "SHELL does not name a shell that is known here; name one: {}",
                names.join(", ")
            ))
        };
        let shell = self.shell.or_else(Shell::from_env).ok_or_else(unknown)?;
        let mut script = Vec::new();
        clap_complete::generate(shell, program, "imagen", &mut script);
        std::io::stdout().write_all(&script).map_err(|e| Failure::stdout(&e))
    }
}
