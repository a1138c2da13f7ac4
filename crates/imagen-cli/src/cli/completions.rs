//! `imagen completions SHELL`: a completion script, made from the same definition as the help.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::failure::{Failure, Result};

/// Print a completion script for your shell
///
/// For example: imagen completions bash > ~/.local/share/bash-completion/completions/imagen
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "imagen", &mut script);
        std::io::stdout().write_all(&script).map_err(|e| Failure::stdout(&e))
    }
}
