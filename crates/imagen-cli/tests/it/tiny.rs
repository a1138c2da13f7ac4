//! Tiny models: 16 and 32 pixels, a few thousand random weights, the committed text encoder.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use imagen::cascade::{Record, StageConfig, write_stage};
use imagen::models::unet::Unet;
use imagen::nn::{self, Init};
use imagen::rng::Rng;
use imagen::text::{self, EncoderFiles, TextOptions};
use imagen::train::Recipe;

/// How long each stage claims to have been trained.
#[derive(Clone, Copy)]
pub(crate) struct Trained {
    /// Steps of the base.
    pub(crate) base: u64,
    /// Steps of the super-resolution stage; absent where there is none.
    pub(crate) sr256: Option<u64>,
}

impl Trained {
    /// A cascade of two stages.
    pub(crate) const BOTH: Self = Self { base: 10, sr256: Some(20) };
    /// The base alone.
    pub(crate) const BASE: Self = Self { base: 10, sr256: None };
}

/// The committed text encoder.
pub(crate) fn text_encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm")
}

/// Writes a model folder.
pub(crate) fn model(folder: &Path, trained: &Trained) {
    model_of_channels(folder, trained, 3);
}

/// Writes the folder of a model for pictures of so many channels.
pub(crate) fn model_of_channels(folder: &Path, trained: &Trained, channels: usize) {
    std::fs::create_dir_all(folder.join("text")).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let (from, to) = (text_encoder().join(file), folder.join("text").join(file));
        std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(|_| ())).unwrap();
    }
    let write = |name, step| {
        let mut config = stage(name);
        config.unet.image_channels = channels;
        weights(&folder.join(format!("{name}.safetensors")), &config, step, 0.2);
    };
    write("base", trained.base);
    if let Some(step) = trained.sr256 {
        write("sr256", step);
    }
}

/// The super-resolution stage of a model becomes one that runs on request only.
pub(crate) fn on_request(folder: &Path) {
    let config = StageConfig { on_request: true, ..stage("sr256") };
    weights(&folder.join("sr256.safetensors"), &config, 20, 0.2);
}

/// Writes a base stage whose weights are so large that no loss of it is finite.
pub(crate) fn exploding(path: &Path) {
    weights(path, &stage("base"), 10, 1e4);
}

/// Writes a stage of random weights of this size.
fn weights(path: &Path, config: &StageConfig, step: u64, size: f32) {
    let device = Device::flex();
    let encoder = text::load(EncoderFiles::open(&text_encoder()).unwrap(), &TextOptions::default(), &device).unwrap();
    let unet = Unet::new(&config.unet, &mut Init::zeros(&device)).unwrap();
    // new networks end in zeros; these have to say something
    let mut drawn = 0;
    let unet = nn::import(unet, |_, shape| {
        drawn += 1;
        let values = Rng::new(1).fold(drawn).normal(shape.iter().product());
        Ok(values.into_iter().map(|x| size * x).collect())
    })
    .unwrap();
    write_stage(path, config, &Record::of_steps(step), encoder.identity(), &unet).unwrap();
}

/// A recipe that trains the base on an image folder.
pub(crate) fn recipe(data: &str) -> String {
    include_str!("../../../imagen/tests/tiny.toml").replace("\"data\"", &format!("{data:?}"))
}

/// A recipe that trains super-resolution from 16 to 32 pixels on an image folder.
pub(crate) fn super_resolution_recipe(data: &str) -> String {
    let stage = "stage = \"sr256\"\nsize = 32\nlow_size = 16\nmax_aug_level = 0.5";
    let recipe = recipe(data).replace("stage = \"base\"\nsize = 16", stage);
    recipe.replace("low_resolution = false", "low_resolution = true")
}

/// A recipe that trains this stage on an image folder.
pub(crate) fn recipe_of_stage(name: &str, data: &str) -> String {
    match name {
        "base" => recipe(data),
        _ => super_resolution_recipe(data),
    }
}

pub(crate) fn stage(name: &str) -> StageConfig {
    Recipe::parse(&recipe_of_stage(name, "data")).unwrap().stage
}
