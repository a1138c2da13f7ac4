//! Matrices of frozen networks in the form in which they stay in memory: as the file stores them, or converted once while
//! they are read, a block of rows at a time, so that there is never a second copy of a network.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{Encoding, Storage, Weights};
use crate::error::{Error, Result};
use crate::nn::{StoredConv, StoredLinear, StoredWeights, quantize_rows};

/// Rows that are converted at once.
const ROWS: usize = 64;

impl Weights {
    /// The matrix `[k, c]` as a frozen linear layer from `c` to `k` features.
    ///
    /// # Errors
    /// As [`Weights::tensor_f32`]; `Model` when a number is too large for the form asked for.
    pub fn linear(&self, name: &str, [k, c]: [usize; 2], storage: Storage) -> Result<StoredLinear> {
        self.stored(name, &[k, c], storage, |w| StoredLinear::from_rows(c, k, w))
    }

    /// The 1×1 convolution `[k, c, 1, 1]` as a frozen linear layer.
    ///
    /// # Errors
    /// As [`Weights::linear`].
    pub fn pointwise(&self, name: &str, [k, c]: [usize; 2], storage: Storage) -> Result<StoredLinear> {
        self.stored(name, &[k, c, 1, 1], storage, |w| StoredLinear::from_rows(c, k, w))
    }

    /// The 3×3 convolution `[k, c, 3, 3]` from `c` to `k` channels, frozen.
    ///
    /// # Errors
    /// As [`Weights::linear`].
    pub fn conv3x3(&self, name: &str, [k, c]: [usize; 2], storage: Storage) -> Result<StoredConv> {
        self.stored(name, &[k, c, 3, 3], storage, |w| StoredConv::from_pytorch(c, k, w))
    }

    /// What `make` makes of a tensor in the form asked for, one row for each of the first axis.
    fn stored<T>(
        &self,
        name: &str,
        shape: &[usize],
        storage: Storage,
        make: impl FnOnce(StoredWeights<'_>) -> T,
    ) -> Result<T> {
        let (encoding, bytes) = self.encoded(name, shape)?;
        let c: usize = shape[1..].iter().product();
        let bits = || -> Vec<u16> { bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect() };
        let finite = |bits: &[u16], exponent: u16| {
            if bits.iter().any(|b| b & exponent == exponent) { Err(self.not_finite(name)) } else { Ok(()) }
        };
        let made = match (&encoding, storage) {
            (Encoding::F16, Storage::Stored | Storage::F16) => {
                let bits = bits();
                finite(&bits, 0x7c00)?;
                make(StoredWeights::F16(&bits))
            }
            (Encoding::Bf16, Storage::Stored | Storage::Bf16) => {
                let bits = bits();
                finite(&bits, 0x7f80)?;
                make(StoredWeights::Bf16(&bits))
            }
            (Encoding::Int8 { scales, .. }, Storage::Stored | Storage::Int8) => {
                make(StoredWeights::Int8 { integers: bytemuck::cast_slice(bytes), scales })
            }
            (_, Storage::Stored | Storage::F32) => make(StoredWeights::F32(&self.tensor_f32(name, shape)?)),
            (_, Storage::F16) => {
                let bits = self.converted(name, shape, |x| x.iter().map(|&x| f16::from_f32(x).to_bits()).collect())?;
                if finite(&bits, 0x7c00).is_err() {
                    return Err(Error::model(format!(
                        "{}: `{name}` holds a number beyond ±65504, which f16 cannot; choose bf16 or f32",
                        self.label
                    )));
                }
                make(StoredWeights::F16(&bits))
            }
            (_, Storage::Bf16) => {
                let bits = self.converted(name, shape, |x| x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect())?;
                make(StoredWeights::Bf16(&bits))
            }
            (_, Storage::Int8) => {
                let rows = |x: &[f32]| vec![quantize_rows(x, x.len().checked_div(c).unwrap_or(0), c)];
                let (integers, scales): (Vec<_>, Vec<_>) = self.converted(name, shape, rows)?.into_iter().unzip();
                let (integers, scales) = (integers.concat(), scales.concat());
                make(StoredWeights::Int8 { integers: &integers, scales: &scales })
            }
        };
        let entry = &self.entries[name];
        self.files[entry.file].bytes.release(entry.range.clone());
        Ok(made)
    }

    /// What `convert` makes of the rows, some at a time.
    fn converted<T: Send>(
        &self,
        name: &str,
        shape: &[usize],
        convert: impl Fn(&[f32]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>> {
        let (encoding, bytes) = self.encoded(name, shape)?;
        let (k, c) = (shape[0], shape[1..].iter().product::<usize>());
        let width = c * encoding.element_bytes();
        let blocks = (0..k.div_ceil(ROWS)).into_par_iter().map(|block| {
            let rows = block * ROWS..k.min((block + 1) * ROWS);
            let mut values = vec![0.0; rows.len() * c];
            encoding.decode(&bytes[rows.start * width..rows.end * width], rows.start, &mut values);
            self.finite(name, &values)?;
            Ok(convert(&values))
        });
        Ok(blocks.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::HashMap;

    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::models::weights::{NamedTensor, Precision, write_safetensors};

    /// The matrix that a layer multiplies with, `[k, c]`.
    fn matrix(linear: &StoredLinear) -> Vec<f32> {
        let (c, k) = linear.features();
        let identity: Tensor<2> = Tensor::eye(c, &Device::flex());
        let product: Vec<f32> = linear.forward(identity, None, None).into_data().try_to_vec().unwrap();
        (0..k * c).map(|i| product[i % c * k + i / c]).collect()
    }

    fn file(values: &[f32], [k, c]: [usize; 2], precision: Precision) -> Weights {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensor = NamedTensor { name: "w".into(), shape: vec![k, c], values: Cow::Borrowed(values) };
        write_safetensors(&path, &[tensor], &HashMap::new(), precision).unwrap();
        Weights::open(&path).unwrap()
    }

    #[test]
    fn every_stored_type_becomes_every_other_within_its_rounding() {
        let shape = [150, 40]; // more rows than are converted at once
        let values: Vec<f32> = (0..150 * 40).map(|i| (i as f32 * 0.7).sin() * (i % 7) as f32).collect();
        let largest = |row: usize| values[row * 40..][..40].iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (precision, from) in [(Precision::F32, 0.0), (Precision::F16, 2f32.powi(-11)), (Precision::Int8Rows, -1.0)]
        {
            let weights = file(&values, shape, precision);
            for (storage, to) in [
                (Storage::Stored, 0.0),
                (Storage::F32, 0.0),
                (Storage::F16, 2f32.powi(-11)),
                (Storage::Bf16, 2f32.powi(-8)),
                (Storage::Int8, -1.0),
            ] {
                let found = matrix(&weights.linear("w", shape, storage).unwrap());
                for (i, (&found, &value)) in found.iter().zip(&values).enumerate() {
                    // of int8 half a step of the row, of the others a part of the number
                    let error = |e: f32| if e < 0.0 { 0.5 * largest(i / 40) / 127.0 } else { e * value.abs() + 1e-7 };
                    let allowed = 1.01 * (error(from) + error(to));
                    assert!((found - value).abs() <= allowed, "{precision:?} as {storage:?}: {found} for {value}");
                }
            }
        }
    }

    #[test]
    fn the_memory_is_that_of_the_form() {
        let weights = file(&vec![0.5; 64 * 64], [64, 64], Precision::F32);
        let bytes = |storage| weights.linear("w", [64, 64], storage).unwrap().bytes();
        assert_eq!([Storage::Stored, Storage::F16, Storage::Bf16].map(bytes), [16384, 8192, 8192]);
        assert_eq!(bytes(Storage::Int8), 4096 + 4 * 64);
    }

    #[test]
    fn numbers_that_are_not_finite_or_too_large_are_refused_by_name() {
        for storage in [Storage::Stored, Storage::F32, Storage::F16, Storage::Bf16, Storage::Int8] {
            let mut bytes = r#"{"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#.as_bytes().to_vec();
            bytes.splice(0..0, (bytes.len() as u64).to_le_bytes());
            bytes.extend([1.0, f32::NAN].map(f32::to_le_bytes).concat());
            let weights = Weights::from_bytes(bytes, "test").unwrap();
            let message = format!("{:#}", weights.linear("w", [1, 2], storage).unwrap_err());
            assert!(message.starts_with("test: `w` holds a number that is not finite"), "{storage:?}: {message}");
            let message = format!("{:#}", weights.linear("w", [2, 1], storage).unwrap_err());
            assert!(message.contains("`w` has shape [1, 2] (expected [2, 1])"), "{message}");
        }
        for (dtype, bits) in [("F16", 0xfc00u16), ("BF16", 0x7f81)] {
            let mut bytes = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[1,2],"data_offsets":[0,4]}}}}"#).into_bytes();
            bytes.splice(0..0, (bytes.len() as u64).to_le_bytes());
            bytes.extend([0, bits].map(u16::to_le_bytes).concat());
            let weights = Weights::from_bytes(bytes, "test").unwrap();
            assert!(weights.linear("w", [1, 2], Storage::Stored).is_err(), "{dtype}");
        }
        let large = file(&[1e6, 1.0], [1, 2], Precision::F32);
        let message = format!("{:#}", large.linear("w", [1, 2], Storage::F16).unwrap_err());
        assert!(message.contains("beyond ±65504") && message.contains("bf16"), "{message}");
    }
}
