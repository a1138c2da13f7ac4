//! The program from outside: arguments in, files, streams and exit codes out.
//!
//! Tests that draw use a tiny random network (`tiny`) with the committed text encoder; none uses the built-in model.

mod adapters;
mod bench;
mod channels;
mod convert;
mod data;
mod deepfloyd;
mod device;
mod eval;
mod first_hour;
mod help;
mod human;
mod insight;
mod metrics;
mod models;
mod pictures;
mod processes;
mod ranks;
mod recipe;
mod refusals;
mod sample;
mod serve;
mod shares;
mod tiny;
mod tools;
mod train;
mod trust;

use std::path::Path;

use assert_cmd::Command;

/// The program, to be run in a folder.
fn imagen(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("imagen").unwrap();
    command.current_dir(folder).env("COLUMNS", "100").env_remove("RUST_BACKTRACE");
    command
}

/// What a finished command left behind.
struct Finished {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program with these arguments.
fn run(folder: &Path, arguments: &[&str]) -> Finished {
    finish(imagen(folder).args(arguments))
}

/// Runs the program and kills it (SIGKILL) as soon as `file` is there.
fn kill_once_there(folder: &Path, arguments: &[&str], file: &Path) {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("imagen"))
        .args(arguments)
        .current_dir(folder)
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() && !file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn finish(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code().expect("the program leaves by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program, which must succeed; its stdout.
#[track_caller]
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let finished = run(folder, arguments);
    assert_eq!(finished.code, 0, "{arguments:?}\n{}", finished.stderr);
    finished.stdout
}

/// The names in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
