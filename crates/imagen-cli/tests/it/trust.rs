//! What a run may be trusted with: being killed, finding its files damaged, numbers that are not finite, frozen parts.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use imagen::models::weights::{NamedTensor, Precision, Weights, write_safetensors};
use imagen::rng::Rng;

use crate::train::{folder, train};
use crate::{files, run, succeed, tiny};

/// The text encoder as an argument.
fn text() -> String {
    tiny::text_encoder().to_str().unwrap().to_owned()
}

/// The values of every tensor of a file, by name.
fn tensors(path: &Path) -> HashMap<String, Vec<f32>> {
    let file = Weights::open(path).unwrap();
    let read = |name: &str| file.tensor_f32(name, file.shape(name).unwrap()).unwrap();
    file.names().map(|name| (name.to_owned(), read(name))).collect()
}

#[test]
fn a_run_that_is_killed_again_and_again_equals_one_that_was_not() {
    let folder = folder();
    let recipe = tiny::recipe("more").replace("steps = 4", "steps = 120").replace("checkpoint_every = 2", "");
    let recipe = format!("{recipe}checkpoint_every = 3\nkeep_last = 2\nvalidate_every = 5\nema_half_lives = [40]\n");
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    succeed(folder.path(), &["data", "shapes", "more", "--count", "120", "--size", "16", "--seed", "1"]);
    let straight = train(folder.path(), "straight", &["-q"]);
    assert_eq!(straight.code, 0, "{}", straight.stderr);

    let state = folder.path().join("killed/state.safetensors");
    let written = || fs::metadata(&state).and_then(|file| file.modified()).ok();
    for attempt in 0..7 {
        let before = written();
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("imagen"))
            .args(["train", "recipe.toml", "--run", "killed", "-q", "--text-encoder", &text()])
            .args(before.map(|_| "--resume"))
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // the first time at any moment, afterwards some time after a state was written
        while attempt > 0 && written() == before {
            assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(Rng::new(11).fold(attempt).below(150)));
        // SIGKILL: the program learns nothing of it
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let killed_at = Weights::open(&state).unwrap().metadata()["imagen.step"].parse::<u64>().unwrap();
    assert!(killed_at < 120, "the run was over before the last kill: this test has shown nothing");
    let end = train(folder.path(), "killed", &["-q", "--resume"]);
    assert_eq!(end.code, 0, "{}", end.stderr);
    for name in ["base.safetensors", "state.safetensors", "state-00000117.safetensors", "base-best.safetensors"] {
        let read = |run: &str| fs::read(folder.path().join(run).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(read("straight") == read("killed"), "{name} differs");
    }
    // each start has an event file of its own
    let names = |run: &str| -> Vec<String> {
        let mut names = files(&folder.path().join(run));
        names.retain(|name| !name.starts_with("events.out.tfevents."));
        names
    };
    assert_eq!(names("straight"), names("killed"), "nothing half-written stays");
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before_it() {
    let folder = folder();
    let more = ["-q", "--set", "train.keep_last=2"];
    assert_eq!(train(folder.path(), "straight", &[&more[..], &["--steps", "6"]].concat()).code, 0);
    for run in ["two", "one"] {
        let more = if run == "two" { &more[..] } else { &more[..1] };
        assert_eq!(train(folder.path(), run, more).code, 0);
        let path = folder.path().join(run).join("state.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() * 2 / 3;
        bytes[middle] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    let refused = train(folder.path(), "one", &["--resume", "--steps", "6"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("checksum"), "{}", refused.stderr);

    let resumed = train(folder.path(), "two", &["--resume", "--set", "train.keep_last=2", "--steps", "6"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    for words in ["checksum", "going on from two/state-00000002.safetensors (step 2)", "state.damaged"] {
        assert!(resumed.stderr.contains(words), "{words}: {}", resumed.stderr);
    }
    let weights = |run: &str| fs::read(folder.path().join(run).join("base.safetensors")).unwrap();
    assert!(weights("straight") == weights("two"), "the weights differ");
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_too_many_stop_the_run() {
    let folder = folder();
    tiny::exploding(&folder.path().join("huge.safetensors"));
    let more = ["--init-from", "huge.safetensors", "--set", "train.max_skipped=3"];
    let failed = train(folder.path(), "run", &more);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    for words in ["warning: step 1 is skipped", "step 2 is skipped", "step 3: ", "3 steps one after the other"] {
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    assert!(failed.stderr.contains("run/state.safetensors (step 2)"), "the last checkpoint: {}", failed.stderr);
    let begun = tensors(&folder.path().join("huge.safetensors"));
    let kept = tensors(&folder.path().join("run/state.safetensors"));
    assert!(begun.iter().all(|(name, values)| kept[&format!("w.{name}")] == *values), "a skipped step changed weights");
    let refused = train(folder.path(), "run", &["--resume", "--set", "train.max_skipped=3"]);
    assert_eq!(refused.code, 1, "the count survives: {}", refused.stderr);
    assert!(refused.stderr.contains("step 3: ") && !refused.stderr.contains("step 2 is"), "{}", refused.stderr);
}

#[test]
fn a_state_of_the_first_version_goes_on() {
    let folder = folder();
    assert_eq!(train(folder.path(), "straight", &["-q"]).code, 0);
    assert_eq!(train(folder.path(), "old", &["-q", "--steps", "2"]).code, 0);
    let path = folder.path().join("old/state.safetensors");
    let file = Weights::open(&path).unwrap();
    let tensors: Vec<NamedTensor<'_>> = file
        .names()
        .map(|name| {
            let shape = file.shape(name).unwrap().to_vec();
            NamedTensor { name: name.into(), values: file.tensor_f32(name, &shape).unwrap().into(), shape }
        })
        .collect();
    let kinds = ["w.", "ema.", "m.", "v."];
    assert!(tensors.iter().all(|t| kinds.iter().any(|kind| t.name.starts_with(kind))), "the names have changed");
    let metadata = HashMap::from([("imagen.step".to_owned(), "2".to_owned())]);
    write_safetensors(&path, &tensors, &metadata, Precision::F32).unwrap();
    assert_eq!(train(folder.path(), "old", &["-q", "--resume"]).code, 0);
    let weights = |run: &str| fs::read(folder.path().join(run).join("base.safetensors")).unwrap();
    assert!(weights("straight") == weights("old"), "the weights differ");
}

#[test]
fn every_optimizer_resumes_exactly_and_none_goes_on_with_the_moments_of_another() {
    let folder = folder();
    for optimizer in ["adamw", "adafactor"] {
        let set = format!("train.optimizer={optimizer}");
        let more = ["-q", "--set", &set, "--set", "train.beta1=0.9"];
        let (straight, halves) = (format!("{optimizer}-straight"), format!("{optimizer}-halves"));
        assert_eq!(train(folder.path(), &straight, &more).code, 0);
        assert_eq!(train(folder.path(), &halves, &[&more[..], &["--steps", "2"]].concat()).code, 0);
        assert_eq!(train(folder.path(), &halves, &[&more[..], &["--resume"]].concat()).code, 0);
        let weights = |run: &str| fs::read(folder.path().join(run).join("state.safetensors")).unwrap();
        assert!(weights(&straight) == weights(&halves), "{optimizer}: the states differ");
    }
    let other = train(folder.path(), "adafactor-halves", &["--resume", "--steps", "6"]);
    assert_eq!(other.code, 4, "{}", other.stderr);
    assert!(
        other.stderr.contains("moments of adafactor") && other.stderr.contains("asks for adam"),
        "{}",
        other.stderr
    );
}

#[test]
fn each_average_and_the_best_weights_can_be_exported() {
    let folder = folder();
    succeed(folder.path(), &["data", "shapes", "more", "--count", "120", "--size", "16", "--seed", "1"]);
    let set = ["train.ema_half_lives=[4, 1000]", "train.validate_every=2", "train.steps=14", "data.folder=more"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let trained = train(folder.path(), "run", &set);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    assert!(trained.stderr.contains("validation after step 2: loss "), "{}", trained.stderr);
    assert!(trained.stderr.contains(", the best so far"), "{}", trained.stderr);
    let text = text();
    let export = |model: &str, more: &[&str]| {
        let arguments = [&["export", "run", "--model", model, "--text-encoder", &text], more].concat();
        run(folder.path(), &arguments)
    };
    for (model, more) in [("last", &[][..]), ("same", &["--ema", "0.9"]), ("four", &["--ema", "4"]), ("b", &["--best"])]
    {
        let exported = export(model, more);
        assert_eq!(exported.code, 0, "{model}: {}", exported.stderr);
    }
    let model = |name: &str| fs::read(folder.path().join(name).join("base.safetensors")).unwrap();
    assert!(model("last") == model("same"), "the first average is the one that is exported");
    assert!(model("last") != model("four"), "another average is another");
    assert!(model("b") == fs::read(folder.path().join("run/base-best.safetensors")).unwrap());
    let state = tensors(&folder.path().join("run/state.safetensors"));
    let four = tensors(&folder.path().join("four/base.safetensors"));
    for (name, values) in four {
        let kept = &state[&format!("ema[4].{name}")];
        let near = kept.iter().zip(&values).all(|(a, b)| (a - b).abs() <= a.abs() / 1024.0 + 1e-7);
        assert!(near, "{name} is not the average of half-life 4");
    }
    let refused = export("none", &["--ema", "5"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("it has 0.9, 4, 1000"), "{}", refused.stderr);
}

#[test]
fn frozen_parts_stay_and_keep_no_moments() {
    let folder = folder();
    let freeze = r#"train.freeze=["embedder.*", "*.norm?.weight"]"#;
    assert_eq!(train(folder.path(), "run", &["-q", "--steps", "1", "--set", freeze]).code, 0);
    let state = folder.path().join("run/state.safetensors");
    let first = tensors(&state);
    assert_eq!(train(folder.path(), "run", &["-q", "--resume", "--set", freeze]).code, 0);
    let last = tensors(&state);
    let frozen = |name: &str| name.starts_with("w.embedder.") || name.ends_with("norm1.weight");
    let weights = || first.keys().filter(|name| name.starts_with("w."));
    assert!(weights().filter(|name| frozen(name)).count() > 5);
    for name in weights() {
        let moved = first[name] != last[name];
        // the network's last layer starts at zero, so that in a few steps not everything has moved
        assert!(!(frozen(name) && moved), "{name} is frozen and moved");
    }
    assert!(weights().filter(|name| first[*name] != last[*name]).count() > 10, "nothing learns");
    assert!(!last.keys().any(|name| name.starts_with("m.embedder.")), "a frozen part has moments");
    let refused = train(folder.path(), "other", &["--set", r#"train.freeze=["embeder.*"]"#]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("matches no parameter; there is, for example, \"embedder."), "{}", refused.stderr);
}

#[test]
fn making_maps_again_changes_no_bit() {
    let folder = folder();
    assert_eq!(train(folder.path(), "kept", &["-q"]).code, 0);
    assert_eq!(train(folder.path(), "again", &["-q", "--set", "train.checkpoint_blocks=true"]).code, 0);
    let states = ["kept", "again"].map(|run| tensors(&folder.path().join(run).join("state.safetensors")));
    let differs = |name: &&String| states[0][*name] != states[1][*name];
    let different: Vec<&String> = states[0].keys().filter(differs).collect();
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn what_stands_in_for_a_dropped_text_is_trained_or_kept_and_drawn_with() {
    let folder = folder();
    let text = text();
    for (kind, moves) in [("learned", true), ("empty", false)] {
        let set =
            [format!("stage.null_text={kind}"), "stage.unet.null_text=2".into(), "train.text_drop_prob=0.5".into()];
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).chain(["-q"]).collect();
        let path = folder.path().join(kind).join("state.safetensors");
        let null = || tensors(&path)["w.null_text.tokens"].clone();
        let trained = train(folder.path(), kind, &[&set[..], &["--steps", "1"]].concat());
        assert_eq!(trained.code, 0, "{}", trained.stderr);
        let first = null();
        assert_eq!(train(folder.path(), kind, &[&set[..], &["--resume"]].concat()).code, 0);
        assert_eq!(first != null(), moves, "{kind}");
        assert!(null().iter().any(|x| *x != 0.0), "{kind}");
        succeed(folder.path(), &["export", kind, "--model", kind, "--text-encoder", &text]);
        succeed(folder.path(), &["sample", "a red circle", "-s1", "--model", kind, "-o", &format!("{kind}.png")]);
    }
    let wrong = ["--set", "stage.null_text=empty", "--set", "stage.unet.null_text=3"];
    let refused = train(folder.path(), "wrong", &wrong);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("makes 2 tokens of an empty text"), "{}", refused.stderr);
    let refused = train(folder.path(), "wrong", &wrong[..2]);
    assert!(refused.stderr.contains("needs unet.null_text"), "{}", refused.stderr);
}

#[test]
fn a_plan_says_what_a_run_takes_and_refuses_what_does_not_fit() {
    let folder = folder();
    let plan = |more: &[&str]| run(folder.path(), &[&["plan", "recipe.toml"], more].concat());
    let shown = plan(&[]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for words in ["training base", "kept maps", "most at a time", "4 steps of "] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    let bytes = |more: &[&str]| {
        let json: serde_json::Value = serde_json::from_str(&plan(&[&["--json"], more].concat()).stdout).unwrap();
        json["stages"][0]["bytes"].as_u64().unwrap()
    };
    assert!(bytes(&["--set", "train.batch=64"]) > bytes(&[]));
    let refused = plan(&["--max-memory", "1M"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("train.checkpoint_blocks"), "{}", refused.stderr);
    let refused = train(folder.path(), "run", &["--max-memory", "1M"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(!folder.path().join("run").exists(), "a refused run leaves nothing");
    tiny::model(&folder.path().join("m"), &tiny::Trained::BOTH);
    let drawing = succeed(folder.path(), &["plan", "m"]);
    assert!(drawing.contains("drawing 1 picture with base") && drawing.contains("3 evaluations of "), "{drawing}");
}

#[test]
fn a_stage_says_how_it_was_trained() {
    let folder = folder();
    assert_eq!(train(folder.path(), "a", &["-q"]).code, 0);
    let from = ["--init-from", "a/base.safetensors", "--set", "train.lr=2e-3", "-q"];
    assert_eq!(train(folder.path(), "b", &[&from[..], &["--set", "train.checkpoint_every=1"]].concat()).code, 0);
    let changed = train(folder.path(), "b", &["--resume", "--steps", "5", "--set", "train.lr=1e-2"]);
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    assert!(changed.stderr.contains("train.lr = 0.01 (was 0.002)"), "{}", changed.stderr);
    let json = succeed(folder.path(), &["inspect", "b", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stage = &json["stages"][0];
    assert_eq!((stage["status"].as_str(), stage["step"].as_u64()), (Some("trained"), Some(5)));
    let history = stage["history"].as_array().unwrap();
    let steps: Vec<u64> = history.iter().map(|stretch| stretch["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 4, 1], "{history:?}");
    assert_eq!(history[1]["init_from"], "a/base.safetensors");
    let shown = succeed(folder.path(), &["inspect", "b"]);
    assert!(shown.contains("4 steps of recipe ") && shown.contains("begun with a/base.safetensors"), "{shown}");
    let recipe = fs::read_to_string(folder.path().join("b/recipe.toml")).unwrap();
    assert!(recipe.contains("lr = 0.01"), "the run's copy is the recipe that it goes on with");
}

/// A safetensors file with another header and other bytes behind it.
pub(crate) fn rewrite(path: &Path, change: impl Fn(&mut serde_json::Value, &mut [u8])) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn weights_that_lost_their_checksum_or_are_no_weights_are_refused() {
    let folder = folder();
    assert_eq!(train(folder.path(), "run", &["-q"]).code, 0);
    let path = folder.path().join("run/base.safetensors");
    let intact = fs::read(&path).unwrap();
    let draw = || {
        let text = text();
        run(folder.path(), &["export", "run", "--model", "model", "--text-encoder", &text, "-q"]);
        run(folder.path(), &["sample", "a", "-m", "model", "-o", "a.png", "-f", "-q", "--steps", "1"])
    };
    let before = draw();
    assert_eq!(before.code, 0, "{}", before.stderr);
    let weights = folder.path().join("model/base.safetensors");
    let exported = fs::read(&weights).unwrap();
    let sample = || run(folder.path(), &["sample", "a", "-m", "model", "-o", "a.png", "-f", "-q", "--steps", "1"]);
    rewrite(&weights, |header, _| drop(header["__metadata__"].as_object_mut().unwrap().remove("imagen.crc32")));
    let stripped = sample();
    assert!(stripped.code == 4 && stripped.stderr.contains("no imagen.crc32"), "{} {}", stripped.code, stripped.stderr);
    fs::write(&weights, &exported).unwrap();
    rewrite(&weights, |header, data| {
        data.fill(0);
        header["__metadata__"]["imagen.crc32"] = format!("{:08x}", crc32fast::hash(data)).into();
    });
    let zero = sample();
    assert!(zero.code == 4 && zero.stderr.contains("no weights of a network"), "{} {}", zero.code, zero.stderr);
    assert!(fs::read(&path).unwrap() == intact);
}
