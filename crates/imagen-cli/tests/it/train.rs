//! From nothing to a picture: a generated data set, a run, an interruption, an export.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::{files, run, succeed, tiny};

/// A folder with the data set `data` and a recipe for it.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "24", "--size", "16", "--seed", "1"]);
    fs::write(folder.path().join("recipe.toml"), tiny::recipe("data")).unwrap();
    folder
}

pub(crate) fn train(folder: &Path, run_folder: &str, more: &[&str]) -> crate::Finished {
    let text = tiny::text_encoder();
    let mut arguments = vec!["train", "recipe.toml", "--run", run_folder, "--text-encoder", text.to_str().unwrap()];
    arguments.extend(more);
    run(folder, &arguments)
}

#[test]
fn a_run_becomes_a_model_that_draws() {
    let folder = folder();
    let result = train(folder.path(), "run", &["--steps", "2"]);
    assert_eq!((result.code, result.stdout.as_str()), (0, "run/base.safetensors\n"), "{}", result.stderr);
    assert!(result.stderr.contains("next: imagen export run --model models/run"), "{}", result.stderr);
    let text = tiny::text_encoder();
    let text = text.to_str().unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(tiny::text_encoder().join(file), other.join(file)).unwrap();
    }
    fs::write(other.join("config.json"), fs::read_to_string(other.join("config.json")).unwrap() + "\n").unwrap();
    let refused = run(folder.path(), &["export", "run", "--model", "m", "--text-encoder", "other"]);
    assert!(refused.code == 4 && refused.stderr.contains("--text-encoder"), "{}", refused.stderr);
    assert!(!folder.path().join("m").exists(), "nothing was written for it");
    let exported = succeed(folder.path(), &["export", "run", "--model", "m", "--text-encoder", text]);
    assert_eq!(exported, "m/base.safetensors\n");
    succeed(folder.path(), &["sample", "a red circle", "-mm", "-s1"]);
    assert!(folder.path().join("a-red-circle-1.png").exists());
    let again = train(folder.path(), "run", &[]);
    assert_eq!(again.code, 2, "a folder that holds a run is not overwritten: {}", again.stderr);
    assert!(again.stderr.contains("--resume"), "{}", again.stderr);
}

#[test]
fn a_resumed_run_equals_one_that_was_not_stopped() {
    let folder = folder();
    assert_eq!(train(folder.path(), "straight", &["-q"]).code, 0);
    assert_eq!(train(folder.path(), "halves", &["-q", "--steps", "2"]).code, 0);
    assert_eq!(train(folder.path(), "halves", &["-q", "--resume"]).code, 0);
    let weights = |run: &str| fs::read(folder.path().join(run).join("base.safetensors")).unwrap();
    assert!(weights("straight") == weights("halves"), "the weights differ");
}

#[test]
fn a_run_whose_captions_have_changed_goes_on_and_says_so() {
    let folder = folder();
    assert_eq!(train(folder.path(), "run", &["-q", "--steps", "2"]).code, 0);
    let same = train(folder.path(), "run", &["--resume", "--steps", "3"]);
    assert!(same.code == 0 && !same.stderr.contains("not those"), "{}", same.stderr);
    let metadata = folder.path().join("data/metadata.jsonl");
    fs::write(&metadata, fs::read_to_string(&metadata).unwrap().replace("red", "crimson")).unwrap();
    let other = train(folder.path(), "run", &["--resume"]);
    let words = "the pictures or their captions are not those that the run saw before";
    assert!(other.code == 0 && other.stderr.contains(words), "{}", other.stderr);
}

#[test]
fn a_run_in_bfloat16_is_resumed_to_the_bit_by_any_number_of_threads() {
    let folder = folder();
    let train = |name: &str, more: &[&str]| {
        let result = train(folder.path(), name, &[&["-q", "--set", "train.precision=bf16"], more].concat());
        assert_eq!(result.code, 0, "{}", result.stderr);
        fs::read(folder.path().join(name).join("base.safetensors")).unwrap()
    };
    let straight = train("straight", &["-t1"]);
    train("halves", &["-t2", "--steps", "2"]);
    assert!(straight == train("halves", &["-t2", "--resume"]), "the weights differ");
    // a run that knew nothing of precisions goes on in the other one, and says so
    assert_eq!(self::train(folder.path(), "old", &["-q", "--steps", "2"]).code, 0);
    let recipe = fs::read_to_string(folder.path().join("old/recipe.toml")).unwrap();
    assert!(!recipe.contains("precision"), "what is not said is not written: {recipe}");
    let resumed = self::train(folder.path(), "old", &["--resume", "--set", "train.precision=bf16"]);
    assert!(resumed.code == 0 && resumed.stderr.contains("train.precision"), "{}", resumed.stderr);
    assert!(fs::read(folder.path().join("old/base.safetensors")).unwrap() != straight);
    let wrong = self::train(folder.path(), "wrong", &["--set", "train.precision=f16"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("bf16"), "{}", wrong.stderr);
}

#[test]
fn a_new_run_begins_with_the_weights_of_another_where_they_fit() {
    let folder = folder();
    assert_eq!(train(folder.path(), "first", &["-q", "--steps", "2"]).code, 0);
    let from = ["--init-from", "first/base.safetensors"];
    let same = train(folder.path(), "same", &[&from[..], &["--steps", "1"]].concat());
    assert_eq!(same.code, 0, "{}", same.stderr);
    assert!(same.stderr.contains("tensors begin as in first/base.safetensors"), "{}", same.stderr);
    assert!(!same.stderr.contains("begin at random"), "{}", same.stderr);
    let folder_of_it = train(folder.path(), "folder", &["--init-from", "first", "--steps", "1"]);
    assert!(folder_of_it.stderr.contains("tensors begin as in first/base.safetensors"), "{}", folder_of_it.stderr);

    // another head, a wider level
    let recipe = tiny::recipe("data");
    let other = recipe.replace("channels = 16, blocks", "channels = 24, blocks");
    let other = other.replace("groups = 4", "groups = 4\noutput_blocks = 1");
    fs::write(folder.path().join("recipe.toml"), other).unwrap();
    let partly = train(folder.path(), "partly", &[&from[..], &["--steps", "1"]].concat());
    assert_eq!(partly.code, 0, "{}", partly.stderr);
    for expected in
        ["not there, begin at random: ", "output.blocks.0.conv1.weight", "of another shape", "head.dense.weight"]
    {
        assert!(partly.stderr.contains(expected), "{expected}: {}", partly.stderr);
    }

    fs::write(folder.path().join("no-stage.safetensors"), "nothing").unwrap();
    for (more, code, words) in [
        (["--init-from", "no-stage.safetensors"], 4, "no-stage.safetensors"),
        (["--init-from", "nowhere.safetensors"], 1, "nowhere.safetensors"),
    ] {
        let refused = train(folder.path(), "refused", &more);
        assert!(refused.code == code && refused.stderr.contains(words), "{} {}", refused.code, refused.stderr);
        assert!(!folder.path().join("refused").exists(), "a refused run leaves nothing");
    }
    // the command that began a run goes on with it
    let both = train(folder.path(), "partly", &[&from[..], &["--steps", "2", "--resume"]].concat());
    assert!(both.code == 0 && !both.stderr.contains("begin at random"), "{}", both.stderr);
}

/// A run without end in `run` that has saved once.
fn begun(folder: &Path) -> std::process::Child {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("imagen"))
        .args(["train", "recipe.toml", "--run", "run", "--steps", "1000000", "--text-encoder"])
        .arg(tiny::text_encoder())
        .current_dir(folder)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.join("run/state.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child
}

#[test]
#[cfg(unix)]
fn ctrl_c_saves_and_says_how_to_go_on() {
    use std::process::Command;
    let folder = folder();
    let child = begun(folder.path());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let hint = "hint: go on with: imagen train recipe.toml --run run --resume --steps 1000000";
    assert!(stderr.contains("stopped and saved after step") && stderr.contains(hint), "{stderr}");
    let json = succeed(folder.path(), &["inspect", "run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let saved = json["stages"][0]["step"].as_u64().unwrap();
    assert!(saved >= 2, "saved after step {saved}");
    assert_eq!(train(folder.path(), "run", &["--resume", "--steps", &(saved + 1).to_string()]).code, 0);
}

#[test]
fn a_run_that_is_asked_to_stop_by_its_folder_saves_and_can_go_on() {
    let folder = folder();
    let run_folder = folder.path().join("run");
    let child = begun(folder.path());
    imagen::train::ask_to_stop(&run_folder).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(stderr.matches("asked to stop").count(), 1, "{stderr}");
    assert!(stderr.contains("stopped and saved after step"), "{stderr}");
    assert!(!run_folder.join("stop").exists(), "it was heeded");
    // a wish that nobody heeded is not the next training's
    imagen::train::ask_to_stop(&run_folder).unwrap();
    let json = succeed(folder.path(), &["inspect", "run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let saved = json["stages"][0]["step"].as_u64().unwrap();
    assert_eq!(train(folder.path(), "run", &["--resume", "--steps", &(saved + 2).to_string()]).code, 0);
}

#[test]
fn shapes_are_the_same_for_the_same_seed_and_pass_their_check() {
    let folder = folder();
    for (name, seed) in [("same", "1"), ("other", "2")] {
        succeed(folder.path(), &["data", "shapes", name, "--count", "24", "--size", "16", "--seed", seed]);
    }
    let captions = |name: &str| fs::read(folder.path().join(name).join("metadata.jsonl")).unwrap();
    assert!(captions("data") == captions("same") && captions("data") != captions("other"));
    let report = succeed(folder.path(), &["data", "check", "data"]);
    assert!(report.contains("24"), "{report}");
}

#[test]
fn the_check_names_damaged_pictures_and_missing_captions() {
    let folder = folder();
    let images = folder.path().join("data/images");
    let one = files(&images).into_iter().find(|name| name.ends_with(".png")).unwrap();
    fs::write(images.join(&one), "no picture").unwrap();
    let result = run(folder.path(), &["data", "check", "data"]);
    assert_eq!(result.code, 3, "{}", result.stdout);
    assert!(result.stdout.contains(&one) || result.stderr.contains(&one), "{}{}", result.stdout, result.stderr);
}

#[test]
fn a_stage_trains_on_a_world_without_end_and_goes_on_exactly() {
    let folder = folder();
    fs::write(folder.path().join("recipe.toml"), tiny::recipe(&super::data::world())).unwrap();
    let straight = train(folder.path(), "straight", &[]);
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    assert!(straight.stderr.contains("endless pictures"), "{}", straight.stderr);
    assert!(!folder.path().join("straight/captions.safetensors").exists(), "captions without end are not kept");
    assert_eq!(train(folder.path(), "halves", &["-q", "--steps", "2"]).code, 0);
    assert_eq!(train(folder.path(), "halves", &["-q", "--resume"]).code, 0);
    let weights = |run: &str| fs::read(folder.path().join(run).join("base.safetensors")).unwrap();
    assert!(weights("straight") == weights("halves"), "the weights differ");
}
