//! Pictures of 1, 2 and 4 channels from the folder to the file: training, grids, the cascade, PNG.

use std::fs;
use std::path::Path;

use imagen::image::{DecodeOptions, Picture, decode, png};

use crate::{run, succeed, tiny};

/// Colour type of a PNG file, by channels.
const COLOUR_TYPES: [u8; 5] = [u8::MAX, 0, 4, 2, 6];

fn write(folder: &Path, channels: usize) {
    fs::create_dir_all(folder).unwrap();
    let mut lines = String::new();
    for i in 0..4usize {
        // the left half is darker, and clearer, than the right one
        let byte = |p: usize| if p / channels % 32 < 16 { 20 * (p % channels) + 10 * i } else { 255 - 10 * i };
        let pixels = (0..32 * 32 * channels).map(|p| byte(p) as u8).collect();
        let picture = Picture::with_channels(32, 32, channels, pixels).unwrap();
        png::write(&folder.join(format!("{i}.png")), &picture, &Default::default()).unwrap();
        lines += &format!("{{\"file_name\":\"{i}.png\",\"text\":\"a half\",\"split\":\"train\"}}\n");
    }
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
}

fn channels_of(path: &Path) -> u8 {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))[25]
}

#[test]
fn a_cascade_of_any_channels_is_trained_and_drawn() {
    let text = tiny::text_encoder();
    let text = text.to_str().unwrap();
    for channels in [1, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("data"), channels);
        for stage in ["base", "sr256"] {
            let recipe = tiny::recipe_of_stage(stage, "data")
                .replace("image_channels = 3", &format!("image_channels = {channels}"))
                .replace("steps = 4\nbatch", "steps = 200\nsample_every = 200\nsample_prompts = [\"a half\"]\nbatch")
                .replace("lr = 1e-3", "lr = 1e-2")
                .replace("checkpoint_every = 2", "checkpoint_every = 1000");
            fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
            let run_folder = format!("run-{stage}");
            let trained = ["train", "recipe.toml", "--run", &run_folder, "--text-encoder", text];
            let result = run(folder.path(), &trained);
            assert_eq!(result.code, 0, "{channels} {stage}: {}", result.stderr);
            let grid = folder.path().join(&run_folder).join("samples/0000200.png");
            assert_eq!(channels_of(&grid), COLOUR_TYPES[channels], "{channels} {stage}");
            succeed(folder.path(), &["export", &run_folder, "--model", "m", "--text-encoder", text]);
        }
        succeed(
            folder.path(),
            &["sample", "a half", "-mm", "-s1", "--steps", "20,5", "--guidance", "1", "-o", "p.png"],
        );
        let path = folder.path().join("p.png");
        assert_eq!(channels_of(&path), COLOUR_TYPES[channels]);
        let options = DecodeOptions { channels, ..DecodeOptions::default() };
        let picture = decode::open(&path, &options).unwrap();
        assert_eq!((picture.width(), picture.channels()), (32, channels));
        // what was learned is seen in every channel: the left half is the dark one
        for channel in 0..channels {
            let mean = |left: bool| {
                let half = |p: &usize| (p / channels % 32 < 16) == left && p % channels == channel;
                let bytes: Vec<u32> =
                    (0..picture.pixels().len()).filter(half).map(|p| u32::from(picture.pixels()[p])).collect();
                bytes.iter().sum::<u32>() / bytes.len() as u32
            };
            assert!(mean(true) + 20 < mean(false), "{channels}, channel {channel}: {} {}", mean(true), mean(false));
        }
    }
}

#[test]
fn stages_of_different_channels_are_no_cascade_and_five_channels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &tiny::Trained::BOTH);
    tiny::model_of_channels(&folder.path().join("grey"), &tiny::Trained::BASE, 1);
    fs::copy(folder.path().join("grey/base.safetensors"), folder.path().join("m/base.safetensors")).unwrap();
    let result = run(folder.path(), &["sample", "x", "-mm", "-s1"]);
    assert_eq!(result.code, 4, "{}", result.stderr);
    assert!(result.stderr.contains("the base draws pictures of 1 channels"), "{}", result.stderr);
    let recipe = tiny::recipe("data").replace("image_channels = 3", "image_channels = 5");
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let result = run(folder.path(), &["train", "recipe.toml", "--run", "run"]);
    assert!(result.code != 0 && result.stderr.contains("image_channels 1 (grey) to 4 (RGBA)"), "{}", result.stderr);
}
