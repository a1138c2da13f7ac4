//! Bad input: one clear line on stderr, the documented exit code, nothing on stdout, nothing lost.

use std::fs;
use std::path::Path;

use crate::tiny::{self, Trained};
use crate::{files, imagen, run};

/// Runs every case and reports all that do not fail as they should: (arguments, exit code, words on stderr).
#[track_caller]
fn all_refused(folder: &Path, cases: &[(&[&str], i32, &str)]) {
    all_refused_after(folder, &[], cases);
}

/// Checks refusals of cases that all begin with the arguments `begin`.
#[track_caller]
pub(crate) fn all_refused_after(folder: &Path, begin: &[&str], cases: &[(&[&str], i32, &str)]) {
    let mut wrong = Vec::new();
    for (arguments, code, words) in cases {
        let result = run(folder, &[begin, arguments].concat());
        let first = result.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let clear = !first.is_empty() && result.stderr.contains(words) && !result.stderr.contains("panicked");
        if result.code != *code || !clear || !result.stdout.is_empty() {
            let (got, out, err) = (result.code, result.stdout, result.stderr);
            wrong.push(format!("{arguments:?}: expected {code} and {words:?}, got {got}\n{out}{err}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    all_refused(
        folder.path(),
        &[
            (&["--frobnicate"], 2, "--frobnicate"),
            (&["paint"], 2, "paint"),
            (&["sample"], 2, "PROMPT"),
            (&["sample", "x", "--frobnicate"], 2, "--frobnicate"),
            (&["sample", "x", "--count", "0"], 2, "--count"),
            (&["sample", "x", "--seed", "seven"], 2, "-1 for random"),
            (&["sample", "x", "--steps", "fifty"], 2, "fifty"),
            (&["sample", "x", "--steps", "50,"], 2, "a value is missing"),
            (&["sample", "x", "--steps", "1,2,3,4"], 2, "at most 3 stages"),
            (&["sample", "x", "--sampler", "eulers"], 2, "expected one of: ddpm"),
            (&["sample", "x", "--thresholding", "dynamic:2"], 2, "from 0 to 1"),
            (&["sample", "x", "--aug-level", "1.5"], 2, "1.5"),
            (&["sample", "x", "--until", "sr512"], 2, "possible values: base, sr256, sr1024"),
            (&["sample", "x", "--output", "{sed}.png"], 2, "expected {seed}"),
            (&["sample", "x", "--output", "-", "--json"], 2, "stdout"),
            (&["completions", "tcsh"], 2, "tcsh"),
            (&["train", "recipe.toml"], 2, "--run"),
        ],
    );
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_model_that_is_missing_or_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("empty")).unwrap();
    tiny::model(&at("untrained"), &Trained { base: 10, sr256: Some(0) });
    tiny::model(&at("truncated"), &Trained::BASE);
    let whole = fs::read(at("truncated/base.safetensors")).unwrap();
    fs::write(at("truncated/base.safetensors"), &whole[..whole.len() / 2]).unwrap();
    tiny::model(&at("lying"), &Trained::BASE);
    fs::write(at("lying/base.safetensors"), [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    tiny::model(&at("mute"), &Trained::BASE);
    fs::remove_file(at("mute/text/tokenizer.json")).unwrap();
    all_refused(
        folder.path(),
        &[
            (&["sample", "x", "--model", "nowhere"], 4, "nowhere"),
            (&["sample", "x", "--model", "empty"], 4, "no stage base"),
            (&["sample", "x", "--model", "untrained"], 4, "sr256 is untrained"),
            (&["sample", "x", "--model", "truncated"], 4, "truncated/base.safetensors"),
            (&["sample", "x", "--model", "lying"], 4, "lying/base.safetensors"),
            (&["sample", "x", "--model", "mute"], 4, "tokenizer.json"),
            (&["sample", "x", "--model", "truncated", "--until", "sr256"], 4, "truncated/base.safetensors"),
        ],
    );
    assert!(!files(folder.path()).iter().any(|name| name.ends_with(".png")));
}

#[test]
fn values_that_do_not_fit_the_model_are_refused_before_drawing() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("base"), &Trained::BASE);
    tiny::model(&folder.path().join("both"), &Trained::BOTH);
    let max = u64::MAX.to_string();
    all_refused(
        folder.path(),
        &[
            (
                &["sample", "x", "--model", "base", "--steps", "1,2"],
                2,
                "2 values, but this model has 1 such stage (base)",
            ),
            (&["sample", "x", "--model", "both", "--steps", "1,2,3"], 2, "(base, sr256)"),
            (&["sample", "x", "--model", "both", "--steps", "0"], 2, "steps = 0"),
            (&["sample", "x", "--model", "both", "--guidance", "nan"], 2, "guidance"),
            (&["sample", "x", "--model", "base", "--aug-level", "0.1"], 2, "super-resolution"),
            (&["sample", "x", "--model", "both", "--aug-level", "0.1,0.2"], 2, "(sr256)"),
            (&["sample", "x", "--model", "both", "--aug-level", "0.6"], 2, "levels from 0 to 0.5"),
            (&["sample", "x", "--model", "base", "--until", "sr256"], 4, "no stage sr256"),
            (&["sample", "x", "--model", "base", "--count", "2", "--seed", &max], 2, "out of range"),
        ],
    );
    assert_eq!(files(folder.path()), ["base", "both"]);
}

#[test]
fn outputs_that_would_collide_or_overwrite_or_fail_are_refused_before_drawing() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    fs::write(folder.path().join("precious.png"), "precious").unwrap();
    fs::create_dir(folder.path().join("x")).unwrap();
    all_refused(
        folder.path(),
        &[
            (&["sample", "x", "-mm", "-o", "precious.png"], 2, "already exists"),
            (&["sample", "x", "-mm", "-o", "same.png", "-n2"], 2, "would both be same.png"),
            (&["sample", "x", "-mm", "-o", "x.gif"], 2, "gif is not supported; end the name in .png, .jpg or .webp"),
            (&["sample", "x", "-mm", "-o", "-", "-n2"], 2, "takes one picture"),
            (&["sample", "x", "-mm", "-o", "precious.png/x.png"], 2, "precious.png"),
            (&["sample", "x", "-mm", "--trace", "nowhere/trace.json"], 1, "nowhere"),
            (&["sample", "x", "-mm", "-o", "{prompt}"], 2, "is a folder"),
        ],
    );
    assert_eq!(files(folder.path()), ["m", "precious.png", "x"]);
    assert_eq!(fs::read(folder.path().join("precious.png")).unwrap(), b"precious");
}

#[test]
fn no_prompt_on_stdin_is_a_usage_error_and_bytes_that_are_no_text_are_bad_data() {
    let folder = tempfile::tempdir().unwrap();
    for (stdin, code) in [(&b""[..], 2), (b"\n \n", 2), (b"a cat\n\xff\xfe\n", 3)] {
        let result = crate::finish(imagen(folder.path()).args(["sample", "-"]).write_stdin(stdin));
        assert_eq!(result.code, code, "{stdin:?}: {}", result.stderr);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_not_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    let result = run(folder.path(), &["sample", "x", "-mm", "-o", "/dev/full"]);
    assert_eq!(result.code, 1);
    assert!(result.stderr.contains("cannot write /dev/full: No space left on device"), "{}", result.stderr);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut program = std::process::Command::new(assert_cmd::cargo::cargo_bin("imagen"));
    let status = program.current_dir(folder.path()).args(["sample", "x", "-mm", "-o", "-", "-q"]).stdout(full).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_picture_without_settings_cannot_be_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    crate::succeed(folder.path(), &["sample", "x", "-mm", "-o", "bare.png", "--no-metadata"]);
    fs::write(folder.path().join("text.png"), "no picture").unwrap();
    all_refused(
        folder.path(),
        &[
            (&["sample", "-mm", "--params-from", "bare.png"], 3, "no settings of imagen"),
            (&["sample", "-mm", "--params-from", "text.png"], 3, "text.png"),
            (&["sample", "-mm", "--params-from", "gone.png"], 1, "cannot read gone.png"),
        ],
    );
}

#[test]
fn bad_recipes_and_data_are_named_with_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let good = tiny::recipe("data");
    write("good.toml", &good);
    write("typo.toml", &good.replace("warmup", "warm_up"));
    write("broken.toml", "stage = [");
    write("zero.toml", &good.replace("batch = 4", "batch = 0"));
    let text = tiny::text_encoder();
    let text = text.to_str().unwrap();
    all_refused(
        folder.path(),
        &[
            (&["train", "none.toml", "--run", "run", "--text-encoder", text], 3, "no recipe none.toml"),
            (&["train", "broken.toml", "--run", "run", "--text-encoder", text], 3, "line 1"),
            (&["train", "typo.toml", "--run", "run", "--text-encoder", text], 3, "warm_up"),
            (&["train", "zero.toml", "--run", "run", "--text-encoder", text], 3, "batch"),
            (&["train", "good.toml", "--run", "run", "--text-encoder", "nowhere"], 4, "nowhere"),
            (&["train", "good.toml", "--run", "run", "--resume", "--text-encoder", text], 2, "no run to resume"),
            (&["train", "good.toml", "--run", "run", "--text-encoder", text], 3, "data"),
            (&["export", "nowhere", "--model", "m", "--text-encoder", text], 3, "nowhere is not a run"),
        ],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_recipe_that_no_memory_holds_is_refused_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe("data").replace("batch = 4", "batch = 1000000");
    fs::write(folder.path().join("huge.toml"), recipe).unwrap();
    all_refused(folder.path(), &[(&["train", "huge.toml", "--run", "run"], 5, "training this takes about")]);
    assert_eq!(files(folder.path()), ["huge.toml"]);
}
