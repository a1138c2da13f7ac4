//! Folders that are damaged or of another kind: one message that names file, tensor and expectation.

use std::path::Path;

use imagen::cascade::deepfloyd::{DeepFloyd, Embeddings, StageFolder};
use imagen::models::weights::{NamedTensor, Precision, Storage, Weights, write_safetensors};
use imagen::{Error, ErrorKind};

use super::drawing::copy;
use super::golden;

/// Opens and builds both stages of a folder.
fn build(folder: &Path) -> Result<(), Error> {
    let model = DeepFloyd::open(folder, None, &crate::device())?;
    model
        .stages()
        .into_iter()
        .try_for_each(|stage| model.folder(stage).unwrap().build(Storage::Stored, &crate::device()).map(drop))
}

/// A copy of a stage with something changed, and what is said about it.
fn damaged(stage: &str, change: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(stage), folder.path());
    build(folder.path()).unwrap();
    change(folder.path());
    let error = build(folder.path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Model | ErrorKind::Io), "{error:#}");
    format!("{error:#}")
}

/// What is said when the tensors of the second stage are changed.
fn with_tensors(change: impl FnOnce(&mut Vec<NamedTensor<'static>>)) -> String {
    damaged("two", |folder| {
        let path = folder.join("unet/diffusion_pytorch_model.safetensors");
        let weights = Weights::open(&path).unwrap();
        let tensor = |name: &str| {
            let shape = weights.shape(name).unwrap().to_vec();
            let values = weights.tensor_f32(name, &shape).unwrap();
            NamedTensor { name: name.to_owned(), shape, values: values.into() }
        };
        let mut tensors: Vec<NamedTensor<'static>> = weights.names().map(tensor).collect();
        change(&mut tensors);
        write_safetensors(&path, &tensors, &Default::default(), Precision::F32).unwrap();
    })
}

/// A JSON file with a key replaced.
fn with_key(stage: &str, file: &str, key: &str, value: serde_json::Value) -> String {
    damaged(stage, |folder| {
        let path = folder.join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json[key] = value;
        std::fs::write(&path, json.to_string()).unwrap();
    })
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const SHARD: &str = "unet/diffusion_pytorch_model-00002-of-00002.safetensors";
const INDEX: &str = "unet/diffusion_pytorch_model.safetensors.index.json";

#[test]
fn shards_that_are_cut_missing_or_contradicted_are_named() {
    let cut = damaged("one", |folder| {
        let bytes = std::fs::read(folder.join(SHARD)).unwrap();
        std::fs::write(folder.join(SHARD), &bytes[..bytes.len() - 100]).unwrap();
    });
    says(&cut, &["00002-of-00002.safetensors is not a usable safetensors file", "truncated"]);
    let missing = damaged("one", |folder| std::fs::remove_file(folder.join(SHARD)).unwrap());
    says(
        &missing,
        &["index.json names the shard diffusion_pytorch_model-00002-of-00002.safetensors, which is not there"],
    );
    let index = |change: fn(String) -> String| {
        damaged("one", move |folder| {
            let text = std::fs::read_to_string(folder.join(INDEX)).unwrap();
            std::fs::write(folder.join(INDEX), change(text)).unwrap();
        })
    };
    says(
        &index(|text| text.replace("\"conv_in.bias\"", "\"conv_in.offset\"")),
        &["lacks `conv_in.offset`, which", "index.json says is in it"],
    );
    says(
        &index(|text| text.replace("diffusion_pytorch_model-00002", "../two")),
        &["index.json names \"../two", "expected a file beside it"],
    );
    says(&index(|_| "[]".into()), &["index.json is not the index of a cut checkpoint"]);
    let without = damaged("one", |folder| std::fs::remove_file(folder.join(INDEX)).unwrap());
    says(&without, &["unet holds no weights: expected diffusion_pytorch_model.safetensors"]);
}

#[test]
fn tensors_that_are_missing_mis_shaped_foreign_or_not_finite_are_named() {
    let wrong = with_tensors(|tensors| {
        tensors.retain(|tensor| tensor.name != "mid_block.attentions.0.norm_cross.weight");
        let bias = tensors.iter_mut().find(|tensor| tensor.name == "conv_out.bias").unwrap();
        (bias.shape, bias.values) = (vec![3], vec![0.0; 3].into());
        tensors.push(NamedTensor { name: "lora.down".into(), shape: vec![2], values: vec![0.0; 2].into() });
    });
    says(
        &wrong,
        &[
            "diffusion_pytorch_model.safetensors does not fit its config.json (3 tensors)",
            "`mid_block.attentions.0.norm_cross.weight` is missing (expected [32])",
            "`conv_out.bias` has shape [3] (expected [6])",
            "`lora.down` [2] is not of this network",
        ],
    );
    let nan = damaged("two", |folder| {
        // the last number of the last tensor
        let path = folder.join("unet/diffusion_pytorch_model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
    });
    says(&nan, &["diffusion_pytorch_model.safetensors: `", "holds a number that is not finite; the file is damaged"]);
}

#[test]
fn parts_that_are_missing_or_of_another_class_are_named() {
    for (part, expected) in [
        ("model_index.json", "model_index.json is missing"),
        ("unet/config.json", "unet/config.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is missing"),
        ("image_noising_scheduler/scheduler_config.json", "image_noising_scheduler/scheduler_config.json is missing"),
    ] {
        says(&damaged("two", |folder| std::fs::remove_file(folder.join(part)).unwrap()), &[expected]);
    }
    for (stage, file, key, value, expected) in [
        (
            "one",
            "model_index.json",
            "_class_name",
            "StableDiffusionPipeline",
            "names the pipeline `StableDiffusionPipeline`",
        ),
        ("one", "unet/config.json", "_class_name", "UNet3DConditionModel", "_class_name is \"UNet3DConditionModel\""),
        ("one", "unet/config.json", "mid_block_type", "UNetMidBlock2D", "mid_block_type is \"UNetMidBlock2D\""),
        ("one", "unet/config.json", "act_fn", "mish", "act_fn is \"mish\"; this network knows `gelu` and `silu`"),
        (
            "two",
            "model_index.json",
            "_class_name",
            "IFPipeline",
            "class_embed_type does not fit the pipeline `IFPipeline`",
        ),
        (
            "one",
            "unet/config.json",
            "encoder_hid_dim_type",
            "text_image_proj",
            "encoder_hid_dim_type is \"text_image_proj\"",
        ),
        ("one", "unet/config.json", "new_behaviour", "on", "new_behaviour is \"on\", and this network does not know"),
        ("one", "scheduler/scheduler_config.json", "_class_name", "PNDMScheduler", "_class_name is `PNDMScheduler`"),
    ] {
        says(&with_key(stage, file, key, value.into()), &[expected]);
    }
    for (key, value, expected) in [
        (
            "block_out_channels",
            serde_json::json!([8, 20]),
            "block_out_channels 20 is not divisible by norm_num_groups 8",
        ),
        ("block_out_channels", serde_json::json!([]), "block_out_channels has 0 entries"),
        ("down_block_types", serde_json::json!(["DownBlock2D", "DownBlock2D"]), "names the class \"DownBlock2D\""),
        ("layers_per_block", serde_json::json!([1]), "layers_per_block has 1 entries, block_out_channels 2"),
        ("layers_per_block", serde_json::json!(1_000_000), "layers_per_block is 1000000 (expected 1 to 256)"),
        ("out_channels", serde_json::json!(5), "out_channels is 5 (expected 3, or 6 with variances)"),
        ("out_channels", serde_json::json!(3), "needs a network of 6 output channels"),
        ("norm_eps", serde_json::json!(1e-6), "norm_eps is 1e-6"),
        ("attention_head_dim", serde_json::json!(0), "is not divisible by attention_head_dim 0"),
        (
            "cross_attention_dim",
            serde_json::json!(48),
            "cross_attention_dim 48 is not divisible by the groups of norm_cross 32",
        ),
        ("sample_size", serde_json::json!(-1), "sample_size is -1; this network knows whole numbers"),
        ("layers_per_block", serde_json::json!(3), "is missing (expected"),
    ] {
        says(&with_key("one", "unet/config.json", key, value), &[expected]);
    }
}

#[test]
fn a_second_stage_is_found_once_or_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("one"), folder.path());
    for name in ["a", "b"] {
        copy(&golden("two"), &folder.path().join(name));
    }
    let device = crate::device();
    let several = DeepFloyd::open(folder.path(), None, &device).unwrap_err();
    says(&format!("{several:#}"), &["holds several second stages", "name one"]);
    let named = DeepFloyd::open(folder.path(), Some(&folder.path().join("b")), &device).unwrap();
    assert_eq!(named.stages().len(), 2);
    let first = DeepFloyd::open(folder.path(), Some(&golden("one")), &device).unwrap_err();
    says(&format!("{first:#}"), &["is no second stage"]);
    assert!(StageFolder::open(&golden("two")).unwrap().second);
}

#[test]
fn embeddings_from_outside_are_held_against_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.safetensors");
    let tensor = |name: &str, shape: [usize; 3]| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values: vec![0.5; shape.iter().product()].into(),
    };
    for (tensors, expected) in [
        (vec![tensor("prompt_embeds", [1, 2, 3])], "expected a tensor `negative_prompt_embeds`"),
        (
            vec![tensor("prompt_embeds", [1, 2, 3]), tensor("negative_prompt_embeds", [1, 2, 4])],
            "negative_prompt_embeds is [1, 2, 4]: expected [1 or 1, 2, 3]",
        ),
    ] {
        write_safetensors(&path, &tensors, &Default::default(), Precision::F32).unwrap();
        let error = Embeddings::open(&path, &crate::device()).unwrap_err();
        says(&format!("{error:#}"), &["e.safetensors", expected]);
    }
}
