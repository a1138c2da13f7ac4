//! `imagen bench`: rates of networks, training steps and operations, and what other programs can check them by.

use std::fs;
use std::path::Path;

use imagen::models::weights::Weights;
use serde_json::Value;

use crate::refusals::all_refused_after;
use crate::succeed;
use crate::tiny::{self, Trained};

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["bench", "--json", "--threads", "1", "--rounds", "2", "--seconds", "0"], arguments].concat();
    serde_json::from_str(&succeed(folder, &arguments)).unwrap()
}

/// Names of the tensors and the header's entry `unet`.
fn read(path: &Path) -> (Vec<String>, Option<Value>) {
    let weights = Weights::open(path).unwrap();
    let unet = weights.metadata().get("unet").map(|text| serde_json::from_str(text).unwrap());
    (weights.names().map(str::to_owned).collect(), unet)
}

#[test]
fn recipes_files_and_operations_are_measured_against_the_machines_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BOTH);
    fs::write(folder.path().join("recipe.toml"), tiny::recipe("data")).unwrap();
    let works: [&[&str]; 6] = [
        &["--model", "m", "--steps", "2,1", "--batch", "2"],
        &["--network", "recipe.toml", "--batch", "2", "--size", "8"],
        &["--network", "recipe.toml", "--train", "--tokens", "3"],
        &["--network", "m/sr256.safetensors"],
        &["--op", "conv3x3-grad-weight:1x8x8x4x5"],
        &["--op", "attention-train:1x2x9x7x8"],
    ];
    for work in works {
        let report = json(folder.path(), work);
        let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
        let rate = 2.0 * number("multiply_adds") / number("median_ms") / 1e6;
        assert!((rate / number("gflops") - 1.0).abs() < 1e-6, "{report}");
        assert!((number("share_of_ceiling") * number("ceiling_gflops") / rate - 1.0).abs() < 1e-6, "{report}");
        assert_eq!(report["rounds_ms"].as_array().unwrap().len(), 2, "{report}");
        assert_eq!(number("threads"), 1.0);
    }
    let forward = json(folder.path(), works[1]);
    let alone = json(folder.path(), &["--network", "recipe.toml", "--size", "8"]);
    assert_eq!(forward["multiply_adds"], 2 * alone["multiply_adds"].as_u64().unwrap());
    assert_eq!(json(folder.path(), works[4])["multiply_adds"], 9 * 8 * 8 * 4 * 5);
    let text = succeed(folder.path(), &["bench", "--network", "recipe.toml", "--rounds", "1", "--seconds", "0"]);
    assert!(text.contains("recipe.toml, forward, 1 picture of 16×16") && text.contains("ceiling of"), "{text}");
}

#[test]
fn a_program_that_takes_turns_is_answered_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "--op", "conv3x3:1x8x8x4x4", "--turns", "--seconds", "0", "-t1"];
    let result = crate::finish(crate::imagen(folder.path()).args(arguments).write_stdin("\n\n\n"));
    assert_eq!(result.code, 0, "{}", result.stderr);
    let lines: Vec<Value> = result.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["ready"], "conv3x3 1x8x8x4x4");
    assert!(lines[1..4].iter().all(|round| round["ms"].as_f64().unwrap() > 0.0), "{}", result.stdout);
    assert_eq!(lines[4]["rounds_ms"].as_array().unwrap().len(), 3);
    assert_eq!(lines.len(), 5);
}

#[test]
fn a_dump_holds_everything_that_another_implementation_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("recipe.toml"), tiny::recipe("data")).unwrap();
    succeed(folder.path(), &["bench", "--network", "recipe.toml", "--dump", "forward.safetensors"]);
    let (names, unet) = read(&path("forward.safetensors"));
    for name in ["z", "log_snr", "text", "output", "param.conv_in.weight", "param.head.dense.bias"] {
        assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
    }
    assert_eq!(unet.unwrap()["text_dim"], 384);
    succeed(folder.path(), &["bench", "--network", "recipe.toml", "--train", "--dump", "train.safetensors"]);
    let file = Weights::open(&path("train.safetensors")).unwrap();
    let losses = file.tensor_f32("losses", &[3]).unwrap();
    assert!(losses[2] < losses[0], "three steps reduce the loss: {losses:?}");
    let shape = file.shape("param.conv_in.weight").unwrap().to_vec();
    let weights = |name: &str| Weights::open(&path(name)).unwrap().tensor_f32("param.conv_in.weight", &shape).unwrap();
    assert_eq!(weights("train.safetensors"), weights("forward.safetensors"), "the weights before the steps");
    succeed(folder.path(), &["bench", "--op", "attention:1x2x3x4x8", "--dump", "op.safetensors"]);
    assert_eq!(read(&path("op.safetensors")), (["b", "gx", "gy", "w", "x", "y"].map(str::to_owned).into(), None));
}

#[test]
fn works_that_do_not_exist_or_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("recipe.toml"), tiny::recipe("data")).unwrap();
    all_refused_after(
        folder.path(),
        &["bench"],
        &[
            (&["--network", "maxi"], 2, "there is no network maxi"),
            (&["--network", "none.toml"], 1, "none.toml"),
            (&["--network", "recipe.toml", "--size", "6"], 2, "sides divisible by 4"),
            (&["--op", "conv3x3:8"], 2, "NxHxWxCxK"),
            (&["--op", "conv3x3:1x1x1x1x1", "--train"], 2, "--train"),
            (&["--rounds", "0"], 2, "--rounds"),
            (&["--turns", "--rounds", "3"], 2, "--rounds"),
            (&["--seconds=-1"], 2, "0 to 3600"),
        ],
    );
}
