//! LoRA adapters and restorations: from a recipe to pictures, and what is refused on the way.

use std::fs;

use serde_json::Value;

use crate::tiny::{self, Trained};
use crate::{run, succeed, train};

fn record(folder: &std::path::Path, name: &str) -> Value {
    let bytes = fs::read(folder.join(name)).unwrap();
    let text = imagen::image::png::read_text(&bytes, &imagen::image::DecodeOptions::default()).unwrap();
    serde_json::from_str(&text.imagen.unwrap()).unwrap()
}

#[test]
fn adapters_are_learned_drawn_with_and_said_in_the_picture() {
    let folder = train::folder();
    let path = folder.path();
    tiny::model(&path.join("m"), &Trained::BASE);
    let lora = ["--steps", "2", "--set", "train.lora.rank=2"];
    let refused = train::train(path, "style", &lora);
    assert!(refused.code == 2 && refused.stderr.contains("--init-from built-in"), "{}", refused.stderr);
    let trained = train::train(path, "style", &[&lora[..], &["--init-from", "m"]].concat());
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    let draw = |name: &str, more: &[&str]| {
        let sample = ["sample", "a red circle", "-mm", "-s1", "-f", "-o", name];
        run(path, &[&sample[..], more].concat())
    };
    assert_eq!(draw("plain.png", &[]).code, 0);
    let drawn = draw("style.png", &["--lora", "style:0.5"]);
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    assert!(drawn.stderr.contains("with style/base.lora.safetensors times 0.5 (base, step 2)"), "{}", drawn.stderr);
    assert!(drawn.stderr.contains("--lora style:0.5"), "said again: {}", drawn.stderr);
    let loras = &record(path, "style.png")["model"]["loras"];
    assert_eq!((&loras[0]["name"], &loras[0]["strength"]), (&"style".into(), &0.5.into()), "{loras}");
    assert!(record(path, "plain.png")["model"].get("loras").is_none(), "of a picture without there is no word of it");

    let again = ["sample", "-mm", "--params-from", "style.png", "-o", "again.png"];
    let refused = run(path, &again);
    assert!(refused.code == 2 && refused.stderr.contains("style:0.5"), "{}", refused.stderr);
    succeed(path, &[&again[..], &["--lora", "style/base.lora.safetensors:0.5"]].concat());
    assert_eq!(fs::read(path.join("again.png")).unwrap(), fs::read(path.join("style.png")).unwrap());
    for (given, code, words) in [
        ("m", 4, "holds no adapters"),
        ("m/base.safetensors", 4, "expected tensors named"),
        (":0.5", 2, "runs/mine:0.8"),
    ] {
        let refused = draw("no.png", &["--lora", given]);
        assert!(refused.code == code && refused.stderr.contains(words), "{given}: {}", refused.stderr);
    }
    assert!(!path.join("no.png").exists());
}

#[test]
fn a_picture_is_measured_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    tiny::model(&path.join("m"), &Trained::BASE);
    succeed(path, &["data", "shapes", "data", "--count", "2", "--size", "16", "--seed", "1"]);
    let images = fs::read_dir(path.join("data/images")).unwrap();
    let picture = images.map(|entry| entry.unwrap().path()).min().unwrap();
    let picture = picture.to_str().unwrap();
    let restore = |more: &[&str]| run(path, &[&["restore", picture, "-mm", "-f", "-o", "out.png"], more].concat());
    for (operator, method) in
        [("superres:2", "ascent"), ("blur:1", "guided"), ("grey", "ascent"), ("spectral:0.3", "guided")]
    {
        let flags = ["--simulate", "--json", "--operator", operator, "--method", method, "--steps", "12"];
        let restored = restore(&flags);
        assert_eq!(restored.code, 0, "{operator}: {}", restored.stderr);
        let said: Value = serde_json::from_str(&restored.stdout).unwrap();
        // of a few steps of a network that knows nothing only this can be asked
        assert!(said["residual"].as_f64().unwrap() < 0.05, "{operator}: {said}");
        assert!(said["psnr"].as_f64().is_some() && said["steps"] == 12, "{operator}: {said}");
    }
    let all = restore(&["--simulate", "--json", "--operator", "random-pixels:1", "--steps", "3"]);
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    assert!(all["psnr"].as_f64().unwrap() > 45.0, "where all is known all comes back: {all}");
    let measured = restore(&["--operator", "superres:2", "--steps", "2", "--measured", "seen.png"]);
    assert_eq!((measured.code, measured.stdout.as_str()), (0, "out.png\n"), "{}", measured.stderr);
    assert!(path.join("seen.png").exists());
    for (flags, code, words) in [
        (&["--operator", "superres:3"][..], 2, "divides 16"),
        (&["--operator", "inpaint:gone.png"], 1, "gone.png"),
        (&["--operator", "sharpen"], 2, "expected blur:S"),
        (&["--operator", "spectral:0"], 2, "above 0"),
    ] {
        let refused = restore(flags);
        assert!(
            refused.code == code && refused.stderr.contains(words),
            "{flags:?}: {} {}",
            refused.code,
            refused.stderr
        );
    }
    let taken = run(path, &["restore", picture, "-mm", "-o", picture, "--operator", "grey"]);
    assert!(taken.code == 2 && taken.stderr.contains("already there"), "{}", taken.stderr);
}
