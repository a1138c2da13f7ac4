//! Recipes without writing one: proposed for a set, explained, and the paper's by name.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::refusals::all_refused_after;
use crate::tiny::{self, Trained};
use crate::{files, run, succeed};

/// A folder with a drawn set of 48 pictures.
fn folder(size: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["data", "shapes", "data", "--count", "48", "--size", size, "--seed", "1"]);
    folder
}

fn encoder() -> String {
    tiny::text_encoder().to_str().unwrap().to_owned()
}

/// The committed file.
fn committed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(path)
}

#[test]
fn a_proposed_recipe_is_planned_and_trained_as_it_is() {
    let folder = folder("32");
    let folder = folder.path();
    let text = encoder();
    for (name, more, words) in [
        ("base", &["--text-encoder", &text][..], &["size = 32", "sample_prompts = [", "times", "measured"][..]),
        ("any", &["--unconditional"], &["text_dim = 0", "guidance = 1.0"]),
    ] {
        let file = format!("{name}.toml");
        let arguments = [&["recipe", "new", "--data", "data", "-o", &file, "--minutes", "1"], more].concat();
        let written = run(folder, &arguments);
        assert_eq!((written.code, written.stdout.as_str()), (0, format!("{file}\n").as_str()), "{}", written.stderr);
        let train = format!("next: imagen train {file} --run runs/{name}");
        assert!(written.stderr.contains(&train), "{}", written.stderr);
        let recipe = fs::read_to_string(folder.join(&file)).unwrap();
        for words in words {
            assert!(recipe.contains(words), "{words}: {recipe}");
        }
        assert!(recipe.lines().all(|line| line.chars().count() <= 120 || !line.starts_with('#')), "{recipe}");
        assert!(succeed(folder, &["plan", &file]).contains("most at a time"));
        let arguments = ["train", &file, "--run", name, "-q", "--steps", "1", "--text-encoder", &text];
        assert_eq!(succeed(folder, &arguments), format!("{name}/base.safetensors\n"));
    }
    let again = ["recipe", "new", "--data", "data", "-o", "any.toml", "--unconditional"];
    let refused = run(folder, &again);
    assert!(refused.code == 2 && refused.stderr.contains("--force"), "{} {}", refused.code, refused.stderr);
    succeed(folder, &[&again[..], &["--force", "-q"]].concat());
    let printed = succeed(folder, &["recipe", "new", "--data", "data", "--unconditional", "-q"]);
    assert!(printed.starts_with("# base for data: ") && printed.contains("\n[train]\n"), "{printed}");
}

#[test]
fn a_model_that_is_taught_something_new_keeps_its_other_stages() {
    let folder = folder("32");
    let folder = folder.path();
    tiny::model(&folder.join("m"), &Trained::BOTH);
    let written = run(folder, &["recipe", "new", "--data", "data", "--from", "m", "-o", "mine.toml"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    let recipe = fs::read_to_string(folder.join("mine.toml")).unwrap();
    let commands = [
        "#   imagen train mine.toml --run runs/mine --init-from m --text-encoder m/text\n",
        "#   imagen export runs/mine --model models/mine --text-encoder m/text\n",
    ];
    assert!(commands.iter().all(|command| recipe.contains(command)), "{recipe}");
    let train = |run_folder: &str, from: &str| {
        let more =
            ["--init-from", from, "-q", "--steps", "1", "--set", "train.sample_every=0", "--text-encoder", "m/text"];
        succeed(folder, &[&["train", "mine.toml", "--run", run_folder], &more[..]].concat());
    };
    train("run", "m");
    let export = |run_folder: &str, model: &str, more: &[&str]| {
        let arguments = ["export", run_folder, "--model", model, "--text-encoder", "m/text"];
        let exported = run(folder, &[&arguments[..], more].concat());
        assert_eq!(exported.code, 0, "{}", exported.stderr);
        (exported.stdout, exported.stderr)
    };
    let (files_written, said) = export("run", "taught", &[]);
    assert_eq!(files_written, "taught/base.safetensors\ntaught/sr256.safetensors\n");
    assert!(
        said.contains(
            "base: step 1 of 1, average 0.99\ntaught/known.safetensors: captions that it was taught\nsr256: as in m\n"
        ),
        "{said}"
    );
    let bytes = |path: &str| fs::read(folder.join(path)).unwrap();
    assert!(bytes("m/sr256.safetensors") == bytes("taught/sr256.safetensors"));
    assert!(bytes("m/base.safetensors") != bytes("taught/base.safetensors"));
    succeed(folder, &["sample", "a red circle", "-mtaught", "-s1", "-q", "-o", "drawn.png"]);

    // a stage that is there stays, none is taken where none is asked for, and one that was named is
    let (_, said) = export("run", "taught", &[]);
    assert!(said.contains("sr256: stays as it is in taught"), "{said}");
    assert_eq!(export("run", "alone", &["--stages-from", "none"]).0, "alone/base.safetensors\n");
    train("from-file", "m/base.safetensors");
    assert!(export("from-file", "by-file", &[]).0.ends_with("by-file/sr256.safetensors\n"));
    fs::rename(folder.join("m"), folder.join("moved")).unwrap();
    let encoder = ["--text-encoder", "moved/text"];
    let gone = run(folder, &[&["export", "run", "--model", "gone"], &encoder[..]].concat());
    assert!(
        gone.code == 0 && gone.stderr.contains("no other stage is brought along: there is no model m"),
        "{}",
        gone.stderr
    );
    let arguments = ["export", "run", "--model", "named", "--stages-from", "moved"];
    let named = succeed(folder, &[&arguments[..], &encoder].concat());
    assert_eq!(named, "named/base.safetensors\nnamed/sr256.safetensors\n");
}

#[test]
fn a_stage_that_does_not_fit_is_left_and_said() {
    let folder = folder("32");
    let folder = folder.path();
    tiny::model(&folder.join("m"), &Trained::BOTH);
    fs::write(folder.join("recipe.toml"), tiny::recipe("data").replace("size = 16", "size = 32")).unwrap();
    let text = encoder();
    let train = ["train", "recipe.toml", "--run", "run", "-q", "--steps", "1", "--text-encoder", &text];
    succeed(folder, &train);
    let export = ["export", "run", "--model", "mine", "--stages-from", "m", "--text-encoder", &text];
    let exported = run(folder, &export);
    assert_eq!((exported.code, exported.stdout.as_str()), (0, "mine/base.safetensors\n"), "{}", exported.stderr);
    let why = "sr256: not brought along from m: base draws 32×32 pixels, sr256 enlarges 16×16";
    assert!(exported.stderr.contains(why), "{}", exported.stderr);
}

#[test]
fn a_recipe_for_what_cannot_be_trained_is_refused_before_work_begins() {
    let folder = folder("32");
    let folder = folder.path();
    tiny::model(&folder.join("m"), &Trained::BASE);
    fs::create_dir(folder.join("empty")).unwrap();
    fs::create_dir(folder.join("mute")).unwrap();
    for name in files(&folder.join("data/images")) {
        fs::copy(folder.join("data/images").join(&name), folder.join("mute").join(&name)).unwrap();
    }
    let text = encoder();
    all_refused_after(
        folder,
        &["recipe", "new"],
        &[
            (&[], 2, "--data"),
            (&["--data", "nowhere"], 3, "there is no folder nowhere"),
            (&["--data", "empty"], 3, "empty holds no picture"),
            (&["--data", "mute", "--text-encoder", &text], 3, "none of the 48 pictures in mute has a caption"),
            (&["--data", "mute", "--from", "m"], 3, "none of the 48 pictures in mute has a caption"),
            (&["--data", "data", "--stage", "sr512"], 2, "possible values: base, sr256, sr1024"),
            (&["--data", "data", "--stage", "sr256", "--unconditional"], 3, "too small for stage sr256"),
            (&["--data", "data", "--from", "m", "--stage", "sr256"], 4, "m has no stage sr256"),
            (&["--data", "data", "--from", "nowhere"], 4, "there is no model nowhere"),
            (&["--data", "data", "--unconditional", "--size", "20"], 2, "takes multiples of 8"),
            (&["--data", "data", "--unconditional", "--max-memory", "1M"], 5, "even one picture at a time"),
        ],
    );
    let refused = run(folder, &["recipe", "keys", "frobnicate"]);
    assert!(refused.code == 2 && refused.stderr.contains("no key of a recipe speaks of"), "{}", refused.stderr);
}

#[test]
fn the_page_of_keys_is_what_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let page = committed("KEYS.md");
    let printed = succeed(folder.path(), &["recipe", "keys"]);
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
    if update {
        fs::write(&page, &printed).unwrap();
    }
    let there = fs::read_to_string(&page).unwrap();
    assert!(there == printed, "recipes/KEYS.md is old: write it anew with `imagen recipe keys > recipes/KEYS.md`");
    let some = succeed(folder.path(), &["recipe", "keys", "EMA"]);
    assert!(some.contains("`ema_decay`") && !some.contains("`micro_batch`"), "{some}");
}

#[test]
fn the_stages_of_the_paper_an_eighth_as_wide_train_and_draw() {
    let folder = folder("32");
    let folder = folder.path();
    let text = encoder();
    // as the paper's cascade, but small: 32 → 64 → 128 pixels, the last trained on crops
    for (stage, preset, set) in [
        ("base", "base64", &["stage.size=32"][..]),
        ("sr256", "sr256", &["stage.size=64", "stage.low_size=32", "data.min_side=0"]),
        ("sr1024", "sr1024", &["stage.size=128", "stage.low_size=64", "data.crop=64", "data.min_side=0"]),
    ] {
        let recipe = committed(&format!("paper/{preset}.toml"));
        let recipe = recipe.to_str().unwrap();
        assert!(succeed(folder, &["plan", recipe, "--max-memory", "1T"]).contains("2500000 steps"));
        let small = ["width_multiplier=0.125", "unet.text_dim=384"].map(|key| format!("stage.{key}"));
        let short =
            ["train.batch=2", "train.micro_batch=1", "train.warmup=1", "train.enlarge_pictures=0", "data.folder=data"];
        let sets = small.iter().map(String::as_str).chain(short).chain(set.iter().copied());
        let mut arguments = vec!["train", recipe, "--run", stage, "-q", "--steps", "2", "--text-encoder", &text];
        sets.for_each(|set| arguments.extend(["--set", set]));
        succeed(folder, &arguments);
        succeed(folder, &["export", stage, "--model", "paper", "-q", "--text-encoder", &text]);
    }
    let written = ["base.safetensors", "known.safetensors", "sr1024.safetensors", "sr256.safetensors", "text"];
    assert_eq!(files(&folder.join("paper")), written);
    let draw = ["sample", "a red circle", "--model", "paper", "--steps", "2", "-s1", "-q", "-o", "drawn.png"];
    succeed(folder, &draw);
    let drawn = imagen::image::decode::size(&folder.join("drawn.png")).unwrap();
    assert_eq!(drawn, [128, 128]);
    let unknown =
        run(folder, &["plan", committed("paper/base64.toml").to_str().unwrap(), "--set", "stage.preset=base46"]);
    let words = "unknown preset 'base46', expected one of: base64, sr256, sr1024";
    assert!(unknown.code == 2 && unknown.stderr.contains(words), "{} {}", unknown.code, unknown.stderr);
}
