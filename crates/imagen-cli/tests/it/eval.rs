//! Measuring: sets on disk, files of statistics, drawn pictures looked for among real ones.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};

use crate::refusals::all_refused_after;
use crate::tiny::{self, Trained};
use crate::{files, kill_once_there, run, succeed};

/// The sets `a` and `b` of plain shapes, drawn alike, and `grey`, which has nothing of them.
fn sets() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("a", "1"), ("b", "2")] {
        succeed(folder.path(), &["data", "shapes", name, "-n", "40", "--size", "16", "--seed", seed]);
    }
    fs::create_dir(folder.path().join("grey")).unwrap();
    for k in 0..40u8 {
        let picture = Picture::filled(16, 16, [100 + k; 3]);
        let file = folder.path().join(format!("grey/{k:02}.png"));
        fs::write(file, png::encode(&picture, &PngText::default()).unwrap()).unwrap();
    }
    folder
}

/// The set `set`: six concepts of two pictures each, the last of which is held out.
fn people(folder: &Path) {
    fs::create_dir_all(folder.join("set")).unwrap();
    let concepts = ["man pilot", "ghost", "man", "lizard", "red car", "woman pilot"];
    let mut lines = String::new();
    for (thing, concept) in concepts.iter().enumerate() {
        let split = if thing == 5 { "validation" } else { "train" };
        for tone in 0..2u8 {
            let colour = [40 * thing as u8, 200 - 30 * thing as u8, 20 * tone];
            let file = format!("{thing}{tone}.png");
            let bytes = png::encode(&Picture::filled(16, 16, colour), &PngText::default()).unwrap();
            fs::write(folder.join("set").join(&file), bytes).unwrap();
            let text = format!("a {concept} of tone {tone}");
            let row = json!({ "file_name": file, "text": text, "concept": concept, "split": split });
            lines.push_str(&format!("{row}\n"));
        }
    }
    fs::write(folder.join("set/metadata.jsonl"), lines).unwrap();
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(folder, &[arguments, &["--json", "-q"]].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn sets_that_are_alike_are_near_and_others_are_far() {
    let folder = sets();
    let distance = |verb: &str, field: &str, b: &str| number(&json(folder.path(), &["eval", verb, "a", b])[field]);
    for (verb, field) in [("frechet", "frechet_distance"), ("kid", "kid")] {
        let [same, alike, other] = ["a", "b", "grey"].map(|b| distance(verb, field, b));
        assert!(same < alike && 3.0 * alike < other, "{verb}: {same} {alike} {other}");
    }
    let kid = json(folder.path(), &["eval", "kid", "a", "b"]);
    let (low, high) = (number(&kid["interval"]["low"]), number(&kid["interval"]["high"]));
    assert!(low < 0.0 && 0.0 < high, "sets of one distribution are at no distance: {kid}");
    assert_eq!((&kid["a"]["pictures"], &kid["extractor"]), (&json!(40), &json!("layout-1")));
    assert!(kid["way"].as_str().unwrap().contains("no seed"), "{kid}");
    let text = succeed(folder.path(), &["eval", "fid", "a", "b"]);
    assert!(text.starts_with("Frechet distance (layout-1): ") && text.contains("note: 40 pictures are few"), "{text}");
    assert!(!text.contains("FID"), "{text}");
}

#[test]
fn a_file_of_statistics_stands_for_its_folder() {
    let folder = sets();
    let frechet = |a: &str| json(folder.path(), &["eval", "frechet", a, "b"]);
    succeed(folder.path(), &["eval", "stats", "a", "-o", "bare.safetensors"]);
    succeed(folder.path(), &["eval", "stats", "a", "--features", "-o", "a.safetensors"]);
    let [folder_itself, bare, whole] = ["a", "bare.safetensors", "a.safetensors"].map(frechet);
    assert_eq!(folder_itself["frechet_distance"], bare["frechet_distance"]);
    assert_eq!((&bare["interval"], &folder_itself["interval"]), (&Value::Null, &whole["interval"]));
    let kid = |a: &str| json(folder.path(), &["eval", "kid", a, "b"])["kid"].clone();
    assert_eq!(kid("a"), kid("a.safetensors"));

    all_refused_after(
        folder.path(),
        &["eval"],
        &[
            (&["kid", "bare.safetensors", "b"][..], 2, "--features"),
            (&["frechet", "bare.safetensors", "b", "--split-a", "train"], 2, "has no splits"),
            (&["stats", "a", "-o", "bare.safetensors"], 2, "--force"),
            (&["stats", "a", "-o", "bare.npz"], 2, ".safetensors"),
            (&["frechet", "nowhere", "b"], 3, "nowhere"),
            (&["frechet", "b/metadata.jsonl", "b"], 3, "metadata.jsonl"),
            (&["kid", "b"], 2, "required"),
            (&["kid", "--samples", "9"], 2, "--data"),
        ],
    );
}

#[test]
fn statistics_go_on_after_a_kill_and_come_out_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &["data", "shapes", "set", "--count", "1500", "--size", "16"]);
    let stats = |to: &'static str| ["eval", "stats", "set", "--features", "-o", to];
    succeed(folder, &[&stats("straight.safetensors")[..], &["-q"]].concat());
    let unfinished = folder.join("killed.unfinished.safetensors");
    kill_once_there(folder, &[&stats("killed.safetensors")[..], &["-q", "--threads", "1"]].concat(), &unfinished);
    assert!(unfinished.exists() && !folder.join("killed.safetensors").exists(), "killed in the middle");
    let refused = run(folder, &["eval", "kid", "killed.unfinished.safetensors", "set"]);
    assert!(refused.code == 4 && refused.stderr.contains("not read to its end"), "{}", refused.stderr);

    // another set under the same name of the file is begun anew
    succeed(folder, &["data", "shapes", "other", "--count", "40", "--size", "16", "--seed", "9"]);
    fs::copy(&unfinished, folder.join("other.unfinished.safetensors")).unwrap();
    let other = run(folder, &["eval", "stats", "other", "--features", "-o", "other.safetensors"]);
    assert!(other.code == 0 && !other.stderr.contains("going on"), "{}", other.stderr);

    let end = run(folder, &stats("killed.safetensors"));
    assert!(end.code == 0 && end.stderr.contains("going on after"), "{}", end.stderr);
    assert!(!unfinished.exists());
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(read("straight.safetensors") == read("killed.safetensors"));
}

#[test]
fn recovery_draws_each_caption_once_and_keeps_what_can_be_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    people(folder.path());
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    let recovery = |more: &[&str]| json(folder.path(), &[&["eval", "recovery", "-mm", "--data", "set"], more].concat());
    let report = recovery(&["--count", "4", "--seed", "7", "--save", "drawn"]);
    let drawn = report["drawn"].as_array().unwrap();
    assert_eq!((drawn.len(), &report["references"], &report["reference_concepts"]), (4, &json!(12), &json!(6)));
    let seeds: Vec<u64> = drawn.iter().map(|d| d["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [7, 8, 9, 10]);
    let captions: std::collections::BTreeSet<&str> = drawn.iter().map(|d| d["text"].as_str().unwrap()).collect();
    assert_eq!(captions.len(), 4, "no caption twice: {captions:?}");
    for (top, key) in [(1, "top_1"), (5, "top_5")] {
        let hits = drawn.iter().filter(|d| d["rank"].as_u64().unwrap() <= top).count();
        assert_eq!(report[key]["hits"], json!(hits), "{key}");
    }
    for d in drawn {
        assert_eq!(d["rank"] == json!(1), d["nearest_concept"] == d["concept"], "{d}");
        assert!(!d["concept"].as_str().unwrap().contains("woman"), "a held-out caption was drawn: {d}");
    }

    // the folder is a set, and each picture is the one that `sample` draws
    assert_eq!(files(&folder.path().join("drawn")), ["0000.png", "0001.png", "0002.png", "0003.png", "metadata.jsonl"]);
    succeed(folder.path(), &["data", "check", "drawn", "-q"]);
    let (caption, seed) = (drawn[2]["text"].as_str().unwrap(), drawn[2]["seed"].to_string());
    succeed(folder.path(), &["sample", caption, "-mm", "--seed", &seed, "-o", "again.png"]);
    let pixels = |path: &str| decode::open(&folder.path().join(path), &DecodeOptions::default()).unwrap();
    assert!(pixels("again.png") == pixels("drawn/0002.png"));
    assert_eq!(recovery(&["--count", "4", "--seed", "7"])["drawn"], report["drawn"], "repeatable");
    assert_ne!(recovery(&["--count", "4", "--seed", "8"])["drawn"], report["drawn"]);

    let held_out = recovery(&["--held-out-combinations"]);
    let concepts: Vec<&Value> = held_out["drawn"].as_array().unwrap().iter().map(|d| &d["concept"]).collect();
    assert_eq!(concepts, [&json!("woman pilot"); 2]);
    assert!(held_out["note"].as_str().unwrap().contains("1 concept only"), "{held_out}");
}

#[test]
fn recovery_finds_every_picture_in_a_set_that_holds_what_the_model_draws() {
    let folder = tempfile::tempdir().unwrap();
    people(folder.path());
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    let recovery = |more: &[&str]| json(folder.path(), &[&["eval", "recovery", "-mm", "--data", "set"], more].concat());
    let report = recovery(&["--save", "drawn"]);
    // which captions are chosen, and their seeds, depends on their order alone: the pictures may be exchanged
    let metadata = fs::read_to_string(folder.path().join("set/metadata.jsonl")).unwrap();
    let rows: Vec<Value> = metadata.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for drawn in report["drawn"].as_array().unwrap() {
        let row = rows.iter().find(|row| row["text"] == drawn["text"]).unwrap();
        let [from, to] = [("drawn", drawn), ("set", row)]
            .map(|(place, row)| folder.path().join(place).join(row["file_name"].as_str().unwrap()));
        fs::copy(from, to).unwrap();
    }
    let own = recovery(&[]);
    assert_eq!((&own["pictures"], &own["top_1"]["hits"]), (&json!(10), &json!(10)), "{own}");
    assert!(own["drawn"].as_array().unwrap().iter().all(|d| d["nearest_distance"] == json!(0.0)), "{own}");
    // and with other noise they are other pictures
    assert!(
        recovery(&["--seed", "99"])["drawn"].as_array().unwrap().iter().all(|d| d["nearest_distance"] != json!(0.0))
    );
}

#[test]
fn recovery_refuses_what_it_cannot_measure_before_it_draws() {
    let folder = sets();
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    people(folder.path());
    fs::create_dir(folder.path().join("alone")).unwrap();
    let mut lines = String::new();
    for (name, split) in [("ghost", "train"), ("lizard", "validation")] {
        fs::copy(folder.path().join("set/00.png"), folder.path().join("alone").join(name).with_extension("png"))
            .unwrap();
        let row = json!({ "file_name": format!("{name}.png"), "text": name, "concept": name, "split": split });
        lines.push_str(&format!("{row}\n"));
    }
    fs::write(folder.path().join("alone/metadata.jsonl"), lines).unwrap();
    all_refused_after(
        folder.path(),
        &["eval", "recovery", "-mm"],
        &[
            (&["--data", "grey"][..], 2, "no captions"),
            (&["--data", "alone", "--held-out-combinations"], 2, "no concept of a known role"),
            (&["--data", "set", "--held-out-combinations", "--split", "train"], 2, "cannot be used with"),
            (&["--data", "set", "--save", "b"], 2, "already holds a set"),
            (&["--data", "nowhere"], 3, "nowhere"),
            (&["--data", "set", "--until", "sr256"], 4, "no stage sr256"),
            (&["--data", "set", "--count", "0"], 2, "--count"),
        ],
    );
}

#[test]
fn drawn_pictures_are_measured_between_real_ones_and_an_untrained_network() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "set", "-n", "400", "--size", "16"]);
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    let table = json(folder.path(), &["eval", "kid", "--samples", "6", "--data", "set", "-mm"]);
    let rows = table["rows"].as_array().unwrap();
    let names: Vec<&Value> = rows.iter().map(|row| &row["what"]).collect();
    assert_eq!(names, ["training pictures", "drawn by the model", "untrained network"]);
    assert!(rows.iter().all(|row| row["pictures"] == json!(6)), "{table}");
    let [real, drawn, untrained] = [0, 1, 2].map(|row| number(&rows[row]["kid"]));
    assert!(real < drawn && real < untrained && drawn != untrained, "{real} {drawn} {untrained}");
    let text = succeed(folder.path(), &["eval", "kid", "--samples", "6", "--data", "set", "-mm", "-q"]);
    assert!(text.contains("note: KID: ") && text.lines().count() == 6, "{text}");
}

#[test]
fn a_sweep_measures_each_point_once_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &["data", "shapes", "set", "-n", "400", "--size", "16"]);
    tiny::model(&folder.join("m"), &Trained::BASE);
    let sweep = |guidance: &str, more: &[&str]| {
        let fixed =
            ["eval", "sweep", "--data", "set", "-n4", "--steps", "2", "-o", "out", "-q", "--guidance", guidance];
        run(folder, &[&fixed[..], &["--thresholding", "none,static"], more].concat())
    };
    let read = |name: &str| fs::read_to_string(folder.join("out").join(name)).unwrap();
    let first = sweep("1,3", &["-m", "m"]);
    assert_eq!((first.code, first.stdout.as_str()), (0, "out/report.html\n"), "{}", first.stderr);
    let points = read("points.jsonl");
    let rows: Vec<Value> = points.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["pictures"] == 4 && number(&row["kid_interval"]["low"]) < number(&row["kid"])));
    let settings = |row: &Value| (number(&row["settings"]["guidance"]), row["settings"]["thresholding"].clone());
    assert_eq!(
        rows.iter().map(settings).collect::<Vec<_>>(),
        [(1.0, json!("none")), (3.0, json!("none")), (1.0, json!("static")), (3.0, json!("static"))]
    );
    assert_ne!(rows[0]["kid"], rows[1]["kid"], "another setting draws other pictures");

    // A line that a crash cut off is measured again, and what is there is not.
    fs::write(folder.join("out/points.jsonl"), &points[..points.len() - 20]).unwrap();
    let again = sweep("1,3,2", &["-m", "m"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let longer = read("points.jsonl");
    let kept = points.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    assert!(longer.starts_with(&kept) && longer.lines().count() == 6, "{longer}");
    assert!(longer.contains(points.lines().last().unwrap()), "the same numbers come out again");

    let (csv, markdown, page) = (read("table.csv"), read("table.md"), read("report.html"));
    assert!(csv.starts_with("model,sampler,thresholding,") && csv.lines().count() == 7, "{csv}");
    assert!(markdown.lines().filter(|line| line.starts_with("| m |")).count() == 6, "{markdown}");
    assert_eq!(page.matches("<figure>").count(), 6);

    let svg = read("curves.svg");
    assert!(svg.contains("none") && svg.contains("static") && svg.contains("agreement"), "{svg}");
    let drawn = |svg: &str| svg.matches("<circle").count();
    assert!(drawn(&svg) == 6 && drawn(&page) == 6 && page.contains("Beside each point: its guidance."), "{svg}");

    tiny::model(&folder.join("other"), &Trained::BASE);
    for (words, refused) in [
        ("other pictures, seeds or models", sweep("1,3", &["-m", "m", "--seed", "7"])),
        ("no stage sr256", sweep("1,3", &["-m", "m", "--stage", "sr256"])),
        ("compares models", sweep("1,3", &["-m", "m", "--preset", "unet-size"])),
        ("same name", sweep("1,3", &["-m", "x=m", "-m", "x=other"])),
    ] {
        assert!(refused.code != 0 && refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_counts_and_keeps_what_was_drawn() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "set", "-n", "500", "--size", "16"]);
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    let child = Command::new(assert_cmd::cargo::cargo_bin("imagen"))
        .args(["eval", "recovery", "-mm", "--data", "set", "-n", "400", "--steps", "100", "--save", "drawn"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !folder.path().join("drawn/0001.png").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing was drawn");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("of ") && stderr.contains("pictures were drawn"), "{stderr}");
    let manifest = fs::read_to_string(folder.path().join("drawn/metadata.jsonl")).unwrap();
    let drawn = manifest.lines().count();
    assert!(stdout.starts_with(&format!("recovery: {drawn} pictures")), "{stdout}");
    assert_eq!(files(&folder.path().join("drawn")).len(), drawn + 1, "whole pictures and the list, nothing else");
}
