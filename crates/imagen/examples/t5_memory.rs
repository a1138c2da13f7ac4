//! What T5 of a published size takes: writes random f16 weights of its shape, loads them as a user would, encodes one
//! caption padded to 77 tokens, and prints times and the peak of resident memory.
//!
//!     cargo run --release -p imagen --example t5_memory -- xxl int8 FOLDER
//!
//! Sizes: small, base, large, xl, xxl (T5 v1.1). Storage: stored (f16), f32, f16, bf16, int8. FOLDER gets the weights
//! (9.5 GB for xxl), which are left there for the next run. The tokenizer is the tests' own.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use half::f16;
use imagen::models::weights::Storage;
use imagen::rng::Rng;
use imagen::text::{EncoderFiles, Padding, TextOptions, load};

/// Width, inner width, heads, blocks.
fn size(name: &str) -> Option<[usize; 4]> {
    Some(match name {
        "small" => [512, 1024, 6, 8],
        "base" => [768, 2048, 12, 12],
        "large" => [1024, 2816, 16, 24],
        "xl" => [2048, 5120, 32, 24],
        "xxl" => [4096, 10240, 64, 24],
        _ => return None,
    })
}

const VOCABULARY: usize = 32128;

/// Name, shape and standard deviation of every tensor; 0 stands for ones.
fn tensors([d, inner, heads, blocks]: [usize; 4]) -> Vec<(String, Vec<usize>, f32)> {
    let (wide, fan) = (heads * 64, (d as f32).powf(-0.5));
    let mut all = vec![
        ("shared.weight".to_owned(), vec![VOCABULARY, d], 1.0),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".to_owned(), vec![32, heads], 1.0),
        ("encoder.final_layer_norm.weight".to_owned(), vec![d], 0.0),
    ];
    for block in (0..blocks).map(|i| format!("encoder.block.{i}.layer")) {
        let mut add =
            |part: &str, shape: &[usize], std| all.push((format!("{block}.{part}.weight"), shape.to_vec(), std));
        // scores are not scaled: queries are small
        add("0.SelfAttention.q", &[wide, d], fan / 8.0);
        add("0.SelfAttention.k", &[wide, d], fan);
        add("0.SelfAttention.v", &[wide, d], fan);
        add("0.SelfAttention.o", &[d, wide], (wide as f32).powf(-0.5));
        add("0.layer_norm", &[d], 0.0);
        add("1.DenseReluDense.wi_0", &[inner, d], fan);
        add("1.DenseReluDense.wi_1", &[inner, d], fan);
        add("1.DenseReluDense.wo", &[d, inner], (inner as f32).powf(-0.5));
        add("1.layer_norm", &[d], 0.0);
    }
    all
}

/// Writes the weights, a row of noise at a time, each beginning elsewhere in one drawn block.
fn write(path: &Path, shape: [usize; 4]) -> Result<(), Box<dyn Error>> {
    let (all, noise) = (tensors(shape), Rng::new(1).normal(1 << 20));
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape, _) in &all {
        let end = at + 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let unfinished = path.with_extension("unfinished");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut row_number = 0usize;
    for (_, shape, std) in &all {
        let scaled: Vec<u8> =
            noise.iter().flat_map(|x| f16::from_f32(if *std == 0.0 { 1.0 } else { x * std }).to_le_bytes()).collect();
        let width = 2 * shape.last().copied().unwrap_or(1);
        for _ in 0..shape[..shape.len() - 1].iter().product::<usize>() {
            row_number += 1;
            let from = row_number.wrapping_mul(7919 * 2) % (scaled.len() - width) / 2 * 2;
            file.write_all(&scaled[from..from + width])?;
        }
    }
    file.into_inner()?.sync_all()?;
    Ok(fs::rename(unfinished, path)?)
}

/// The peak of resident memory in bytes, where the system tells (Linux).
fn peak() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, storage, folder] = arguments.as_slice() else {
        return Err("expected: SIZE STORAGE FOLDER".into());
    };
    let shape = size(name).ok_or("SIZE is small, base, large, xl or xxl")?;
    let storage: Storage = serde_json::from_value(storage.as_str().into())?;
    let folder = Path::new(folder).join(format!("t5-{name}"));
    fs::create_dir_all(&folder)?;
    let weights = folder.join("model.safetensors");
    if !weights.exists() {
        let start = Instant::now();
        write(&weights, shape)?;
        println!("wrote {:.2} GB in {:.0?}", fs::metadata(&weights)?.len() as f64 / 1e9, start.elapsed());
    }
    let [d_model, d_ff, num_heads, num_layers] = shape;
    let config = serde_json::json!({
        "model_type": "t5", "vocab_size": VOCABULARY, "d_model": d_model, "d_kv": 64, "d_ff": d_ff, "num_heads": num_heads,
        "num_layers": num_layers, "feed_forward_proj": "gated-gelu",
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let pieces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/t5/gated/spiece.model");
    fs::copy(pieces, folder.join("spiece.model"))?;

    let start = Instant::now();
    let options = TextOptions { max_length: 77, padding: Padding::MaxLength, storage };
    let encoder = load(EncoderFiles::open(&folder)?, &options, &Device::flex())?;
    println!("{}: loaded in {:.1?}", encoder.identity(), start.elapsed());
    for _ in 0..2 {
        let start = Instant::now();
        let embedding = encoder.encode(&["a photo of a corgi wearing a hat in san francisco"])?;
        println!("encoded {:?} in {:.2?}", embedding.sequence.dims(), start.elapsed());
    }
    match peak() {
        Some(bytes) => println!("peak resident memory {:.2} GB ({:.2} GiB)", bytes / 1e9, bytes / (1u64 << 30) as f64),
        None => println!("the system does not tell the peak of resident memory"),
    }
    Ok(())
}
