//! Work in shares: every process does its own once, by `--shard` or by what mpirun and srun say of it, and together they come to
//! what one process comes to.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::tiny::{self, Trained};
use crate::{Finished, files, finish, imagen, run, succeed};

/// The program as one of two that were started together.
fn as_rank(folder: &Path, rank: usize, arguments: &[&str]) -> Finished {
    let variables = [("SLURM_PROCID", rank.to_string()), ("SLURM_STEP_NUM_TASKS", "2".to_owned())];
    finish(imagen(folder).args(arguments).envs(variables))
}

#[track_caller]
fn as_ranks(folder: &Path, arguments: &[&str]) -> String {
    [1, 0].map(|rank| {
        let Finished { code, stdout, stderr } = as_rank(folder, rank, arguments);
        assert_eq!(code, 0, "{arguments:?}\n{stderr}");
        stdout
    })[1]
        .clone()
}

fn set(count: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "set", "-n", count, "--size", "16"]);
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    folder
}

fn modified(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn pictures_are_drawn_by_shares_each_once() {
    let folder = set("40");
    let folder = folder.path();
    let sample =
        |to: &'static str| ["sample", "a cat", "a dog", "-n3", "--seed", "5", "-mm", "-q", "--batch", "1", "-o", to];
    succeed(folder, &sample("whole/{index}.png"));
    let first = succeed(folder, &[&sample("shares/{index}.png")[..], &["--shard", "2/3", "--json"]].concat());
    assert_eq!(files(&folder.join("shares")), ["1.png", "4.png"]);
    let line: Value = serde_json::from_str(first.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&line["index"], &line["prompt"]), (&Value::from(4), &Value::from("a dog")));
    let before = modified(&folder.join("shares/4.png"));
    // what is there is not drawn again, whoever's share it was
    as_ranks(folder, &sample("shares/{index}.png"));
    assert_eq!(modified(&folder.join("shares/4.png")), before);
    for name in files(&folder.join("whole")) {
        let read = |of: &str| fs::read(folder.join(of).join(&name)).unwrap();
        assert!(read("shares") == read("whole"), "{name}");
    }
    assert_eq!(files(&folder.join("shares")).len(), 6);
    let refused = |more: &[&str], words: &str| {
        let finished = run(folder, &[&["sample", "a cat", "-mm", "-q", "--shard", "1/2"], more].concat());
        assert!(finished.code == 2 && finished.stderr.contains(words), "{words}: {}", finished.stderr);
    };
    refused(&[], "--seed 0");
    refused(&["--seed", "1", "-o", "-"], "--output");
    refused(&["--seed", "1", "--grid", "sheet.png"], "--grid");
    refused(&["--seed", "1", "-n2", "-o", "one.png"], "would both be");
}

#[test]
fn statistics_of_shares_are_those_of_the_set() {
    let folder = set("150");
    let folder = folder.path();
    let stats = |to: &'static str| ["eval", "stats", "set", "-q", "--features", "-o", to];
    succeed(folder, &stats("whole.safetensors"));
    let waiting = succeed(folder, &[&stats("a.safetensors")[..], &["--shard", "3/3"]].concat());
    assert!(waiting.contains("waits for the others"), "{waiting}");
    let share = folder.join("a.share-3-of-3.safetensors");
    let before = modified(&share);
    succeed(folder, &[&stats("a.safetensors")[..], &["--shard", "3/3"]].concat());
    assert_eq!(modified(&share), before, "a share that is done is not done again");
    // without the flag what is missing is read, and all is joined
    assert_eq!(succeed(folder, &stats("a.safetensors")), "a.safetensors\n");
    assert_eq!(as_ranks(folder, &stats("b.safetensors")), "b.safetensors\n");
    for joined in ["a.safetensors", "b.safetensors"] {
        let same = succeed(folder, &["eval", "fid", joined, "whole.safetensors", "--json"]);
        let same: Value = serde_json::from_str(&same).unwrap();
        assert!(same["frechet_distance"].as_f64().unwrap().abs() < 1e-4, "{same}");
        assert_eq!((&same["a"]["pictures"], &same["b"]["pictures"]), (&150.into(), &150.into()));
    }
    assert!(!files(folder).iter().any(|name| name.contains("share")), "{:?}", files(folder));
}

#[test]
fn captions_are_encoded_by_shares_and_joined() {
    let folder = set("60");
    let folder = folder.path();
    let text = tiny::text_encoder();
    let encode = |to: &'static str| ["data", "encode", "set", "-q", "--text-encoder", text.to_str().unwrap(), "-o", to];
    succeed(folder, &encode("whole.safetensors"));
    let rest = succeed(folder, &[&encode("a.safetensors")[..], &["--shard", "1/2"]].concat());
    assert!(rest.contains("are other shares'"), "{rest}");
    assert!(folder.join("a.safetensors.share-1-of-2").exists());
    assert_eq!(succeed(folder, &encode("a.safetensors")), "a.safetensors\n");
    assert_eq!(as_ranks(folder, &encode("b.safetensors")), "b.safetensors\n");
    let size = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
    assert_eq!([size("a.safetensors"), size("b.safetensors")], [size("whole.safetensors"); 2]);
    assert!(!files(folder).iter().any(|name| name.contains("share")), "{:?}", files(folder));
    // nothing is left to do
    assert_eq!(succeed(folder, &[&encode("b.safetensors")[..], &["--shard", "2/2"]].concat()), "b.safetensors\n");
}

#[test]
fn a_sweep_and_a_study_are_drawn_by_shares() {
    let folder = set("400");
    let folder = folder.path();
    let sweep = |to: &'static str| {
        ["eval", "sweep", "--data", "set", "-n4", "--steps", "2", "-q", "--guidance", "1,2,3", "-mm", "-o", to]
    };
    let numbers = |of: &str| fs::read_to_string(folder.join(of).join("table.csv")).unwrap();
    succeed(folder, &sweep("whole"));
    let some = succeed(folder, &[&sweep("parts")[..], &["--shard", "2/2"]].concat());
    assert_eq!(some, "1 of 3 points are there; the others are other shares'\n");
    assert!(!folder.join("parts/report.html").exists());
    let own = folder.join("parts/points.share-2-of-2.jsonl");
    let before = modified(&own);
    assert_eq!(succeed(folder, &[&sweep("parts")[..], &["--shard", "1/2"]].concat()), "parts/report.html\n");
    assert_eq!(modified(&own), before);
    assert_eq!(numbers("parts"), numbers("whole"));

    fs::write(folder.join("suite.csv"), "prompt,category\na red circle,colour\na blue square,colour\n").unwrap();
    let study = |to: &'static str| ["eval", "drawbench", to, "--suite", "suite.csv", "-m", "m=m", "-n3", "-q"];
    succeed(folder, &study("study"));
    as_ranks(folder, &study("shared"));
    assert_eq!(files(&folder.join("shared/m")).len(), 6);
    for name in files(&folder.join("study/m")) {
        let read = |of: &str| fs::read(folder.join(of).join("m").join(&name)).unwrap();
        assert!(read("shared") == read("study"), "{name}");
    }
}
