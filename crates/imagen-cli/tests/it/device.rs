//! `--device`: what is not there is named with what brings it, and what is there draws and learns as the CPU does.
//!
//! Tests that need a device are ignored unless asked for: `tools/gpu-check` runs them on the one that `IMAGEN_TEST_DEVICE` names.

use std::fs;
use std::path::Path;

use imagen::image::{DecodeOptions, decode};
use imagen::nn::device::DeviceKind;

use crate::train::{folder as set_with_recipe, train};
use crate::{run, succeed, tiny};

/// How far a byte of a picture may be from the CPU's.
const PICTURE: u8 = 2;
/// How far the losses of twenty steps may be from the CPU's, relatively.
const LOSS: f64 = 2e-4;

/// The device under test.
fn device() -> String {
    std::env::var("IMAGEN_TEST_DEVICE").expect("IMAGEN_TEST_DEVICE names a device as --device does: webgpu, cuda:1")
}

/// The kinds that this build does not have.
fn missing() -> impl Iterator<Item = DeviceKind> {
    DeviceKind::ALL.into_iter().filter(|kind| !kind.is_built_in())
}

fn pixels(path: &Path) -> Vec<u8> {
    decode::open(path, &DecodeOptions::default()).unwrap().into_pixels()
}

#[test]
fn a_device_that_is_not_built_in_is_named_with_the_command_that_builds_it() {
    let folder = set_with_recipe();
    for kind in missing() {
        let (name, feature) = (kind.name(), kind.feature().unwrap());
        let set = format!("train.device={name}");
        let text = tiny::text_encoder();
        let text = text.to_str().unwrap();
        let commands: [&[&str]; 6] = [
            &["sample", "a red circle", "--device", name],
            &["train", "recipe.toml", "--run", "run", "--text-encoder", text, "--device", name],
            &["train", "recipe.toml", "--run", "run", "--text-encoder", text, "--set", &set],
            &["plan", "recipe.toml", "--device", name],
            &["bench", "--device", name],
            &["eval", "stats", "data", "-o", "data.safetensors", "--device", name],
        ];
        for command in commands {
            let refused = run(folder.path(), command);
            assert_eq!(refused.code, 2, "{command:?}: {}", refused.stderr);
            let expected = format!("cargo build --release -p imagen-cli --features {feature}");
            assert!(refused.stderr.contains(&expected), "{command:?}: {}", refused.stderr);
            assert!(!folder.path().join("run").exists(), "{command:?} left something");
        }
    }
    let wrong = run(folder.path(), &["sample", "a red circle", "--device", "gpu"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("unknown device 'gpu': auto takes the fastest"), "{}", wrong.stderr);
}

#[test]
fn the_cpu_may_be_named_and_a_recipe_may_name_it() {
    let folder = set_with_recipe();
    tiny::model(&folder.path().join("tiny"), &tiny::Trained::BASE);
    for (file, more) in [("plain.png", None), ("named.png", Some("cpu"))] {
        let mut command = vec!["sample", "a red circle", "-mtiny", "-s1", "-q", "-o", file];
        command.extend(more.into_iter().flat_map(|device| ["--device", device]));
        succeed(folder.path(), &command);
    }
    assert_eq!(pixels(&folder.path().join("plain.png")), pixels(&folder.path().join("named.png")));
    for (run, more) in
        [("plain", vec![]), ("named", vec!["--device", "cpu"]), ("set", vec!["--set", "train.device=cpu"])]
    {
        assert_eq!(train(folder.path(), run, &[vec!["-q"], more].concat()).code, 0);
    }
    let weights = |run: &str| fs::read(folder.path().join(run).join("base.safetensors")).unwrap();
    assert!(weights("plain") == weights("named") && weights("plain") == weights("set"), "the weights differ");
    // where a run is computed is no part of what it is
    let goes_on = train(folder.path(), "plain", &["--resume", "--steps", "5", "--set", "train.device=cpu"]);
    assert_eq!(goes_on.code, 0, "{}", goes_on.stderr);
    assert!(!goes_on.stderr.contains("train.device"), "{}", goes_on.stderr);
}

#[test]
#[ignore = "needs a device: IMAGEN_TEST_DEVICE"]
fn pictures_of_both_stages_are_those_of_the_cpu() {
    let (folder, device) = (tempfile::tempdir().unwrap(), device());
    tiny::model(&folder.path().join("tiny"), &tiny::Trained::BOTH);
    for (file, device) in [("there.png", device.as_str()), ("here.png", "cpu")] {
        succeed(folder.path(), &["sample", "a red circle", "-mtiny", "-s1", "-q", "-o", file, "--device", device]);
    }
    let [there, here] = ["there.png", "here.png"].map(|file| pixels(&folder.path().join(file)));
    let far = there.iter().zip(&here).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(here.len() == 32 * 32 * 3 && far <= PICTURE, "a byte is {far} away");
}

#[test]
#[ignore = "needs a device: IMAGEN_TEST_DEVICE"]
fn twenty_steps_of_training_lose_what_they_lose_on_the_cpu() {
    let (folder, device) = (set_with_recipe(), device());
    // the second and third change the device half way
    for (run, first, second) in
        [("here", "cpu", "cpu"), ("away", "cpu", &device), ("back", &device, "cpu"), ("there", &device, &device)]
    {
        let more = ["-q", "--set", "train.log_every=1"];
        let half = train(folder.path(), run, &[&more[..], &["--steps", "10", "--device", first]].concat());
        assert_eq!(half.code, 0, "{run}: {}", half.stderr);
        let whole =
            train(folder.path(), run, &[&more[..], &["--steps", "20", "--resume", "--device", second]].concat());
        assert_eq!(whole.code, 0, "{run}: {}", whole.stderr);
    }
    let losses = |run: &str| -> Vec<f64> {
        let lines = fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    };
    let expected = losses("here");
    assert_eq!(expected.len(), 20);
    for run in ["away", "back", "there"] {
        let found = losses(run);
        assert_eq!(found.len(), 20, "{run}");
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let far = (found / expected - 1.0).abs();
            assert!(far <= LOSS, "{run}, step {}: {found}, not {expected}", step + 1);
        }
        println!("{run}: {:?}", found.iter().zip(&expected).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max));
    }
}

#[test]
#[ignore = "needs a device: IMAGEN_TEST_DEVICE"]
fn the_doctor_draws_on_the_device_and_finds_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let json: serde_json::Value = serde_json::from_str(&succeed(folder.path(), &["doctor", "--json"])).unwrap();
    let device = device();
    let found = json["devices"].as_array().unwrap().iter().find(|found| found["name"] == device.as_str());
    let found = found.unwrap_or_else(|| panic!("{device} is not in {}", json["devices"]));
    println!("{found}");
    if cfg!(feature = "builtin-model") {
        assert!(found["drawn"]["largest_difference"].as_u64().unwrap() <= PICTURE.into(), "{found}");
    }
}
