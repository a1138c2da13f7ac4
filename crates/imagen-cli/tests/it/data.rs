//! `imagen data`: what a set is taken for, what is wrong with it, what it is like, and its captions' embeddings.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{run, succeed, tiny};

/// Twenty pictures of 16 pixels; one damaged, one a copy, one not there, one not listed, one caption very long.
fn troubled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "set", "--count", "20", "--size", "16", "--seed", "1"]);
    let set = folder.path().join("set");
    let picture = |i: usize| set.join(format!("images/{i:06}.png"));
    fs::write(picture(3), "no picture").unwrap();
    fs::copy(picture(5), picture(6)).unwrap();
    fs::copy(picture(5), set.join("images/unlisted.png")).unwrap();
    let metadata = set.join("metadata.jsonl");
    let mut lines = fs::read_to_string(&metadata).unwrap();
    lines += &json!({ "file_name": "images/absent.png", "text": "a ghost" }).to_string();
    lines += "\n";
    lines += &json!({ "file_name": "images/000007.png", "text": "many words ".repeat(80) }).to_string();
    fs::write(metadata, lines).unwrap();
    folder
}

fn encoder() -> String {
    tiny::text_encoder().to_str().unwrap().to_owned()
}

fn report(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let encoder = encoder();
    let arguments = [&["data"], arguments, &["--json", "-q", "--text-encoder", &encoder]].concat();
    let result = run(folder, &arguments);
    (result.code, serde_json::from_str(&result.stdout).unwrap_or_else(|e| panic!("{e}: {}", result.stderr)))
}

#[test]
fn the_check_names_each_kind_of_trouble_and_counts_it() {
    let folder = troubled();
    // one of 21 entries is not there, which alone would keep a run from beginning; the check says all the same what is
    let (code, json) = report(folder.path(), &["check", "set", "--min-side", "16"]);
    assert_eq!(code, 3);
    assert_eq!(
        (&json["detected"], &json["usable"], &json["unusable"]),
        (&json!("metadata.jsonl"), &json!(19), &json!(2))
    );
    assert_eq!(json["unreadable"][0]["name"], "images/000003.png");
    assert!(json["unreadable"][0]["reason"].as_str().unwrap().contains("expected PNG"), "{json}");
    assert_eq!(json["missing"], json!(["images/absent.png"]));
    assert_eq!(json["uncaptioned"], json!(["images/unlisted.png"]));
    assert_eq!(json["repeated"], json!(["images/000007.png"]));
    assert_eq!(json["copies"], json!([{ "name": "images/000006.png", "of": "images/000005.png" }]));
    assert_eq!((&json["too_small"], &json["shortest_side"]), (&json!([]), &json!(16)));
    assert_eq!((&json["tokens"]["limit"], &json["tokens"]["max"]), (&json!(64), &json!(64)));
    assert_eq!(json["tokens"]["cut"].as_array().unwrap().len(), 1);
    assert!(json["tokens"]["mean"].as_f64().unwrap() > 4.0, "{json}");

    let text = run(folder.path(), &["data", "check", "set", "--text-encoder", &encoder()]);
    assert_eq!(text.code, 3);
    for line in [
        "found metadata.jsonl",
        "19 of 21 pictures can be used (19 to train, 0 to validate)",
        "1 picture identical to another:\n  images/000006.png of images/000005.png",
        "1 caption without a picture:\n  images/absent.png",
    ] {
        assert!(text.stdout.contains(line), "{line}: {}", text.stdout);
    }
    assert!(text.stderr.contains("2 of the 21 entries of set cannot be used: pictures "), "{}", text.stderr);
}

#[test]
fn the_check_allows_what_it_is_told_to_allow() {
    let folder = troubled();
    assert_eq!(report(folder.path(), &["check", "set", "--max-bad", "0.1"]).0, 0);
    assert_eq!(report(folder.path(), &["check", "set", "--max-bad", "0.05"]).0, 3);
    let (code, json) = report(folder.path(), &["check", "set", "--max-bad", "1", "--min-side", "17"]);
    assert_eq!((code, &json["usable"]), (3, &json!(0)), "allowed, but nothing is left");
    assert_eq!(json["too_small"].as_array().unwrap().len(), 19);
    for arguments in [["data", "check", "set", "--max-bad=2"], ["data", "check", "set", "--max-bad=x"]] {
        assert_eq!(run(folder.path(), &arguments).code, 2);
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(run(folder.path(), &["data", "check", "empty"]).code, 3);
    assert_eq!(run(folder.path(), &["data", "stats", "empty"]).code, 3);
    assert_eq!(run(folder.path(), &["data", "check", "nowhere"]).code, 3);
}

#[test]
fn the_statistics_are_those_of_the_pictures_and_captions() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    let write = |name: &str, picture: imagen::image::Picture| {
        imagen::image::png::write(&set.join(name), &picture, &Default::default()).unwrap();
    };
    write("a.png", imagen::image::Picture::filled(4, 4, [0, 255, 51]));
    write("b.png", imagen::image::Picture::filled(8, 2, [255u8]));
    write("c.png", imagen::image::Picture::filled(1, 3, [9, 9, 9, 0]));
    let row = |name: &str, text: &str, concept: &str| format!("{name},{text},train,{concept}\n");
    let table = ["file_name,text,split,concept\n".to_owned(), row("a.png", "A red fox", "fox")];
    let table = table.concat() + &row("b.png", "a red hen", "hen") + &row("c.png", "red", "hen");
    fs::write(set.join("metadata.csv"), table).unwrap();
    let (code, json) = report(folder.path(), &["stats", "set"]);
    assert_eq!((code, &json["detected"], &json["pictures"]), (0, &json!("metadata.csv"), &json!(3)));
    let expect = [(&json["width"], 1, 4, 8), (&json["height"], 2, 3, 4), (&json["captions"]["words"], 1, 3, 3)];
    for (spread, min, median, max) in expect {
        let seen = (&spread["min"], &spread["median"], &spread["max"]);
        assert_eq!(seen, (&json!(min), &json!(median), &json!(max)), "{json}");
    }
    let aspect = &json["aspect"];
    assert_eq!((&aspect["portrait"], &aspect["square"], &aspect["landscape"]), (&json!(1), &json!(1), &json!(1)));
    // 16 pixels of (0, 1, 0.2), 16 of white, 3 clear ones, which show white
    for (channel, low) in [(0, 0.0f64), (1, 1.0), (2, 0.2)] {
        let mean = (16.0 * low + 19.0) / 35.0;
        let std = ((16.0 * low * low + 19.0) / 35.0 - mean * mean).sqrt();
        let seen = &json["channels"][channel];
        assert!((seen["mean"].as_f64().unwrap() - mean).abs() < 1e-9, "{seen} {mean}");
        assert!((seen["std"].as_f64().unwrap() - std).abs() < 1e-7, "{seen} {std}");
    }
    let stored: Vec<_> = json["stored"].as_array().unwrap().iter().map(|form| &form["channels"]).collect();
    assert_eq!(stored, [&json!(1), &json!(3), &json!(4)]);
    assert_eq!(json["captions"]["frequent"][0], json!({ "word": "red", "times": 3 }));
    assert_eq!(json["captions"]["different_words"], 4);
    assert_eq!(
        json["concepts"],
        json!({ "named": 2, "largest": [
        { "concept": "hen", "pictures": 2 }, { "concept": "fox", "pictures": 1 }
    ] })
    );
    assert_eq!(json["splits"], json!({ "train": 3, "validation": 0 }));
    let (_, grey) = report(folder.path(), &["stats", "set", "--channels", "2"]);
    assert_eq!(grey["channels"].as_array().unwrap().len(), 2);
    assert!((grey["channels"][1]["mean"].as_f64().unwrap() - 32.0 / 35.0).abs() < 1e-9, "opacity: {grey}");
    let text = succeed(folder.path(), &["data", "stats", "set", "--text-encoder", &encoder()]);
    for part in ["found metadata.csv", "red 3", "hen 2, fox 1", "1 portrait, 1 square, 1 landscape", "tokens"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn embeddings_are_computed_once_and_a_recipe_may_name_them() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "24", "--size", "16", "--seed", "1"]);
    let encoder = encoder();
    let encode =
        |more: &[&str]| run(folder.path(), &[&["data", "encode", "data", "--text-encoder", &encoder], more].concat());
    let first = encode(&[]);
    assert_eq!((first.code, first.stdout.as_str()), (0, "data/captions.safetensors\n"), "{}", first.stderr);
    let path = folder.path().join("data/captions.safetensors");
    let bytes = fs::read(&path).unwrap();
    let again = encode(&[]);
    assert!(again.stderr.contains(" 0 of them new") && fs::read(&path).unwrap() == bytes, "{}", again.stderr);
    assert_eq!(encode(&["-o", "other.safetensors", "-q"]).stdout, "other.safetensors\n");
    assert!(fs::read(folder.path().join("other.safetensors")).unwrap() == bytes);

    let recipe = tiny::recipe("data").replace("[train]", "captions = \"other.safetensors\"\n\n[train]");
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let trained =
        run(folder.path(), &["train", "recipe.toml", "--run", "run", "--steps", "1", "--text-encoder", &encoder]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    assert!(trained.stderr.contains("from metadata.jsonl"), "{}", trained.stderr);
    assert!(!folder.path().join("run/captions.safetensors").exists());
    assert!(fs::read(folder.path().join("other.safetensors")).unwrap() == bytes);

    fs::remove_file(folder.path().join("data/metadata.jsonl")).unwrap();
    let bare = encode(&[]);
    assert!(bare.code == 3 && bare.stderr.contains("data has no captions"), "{} {}", bare.code, bare.stderr);
}

#[test]
fn a_run_says_what_it_skips_and_stops_where_that_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "24", "--size", "16", "--seed", "1"]);
    let break_picture = |i: usize| fs::write(folder.path().join(format!("data/images/{i:06}.png")), "x").unwrap();
    break_picture(4);
    let train = |max_bad: &str, run_folder: &str| {
        let recipe = tiny::recipe("data").replace("[train]", &format!("max_bad = {max_bad}\n\n[train]"));
        fs::write(folder.path().join("recipe.toml"), recipe.replace("batch = 4", "batch = 24")).unwrap();
        let encoder = encoder();
        run(folder.path(), &["train", "recipe.toml", "--run", run_folder, "--steps", "1", "--text-encoder", &encoder])
    };
    let forgiving = train("0.01", "a");
    assert_eq!(forgiving.code, 0, "{}", forgiving.stderr);
    assert!(forgiving.stderr.contains("warning: skipped: picture data/images/000004.png"), "{}", forgiving.stderr);
    let strict = train("0.0", "b");
    assert_eq!(strict.code, 3, "{}", strict.stderr);
    assert!(
        strict.stderr.contains("1 of 24 pictures") || strict.stderr.contains("1 of 23 pictures"),
        "{}",
        strict.stderr
    );
    assert_eq!(train("1.5", "c").code, 3);
}

/// The small world that the library's tests compose.
pub(crate) fn world() -> String {
    let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden/world");
    world.to_str().unwrap().to_owned()
}

#[test]
fn a_world_is_composed_into_a_set_that_other_verbs_read() {
    let folder = tempfile::tempdir().unwrap();
    let out = ["data", "compose", &world(), "set", "--count", "30", "--held-out", "4", "--size", "16", "-q"];
    assert_eq!(succeed(folder.path(), &out), "set\n");
    let (code, json) = report(folder.path(), &["check", "set"]);
    assert_eq!((code, &json["usable"]), (0, &json!(34)), "{json}");
    let again = run(folder.path(), &out);
    assert!(again.code == 2 && again.stderr.contains("already holds a set"), "{}", again.stderr);
    let (code, json) = report(folder.path(), &["stats", &world()]);
    assert_eq!((code, &json["pictures"]), (0, &json!(1280)));
    assert!(
        json["detected"].as_str().unwrap().starts_with("7 nouns, 4 styles, 2 scenes, 7 colours; 21 drawings"),
        "{json}"
    );
    let broken = folder.path().join("broken");
    let copy = std::process::Command::new("cp").args(["-r", &world()]).arg(&broken).status().unwrap();
    assert!(copy.success());
    fs::write(broken.join("cutouts/flat/kite.png"), "no picture").unwrap();
    let (code, json) = report(folder.path(), &["check", "broken"]);
    assert_eq!((code, &json["broken_drawings"][0]["file"]), (3, &json!("cutouts/flat/kite.png")), "{json}");
    let none = run(folder.path(), &["data", "compose", "set", "other"]);
    assert!(none.code == 1 && none.stderr.contains("grammar.toml"), "{}", none.stderr);
    assert!(!folder.path().join("other").exists(), "nothing is made");
}

#[test]
fn names_from_a_set_command_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set");
    fs::create_dir(&set).unwrap();
    let names = ["a\u{1b}[31mred\u{1b}]0;title\u{7}.png", "b\nfake: line.png", "c.\u{202e}gnp.png"];
    let mut lines = String::new();
    for name in names {
        fs::write(set.join(name), "no picture").unwrap();
        lines += &(json!({ "file_name": name, "text": "\u{1b}[2Ja caption" }).to_string() + "\n");
    }
    fs::write(set.join("bad\u{1b}[1m.avif"), "").unwrap();
    fs::write(set.join("metadata.jsonl"), lines).unwrap();
    for arguments in [
        &["data", "check", "set"][..],
        &["data", "stats", "set"],
        &["data", "encode", "set", "-o", "x\u{1b}.safetensors", "-f"],
        &["data", "check", "no\u{1b}where"],
    ] {
        let result = run(folder.path(), &[arguments, &["--text-encoder", &encoder()]].concat());
        let all = result.stdout.replace("x\u{1b}.safetensors", "") + &result.stderr;
        let bare = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
        assert_eq!(all.chars().find(bare), None, "{arguments:?}: {all:?}");
        assert!(!all.lines().any(|line| line.starts_with("fake")), "{all}");
    }
    let said = run(folder.path(), &["data", "check", "set"]);
    for part in
        [r"a\u{1b}[31mred\u{1b}]0;title\u{7}.png", r"b\nfake: line.png", r"c.\u{202e}gnp.png", r"bad\u{1b}[1m.avif"]
    {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
}

#[test]
fn what_a_set_passes_over_is_said_by_every_verb_that_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "24", "--size", "16", "--seed", "1"]);
    fs::write(folder.path().join("data/images/extra.avif"), "x").unwrap();
    let (code, json) = report(folder.path(), &["check", "data"]);
    assert_eq!((code, &json["passed_over"][0]["name"]), (0, &json!("images/extra.avif")), "{json}");
    assert!(json["passed_over"][0]["reason"].as_str().unwrap().contains("AVIF"), "{json}");
    let (_, stats) = report(folder.path(), &["stats", "data"]);
    assert_eq!(stats["passed_over"][0]["name"], "images/extra.avif");
    let text = succeed(folder.path(), &["data", "stats", "data", "--text-encoder", &encoder()]);
    assert!(text.contains("left out      1 passed over"), "{text}");
    fs::write(folder.path().join("recipe.toml"), tiny::recipe("data")).unwrap();
    let encoder = encoder();
    let trained =
        run(folder.path(), &["train", "recipe.toml", "--run", "run", "--steps", "1", "--text-encoder", &encoder]);
    assert!(trained.stderr.contains("1 passed over (pictures of AVIF form are not read"), "{}", trained.stderr);
}

#[test]
fn recipes_are_read_in_any_encoding_and_what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let wide =
        format!("\u{feff}{}", tiny::recipe("data")).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    fs::write(folder.path().join("wide.toml"), wide).unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "24", "--size", "16", "--seed", "1"]);
    let planned = run(folder.path(), &["plan", "wide.toml"]);
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    fs::write(folder.path().join("none.toml"), b"ab\x81").unwrap();
    let none = run(folder.path(), &["plan", "none.toml"]);
    assert!(none.code == 3 && none.stderr.contains("0x81 at position 2"), "{} {}", none.code, none.stderr);
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        for arguments in [
            ["data", "check", "pipe"],
            ["plan", "pipe", "-q"],
            ["sample", "--params-from", "pipe"],
            ["inspect", "pipe", "--json"],
        ] {
            let arguments: Vec<&str> = arguments.into_iter().filter(|word| *word != "-q").collect();
            let result = run(folder.path(), &arguments);
            assert!(result.code > 0 && result.code < 5, "{arguments:?}: {} {}", result.code, result.stderr);
        }
    }
}
