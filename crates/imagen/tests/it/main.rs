//! The library's one integration binary; each module protects one promise.

mod bert;
mod circles;
mod clip;
mod corpus;
mod data;
mod deepfloyd;
mod eval;
mod floors;
mod fuzz;
mod golden;
mod human;
mod image;
mod imagen_pytorch;
mod inception;
mod laws;
mod own_sampler;
mod paper;
#[path = "../../../../fuzz/readers.rs"]
mod readers;
mod roberta;
mod t5;
mod train;
mod unet;
mod words;

/// Where networks run: on the CPU, or on the device that `IMAGEN_TEST_DEVICE` names as `--device` does (`webgpu`).
fn device() -> burn::tensor::Device {
    let name = std::env::var("IMAGEN_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    name.parse::<imagen::nn::device::DeviceName>().and_then(|name| name.open()).unwrap_or_else(|e| panic!("{e:#}"))
}

/// The relative error ‖a − b‖ / ‖b‖.
fn error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(x - y)).sum();
    (difference / b.iter().map(|&y| square(y)).sum::<f64>()).sqrt()
}

/// Holds the token ids of awkward captions against the reference's, a file of `caption` and `ids`.
fn assert_tokens(golden: &std::path::Path, tokens: impl Fn(&str) -> Vec<u32>) {
    #[derive(serde::Deserialize)]
    struct Pair {
        caption: String,
        ids: Vec<u32>,
    }
    let pairs: Vec<Pair> = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let compare = |pair: &Pair| {
        let ids = tokens(&pair.caption);
        (ids != pair.ids).then(|| format!("{:?}: {ids:?}, expected {:?}", pair.caption, pair.ids))
    };
    let wrong: Vec<String> = pairs.iter().filter_map(compare).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
}
