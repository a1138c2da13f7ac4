//! Inception-v3 against pytorch-fid (`golden/inception/make.py`), with weights that a formula gives to both.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use imagen::models::inception::Inception;
use imagen::models::weights::Weights;
use imagen::{ErrorKind, Result};
use safetensors::SafeTensors;

/// The numbers of a tensor, as the script has them.
fn formula(name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let (spread, middle) = match name {
        _ if name.ends_with("conv.weight") => (5.0 / (shape[1..].iter().product::<usize>() as f64).sqrt(), 0.0),
        _ if name.ends_with("running_var") || name.ends_with("bn.weight") => (0.5, 1.0),
        _ => (0.4, 0.0),
    };
    let seed = crc32fast::hash(name.as_bytes());
    let number = |i: u32| {
        let mut h = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed);
        h ^= h >> 15;
        h = h.wrapping_mul(2_246_822_519);
        h ^= h >> 13;
        ((f64::from(h) / 4_294_967_296.0 - 0.5) * spread + middle) as f32
    };
    (0..count as u32).map(number).collect()
}

/// A safetensors file of these tensors.
fn file(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let from = data.len();
        data.extend(formula(name, shape).into_iter().flat_map(f32::to_le_bytes));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn open(tensors: &[(String, Vec<usize>)]) -> Result<Inception> {
    Inception::new(&Weights::from_bytes(file(tensors), "inception")?, &Device::flex())
}

/// Name and shape of what the network asks for, from its own complaint.
fn expected() -> Vec<(String, Vec<usize>)> {
    let message = format!("{:#}", open(&[]).unwrap_err());
    let parts = message.split('`').skip(1).collect::<Vec<_>>();
    let shape = |text: &str| {
        let inside = text.split(['[', ']']).nth(1).unwrap();
        inside.split(", ").map(|n| n.parse().unwrap()).collect()
    };
    parts.chunks(2).map(|pair| (pair[0].to_owned(), shape(pair[1]))).collect()
}

#[test]
fn the_features_are_those_of_pytorch_fid() {
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inception/inception.safetensors"));
    let bytes = bytes.unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = expected();
    assert_eq!(tensors.len(), 94 * 5, "94 convolutions, each with its normalisation");
    let network = open(&tensors).unwrap();
    for n in 0..3 {
        let picture = golden.tensor(&format!("picture.{n}")).unwrap();
        let pixels: Vec<f32> = picture.data().iter().map(|&byte| f32::from(byte) / 255.0).collect();
        let shape = [1, picture.shape()[0], picture.shape()[1], 3];
        let pixels = Tensor::from_data(TensorData::new(pixels, shape), &Device::flex());
        let found: Vec<f32> = network.features(pixels).unwrap().into_data().iter::<f32>().collect();
        let expected = golden.tensor(&format!("features.{n}")).unwrap();
        let expected = expected.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        let (mut difference, mut norm) = (0.0, 0.0);
        for (found, expected) in found.iter().zip(expected) {
            difference += (f64::from(*found) - expected).powi(2);
            norm += expected.powi(2);
        }
        assert!(found.len() == Inception::DIM && norm > 0.0);
        let error = (difference / norm).sqrt();
        println!("picture {n}: relative error {error:.1e}");
        assert!(error <= 1e-5, "picture {n}: relative error {error:e}");
    }
    let wrong: Tensor<4> = Tensor::zeros([1, 8, 8, 1], &Device::flex());
    assert_eq!(network.features(wrong).unwrap_err().kind(), ErrorKind::Usage);
}
