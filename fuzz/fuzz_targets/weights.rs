//! Bytes as a safetensors file: whatever they are, the header is read or refused, and so is each tensor that it names.

#![no_main]

use imagen::models::weights::{Storage, Weights};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(weights) = Weights::from_bytes(bytes.to_vec(), "input") else { return };
    for name in weights.names().map(str::to_owned).collect::<Vec<_>>() {
        let shape = weights.shape(&name).expect("a name has a shape").to_vec();
        if let Ok(values) = weights.tensor_f32(&name, &shape) {
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
        if let [k, c] = shape[..] {
            for storage in [Storage::Stored, Storage::F32, Storage::Bf16, Storage::Int8] {
                let _ = weights.linear(&name, [k, c], storage);
            }
        }
    }
});
