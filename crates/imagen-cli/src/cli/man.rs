//! `imagen man [FOLDER]`: manual pages, made from the same definition as the help.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man as Page;

use crate::failure::{Failure, Result, print_line};
use crate::output;

/// Print the manual page, or write all pages into a folder
///
/// For example: imagen man | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Write imagen.1, imagen-sample.1 and so on here, instead of printing the first
    folder: Option<PathBuf>,
}

impl Man {
    /// Prints or writes the pages of the whole program, which is `program`.
    pub(crate) fn run(&self, program: Command) -> Result<()> {
        let mut root = program.disable_help_subcommand(true);
        root.build();
        let Some(folder) = &self.folder else {
            return std::io::stdout().write_all(&render(root)).map_err(|e| Failure::stdout(&e));
        };
        if root.get_subcommands().any(|verb| Path::new(verb.get_name()) == folder) && !folder.is_dir() {
            let name = folder.display();
            let failure = Failure::usage(format_args!("{name} is a verb, and this wants a folder for all pages"));
            return Err(
                failure.hint(format_args!("imagen {name} --help, or imagen man ./{name} for a folder of that name"))
            );
        }
        output::make_folder(folder)?;
        for command in with_descendants(root) {
            let path = folder.join(format!("{}.1", page_name(&command)));
            output::write_file(&path, &render(command))?;
            print_line(path.display())?;
        }
        Ok(())
    }
}

/// The command and everything below it.
fn with_descendants(command: Command) -> Vec<Command> {
    let children: Vec<Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    std::iter::once(command).chain(children.into_iter().flat_map(with_descendants)).collect()
}

/// `imagen-data-check`: building a command gives it this display name.
fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn render(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    Page::new(command).render(&mut page).expect("writing to memory");
    page
}
