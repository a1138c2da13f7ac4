//! What a run tells about itself: metrics, event files, probes, grids, the super-resolution table, the report.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{files, run, succeed, tiny};

/// A folder with the data set `data` and the recipe `recipe.toml`, `more` of its `[train]` table.
fn folder(recipe: &str, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "120", "--size", "32", "--seed", "1"]);
    fs::write(folder.path().join("recipe.toml"), format!("{recipe}{more}\n")).unwrap();
    folder
}

fn train(folder: &Path, run_folder: &str, more: &[&str]) -> String {
    let text = tiny::text_encoder();
    let mut arguments = vec!["train", "recipe.toml", "--run", run_folder, "--text-encoder", text.to_str().unwrap()];
    arguments.extend(more);
    let result = run(folder, &arguments);
    assert_eq!(result.code, 0, "{}", result.stderr);
    result.stderr
}

/// The lines of a run's metrics of one kind.
fn lines(folder: &Path, run_folder: &str, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(run_folder).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    lines.filter(|line| line["kind"] == kind).collect()
}

fn event_files(folder: &Path, run_folder: &str) -> usize {
    files(&folder.join(run_folder)).iter().filter(|name| name.starts_with("events.out.tfevents.")).count()
}

#[test]
fn every_step_is_in_one_line_also_after_stops() {
    let folder = folder(
        &tiny::recipe("data"),
        "log_every = 3\nvalidate_every = 5\nsample_every = 4\nsample_prompts = [\"a red circle\"]",
    );
    let folder = folder.path();
    train(folder, "straight", &["-q", "--steps", "11"]);
    train(folder, "pieces", &["-q", "--steps", "5"]);
    // what a killed program leaves: lines beyond the last saved state, and half a line
    let path = folder.join("pieces/metrics.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    let last = text.lines().rfind(|line| line.contains("\"train\"")).unwrap();
    text = format!("{text}{}\n{}", last.replacen("\"step\":5", "\"step\":6", 1), &last[..20]);
    fs::write(&path, text).unwrap();
    train(folder, "pieces", &["-q", "--resume", "--steps", "11"]);
    for (run, lasts) in [("straight", &[2, 3, 4, 6, 8, 9, 10, 11][..]), ("pieces", &[2, 3, 4, 5, 6, 8, 9, 10, 11])] {
        let lines = lines(folder, run, "train");
        let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, lasts, "{run}: a line ends at every third step and at every second, where a state is saved");
        let mut covered = 0;
        for line in &lines {
            covered += line["steps"].as_u64().unwrap();
            assert_eq!(line["step"].as_u64(), Some(covered), "{run}: no step is lost or doubled");
            assert_eq!(line["pictures"].as_u64().unwrap(), 4 * line["steps"].as_u64().unwrap());
            assert!(line["loss"].as_f64().unwrap() > 0.0 && line["gradient_norm"].as_f64().unwrap() > 0.0);
            // four pictures a step at evenly spread times: one falls in each quarter
            let by_t: Vec<f64> = line["loss_by_t"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let mean = by_t.iter().sum::<f64>() / 4.0;
            assert!((mean / line["loss"].as_f64().unwrap() - 1.0).abs() < 1e-4, "{line}");
        }
    }
    // both runs took the same steps, so common lines are equal but for the clock
    let of = |run: &str, step: u64| lines(folder, run, "train").into_iter().find(|line| line["step"] == step).unwrap();
    for step in [2, 3, 4, 8, 11] {
        for key in ["loss", "loss_by_t", "gradient_norm", "lr"] {
            assert_eq!(of("straight", step)[key], of("pieces", step)[key], "{key} of step {step}");
        }
    }
    for run in ["straight", "pieces"] {
        let steps: Vec<u64> =
            lines(folder, run, "validation").iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [5, 10], "{run}: validations are logged once each");
    }
    assert_eq!((event_files(folder, "straight"), event_files(folder, "pieces")), (1, 2));
}

#[test]
fn grids_are_named_by_step_and_stay_and_the_probe_goes_with_them() {
    let more = "sample_every = 2\nsample_prompts = [\"a red circle\", \"a blue square\"]";
    let folder = folder(&tiny::recipe("data"), more);
    let folder = folder.path();
    train(folder, "run", &["-q", "--steps", "3"]);
    let first = fs::read(folder.join("run/samples/0000002.png")).unwrap();
    let stderr = train(folder, "run", &["--resume", "--steps", "4"]);
    assert_eq!(files(&folder.join("run/samples")), ["0000002.png", "0000003.png", "0000004.png"]);
    assert!(first == fs::read(folder.join("run/samples/0000002.png")).unwrap());
    let probes = lines(folder, "run", "probe");
    let steps: Vec<u64> = probes.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 3, 4]);
    let losses = ["right_caption", "shuffled_captions", "no_caption"];
    assert!(probes.iter().all(|line| losses.iter().all(|name| line[*name].as_f64().unwrap() > 0.0)), "{probes:?}");
    assert!(stderr.contains("with the right captions"), "{stderr}");
    train(folder, "again", &["-q", "--steps", "4"]);
    assert_eq!(lines(folder, "again", "probe").last(), probes.last(), "a probe is a function of weights and pictures");
}

#[test]
fn a_finished_super_resolution_run_says_how_faithful_it_is() {
    let recipe = tiny::super_resolution_recipe("data").replace("max_aug_level = 0.5", "max_aug_level = 0.25");
    let folder = folder(&recipe, "enlarge_pictures = 5");
    let folder = folder.path();
    train(folder, "run", &["-q", "--steps", "1"]);
    let path = folder.join("run/enlargement.json");
    let read = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    let report = read();
    // two of 120 names or so are held out; all of them are looked at
    let pictures = report["pictures"].as_u64().unwrap();
    assert!((1..=5).contains(&pictures) && report["step"] == 1 && report["side"] == 32 && report["low_side"] == 16);
    let levels: Vec<f64> =
        report["levels"].as_array().unwrap().iter().map(|level| level["aug_level"].as_f64().unwrap()).collect();
    assert_eq!(levels, [0.0, 0.1, 0.2], "none is stronger than what it was trained with");
    let bicubic = |key: &str| report["bicubic"][key].as_f64().unwrap();
    // bicubic respects its input far better than a network of one step
    assert!((15.0..60.0).contains(&bicubic("psnr_truth")) && bicubic("psnr_input") > 30.0, "{report}");
    let first = report["levels"][0]["psnr_truth"].as_f64().unwrap();
    assert!((0.0..bicubic("psnr_truth")).contains(&first), "{report}");

    let text = tiny::text_encoder();
    let more = ["--sr", "--sr-pictures", "1", "-q", "--text-encoder", text.to_str().unwrap()];
    let page = succeed(folder, &[&["report", "run"][..], &more].concat());
    assert_eq!((page.as_str(), read()["pictures"].as_u64()), ("run/report.html\n", Some(1)));
    let page = fs::read_to_string(folder.join("run/report.html")).unwrap();
    let number = format!("<td>{:.2}</td>", read()["bicubic"]["psnr_truth"].as_f64().unwrap());
    assert!(page.contains("augmentation 0.2") && page.contains(&number), "the table has bicubic's {number}");
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let prompt = "a <b>red</b> \\\"circle\\\" & more";
    let more = format!("log_every = 1\nsample_every = 2\nsample_prompts = [\"{prompt}\", \"a blue square\"]");
    let folder = folder(&tiny::recipe("data"), &more);
    let folder = folder.path();
    train(folder, "run", &["-q"]);
    assert_eq!(succeed(folder, &["report", "run", "-o", "page.html", "--grids", "1"]), "page.html\n");
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    for outside in ["http", "<link", "@import", "url(", "src=\"/", "<script src"] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    assert_eq!((page.matches("src=\"").count(), page.matches("src=\"data:image/png;base64,").count()), (1, 1));
    assert!(
        page.contains("<li>a &lt;b&gt;red&lt;/b&gt; &quot;circle&quot; &amp; more</li>") && !page.contains("<b>red")
    );
    for tag in ["html", "main", "section", "figure", "svg", "ul", "dl", "table", "style", "script", "details"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for words in
        ["finished", "step 4 of 4", "Conditioning probe", "Gradient norm", "t 0.75–1.00", "samples after step 4"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("<small>1 of 2</small>") && !page.contains("NaN"));
    // the newest loss stands beside its curve
    let loss = lines(folder, "run", "train").last().unwrap()["loss"].as_f64().unwrap();
    let shown = page.split("loss <b>").nth(1).unwrap().split('<').next().unwrap();
    assert!((shown.parse::<f64>().unwrap() / loss - 1.0).abs() < 1e-3, "{shown}, {loss}");

    // a run that has just begun, and a folder that is none
    fs::create_dir(folder.join("begun")).unwrap();
    fs::copy(folder.join("run/recipe.toml"), folder.join("begun/recipe.toml")).unwrap();
    succeed(folder, &["report", "begun"]);
    let none = run(folder, &["report", "data"]);
    assert!(none.code == 3 && none.stderr.contains("data holds no run"), "{} {}", none.code, none.stderr);
    let text = tiny::text_encoder();
    let base = run(folder, &["report", "run", "--sr", "--text-encoder", text.to_str().unwrap()]);
    assert!(base.code == 2 && base.stderr.contains("enlarges nothing"), "{} {}", base.code, base.stderr);
}
