//! Evaluations of a network of DeepFloyd IF on a given input: times, the peak of resident memory, and how far the output is
//! from that of diffusers, as one JSON object; what `bench/deepfloyd.py` runs.
//!
//!     cargo run --release -p imagen --example if_step -- FOLDER STORAGE PRECISION STEPS THREADS
//!
//! FOLDER is a pipeline's with `input.safetensors` beside it: `x [2, h, w, c]`, `text [2, t, d]` and `out`. STORAGE: stored,
//! f32, f16, bf16, int8. PRECISION: f32, bf16.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use imagen::cascade::deepfloyd::StageFolder;
use imagen::models::weights::{Storage, Weights};
use imagen::nn::Precision;

/// The peak of resident memory in bytes, where the system tells (Linux).
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn tensor<const D: usize>(weights: &Weights, name: &str) -> Result<Tensor<D>, Box<dyn Error>> {
    let shape = weights.shape(name).ok_or("a tensor of input.safetensors is missing")?.to_vec();
    Ok(Tensor::from_data(TensorData::new(weights.tensor_f32(name, &shape)?, shape), &Device::flex()))
}

fn numbers(x: Tensor<4>) -> Result<Vec<f32>, Box<dyn Error>> {
    x.into_data().try_to_vec().map_err(|e| format!("{e:?}").into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, storage, precision, steps, threads] = arguments.as_slice() else {
        return Err("expected: FOLDER STORAGE PRECISION STEPS THREADS".into());
    };
    let storage: Storage = serde_json::from_value(storage.as_str().into())?;
    let precision: Precision = serde_json::from_value(precision.as_str().into())?;
    let threads: usize = threads.parse()?;
    imagen_kernels::set_threads(threads);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let folder = Path::new(folder);
    let begun = Instant::now();
    let stage = StageFolder::open(folder)?.build(storage, &Device::flex())?;
    let load = begun.elapsed().as_secs_f64();
    let input = Weights::open(&folder.join("input.safetensors"))?;
    let text = stage.unet.text(tensor(&input, "text")?)?;
    let level = stage.noising.is_some().then_some(250.0);
    let (mut seconds, mut out) = (Vec::new(), None);
    for _ in 0..steps.parse()? {
        let x = tensor(&input, "x")?;
        let begun = Instant::now();
        let y = precision.during(|| stage.unet.forward(x, 500.0, level, &text))?;
        seconds.push(begun.elapsed().as_secs_f64());
        out = Some(y);
    }
    let (found, expected) = (numbers(out.ok_or("no steps")?)?, numbers(tensor(&input, "out")?)?);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = found.iter().zip(&expected).map(|(a, b)| square(a - b)).sum();
    let error = (difference / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
    println!("{}", serde_json::json!({ "seconds": seconds, "peak": peak(), "load": load, "error": error }));
    Ok(())
}
