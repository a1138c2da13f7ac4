//! Completions, manual pages, the doctor.

use std::fs;
use std::path::Path;

use crate::{files, run, succeed};

#[test]
fn every_shell_gets_completions_for_every_verb() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeed(Path::new("."), &["completions", shell]);
        for verb in ["sample", "train", "recipe", "export", "inspect", "plan", "data", "eval", "bench", "doctor"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        assert!(script.contains("thresholding"), "{shell}");
    }
}

#[test]
#[cfg(unix)]
fn the_bash_completions_are_bash() {
    let script = succeed(Path::new("."), &["completions", "bash"]);
    let status = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn every_verb_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let printed = succeed(folder.path(), &["man", "pages/man1"]);
    let pages = files(&folder.path().join("pages/man1"));
    let verbs =
        ["imagen", "imagen-bench", "imagen-completions", "imagen-data", "imagen-data-check", "imagen-data-compose"];
    let more = [
        "imagen-data-encode",
        "imagen-data-shapes",
        "imagen-data-stats",
        "imagen-doctor",
        "imagen-eval",
        "imagen-eval-clip-score",
        "imagen-eval-coco",
        "imagen-eval-compose",
        "imagen-eval-drawbench",
        "imagen-eval-fid",
        "imagen-eval-human",
        "imagen-eval-human-export",
        "imagen-eval-human-report",
        "imagen-eval-human-serve",
        "imagen-eval-kid",
        "imagen-eval-precision-recall",
        "imagen-eval-recovery",
        "imagen-eval-retrieval",
        "imagen-eval-shapes",
        "imagen-eval-stats",
        "imagen-eval-sweep",
        "imagen-export",
        "imagen-inspect",
        "imagen-man",
        "imagen-models",
        "imagen-models-convert",
        "imagen-models-info",
        "imagen-models-list",
        "imagen-models-prompts",
        "imagen-models-pull",
        "imagen-models-rm",
        "imagen-models-verify",
        "imagen-plan",
        "imagen-recipe",
        "imagen-recipe-keys",
        "imagen-recipe-new",
        "imagen-report",
        "imagen-restore",
        "imagen-sample",
        "imagen-serve",
        "imagen-train",
    ];
    let mut expected: Vec<String> = verbs.into_iter().chain(more).map(|name| format!("{name}.1")).collect();
    expected.sort();
    assert_eq!(pages, expected);
    assert_eq!(printed.lines().count(), pages.len());
    let first = fs::read_to_string(folder.path().join("pages/man1/imagen.1")).unwrap();
    assert_eq!(first, succeed(folder.path(), &["man"]));
    assert!(first.contains(".TH imagen 1") && first.contains("Exit codes"), "{first}");
    let sample = fs::read_to_string(folder.path().join("pages/man1/imagen-sample.1")).unwrap();
    assert!(sample.contains("imagen sample") && sample.contains(r"\-\-guidance"), "{sample}");
}

#[test]
fn the_doctor_reports_the_machine_and_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeed(folder.path(), &["doctor"]);
    for word in ["program", "processor", "threads", "memory", "temporary folder", "built-in model"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&succeed(folder.path(), &["doctor", "--json"])).unwrap();
    assert_eq!(json["program"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["processor"]["threads"].as_u64().unwrap() >= 1);
    assert_eq!(json["temporary_folder"]["writable"], true);
    if cfg!(feature = "builtin-model") {
        assert_eq!(json["built-in_model"]["files"]["base.safetensors"]["sha256"].as_str().unwrap().len(), 64);
    } else {
        assert!(json["built-in_model"].is_null());
    }
}

#[test]
#[cfg(unix)]
fn the_doctor_fails_where_nothing_temporary_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let result = crate::finish(crate::imagen(folder.path()).env("TMPDIR", folder.path().join("file")).arg("doctor"));
    assert_eq!(result.code, 1);
    assert!(result.stderr.contains("temporary folder"), "{}", result.stderr);
    assert!(result.stdout.contains("built-in model"), "the report is complete all the same");
}

#[test]
fn inspect_shows_a_recipe_and_a_model_part_by_part() {
    let folder = tempfile::tempdir().unwrap();
    crate::tiny::model(&folder.path().join("tiny"), &crate::tiny::Trained::BOTH);
    fs::write(folder.path().join("recipe.toml"), crate::tiny::recipe("data")).unwrap();
    let text = succeed(folder.path(), &["inspect", "tiny"]);
    for word in ["base: 16×16 pixels, trained for 10 steps", "sr256: 16×16 to 32×32", "multiply-adds", "activations"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let text = succeed(folder.path(), &["inspect", "recipe.toml"]);
    assert!(text.contains("not trained yet"), "{text}");
    for what in ["tiny", "tiny/base.safetensors", "recipe.toml"] {
        let json: serde_json::Value =
            serde_json::from_str(&succeed(folder.path(), &["inspect", what, "--json"])).unwrap();
        let base = &json["stages"][0];
        assert_eq!(base["stage"], "base", "{what}");
        let parts: u64 = base["levels"].as_array().unwrap().iter().map(|l| l["parameters"].as_u64().unwrap()).sum();
        assert_eq!(base["parameters"].as_u64().unwrap(), parts, "{what}");
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    for what in ["empty", "missing", "missing.safetensors"] {
        let result = run(folder.path(), &["inspect", what]);
        assert_eq!(result.code, 4, "{what}: {}", result.stderr);
    }
}
