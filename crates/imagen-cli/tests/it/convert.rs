//! `imagen models convert`: a state dict of PyTorch becomes a stage, whole or not at all.

use std::path::Path;

use imagen::models::weights::{NamedTensor, Precision, Weights, write_safetensors};

use crate::tiny::{self, Trained};
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

#[test]
fn checkpoints_of_imagen_pytorch_are_refused_with_what_stands_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let tensor = |name: &str| NamedTensor { name: name.into(), shape: vec![2, 3], values: vec![0.5; 6].into() };
    let tensors = [
        tensor("unets.0.init_conv.convs.0.weight"),
        tensor("unets.0.mid_block1.block1.norm.gamma"),
        tensor("unets.1.mid_attn.layers.0.0.null_kv"),
    ];
    let settings = r#"{"type":"original","parameters":{"image_sizes":[64,256],"noise_schedules":["cosine"]}}"#;
    write(&path.join("l.safetensors"), &tensors, &[("imagen.source", "imagen-pytorch"), ("imagen.settings", settings)]);
    let refused = run(path, &["models", "convert", "l.safetensors"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{}", refused.stderr);
    for words in [
        "l.safetensors holds 2 U-Nets of imagen-pytorch",
        "unets.0: 2 tensors, 12 parameters, none of them carried over: a first convolution of several window sizes; norms over",
        "unets.1: 1 tensors, 6 parameters, none of them carried over: attention with one head of keys and values",
        "image_sizes [64,256], noise_schedules [\"cosine\"]",
        "hint: ",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(files(path), ["l.safetensors"]);
}
