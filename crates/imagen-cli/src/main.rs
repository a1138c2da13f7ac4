//! The program `imagen`: read the arguments, do one verb, leave with a documented exit code.
//!
//! A verb is one file in `cli/` and one line of its enum. What a person reads while waiting goes to stderr, results go
//! to stdout. Nothing is initialised before a verb asks for it, so that `--help` is instant.

mod builtin;
mod cli;
mod device;
mod failure;
mod hub;
mod interrupt;
mod output;
mod progress;
mod ranks;
mod report;
mod system;
mod trace;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    failure::explain_panics();
    interrupt::mind_file_limits();
    match cli::Cli::read().and_then(cli::Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
