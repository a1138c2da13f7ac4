//! A folder of DeepFloyd IF through the program: both stages with text encoder and safety checker, and damaged folders.
//!
//! The folders are put together from the library's golden data: pipelines that diffusers saved, a T5 that transformers saved.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use imagen::image::{DecodeOptions, Picture, decode, png};
use imagen::models::weights::{NamedTensor, Precision, Weights, write_safetensors};

use crate::refusals::all_refused_after;
use crate::{files, finish, imagen, run, succeed};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Changes a JSON file.
fn with_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Changes the tensors of a file.
fn with_tensors(path: &Path, change: impl FnOnce(&mut Vec<NamedTensor<'static>>)) {
    let weights = Weights::open(path).unwrap();
    let tensor = |name: &str| {
        let shape = weights.shape(name).unwrap().to_vec();
        let values = weights.tensor_f32(name, &shape).unwrap();
        NamedTensor { name: name.to_owned(), shape, values: values.into() }
    };
    let mut tensors: Vec<NamedTensor<'static>> = weights.names().map(tensor).collect();
    change(&mut tensors);
    write_safetensors(path, &tensors, &Default::default(), Precision::F32).unwrap();
}

/// The folders `IF` with its text encoder, and `II`.
pub(crate) fn cascade() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("IF");
    copy(&golden("if/one"), &one);
    copy(&golden("if/two"), &folder.path().join("II"));
    for (part, file) in
        [("text_encoder", "config.json"), ("text_encoder", "model.safetensors"), ("tokenizer", "spiece.model")]
    {
        fs::create_dir_all(one.join(part)).unwrap();
        fs::copy(golden("t5/gated").join(file), one.join(part).join(file)).unwrap();
    }
    with_json(&one.join("model_index.json"), |index| {
        index["text_encoder"] = json!(["transformers", "T5EncoderModel"]);
        index["tokenizer"] = json!(["transformers", "T5Tokenizer"]);
    });
    folder
}

/// Adds a safety checker whose heads' biases are these.
fn with_checker(folder: &Path, biases: [f32; 2]) {
    copy(&golden("if/safety/safety_checker"), &folder.join("IF/safety_checker"));
    copy(&golden("if/safety/feature_extractor"), &folder.join("IF/feature_extractor"));
    with_json(&folder.join("IF/model_index.json"), |index| {
        index["safety_checker"] = json!(["deepfloyd_if", "IFSafetyChecker"]);
        index["feature_extractor"] = json!(["transformers", "CLIPImageProcessor"]);
    });
    with_tensors(&folder.join("IF/safety_checker/model.safetensors"), |tensors| {
        for (name, bias) in ["p_head.bias", "w_head.bias"].into_iter().zip(biases) {
            tensors.iter_mut().find(|tensor| tensor.name == name).unwrap().values = vec![bias].into();
        }
    });
}

const DRAW: [&str; 9] = ["sample", "--model", "IF", "--model-2", "II", "--steps", "4,3", "--seed", "3"];

/// Draws with a cache of texts in the folder `cache`.
fn draw(folder: &Path, more: &[&str]) -> crate::Finished {
    finish(imagen(folder).env("XDG_CACHE_HOME", folder.join("cache")).args([&DRAW, more].concat()))
}

fn picture(path: &Path) -> Picture {
    decode::open(path, &DecodeOptions::default()).unwrap()
}

fn record(path: &Path) -> Value {
    let text = png::read_text(&fs::read(path).unwrap(), &DecodeOptions::default()).unwrap();
    serde_json::from_str(&text.imagen.unwrap()).unwrap()
}

#[test]
fn a_grid_holds_every_picture_of_the_cascade() {
    let folder = cascade();
    let drawn = draw(folder.path(), &["a cat", "--count", "2", "--output", "{seed}.png", "--grid", "grid.png"]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    let (grid, one) = (picture(&folder.path().join("grid.png")), picture(&folder.path().join("4.png")));
    // every pixel of a small picture is a square, and below stands what was asked for
    let factor = 160usize.div_ceil(one.width());
    let width = factor * one.width();
    assert_eq!(grid.width(), 2 * (width + 4) + 4);
    assert!(grid.height() > factor * one.height() + 8);
    let second = grid.crop(width + 8, 4, width, factor * one.height()).unwrap();
    let corner = |k: usize| &second.pixels()[k * factor * 3..][..3];
    assert!((0..one.width()).all(|k| corner(k) == &one.pixels()[k * 3..][..3]));
}

#[test]
fn a_prompt_is_drawn_through_both_stages_into_one_picture() {
    let folder = cascade();
    let path = folder.path();
    let drawn = draw(path, &["A Photo of a red apple", "--previews", "shown"]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    assert_eq!(drawn.stdout, "a-photo-of-a-red-apple-3.png\n");
    assert_eq!(files(path), ["IF", "II", "a-photo-of-a-red-apple-3.png", "cache", "shown"]);
    assert!(drawn.stderr.contains("opening IF") && drawn.stderr.contains("encoding the prompts"), "{}", drawn.stderr);
    let last = picture(&path.join("a-photo-of-a-red-apple-3.png"));
    assert_eq!((last.width(), last.height()), (16, 16));
    // each stage was shown, and last as it is handed on
    assert_eq!(files(&path.join("shown")), ["base.png", "sr256.png"]);
    let (base, sr256) = (picture(&path.join("shown/base.png")), picture(&path.join("shown/sr256.png")));
    assert_eq!((base.width(), &sr256), (8, &last));
    let record = record(&path.join("a-photo-of-a-red-apple-3.png"));
    assert_eq!(record["prompt"], "A Photo of a red apple");
    assert_eq!(record["caption"], "a photo of a red apple");
    assert_eq!(record["model"]["name"], "IF + II");
    assert_eq!(record["stages"]["base"]["steps"], 4);
    assert_eq!(
        (&record["stages"]["base"]["sampler"], &record["stages"]["sr256"]["aug_level"]),
        (&json!("learned"), &json!(0.25))
    );
    assert_eq!(record["safety"], "the model ships no checker");

    let base =
        |more: &[&str]| succeed(path, &[&DRAW[..], &["-q", "--no-text-cache", "--until", "base"], more].concat());
    let json = base(&["a red apple", "--json", "-o", "b.png"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["path"], &json["size"]), (&json!("b.png"), &json!([8, 8])));
    base(&["a green cube", "-o", "c.png"]);
    assert_ne!(picture(&path.join("b.png")), picture(&path.join("c.png")), "the prompt reaches the network");
}

#[test]
fn a_safety_checker_is_applied_and_the_picture_says_so() {
    for (biases, safety, note) in [
        ([-100.0, -100.0], "passed", "the safety checker passed 1 picture"),
        ([100.0, -100.0], "withheld, unsafe content", "picture 1 is withheld, unsafe content"),
        ([-100.0, 100.0], "withheld, a watermark", "picture 1 is withheld, a watermark"),
    ] {
        let folder = cascade();
        with_checker(folder.path(), biases);
        let drawn = draw(folder.path(), &["a red apple", "-o", "a.png", "--previews", "shown"]);
        assert_eq!(drawn.code, 0, "{}", drawn.stderr);
        assert!(drawn.stderr.contains(note), "{}", drawn.stderr);
        let a = folder.path().join("a.png");
        assert_eq!(record(&a)["safety"], safety);
        // what is withheld is not shown on the way either
        for path in [a, folder.path().join("shown/base.png"), folder.path().join("shown/sr256.png")] {
            let black = picture(&path).pixels().iter().all(|value| *value == 0);
            assert_eq!(black, safety != "passed", "{safety}: {}", path.display());
        }
    }
}

/// What is changed, the arguments, and what is said about it.
type Damage = (fn(&Path), &'static [&'static str]);

#[test]
fn damaged_folders_are_refused_with_file_tensor_and_expectation() {
    const SHARD: &str = "IF/unet/diffusion_pytorch_model-00002-of-00002.safetensors";
    const WHOLE: &str = "II/unet/diffusion_pytorch_model.safetensors";
    let cases: [Damage; 13] = [
        (
            |folder| {
                let bytes = fs::read(folder.join(SHARD)).unwrap();
                fs::write(folder.join(SHARD), &bytes[..bytes.len() - 100]).unwrap();
            },
            &["00002-of-00002.safetensors is not a usable safetensors file", "truncated"],
        ),
        (|folder| fs::remove_file(folder.join(SHARD)).unwrap(), &["index.json names the shard", "which is not there"]),
        (
            |folder| {
                with_tensors(&folder.join(WHOLE), |tensors| {
                    let bias = tensors.iter_mut().find(|tensor| tensor.name == "conv_out.bias").unwrap();
                    (bias.shape, bias.values) = (vec![3], vec![0.0; 3].into());
                });
            },
            &["II/unet/diffusion_pytorch_model.safetensors", "`conv_out.bias` has shape [3] (expected [6])"],
        ),
        (
            |folder| {
                with_tensors(&folder.join(WHOLE), |tensors| {
                    tensors.push(NamedTensor { name: "lora.down".into(), shape: vec![2], values: vec![0.0; 2].into() });
                });
            },
            &["II/unet/diffusion_pytorch_model.safetensors", "`lora.down` [2] is not of this network"],
        ),
        (
            |folder| {
                let mut bytes = fs::read(folder.join(WHOLE)).unwrap();
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
                fs::write(folder.join(WHOLE), bytes).unwrap();
            },
            &["II/unet/diffusion_pytorch_model.safetensors: `", "holds a number that is not finite"],
        ),
        (
            |folder| {
                with_json(&folder.join("IF/model_index.json"), |json| json["_class_name"] = "WuerstchenPipeline".into())
            },
            &["IF/model_index.json names the pipeline `WuerstchenPipeline`; known are those of DeepFloyd IF"],
        ),
        (
            |folder| with_json(&folder.join("IF/unet/config.json"), |json| json["_class_name"] = "UNet3D".into()),
            &["IF/unet", "_class_name is \"UNet3D\""],
        ),
        (
            |folder| fs::remove_file(folder.join("II/scheduler/scheduler_config.json")).unwrap(),
            &["II/scheduler/scheduler_config.json is missing"],
        ),
        (
            |folder| fs::remove_file(folder.join("IF/text_encoder/model.safetensors")).unwrap(),
            &["IF/text_encoder", "the text encoder has no model.safetensors"],
        ),
        (
            |folder| with_json(&folder.join("IF/text_encoder/config.json"), |json| json["model_type"] = "umt5".into()),
            &["IF/text_encoder", "names a text encoder `umt5`; known:"],
        ),
        (
            |folder| fs::remove_dir_all(folder.join("IF/tokenizer")).unwrap(),
            &["IF has no text_encoder/ and tokenizer/"],
        ),
        (
            |folder| {
                with_checker(folder, [0.0; 2]);
                fs::remove_file(folder.join("IF/feature_extractor/preprocessor_config.json")).unwrap();
            },
            &["IF/safety_checker", "preprocessor_config.json is missing, which the safety checker needs"],
        ),
        (
            |folder| {
                with_checker(folder, [0.0; 2]);
                fs::remove_dir_all(folder.join("IF/safety_checker")).unwrap();
            },
            &["IF/model_index.json names a safety_checker", "is not there; copy it beside unet"],
        ),
    ];
    let mut wrong = Vec::new();
    for (number, (change, words)) in cases.into_iter().enumerate() {
        let folder = cascade();
        change(folder.path());
        let refused = draw(folder.path(), &["a red apple"]);
        let error = refused.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        if refused.code != 4 || !refused.stdout.is_empty() || !words.iter().all(|words| error.contains(words)) {
            wrong.push(format!("case {number}, {words:?}: {} {}", refused.code, refused.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn settings_of_another_kind_of_model_are_refused() {
    let folder = cascade();
    all_refused_after(
        folder.path(),
        &["sample", "a red apple", "--model", "IF"],
        &[
            (&["--sampler", "eulers"], 2, "unknown sampler 'eulers'"),
            (&["--noise-level", "3"], 2, "--noise-level is for the second stage"),
            (&["--noise-level", "1000"], 2, "1000 is not in 0..=999"),
            (&["--timesteps", "fast28"], 2, "timesteps 'fast28': expected one of fast27"),
            (&["--timesteps", "fast27", "--steps", "5"], 2, "cannot be used with"),
            (&["--aug-level", "0.1"], 2, "--aug-level is for super-resolution stages, and this model has none"),
            (&["--model-2", "IF"], 2, "is no second stage"),
            (&["--until", "sr1024"], 2, "there is no stage sr1024; this model has base"),
        ],
    );
}

#[test]
fn embeddings_are_kept_and_a_text_encoder_is_not_needed_again() {
    let folder = cascade();
    let path = folder.path();
    let first = draw(path, &["a red apple", "-o", "1.png"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(files(&path.join("cache/imagen/texts")).len(), 2, "the prompt and the empty text");
    let weights = path.join("IF/text_encoder/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let second = draw(path, &["a red apple", "-o", "2.png"]);
    assert!(second.stderr.contains("embeddings are in the cache"), "{}", second.stderr);
    let without = draw(path, &["a red apple", "-o", "3.png", "--no-text-cache"]);
    assert!(without.stderr.contains("encoding the prompts"), "{}", without.stderr);
    let [one, two, three] = ["1.png", "2.png", "3.png"].map(|name| picture(&path.join(name)));
    assert!(one == two && one == three, "a picture does not depend on the cache");
    // another file is another encoder, whose embeddings are not those in the cache
    fs::write(&weights, &bytes[..bytes.len() - 8]).unwrap();
    let other = draw(path, &["a red apple", "-o", "4.png"]);
    assert_eq!(other.code, 4, "{}", other.stderr);
}

#[test]
fn what_does_not_fit_is_refused_beforehand_with_what_would() {
    let folder = cascade();
    let path = folder.path();
    let plan = ["plan", "IF", "--model-2", "II"];
    let text = succeed(path, &plan);
    for words in
        ["text encoder, ", "base, ", "sr256, ", "weights", "most at a time", "100 evaluations", "50 evaluations"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json: Value = serde_json::from_str(&succeed(path, &[&plan[..], &["--json"]].concat())).unwrap();
    let most = json["stages"].as_array().unwrap().iter().map(|stage| stage["bytes"].as_u64().unwrap()).max().unwrap();
    let stored = |more: &[&str]| -> u64 {
        let json: Value = serde_json::from_str(&succeed(path, &[&plan[..], &["--json"], more].concat())).unwrap();
        json["stages"][0]["memory"]["weights"].as_u64().unwrap()
    };
    assert!(
        stored(&["--text-storage", "f16"]) < stored(&[])
            && stored(&["--text-storage", "int8"]) < stored(&["--text-storage", "f16"])
    );
    let just_below = (most - 1).to_string();
    for command in [
        &[&plan[..], &["--max-memory", &just_below]].concat()[..],
        &[&DRAW[..], &["x", "--max-memory", "100M"]].concat(),
    ] {
        let refused = run(path, command);
        assert_eq!(refused.code, 5, "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("drawing (") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
    let fits = run(path, &[&plan[..], &["--batch", "64", "--max-memory", &most.to_string()]].concat());
    assert!(fits.code == 5 && fits.stderr.contains("it would fit with --batch 1: about "), "{}", fits.stderr);
    assert_eq!(files(path), ["IF", "II"]);
}

#[test]
fn a_published_name_is_looked_for_in_the_cache() {
    let folder = cascade();
    let path = folder.path();
    let with_home = |arguments: &[&str]| {
        let mut command = imagen(path);
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        finish(command.env("HF_HOME", path.join("home")).env("XDG_CACHE_HOME", path.join("cache")).args(arguments))
    };
    let draw = ["sample", "x", "--model", "DeepFloyd/tiny", "--until", "base", "--steps", "2", "-s1", "-o", "a.png"];
    let missing = with_home(&draw);
    assert_eq!(missing.code, 4, "{}", missing.stderr);
    assert!(missing.stderr.contains("hint: fetch it with `imagen models pull DeepFloyd/tiny`"), "{}", missing.stderr);
    let repository = path.join("home/hub/models--DeepFloyd--tiny");
    copy(&path.join("IF"), &repository.join("snapshots/0123abcd"));
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "0123abcd").unwrap();
    let drawn = with_home(&draw);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    assert_eq!(record(&path.join("a.png"))["model"]["name"], "DeepFloyd/tiny");
    assert_eq!(with_home(&["plan", "DeepFloyd/tiny"]).code, 0);
}

/// Everything that draws, measures or counts takes these folders as it takes any model.
#[test]
fn every_verb_takes_a_folder_of_deepfloyd() {
    let folder = cascade();
    let path = folder.path();
    succeed(path, &["data", "shapes", "set", "-n", "300", "--size", "16"]);
    let captions = json!({
        "images": (0..5).map(|k| json!({ "id": k, "file_name": format!("{k}.png") })).collect::<Vec<_>>(),
        "annotations": (0..5).map(|k| json!({ "id": k, "image_id": k, "caption": format!("a thing {k}") })).collect::<Vec<_>>(),
    });
    fs::write(path.join("captions.json"), captions.to_string()).unwrap();
    fs::write(path.join("suite.csv"), "Prompts,Category\na red apple,Colors\na green cube,Colors\n").unwrap();
    let verb = |arguments: &[&str]| {
        let done = finish(imagen(path).env("XDG_CACHE_HOME", path.join("cache")).args(arguments));
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout
    };
    let both = ["-m", "IF", "--model-2", "II", "--steps", "2,2", "-q"];
    let coco = ["eval", "coco", "drawn", "--captions", "captions.json", "-n4"];
    assert!(verb(&[&coco[..], &both].concat()).contains("sr256 (2 steps, learned, guidance 8)"));
    let drawn = picture(&path.join("drawn/000003.png"));
    assert_eq!(drawn.width(), 16, "through both stages");
    let made = record(&path.join("drawn/000003.png"));
    assert_eq!((&made["seed"], &made["safety"]), (&json!(3), &json!("the model ships no checker")));

    let one = ["-m", "IF", "--steps", "2", "-q"];
    let recovered = verb(&[&["eval", "recovery", "--data", "set", "-n3", "--sampler", "ddim"][..], &one].concat());
    assert!(recovered.contains("model IF: base (2 steps, ddim, guidance 7)"), "{recovered}");
    let table = verb(&[&["eval", "kid", "--data", "set", "--samples", "4"][..], &one].concat());
    assert!(table.contains("drawn by the model") && !table.contains("untrained"), "{table}");
    verb(&["eval", "sweep", "--data", "set", "-n4", "-o", "sweep", "-q", "--steps", "1,2", "-m", "IF"]);
    assert_eq!(fs::read_to_string(path.join("sweep/points.jsonl")).unwrap().lines().count(), 2);
    verb(&["eval", "drawbench", "study", "--suite", "suite.csv", "-n1", "--model", "if=IF", "--steps", "2", "-q"]);
    assert_eq!(files(&path.join("study/if")).len(), 2);
    assert!(verb(&["inspect", "IF"]).contains("DeepFloyd IF, 1 stage"));
    let bench = verb(&["bench", "--rounds", "1", "--seconds", "0", "--model", "IF", "--steps", "1"]);
    assert!(bench.contains("pictures of IF, base 1 steps, batch 1"), "{bench}");
}

#[test]
fn a_picture_is_drawn_again_from_what_it_says_and_from_what_older_ones_said() {
    let folder = cascade();
    let path = folder.path();
    let first = draw(path, &["a red apple", "-o", "1.png", "--noise-level", "100", "--sampler", "ddpm:0.2,learned"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let model = ["sample", "--model", "IF", "--model-2", "II", "-q", "--no-text-cache"];
    succeed(path, &[&model[..], &["--params-from", "1.png", "-o", "2.png"]].concat());
    assert_eq!(picture(&path.join("1.png")), picture(&path.join("2.png")));
    // the command that was printed
    let again = first.stderr.lines().find_map(|line| line.strip_prefix("again: imagen ")).expect("it is printed");
    let words: Vec<&str> = again.split(' ').filter(|word| *word != "--force").collect();
    let words: Vec<String> =
        words.join(" ").replace("'a red apple'", "a_red_apple").split(' ').map(|w| w.replace('_', " ")).collect();
    let words: Vec<&str> = words.iter().map(|word| if word == "1.png" { "3.png" } else { word }).collect();
    succeed(path, &words);
    assert_eq!(picture(&path.join("1.png")), picture(&path.join("3.png")), "{again}");
    // a record as earlier programs wrote it
    let old = json!({
        "deepfloyd": 1, "program": "imagen 0.1.0", "prompt": "a red apple", "caption": "a red apple", "seed": 3,
        "model": ["IF", "II"], "safety": "the model ships no checker", "size": [16, 16],
        "stages": { "base": { "timesteps": "leading:4", "guidance": 7.0 },
            "sr256": { "timesteps": "leading:3", "guidance": 4.0, "noise_level": 250 } },
    });
    let plain = draw(path, &["a red apple", "-o", "4.png"]);
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    let text = imagen::image::PngText { parameters: None, imagen: Some(old.to_string()) };
    fs::write(path.join("old.png"), png::encode(&picture(&path.join("4.png")), &text).unwrap()).unwrap();
    succeed(path, &[&model[..], &["--params-from", "old.png", "-o", "5.png"]].concat());
    assert_eq!(picture(&path.join("4.png")), picture(&path.join("5.png")));
}
