//! What a newcomer meets: memory that fits or says what would, prompts that are not understood, models and their words.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{finish, imagen, run, succeed, tiny};

/// A folder with the tiny cascade `m`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &tiny::Trained::BOTH);
    folder
}

fn planned(folder: &Path, more: &[&str]) -> Vec<u64> {
    let json: Value = serde_json::from_str(&succeed(folder, &[&["plan", "m", "--json"], more].concat())).unwrap();
    json["stages"].as_array().unwrap().iter().map(|stage| stage["bytes"].as_u64().unwrap()).collect()
}

#[test]
fn drawing_counts_the_stages_and_the_pictures_that_are_drawn() {
    let folder = folder();
    assert_eq!(planned(folder.path(), &["--until", "base"]).len(), 1);
    assert_eq!(planned(folder.path(), &[]).len(), 2);
    let (one, many) = (planned(folder.path(), &[]), planned(folder.path(), &["--batch", "500"]));
    assert!(many[1] > one[1] && one[1] > one[0], "{one:?} {many:?}");
    // one picture is drawn, whatever the batch may be
    let limit = one[1].to_string();
    let sample = ["sample", "x", "-mm", "--seed", "1", "--steps", "1", "-o", "a.png", "--batch", "500"];
    let drawn = run(folder.path(), &[&sample[..], &["--max-memory", &limit]].concat());
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    tiny::on_request(&folder.path().join("m"));
    assert_eq!(planned(folder.path(), &[]).len(), 1, "a stage on request is not counted");
    assert_eq!(planned(folder.path(), &["--until", "sr256"]).len(), 2);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let folder = folder();
    let refused = |limit: u64, more: &[&str]| {
        let limit = limit.to_string();
        let sample = ["sample", "x", "-mm", "--seed", "1", "-o", "{index}.png", "--max-memory", &limit];
        let refused = run(folder.path(), &[&sample[..], more].concat());
        assert_eq!(refused.code, 5, "{}", refused.stderr);
        assert!(!folder.path().join("0.png").exists());
        refused.stderr
    };
    let (one, many) = (planned(folder.path(), &[]), planned(folder.path(), &["--batch", "400"]));
    let said = refused(many[1] - 1, &["-n", "400", "--batch", "400"]);
    assert!(said.contains("it would fit with --batch 399"), "{said}");
    let said = refused(one[1] - 1, &[]);
    assert!(said.contains("it would fit with --until base"), "{said}");
    let said = refused(1 << 20, &[]);
    assert!(said.contains("the least that this model can take") && !said.contains("--batch"), "{said}");
}

#[test]
fn what_a_text_encoder_does_not_read_is_named() {
    let folder = folder();
    let draw = |prompt: &str, more: &[&str]| {
        let sample = ["sample", prompt, "-mm", "--seed", "1", "--steps", "1", "-f", "-o", "a.png"];
        let drawn = run(folder.path(), &[&sample[..], more].concat());
        assert_eq!(drawn.code, 0, "{}", drawn.stderr);
        drawn.stderr
    };
    let long = format!("{}and a parrot", "a red apple beside a green pear ".repeat(12));
    let said = draw(&long, &[]);
    assert!(said.contains("reads 64 tokens of a prompt; not read: \"") && said.contains(" …\""), "{said}");
    assert!(draw("an apple \u{1F34E}", &[]).contains("does not know \"\u{1F34E}\": say it in English"));
    let said = draw("a red apple", &[]);
    assert!(!said.contains("reads") && !said.contains("token"), "{said}");
    assert!(draw(&long, &["-q"]).is_empty());
}

#[test]
fn words_without_quotes_and_values_without_their_flag_are_explained() {
    let folder = folder();
    let sample = |prompts: &[&str]| {
        let drawn =
            run(folder.path(), &[&["sample", "-mm", "--seed", "1", "--steps", "1", "--force"], prompts].concat());
        assert_eq!(drawn.code, 0, "{}", drawn.stderr);
        drawn.stderr
    };
    let said = sample(&["a", "red", "apple"]);
    assert!(said.contains("put quotes around it: \"a red apple\""), "{said}");
    for prompts in [&["apple"][..], &["a pear", "apple"]] {
        assert!(!sample(prompts).contains("quotes"));
    }
    let refused = run(folder.path(), &["train", "r.toml", "--run", "r", "--set", "train.lr=1e-3", "train.batch=4"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--set train.batch=4"), "{}", refused.stderr);
}

#[test]
fn guidance_beyond_what_was_tried_is_said() {
    let folder = folder();
    let draw = |guidance: &str| {
        let sample = ["sample", "x", "-mm", "--seed", "1", "--steps", "1", "-f", "-o", "a.png", "--guidance", guidance];
        run(folder.path(), &sample).stderr
    };
    let own = tiny::stage("base").sampling.guidance;
    assert!(!draw(&own.to_string()).contains("burn out"));
    let said = draw("70");
    assert!(said.contains(&format!("guidance 70 of base is far above its own, {own}")), "{said}");
}

#[test]
fn a_model_remembers_what_it_was_taught() {
    let folder = folder();
    let path = folder.path();
    let unknown = run(path, &["models", "prompts", "--model", "m"]);
    assert_eq!(unknown.code, 4, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("--from SET"), "{}", unknown.stderr);
    succeed(path, &["data", "shapes", "set", "--count", "60", "--size", "16"]);
    let listed = succeed(path, &["models", "prompts", "--model", "m", "--from", "set"]);
    assert!(listed.lines().any(|line| line.contains("circle")), "{listed}");
    assert_eq!(succeed(path, &["models", "prompts", "--model", "m", "-n", "3"]).lines().count(), 3);
    let nearest = succeed(path, &["models", "prompts", "--model", "m", "--like", "one red circle", "-n", "1"]);
    assert!(nearest.contains("red"), "{nearest}");
    let draw =
        |prompt: &str| run(path, &["sample", prompt, "-mm", "--seed", "1", "--steps", "1", "-fo", "a.png"]).stderr;
    let said = draw("the parliament debates a treaty on fisheries");
    assert!(
        said.contains("far from everything that this model was taught") && said.contains("models prompts"),
        "{said}"
    );
    let known = listed.lines().next().unwrap();
    assert!(!draw(known).contains("far from"), "{known}");
}

#[test]
fn models_at_hand_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("models/mine"), &tiny::Trained::BASE);
    fs::create_dir(folder.path().join("models/nothing")).unwrap();
    let mut list = imagen(folder.path());
    let listed = finish(list.args(["models", "list"]).env("HF_HOME", folder.path().join("hub")));
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert!(listed.stdout.contains("models/mine") && !listed.stdout.contains("nothing"), "{}", listed.stdout);
    assert_eq!(listed.stdout.contains("built-in"), cfg!(feature = "builtin-model"));
}

#[test]
fn the_shell_is_known_by_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let script = |shell: &str| finish(imagen(folder.path()).arg("completions").env("SHELL", shell));
    assert_eq!(script("/bin/bash").stdout, succeed(folder.path(), &["completions", "bash"]));
    let unknown = script("/bin/unknown");
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("bash") && unknown.stderr.contains("fish"), "{}", unknown.stderr);
}

#[test]
fn a_finished_run_says_how_it_goes_on_and_a_changed_network_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &["data", "shapes", "data", "--count", "20", "--size", "16"]);
    fs::write(path.join("recipe.toml"), tiny::recipe("data")).unwrap();
    succeed(path, &["train", "recipe.toml", "--run", "r", "-q"]);
    let again = run(path, &["train", "recipe.toml", "--run", "r", "--resume"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("already finished") && again.stderr.contains("--resume --steps"), "{}", again.stderr);
    let changed = ["--set", "stage.unet.levels.0.channels=24", "--steps", "9"];
    let refused = run(path, &[&["train", "recipe.toml", "--run", "r", "--resume"], &changed[..]].concat());
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("stage.unet.levels.0.channels = 24 (was "), "{}", refused.stderr);
    assert!(!refused.stderr.contains("shape"), "a key says enough: {}", refused.stderr);
    let other = ["--set", "stage.parameterization=eps", "--steps", "9"];
    let refused = run(path, &[&["train", "recipe.toml", "--run", "r", "--resume"], &other[..]].concat());
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("stage.parameterization = \"eps\" (was "), "{}", refused.stderr);
}

#[test]
#[cfg(feature = "builtin-model")]
fn the_built_in_model_lists_what_it_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let listed = succeed(folder.path(), &["models", "prompts"]);
    assert!(listed.lines().count() > 1000 && listed.lines().any(|line| line == "a rocket"), "{listed:.300}");
    let nearest = succeed(folder.path(), &["models", "prompts", "--like", "a red apple", "-n", "1", "--json"]);
    let nearest: Value = serde_json::from_str(&nearest).unwrap();
    assert!(nearest["caption"].as_str().unwrap().contains("apple") && nearest["similarity"].as_f64().unwrap() > 0.6);
}

#[test]
#[cfg(feature = "builtin-model")]
fn a_prompt_beyond_what_was_taught_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    for (prompt, said, unsaid) in [
        ("a red apple", "again:", "this model was taught"),
        ("a photo of a dog on a beach", "may go beyond what this model was taught; nearest are \"a dog\"", "is far"),
        ("quarterly revenue of the steel industry", "is far from everything that this model was taught", "beyond"),
        ("🍎", "knows nothing of \"🍎\"", "was taught"),
    ] {
        let drawn = run(folder.path(), &["sample", prompt, "-s1", "--until", "base", "--steps", "1"]);
        assert_eq!(drawn.code, 0, "{}", drawn.stderr);
        assert!(drawn.stderr.contains(said) && !drawn.stderr.contains(unsaid), "{prompt}: {}", drawn.stderr);
    }
}
