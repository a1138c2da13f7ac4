//! What several processes, and the system, may do to one folder: locks, signals, limits, and what a killed run left undone.

use std::fs;
use std::path::Path;
use std::process::Command;

use imagen::files::Lock;

use crate::train::{folder, train};
use crate::{files, imagen, run, succeed, tiny};

/// The built-in text encoder under another identity: as wide, and not the one that a run was trained with.
fn other_encoder(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(tiny::text_encoder().join(file), folder.join(file)).unwrap();
    }
    let config = folder.join("config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "\n").unwrap();
}

#[test]
fn a_folder_in_use_is_refused_and_nothing_of_it_is_touched() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(train(path, "run", &["-q", "--steps", "2"]).code, 0);
    succeed(path, &["data", "shapes", "set", "-n", "300", "--size", "16"]);
    tiny::model(&path.join("m"), &tiny::Trained::BASE);
    let sweep = ["eval", "sweep", "--data", "set", "-n4", "--steps", "1,2", "-o", "sweep", "-q", "-m", "m"];
    succeed(path, &sweep);
    // what a live process has half-written
    let busy = [("run", ".imagen-77-0.tmp"), ("sweep", ".imagen-77-0.tmp")];
    let held = busy.map(|(folder, file)| {
        fs::write(path.join(folder).join(file), "half").unwrap();
        Lock::folder(&path.join(folder)).unwrap()
    });
    for refused in [train(path, "run", &["--resume"]), train(path, "run", &[]), run(path, &sweep)] {
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("is in use: another process writes into it"), "{}", refused.stderr);
    }
    assert!(busy.iter().all(|(folder, file)| path.join(folder).join(file).exists()));
    // the lock went with its process: what that one left is swept
    drop(held);
    assert_eq!(train(path, "run", &["--resume", "-q"]).code, 0);
    succeed(path, &sweep);
    assert!(busy.iter().all(|(folder, file)| !path.join(folder).join(file).exists()), "{:?}", files(&path.join("run")));
}

#[test]
fn a_run_goes_on_with_its_own_text_encoder_alone() {
    let folder = folder();
    let path = folder.path();
    other_encoder(&path.join("other"));
    assert_eq!(train(path, "run", &["-q", "--steps", "2"]).code, 0);
    let with_other = |more: &[&str]| {
        let fixed = ["train", "recipe.toml", "--run", "run", "--text-encoder", "other", "-q"];
        run(path, &[&fixed[..], more].concat())
    };
    let refused = with_other(&["--resume"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("the run was trained with the text encoder "), "{}", refused.stderr);
    assert_eq!(train(path, "run", &["-q", "--resume"]).code, 0, "and with its own it does");
}

#[test]
fn a_shared_cache_of_captions_is_not_made_anew_for_another_text_encoder() {
    let folder = folder();
    let path = folder.path();
    other_encoder(&path.join("other"));
    let shared = ["-q", "--steps", "1", "--set", "data.captions=captions.safetensors"];
    assert_eq!(train(path, "first", &shared).code, 0);
    let before = fs::read(path.join("captions.safetensors")).unwrap();
    let fixed = ["train", "recipe.toml", "--run", "second", "--text-encoder", "other"];
    let refused = run(path, &[&fixed[..], &shared].concat());
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("name another file in data.captions"), "{}", refused.stderr);
    assert!(fs::read(path.join("captions.safetensors")).unwrap() == before, "it is as it was");
    // two runs at once: one waits for the other's captions
    fs::remove_file(path.join("captions.safetensors")).unwrap();
    let text = tiny::text_encoder();
    let arguments = |run: &'static str| {
        let fixed = ["train", "recipe.toml", "--run", run, "--text-encoder", text.to_str().unwrap()];
        [&fixed[..], &shared].concat()
    };
    let mut other = Command::new(imagen(path).get_program()).current_dir(path).args(arguments("a")).spawn().unwrap();
    assert_eq!(run(path, &arguments("b")).code, 0);
    assert!(other.wait().unwrap().success());
    assert!(
        fs::read(path.join("captions.safetensors")).unwrap() == before,
        "the bytes do not depend on who wrote them"
    );
}

#[test]
fn a_grid_that_was_due_when_the_run_was_killed_is_drawn_when_it_goes_on() {
    let folder = folder();
    let path = folder.path();
    let grids = ["-q", "--set", "train.sample_every=2", "--set", "train.sample_prompts=[\"a red circle\"]"];
    assert_eq!(train(path, "run", &[&grids[..], &["--steps", "2"]].concat()).code, 0);
    let grid = path.join("run/samples/0000002.png");
    let drawn = fs::read(&grid).unwrap();
    fs::remove_file(&grid).unwrap();
    fs::write(path.join("run/samples/.imagen-1-0.tmp"), "half").unwrap();
    assert_eq!(train(path, "run", &[&grids[..], &["--resume"]].concat()).code, 0);
    assert!(fs::read(&grid).unwrap() == drawn, "the same grid");
    assert!(!path.join("run/samples/.imagen-1-0.tmp").exists());
}

#[test]
fn numbers_that_no_machine_could_hold_are_refused_by_name() {
    let folder = folder();
    let path = folder.path();
    tiny::model(&path.join("m"), &tiny::Trained::BASE);
    for (set, words) in [
        ("stage.unet.embedding=4611686018427387904", "embedding = 4611686018427387904: expected at most 65536"),
        ("stage.unet.levels=[{channels=8,blocks=1000000000}]", "levels[0].blocks = 1000000000: expected at most 1024"),
        ("stage.sampling.steps=1000000000", "steps = 1000000000: expected 1 to 10000"),
        ("stage.size=1048576", "size = 1048576: expected at most 16384"),
        ("train.batch=1000000000000", "a batch of at most 1048576"),
    ] {
        let refused = run(path, &["plan", "recipe.toml", "--set", set]);
        assert!(refused.code != 0 && refused.code < 100, "{set}: {} {}", refused.code, refused.stderr);
        assert!(refused.stderr.contains(words), "{set}: {}", refused.stderr);
    }
    let sample = ["sample", "x", "-mm", "-s1", "--steps", "100000"];
    let refused = run(path, &sample);
    assert!(refused.code == 2 && refused.stderr.contains("steps = 100000: expected 1 to 10000"), "{}", refused.stderr);
    // from a picture's own record, too
    succeed(path, &["sample", "x", "-mm", "-s1", "--steps", "3", "-o", "a.png"]);
    let png = fs::read(path.join("a.png")).unwrap();
    let text = imagen::image::png::read_text(&png, &Default::default()).unwrap();
    let wild = text.imagen.unwrap().replace("\"steps\":3", "\"steps\":3000000000");
    let picture = imagen::image::decode::open(&path.join("a.png"), &Default::default()).unwrap();
    let text = imagen::image::PngText { parameters: None, imagen: Some(wild) };
    fs::write(path.join("wild.png"), imagen::image::png::encode(&picture, &text).unwrap()).unwrap();
    let refused = run(path, &["sample", "-mm", "--params-from", "wild.png"]);
    assert!(refused.code == 2 && refused.stderr.contains("steps = 3000000000"), "{}", refused.stderr);
}

#[cfg(unix)]
mod signals {
    use std::time::{Duration, Instant};

    use super::*;

    /// A long training begun by a shell that says so first.
    fn begun(path: &Path, before: &str) -> std::process::Child {
        let text = tiny::text_encoder();
        let program = imagen(path).get_program().to_owned();
        let script = format!("{before}; exec \"$@\"");
        let mut shell = Command::new("sh");
        shell.current_dir(path).args(["-c", &script, "sh"]).arg(program);
        shell.args([
            "train",
            "recipe.toml",
            "--run",
            "run",
            "--steps",
            "100000",
            "-q",
            "--set",
            "train.checkpoint_every=1",
        ]);
        let child = shell.arg("--text-encoder").arg(text).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while !path.join("run/state.safetensors").exists() {
            assert!(Instant::now() < deadline, "no checkpoint came");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn send(signal: &str, child: &std::process::Child) {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }

    /// What `nohup` promises: a terminal that closes does not end it, and asking it to end still does.
    #[test]
    fn a_signal_that_was_to_be_ignored_is_ignored() {
        let folder = folder();
        let mut child = begun(folder.path(), "trap '' HUP");
        send("-HUP", &child);
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        send("-TERM", &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }

    #[test]
    fn a_closed_terminal_saves_where_nobody_said_otherwise() {
        let folder = folder();
        let mut child = begun(folder.path(), "true");
        send("-HUP", &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }

    #[test]
    fn a_limit_of_file_size_is_an_error_that_names_the_file() {
        let folder = folder();
        let path = folder.path();
        tiny::model(&path.join("m"), &tiny::Trained::BASE);
        let program = imagen(path).get_program().to_owned();
        let mut shell = Command::new("sh");
        // blocks of 512 bytes
        shell.current_dir(path).args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]).arg(program);
        shell.args(["sample", "x", "-mm", "-s1", "--steps", "1", "-o", "a.png"]);
        let output = shell.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("error: cannot write") && stderr.contains("a.png"), "{stderr}");
        assert!(!path.join("a.png").exists());
    }
}
