//! What a newcomer reads; every change of it is seen and accepted by a person.

use crate::{run, succeed};

fn here() -> std::path::PathBuf {
    std::env::temp_dir()
}

#[test]
fn without_arguments_the_program_says_what_to_try() {
    insta::assert_snapshot!(succeed(&here(), &[]));
}

#[test]
fn the_help_of_every_verb_is_as_it_was_accepted() {
    insta::assert_snapshot!("help", succeed(&here(), &["--help"]));
    for verb in [
        "sample",
        "train",
        "recipe",
        "report",
        "export",
        "inspect",
        "plan",
        "data",
        "eval",
        "models",
        "bench",
        "doctor",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(format!("help_{verb}"), succeed(&here(), &[verb, "--help"]));
    }
    for verb in ["shapes", "compose", "check", "stats", "encode"] {
        insta::assert_snapshot!(format!("help_data_{verb}"), succeed(&here(), &["data", verb, "--help"]));
    }
    for verb in ["new", "keys"] {
        insta::assert_snapshot!(format!("help_recipe_{verb}"), succeed(&here(), &["recipe", verb, "--help"]));
    }
    for verb in ["list", "info", "pull", "verify", "rm", "convert"] {
        insta::assert_snapshot!(format!("help_models_{verb}"), succeed(&here(), &["models", verb, "--help"]));
    }
    for verb in [
        "clip-score",
        "coco",
        "compose",
        "drawbench",
        "fid",
        "human",
        "kid",
        "precision-recall",
        "recovery",
        "retrieval",
        "shapes",
        "stats",
        "sweep",
    ] {
        insta::assert_snapshot!(format!("help_eval_{verb}"), succeed(&here(), &["eval", verb, "--help"]));
    }
    for verb in ["serve", "report", "export"] {
        insta::assert_snapshot!(
            format!("help_eval_human_{verb}"),
            succeed(&here(), &["eval", "human", verb, "--help"])
        );
    }
}

#[test]
fn the_short_help_fits_a_screen() {
    let help = succeed(&here(), &["sample", "-h"]);
    assert!(help.lines().count() <= 60, "{} lines", help.lines().count());
}

#[test]
fn help_needs_nothing_from_the_machine() {
    let bare = crate::finish(crate::imagen(&here()).env_clear().arg("--help"));
    assert_eq!((bare.code, bare.stderr.as_str()), (0, ""));
    assert_eq!(run(&here(), &["--version"]).stdout, format!("imagen {}\n", env!("CARGO_PKG_VERSION")));
}
