//! Bytes as a configuration, its kind by the first of them: networks, schedules, text encoders, how pictures are prepared, indexes
//! of shards. What is read is then used as far as it goes without weights.

#![no_main]

use burn::tensor::Device;
use imagen::cascade::deepfloyd::Ddpm;
use imagen::image::Preparation;
use imagen::models::bert::BertConfig;
use imagen::models::clip::ClipConfig;
use imagen::models::if_unet::{IfUnet, IfUnetConfig};
use imagen::models::t5::T5Config;
use imagen::models::weights::shard_names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, json)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => {
            if let Ok(config) = IfUnetConfig::from_json(json) {
                assert!(!IfUnet::tensors(&config, &Device::flex()).is_empty());
                assert!(config.map_bytes(config.sample_size.min(1 << 12)) < u64::MAX / 2);
            }
        }
        1 => {
            if let Ok(process) = Ddpm::from_json(json) {
                assert!(process.alphas_cumprod().iter().all(|bar| bar.is_finite()));
            }
        }
        2 => drop(T5Config::from_json(json)),
        3 => drop(BertConfig::from_json(json)),
        4 => drop(ClipConfig::from_json(json)),
        5 => {
            if let Ok(preparation) = Preparation::read(json) {
                let _ = preparation.check(24);
            }
        }
        _ => {
            for name in shard_names("input", json).unwrap_or_default() {
                assert!(!name.contains('/') && name != "..");
            }
        }
    }
});
