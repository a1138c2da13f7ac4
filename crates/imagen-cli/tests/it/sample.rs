//! Drawing: names, streams, metadata, reproducibility, interruption.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use imagen::image::{DecodeOptions, Picture, decode, png};

use crate::tiny::{self, Trained};
use crate::{files, finish, imagen, run, succeed};

/// A folder with the model `m`.
fn folder(trained: Trained) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &trained);
    folder
}

fn picture(path: &Path) -> Picture {
    decode::open(path, &DecodeOptions::default()).unwrap()
}

fn text(path: &Path) -> png::PngText {
    png::read_text(&fs::read(path).unwrap(), &DecodeOptions::default()).unwrap()
}

/// Largest difference of a byte.
fn difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn stdout_holds_only_the_paths_and_stderr_the_rest() {
    let folder = folder(Trained::BOTH);
    let result = run(folder.path(), &["sample", "A red apple", "a cat", "-mm", "-n2", "--seed", "7"]);
    assert_eq!(result.code, 0, "{}", result.stderr);
    let expected = ["a-red-apple-7.png", "a-red-apple-8.png", "a-cat-7.png", "a-cat-8.png"];
    assert_eq!(result.stdout.lines().collect::<Vec<_>>(), expected);
    let mut all = vec!["m".to_owned()];
    all.extend(expected.map(str::to_owned));
    all.sort();
    assert_eq!(files(folder.path()), all);
    let apple = picture(&folder.path().join("a-red-apple-7.png"));
    assert_eq!((apple.width(), apple.height()), (32, 32));
    assert!(result.stderr.contains("again: imagen sample --model m --seed 8 'a cat'"), "{}", result.stderr);
    let quiet = run(folder.path(), &["sample", "x", "-mm", "-q", "-s1"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (0, "x-1.png\n", ""));
}

#[test]
fn a_random_seed_is_printed_and_draws_the_same_picture_again() {
    let folder = folder(Trained::BASE);
    let result = run(folder.path(), &["sample", "x", "-mm", "-o", "first.png"]);
    let seed = result.stderr.lines().find_map(|line| line.strip_prefix("seed ")).expect("the seed is printed");
    succeed(folder.path(), &["sample", "x", "-mm", "-o", "second.png", "--seed", seed]);
    let [first, second] = ["first.png", "second.png"].map(|name| picture(&folder.path().join(name)));
    assert_eq!(difference(&first, &second), 0);
    succeed(folder.path(), &["sample", "x", "-mm", "-o", "third.png", "--seed", "-1"]);
    assert_ne!(difference(&first, &picture(&folder.path().join("third.png"))), 0);
}

#[test]
#[cfg(unix)]
fn the_printed_command_draws_the_same_picture() {
    let folder = folder(Trained::BOTH);
    let prompts = "it's a \"red\" apple; $HOME\n-starts with a hyphen\n";
    let options = ["--steps", "4,2", "--guidance", "3", "--sampler", "ddim:0.5,ddpm", "--thresholding", "static"];
    let mut command = imagen(folder.path());
    command.args(["sample", "-", "-mm", "-n2", "-s5", "-o", "{index}.png", "--aug-level", "0.3"]).args(options);
    let result = finish(command.write_stdin(prompts));
    assert_eq!(result.code, 0, "{}", result.stderr);
    let commands: Vec<&str> = result.stderr.lines().filter_map(|line| line.strip_prefix("again: imagen ")).collect();
    assert_eq!(commands.len(), 4);
    for (index, arguments) in commands.into_iter().enumerate() {
        let program = assert_cmd::cargo::cargo_bin("imagen");
        let script = format!("{} {}", program.display(), arguments.replacen("sample ", "sample -q ", 1));
        let drawn = folder.path().join(format!("{index}.png"));
        std::fs::rename(&drawn, folder.path().join("before.png")).unwrap();
        let output =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        let [before, after] = [folder.path().join("before.png"), drawn];
        assert!(difference(&picture(&before), &picture(&after)) <= 1, "{script}");
        assert_eq!(text(&before), text(&after));
    }
}

#[test]
fn a_picture_does_not_depend_on_its_neighbours_or_the_threads() {
    let folder = folder(Trained::BOTH);
    let draw = |name: &str, more: &[&str]| {
        let mut arguments = vec!["sample", "a cat", "a long caption about a dog", "-mm", "-s3", "-n3", "-q", "-o"];
        let pattern = format!("{name}/{{index}}.png");
        arguments.push(&pattern);
        arguments.extend(more);
        succeed(folder.path(), &arguments);
        (0..6).map(|k| picture(&folder.path().join(format!("{name}/{k}.png")))).collect::<Vec<_>>()
    };
    let reference = draw("alone", &["--batch", "1", "--threads", "1"]);
    for (name, more) in [("four", &["--batch", "4", "-t1"][..]), ("threads", &["--batch", "1", "-t2"])] {
        for (k, (a, b)) in reference.iter().zip(draw(name, more)).enumerate() {
            assert!(difference(a, &b) <= 2, "{name}, picture {k}: {}", difference(a, &b));
        }
    }
    assert_ne!(difference(&reference[0], &reference[1]), 0, "another seed is another picture");
    assert_ne!(difference(&reference[0], &reference[3]), 0, "another prompt is another picture");
}

#[test]
fn the_picture_says_how_it_was_made_and_names_no_folder() {
    let folder = folder(Trained::BOTH);
    let model = folder.path().join("m");
    let model = model.to_str().unwrap();
    succeed(folder.path(), &["sample", "ein Äpfel 猫", "--model", model, "-s9", "--steps", "4,2", "-o", "p.png"]);
    let text = text(&folder.path().join("p.png"));
    let parameters = text.parameters.unwrap();
    assert!(parameters.starts_with("ein Äpfel 猫\nSteps: 4, Sampler: "), "{parameters}");
    assert!(parameters.contains("CFG scale: 2, Seed: 9, Size: 32x32, Model: m, "), "{parameters}");
    let json = text.imagen.unwrap();
    let record: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(record["prompt"], "ein Äpfel 猫");
    assert_eq!(record["seed"], 9);
    assert_eq!(record["stages"]["sr256"]["steps"], 2);
    assert_eq!(record["model"]["steps"]["sr256"], 20);
    let parent = folder.path().to_str().unwrap();
    assert!(!json.contains(parent) && !parameters.contains(parent));

    succeed(folder.path(), &["sample", "x", "-mm", "-o", "bare.png", "--no-metadata"]);
    assert_eq!(self::text(&folder.path().join("bare.png")), png::PngText::default());
}

#[test]
fn settings_are_taken_from_a_picture_and_flags_win() {
    let folder = folder(Trained::BOTH);
    let draw = |arguments: &[&str], name: &str| -> Value {
        succeed(folder.path(), &[&["sample", "-mm", "-q", "-o", name], arguments].concat());
        serde_json::from_str(&text(&folder.path().join(name)).imagen.unwrap()).unwrap()
    };
    let first = draw(&["a cat", "-s9", "--steps", "4,2", "--guidance", "3,1.5", "--until", "sr256"], "first.png");
    let same = draw(&["--params-from", "first.png"], "same.png");
    assert_eq!(first, same);
    let [a, b] = ["first.png", "same.png"].map(|name| picture(&folder.path().join(name)));
    assert!(difference(&a, &b) <= 1);
    let changed = draw(&["--params-from", "first.png", "a dog", "--guidance", "4", "--until", "base"], "changed.png");
    assert_eq!(changed["prompt"], "a dog");
    assert_eq!(changed["seed"], 9);
    assert_eq!(changed["stages"]["base"]["steps"], 4);
    assert_eq!(changed["stages"]["base"]["guidance"], 4.0);
    assert!(changed["stages"]["sr256"].is_null());
}

#[test]
fn json_is_one_object_a_picture() {
    let folder = folder(Trained::BASE);
    let stdout = succeed(folder.path(), &["sample", "x", "-mm", "-n2", "-s1", "--json", "-o", "out/{index}.png"]);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["path"], &lines[1]["index"]), (&"out/1.png".into(), &1.into()));
    assert_eq!((&lines[1]["seed"], &lines[1]["prompt"]), (&2.into(), &"x".into()));
    assert_eq!(lines[1]["size"], serde_json::json!([16, 16]));
    assert!(folder.path().join("out/1.png").exists());
}

#[test]
fn a_hyphen_as_output_is_the_png_on_stdout_and_nothing_else() {
    let folder = folder(Trained::BASE);
    let output = imagen(folder.path()).args(["sample", "x", "-mm", "-s1", "-o", "-"]).output().unwrap();
    let streamed = decode::decode(&output.stdout, &DecodeOptions::default()).unwrap();
    succeed(folder.path(), &["sample", "x", "-mm", "-s1"]);
    assert!(difference(&streamed, &picture(&folder.path().join("x-1.png"))) <= 1);
    assert_eq!(files(folder.path()), ["m", "x-1.png"]);
}

#[test]
fn stdin_gives_one_prompt_a_line_and_force_overwrites() {
    let folder = folder(Trained::BASE);
    let mut command = imagen(folder.path());
    command.args(["sample", "first", "-", "-mm", "-s1", "-n1", "--batch", "2"]);
    let result = finish(command.write_stdin("\u{feff}a cat\r\n\n  a dog  \n"));
    assert_eq!(result.stdout.lines().collect::<Vec<_>>(), ["first-1.png", "a-cat-1.png", "a-dog-1.png"]);
    fs::write(folder.path().join("x-1.png"), "old").unwrap();
    succeed(folder.path(), &["sample", "x", "-mm", "-s1", "--force"]);
    assert_eq!(picture(&folder.path().join("x-1.png")).width(), 16);
}

#[test]
fn until_stops_after_that_stage() {
    let folder = folder(Trained { base: 10, sr256: Some(0) });
    succeed(folder.path(), &["sample", "x", "-mm", "-s1", "--until", "base", "--steps", "3,2"]);
    assert_eq!(picture(&folder.path().join("x-1.png")).width(), 16);
}

#[test]
fn a_grid_shows_every_picture_in_its_place() {
    let folder = folder(Trained::BASE);
    let arguments = ["sample", "x", "y", "-mm", "-s1", "-n3", "--batch", "2", "--grid", "all/grid.png"];
    succeed(folder.path(), &arguments);
    let grid = picture(&folder.path().join("all/grid.png"));
    // ten times as large, so that there is room for the prompt below
    let (width, height) = (160 + 4, (grid.height() - 4) / 2);
    assert_eq!(grid.width(), 3 * width + 4, "a row for each prompt");
    assert!(height > 160 + 4 + 10);
    for (row, prompt) in ["x", "y"].into_iter().enumerate() {
        for column in 0..3 {
            let one = picture(&folder.path().join(format!("{prompt}-{}.png", column + 1)));
            let place = grid.crop(4 + width * column, 4 + height * row, 160, 160).unwrap();
            let pixel = |x: usize, y: usize| &place.pixels()[(y * 160 + x) * 3..][..3];
            for (k, expected) in one.pixels().chunks_exact(3).enumerate() {
                let (x, y) = (10 * (k % 16), 10 * (k / 16));
                assert!(pixel(x, y) == expected && pixel(x + 9, y + 9) == expected, "{prompt} {column}");
            }
        }
    }
    let second = run(folder.path(), &["sample", "x", "-mm", "-s9", "--grid", "all/grid.png"]);
    assert!(second.code == 2 && second.stderr.contains("all/grid.png already exists"), "{}", second.stderr);
    assert!(!files(folder.path()).contains(&"x-9.png".to_owned()), "refused before anything is drawn");
}

#[test]
fn a_stage_that_runs_on_request_waits_for_it() {
    let folder = folder(Trained::BOTH);
    tiny::on_request(&folder.path().join("m"));
    let side = |arguments: &[&str]| {
        succeed(folder.path(), &[&["sample", "x", "-mm", "-s1", "--force"], arguments].concat());
        picture(&folder.path().join("x-1.png")).width()
    };
    assert_eq!(side(&[]), 16);
    assert_eq!(side(&["--until", "sr256", "--steps", "3,2"]), 32);
    assert_eq!(side(&["--steps", "3,2"]), 16, "what is said of a stage that does not run is no request for it");
}

#[test]
#[cfg(unix)]
fn a_reader_that_leaves_early_is_no_failure() {
    let script = format!("{} man | head -c 1 > /dev/null", assert_cmd::cargo::cargo_bin("imagen").display());
    let output = std::process::Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_the_finished_pictures_and_exits_with_130() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let folder = folder(Trained::BASE);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("imagen"))
        .args(["sample", "x", "-mm", "-n", "100000", "--batch", "1", "--steps", "20"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("of 100000 pictures were drawn"), "{stderr}");
    let named = 1 + rest.lines().count();
    assert_eq!(files(folder.path()).len(), 1 + named, "whole pictures and the model, no temporary file");
    assert_eq!(picture(&folder.path().join(first.trim_end())).width(), 16);
}

#[test]
fn a_trace_shows_where_the_time_goes_and_changes_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BOTH);
    let draw = |name: &str, more: &[&str]| {
        let arguments = [&["sample", "a cat", "-mm", "--seed", "3", "-o", name], more].concat();
        succeed(folder.path(), &arguments);
        fs::read(folder.path().join(name)).unwrap()
    };
    assert_eq!(draw("plain.png", &[]), draw("traced.png", &["--trace", "trace.json"]));
    let text = fs::read_to_string(folder.path().join("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |name: &str| events.iter().filter(|e| e["name"] == name).collect::<Vec<_>>();
    for (name, count) in [
        ("sample", 1),
        ("open text encoder", 1),
        ("encode text", 1),
        ("build network sr256", 1),
        ("step base", 3),
        ("step sr256", 3),
        ("write picture", 1),
    ] {
        assert_eq!(named(name).len(), count, "{name}");
    }
    let interval =
        |e: &serde_json::Value| (e["ts"].as_f64().unwrap(), e["ts"].as_f64().unwrap() + e["dur"].as_f64().unwrap());
    let work = ["encode text", "step base", "step sr256"].into_iter().flat_map(named);
    let work: Vec<_> = work.map(interval).collect();
    for name in ["conv3x3", "group_norm", "attention", "down 1", "up 0"] {
        for (begin, end) in named(name).into_iter().map(interval) {
            assert!(work.iter().any(|part| part.0 <= begin && end <= part.1), "{name} is in no step and no encoding");
        }
    }
    // both guidance branches in one batch
    assert!(named("conv3x3").iter().all(|e| e["args"]["x"].as_str().unwrap().starts_with("[2,")));
}

#[test]
#[cfg(feature = "builtin-model")]
fn threads_change_no_bit_and_a_batch_changes_one_level_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str, more: &[&str]| {
        let output = format!("{name}-{{index}}.png");
        let arguments = ["sample", "a red apple", "a rocket", "-n2", "-s3", "--until", "base", "-q", "-o", &output];
        succeed(folder.path(), &[&arguments[..], more].concat());
        [0, 1, 2, 3].map(|index| picture(&folder.path().join(format!("{name}-{index}.png"))))
    };
    let together = draw("together", &["--batch", "4", "--threads", "2"]);
    assert_eq!(
        together.each_ref().map(Picture::pixels),
        draw("slow", &["--batch", "4", "-t1"]).each_ref().map(Picture::pixels)
    );
    for batch in ["1", "3"] {
        let apart = draw(batch, &["--batch", batch]);
        let differences = together.iter().zip(&apart).map(|(a, b)| difference(a, b));
        assert!(differences.max() <= Some(1), "batch {batch}");
    }
}
