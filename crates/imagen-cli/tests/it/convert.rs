//! `imagen models convert`: a state dict of PyTorch becomes a stage, whole or not at all.

use std::path::Path;

use imagen::models::weights::{NamedTensor, Precision, Weights, write_safetensors};

use crate::tiny::{self, Trained};
use crate::trust::rewrite;
use crate::{files, run, succeed};

/// The tensors of a stage with the axes as PyTorch has them.
fn state_dict(stage: &Path) -> Vec<NamedTensor<'static>> {
    let weights = Weights::open(stage).unwrap();
    let turned = |name: &str| {
        let shape = weights.shape(name).unwrap().to_vec();
        let values = weights.tensor_f32(name, &shape).unwrap();
        let (shape, values) = match *shape {
            [3, 3, c, k] => {
                let at = |i: usize| values[(i % 9 * c + i / 9 % c) * k + i / 9 / c];
                (vec![k, c, 3, 3], (0..values.len()).map(at).collect())
            }
            [c, k] if name.ends_with("weight") => {
                // some as 1×1 convolutions
                let shape = if name.contains("shortcut") { vec![k, c, 1, 1] } else { vec![k, c] };
                (shape, (0..values.len()).map(|i| values[i % c * k + i / c]).collect())
            }
            _ => (shape, values),
        };
        NamedTensor { name: format!("model.{name}"), shape, values: Vec::into(values) }
    };
    weights.names().map(turned).collect()
}

fn write(path: &Path, tensors: &[NamedTensor<'_>], header: &[(&str, &str)]) {
    let header = header.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    write_safetensors(path, tensors, &header, Precision::F32).unwrap();
}

#[test]
fn a_state_dict_of_this_u_net_becomes_the_same_stage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    tiny::model(&path.join("m"), &Trained::BASE);
    std::fs::write(path.join("base.toml"), tiny::recipe("data")).unwrap();
    let tensors = state_dict(&path.join("m/base.safetensors"));
    write(&path.join("pt.safetensors"), &tensors, &[("imagen.source", "pytorch")]);
    let text = tiny::text_encoder();
    let text = ["--text-encoder", text.to_str().unwrap()];
    let convert =
        ["models", "convert", "pt.safetensors", "--recipe", "base.toml", "--model", "new", "--prefix", "model."];
    let convert = [&convert[..], &text].concat();
    assert_eq!(succeed(path, &convert), "new/base.safetensors\n");
    let (old, new) = (path.join("m/base.safetensors"), path.join("new/base.safetensors"));
    let [old, new] = [old, new].map(|file| Weights::open(&file).unwrap());
    assert!(old.names().eq(new.names()));
    for name in old.names() {
        let shape = old.shape(name).unwrap();
        assert_eq!(old.tensor_f32(name, shape).unwrap(), new.tensor_f32(name, shape).unwrap(), "{name}");
    }
    for model in ["m", "new"] {
        succeed(path, &["sample", "a red apple", "--model", model, "-q", "-s1", "-o", &format!("{model}.png")]);
    }
    let pixels =
        ["m.png", "new.png"].map(|name| imagen::image::decode::open(&path.join(name), &Default::default()).unwrap());
    assert_eq!(pixels[0], pixels[1]);

    // what does not fit is listed, and nothing is written
    let mut wrong = tensors;
    let gone = wrong.remove(0).name;
    let bias = wrong.iter_mut().find(|tensor| tensor.shape.len() == 1).unwrap();
    let (misshapen, n) = (bias.name.clone(), bias.shape[0]);
    bias.shape = vec![n, 1];
    wrong.push(NamedTensor { name: "model.gamma".into(), shape: vec![1], values: vec![1.0].into() });
    write(&path.join("pt.safetensors"), &wrong, &[]);
    let refused =
        run(path, &convert.iter().map(|word| if *word == "new" { "other" } else { word }).collect::<Vec<_>>());
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let shape = format!("`{misshapen}` has shape [{n}, 1] (expected [{n}])");
    for words in ["(3 tensors)", &format!("`{gone}` is missing"), &shape, "`model.gamma` has no place in this network"]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert!(!files(path).contains(&"other".to_owned()));
}

/// The checkpoint of imagen-pytorch that the library's tests hold against the package, made for the text encoder here.
fn imagen_pytorch(path: &Path, with_settings: bool, steps: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden/imagen_pytorch/model.safetensors");
    let weights = Weights::open(&golden).unwrap();
    let tensor = |name: &str| {
        let shape = weights.shape(name).unwrap().to_vec();
        if name.ends_with("text_to_cond.weight") {
            let values = (0..shape[0] * 384).map(|i| (i as f32 * 0.7).sin() * 0.05).collect();
            return NamedTensor { name: name.into(), shape: vec![shape[0], 384], values };
        }
        let values = weights.tensor_f32(name, &shape).unwrap();
        NamedTensor { name: name.into(), shape, values: values.into() }
    };
    let tensors: Vec<_> = weights.names().map(tensor).collect();
    let settings = weights.metadata()["imagen.settings"].as_str();
    let settings = settings.replacen("\"steps\": null", &format!("\"steps\": {steps}"), 1);
    let header: &[(&str, &str)] = if with_settings { &[("imagen.settings", &settings)] } else { &[] };
    write(path, &tensors, header);
}

#[test]
fn a_checkpoint_of_imagen_pytorch_becomes_a_model_that_draws() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    imagen_pytorch(&path.join("l.safetensors"), true, "null");
    let text = tiny::text_encoder();
    let convert = ["models", "convert", "l.safetensors", "--text-encoder", text.to_str().unwrap(), "--model"];
    let converted = succeed(path, &[&convert[..], &["m", "--steps", "12"]].concat());
    assert_eq!(converted, "m/base.safetensors\nm/sr256.safetensors\n");

    for (name, steps) in [("a.png", "2"), ("b.png", "2"), ("c.png", "3")] {
        succeed(path, &["sample", "a red apple", "--model", "m", "-q", "-s7", "--steps", steps, "-o", name]);
    }
    let pixels = |name| imagen::image::decode::open(&path.join(name), &Default::default()).unwrap();
    assert_eq!((pixels("a.png").width(), pixels("a.png").height()), (32, 32));
    assert_eq!(pixels("a.png"), pixels("b.png"));
    assert_ne!(pixels("a.png"), pixels("c.png"));

    let inspected = succeed(path, &["inspect", "m"]);
    for words in ["base: 16×16 pixels, trained for 12 steps", "crowson-cosine schedule", "sr256: 16×16 to 32×32 pixels"]
    {
        assert!(inspected.contains(words), "{words}: {inspected}");
    }
    assert!(succeed(path, &["plan", "m"]).contains("drawing 1 picture with base"));

    // files of before said by the layout whose network it is
    for stage in ["base", "sr256"] {
        rewrite(&path.join(format!("m/{stage}.safetensors")), |header, _| {
            let entry = &mut header["__metadata__"]["imagen.stage"];
            let mut stage: serde_json::Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
            stage["unet"]["layout"] = stage.as_object_mut().unwrap().remove("network").unwrap();
            *entry = stage.to_string().into();
        });
    }
    succeed(path, &["sample", "a red apple", "--model", "m", "-q", "-s7", "--steps", "2", "-o", "old.png"]);
    assert_eq!(pixels("old.png"), pixels("a.png"));

    // what the package has not trained is left out
    imagen_pytorch(&path.join("l.safetensors"), true, "[30, 0]");
    assert_eq!(succeed(path, &[&convert[..], &["half"]].concat()), "half/base.safetensors\n");
    assert!(succeed(path, &["inspect", "half"]).contains("base: 16×16 pixels, trained for 30 steps"));

    // its networks are not trained here, and the encoder must be the one that they were trained with
    let refused = run(path, &["bench", "--network", "m/base.safetensors"]);
    assert!(refused.stderr.contains("stage base was converted from imagen-pytorch"), "{}", refused.stderr);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden/imagen_pytorch/model.safetensors");
    let refused = run(path, &["models", "convert", golden.to_str().unwrap(), "--model", "n"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("384 numbers, and the network takes 12"), "{}", refused.stderr);
    assert!(refused.stderr.contains("was trained with google/t5-v1_1-small"), "{}", refused.stderr);
}

#[test]
fn what_a_checkpoint_of_imagen_pytorch_does_not_say_comes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    imagen_pytorch(&path.join("l.safetensors"), false, "null");
    let text = tiny::text_encoder();
    let convert = ["models", "convert", "l.safetensors", "--text-encoder", text.to_str().unwrap(), "--model", "m"];
    let refused = |more: &[&str], code: i32, words: &[&str]| {
        let refused = run(path, &[&convert[..], more].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (code, ""), "{}", refused.stderr);
        for words in words {
            assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        }
        assert_eq!(files(path).iter().filter(|file| file.contains("m/")).count(), 0);
    };
    refused(&[], 2, &["give image_sizes, a list of 2", "--settings"]);
    std::fs::write(path.join("s.json"), r#"{"image_sizes": [16, 32], "pred_objectives": "flow"}"#).unwrap();
    refused(&["--settings", "s.json"], 2, &["pred_objectives = \"flow\": expected noise, x_start or v"]);
    std::fs::write(path.join("list.json"), "[16, 32]").unwrap();
    refused(&["--settings", "list.json"], 2, &["list.json is no JSON object", "hint: expected the arguments"]);
    refused(&["--settings", "none.json"], 4, &["cannot read none.json"]);
    refused(&["--recipe", "base.toml"], 2, &["--recipe does not go with a checkpoint of imagen-pytorch"]);

    std::fs::write(path.join("s.json"), r#"{"image_sizes": [16, 32], "timesteps": [4, 3]}"#).unwrap();
    succeed(path, &[&convert[..], &["--settings", "s.json"]].concat());
    assert!(succeed(path, &["inspect", "m"]).contains("ddpm, 4 steps"));
}
