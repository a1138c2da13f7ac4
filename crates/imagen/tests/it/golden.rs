//! What a reference computed, as its script wrote it down.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

/// Shape and values of everything that a script left behind.
pub(super) struct Golden(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    pub(super) fn open(folder: &Path) -> Self {
        Self::read(&folder.join("golden.safetensors"))
    }

    pub(super) fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let words = view.data().as_chunks().0.iter().copied();
            let values = match view.dtype() {
                Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                Dtype::I32 => words.map(|word| i32::from_le_bytes(word) as f32).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name, (view.shape().to_vec(), values))
        };
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn values(&self, name: &str) -> &[f32] {
        &self.0.get(name).unwrap_or_else(|| panic!("{name} is not in the golden file")).1
    }

    pub(super) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let values = self.values(name).to_vec();
        Tensor::from_data(TensorData::new(values, self.0[name].0.clone()), &crate::device())
    }
}

pub(super) fn numbers<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().into_data().try_to_vec().unwrap()
}
