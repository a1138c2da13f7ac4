//! The networks of both stages, and how large those of published configurations are.

use imagen::models::if_unet::{IfUnet, IfUnetConfig};
use imagen::models::weights::{Storage, Weights};
use imagen::nn::{Precision, ops};

use super::{Golden, error, golden, numbers};

fn network(stage: &str) -> IfUnet {
    let folder = golden(stage).join("unet");
    let config = IfUnetConfig::from_json(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open_checkpoint(&folder, "diffusion_pytorch_model").unwrap();
    IfUnet::new(config, &weights, Storage::Stored, &crate::device()).unwrap()
}

/// Both networks at three times: on the kernels and by the operations' definitions.
#[test]
fn both_networks_predict_what_diffusers_predicts() {
    let golden = Golden::open(&golden(""));
    for (stage, noise_level) in [("one", None), ("two", Some(250.0))] {
        let network = network(stage);
        let text = network.text(golden.tensor("prompt_embeds")).unwrap();
        for step in [0, 377, 999] {
            let run = || network.forward(golden.tensor(&format!("unet.{stage}.x")), step as f32, noise_level, &text);
            let expected = golden.values(&format!("unet.{stage}.{step}"));
            for (way, y) in [("kernels", run().unwrap()), ("definition", ops::by_definition(run).unwrap())] {
                let error = error(&numbers(&y), expected);
                println!("{stage} at {step} by {way}: {error:.1e}");
                assert!(error <= 1e-5, "{stage} at {step} by {way}: relative error {error:.1e}");
            }
            let rounded = error(&numbers(&Precision::Bf16.during(run).unwrap()), expected);
            println!("{stage} at {step} in bf16: {rounded:.1e}");
            assert!((1e-4..5e-2).contains(&rounded), "{stage} at {step} in bf16: relative error {rounded:.1e}");
        }
    }
}

/// A configuration of a published size; what is not given is as all of them have it.
fn published(channels: &[usize], layers: &str, second: bool) -> IfUnetConfig {
    let levels = channels.len();
    let attention = if second { 2 } else { levels - 1 };
    let down: Vec<&str> = (0..levels)
        .map(|i| if i < levels - attention { "ResnetDownsampleBlock2D" } else { "SimpleCrossAttnDownBlock2D" })
        .collect();
    let up: Vec<String> =
        down.iter().rev().map(|name| name.replace("Downsample", "Upsample").replace("Down", "Up")).collect();
    let json = format!(
        r#"{{"_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": {}, "out_channels": 6,
        "block_out_channels": {channels:?}, "layers_per_block": {layers}, "down_block_types": {down:?},
        "up_block_types": {up:?}, "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "act_fn": "gelu",
        "cross_attention_dim": {}, "attention_head_dim": 64, "addition_embed_type": "text",
        "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift", "class_embed_type": {}, "time_embedding_dim": {}}}"#,
        if second { 6 } else { 3 },
        channels[levels - 1],
        if second { "\"timestep\"" } else { "null" },
        if second { "1280" } else { "null" },
    );
    IfUnetConfig::from_json(json.as_bytes()).unwrap()
}

#[test]
fn published_configurations_have_the_published_numbers_of_parameters() {
    for (what, config, millions) in [
        ("I-M", published(&[192, 384, 576, 768], "3", false), 372),
        ("I-L", published(&[320, 640, 960, 1280], "3", false), 935),
        ("I-XL", published(&[704, 1408, 2112, 2816], "3", false), 4270),
        ("II-L", published(&[160, 320, 640, 960, 1280], "[2, 2, 3, 5, 5]", true), 1243),
    ] {
        let tensors = IfUnet::tensors(&config, &crate::device());
        let count: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        println!("{what}: {count}");
        assert!(count.abs_diff(millions * 1_000_000) <= millions * 10_000, "{what}: {count} parameters");
    }
}

#[test]
fn a_picture_that_does_not_fit_is_refused() {
    let golden = Golden::open(&golden(""));
    let network = network("one");
    let text = network.text(golden.tensor("prompt_embeds")).unwrap();
    let x = golden.tensor::<4>("unet.one.x");
    let odd = network.forward(x.clone().narrow(1, 0, 7), 0.0, None, &text).unwrap_err();
    assert!(odd.to_string().contains("needs sides divisible by 2"), "{odd}");
    let level = network.forward(x, 0.0, Some(1.0), &text).unwrap_err();
    assert!(level.to_string().contains("takes no noise level"), "{level}");
    let narrow = network.text(golden.tensor::<3>("prompt_embeds").narrow(2, 0, 8)).unwrap_err();
    assert!(narrow.to_string().contains("have 8 numbers, and this network was trained with 24"), "{narrow}");
}
