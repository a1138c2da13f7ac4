//! Low-rank adapters in training (`train.lora`): the network's weights stay as they began, and what is learned are two thin
//! matrices for each adapted parameter.
//!
//! The network runs with the folded weights W + (alpha / r) · (B A)ᵀ, and the backward pass gives their gradient dW. By the
//! chain rule that of A is (alpha / r) · (dW B)ᵀ and that of B (alpha / r) · (A dW)ᵀ, so that no layer of the network has to
//! know of adapters, and kernels and precision are those of every training.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::flat::flat;
use super::gradients::GradientSum;
use crate::cascade::lora::{Adapter, WEIGHT, matrix};
use crate::error::{Error, Result};
use crate::models::unet::Unet;
use crate::names::named;
use crate::nn::{self, Change};
use crate::rng::Rng;

/// Adapters that are trained in place of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank of each adapter, 8 by default: how many directions a weight may change in.
    #[serde(default = "default_rank")]
    pub rank: usize,
    /// What the adapters say counts alpha / rank times; the rank by default.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// Which weights get an adapter; all of them by default.
    #[serde(default)]
    pub r#where: LoraPlace,
}

/// The weights that get an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraPlace {
    /// The linear layers of attention blocks.
    Attention,
    /// Every linear layer.
    Linear,
    /// Every linear layer and every convolution.
    #[default]
    All,
}

named!(LoraPlace, "place of adapters", Attention = "attention", Linear = "linear", All = "all");

fn default_rank() -> usize {
    8
}

/// The largest rank that is taken for meant.
const MAX_RANK: usize = 4096;

impl LoraConfig {
    /// Adapters of this rank, for every layer.
    pub fn of_rank(rank: usize) -> Self {
        Self { rank, alpha: None, r#where: LoraPlace::default() }
    }

    /// Refuses numbers that are none.
    ///
    /// # Errors
    /// `Data`.
    pub(super) fn validate(&self) -> Result<()> {
        if !(1..=MAX_RANK).contains(&self.rank) {
            return Err(Error::data(format!("train.lora.rank is {}; expected 1 to {MAX_RANK}", self.rank)));
        }
        match self.alpha {
            Some(alpha) if !(alpha.is_finite() && alpha > 0.0) => {
                Err(Error::data(format!("train.lora.alpha is {alpha}; expected a number above 0")))
            }
            _ => Ok(()),
        }
    }

    fn scale(&self) -> f32 {
        self.alpha.map_or(1.0, |alpha| (alpha / self.rank as f64) as f32)
    }

    /// The rank, rows and columns of a parameter's adapter, if it gets one.
    pub(super) fn adapts(&self, name: &str, shape: &[usize]) -> Option<[usize; 3]> {
        let [rows, columns] = matrix(shape).filter(|_| name.ends_with(WEIGHT))?;
        let linear = shape.len() == 2;
        let takes = match self.r#where {
            LoraPlace::Attention => linear && name.contains(".attention."),
            LoraPlace::Linear => linear,
            LoraPlace::All => true,
        };
        // more than this says nothing more
        takes.then(|| [self.rank.min(rows).min(columns), rows, columns])
    }
}

impl LoraConfig {
    /// Numbers of the adapters of so many equal matrices, as (count, rows, columns), and of the weights that they change. A
    /// convolution is nine matrices that have one adapter together.
    pub(super) fn numbers(&self, [count, rows, columns]: [usize; 3]) -> (u64, u64) {
        let shape = if count == 1 { vec![rows, columns] } else { vec![count, 1, rows, columns] };
        // that a linear layer belongs to an attention block is not known here
        let everywhere = Self { r#where: self.r#where.max(LoraPlace::Linear), ..self.clone() };
        match everywhere.adapts(WEIGHT, &shape) {
            Some([rank, rows, columns]) => ((rank * (rows + columns)) as u64, (rows * columns) as u64),
            None => (0, 0),
        }
    }
}

/// One adapter and what it is of.
#[derive(Clone, Debug)]
struct Layer {
    /// The parameter's extents.
    shape: Vec<usize>,
    /// What the parameter was at the beginning, `[rows, columns]`.
    base: Tensor<2>,
    /// `[r, rows]`.
    a: Tensor<2>,
    /// `[columns, r]`.
    b: Tensor<2>,
}

/// What names of A and B are, among the learned numbers of a run.
fn slots(parameter: &str) -> [String; 2] {
    let module = parameter.strip_suffix(WEIGHT).unwrap_or(parameter);
    [format!("{module}.lora_A"), format!("{module}.lora_B")]
}

/// The adapters of a network that is trained.
#[derive(Clone, Debug)]
pub(super) struct Adapters {
    scale: f32,
    layers: BTreeMap<String, Layer>,
}

impl Adapters {
    /// New adapters, which change nothing yet: A is random (as PEFT has it, uniform within ±1/√rows), B is zero. Parameters in
    /// `frozen` get none.
    ///
    /// # Errors
    /// `Data` where no parameter gets one.
    pub(super) fn new(
        unet: &Unet,
        config: &LoraConfig,
        frozen: &BTreeSet<String>,
        random: Rng,
        device: &Device,
    ) -> Result<Self> {
        let mut layers = BTreeMap::new();
        for (i, (name, tensor)) in nn::export(unet).into_iter().enumerate() {
            let Some([rank, rows, columns]) = config.adapts(&name, &tensor.shape) else { continue };
            if frozen.contains(&name) {
                continue;
            }
            let bound = (rows as f32).sqrt().recip();
            let uniform = random.fold(i as u64).uniform(rank * rows);
            let a: Vec<f32> = uniform.into_iter().map(|u| bound * (2.0 * u - 1.0)).collect();
            let layer = Layer {
                base: Tensor::from_data(TensorData::new(tensor.values, [rows, columns]), device),
                a: Tensor::from_data(TensorData::new(a, [rank, rows]), device),
                b: Tensor::zeros([columns, rank], device),
                shape: tensor.shape,
            };
            layers.insert(name, layer);
        }
        if layers.is_empty() {
            return Err(Error::data("train.lora.where and train.freeze leave no parameter that gets an adapter"));
        }
        Ok(Self { scale: config.scale(), layers })
    }

    /// The names of the parameters that have one.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &String> {
        self.layers.keys()
    }

    /// What is learned: names, extents and values `[len]`.
    pub(super) fn learned(&self) -> impl Iterator<Item = (String, Vec<usize>, Tensor<1>)> {
        self.layers.iter().flat_map(|(name, layer)| {
            let [a, b] = slots(name);
            [(a, &layer.a), (b, &layer.b)].map(|(name, matrix)| {
                let shape = matrix.dims();
                (name, shape.to_vec(), matrix.clone().reshape([shape[0] * shape[1]]))
            })
        })
    }

    /// Replaces what is learned by `values(name, extents, value)`.
    ///
    /// # Errors
    /// The first of `values`.
    pub(super) fn replace(
        &mut self,
        mut values: impl FnMut(&str, &[usize], Tensor<1>) -> Result<Tensor<1>>,
    ) -> Result<()> {
        for (name, layer) in &mut self.layers {
            for (name, matrix) in slots(name).iter().zip([&mut layer.a, &mut layer.b]) {
                let shape = matrix.dims();
                // the old value is given away, so that it can be changed in place
                let old = std::mem::replace(matrix, Tensor::zeros([1, 1], &matrix.device()));
                *matrix = values(name, &shape, old.reshape([shape[0] * shape[1]]))?.reshape(shape);
            }
        }
        Ok(())
    }

    /// The gradients of what is learned, from those of the folded weights.
    pub(super) fn project(&self, mut gradients: GradientSum) -> GradientSum {
        let mut projected = GradientSum::default();
        for (name, layer) in &self.layers {
            let Some(gradient) = gradients.take(name) else { continue };
            let gradient: Tensor<2> = gradient.reshape(layer.base.dims());
            let of_a = gradient.clone().matmul(layer.b.clone()).transpose() * self.scale;
            let of_b = layer.a.clone().matmul(gradient).transpose() * self.scale;
            for (name, gradient) in slots(name).into_iter().zip([of_a, of_b]) {
                let len = gradient.dims().iter().product::<usize>();
                projected.insert(name, gradient.reshape([len]));
            }
        }
        projected
    }

    /// The network with the adapters folded into its weights.
    pub(super) fn fold(&self, unet: Unet) -> Unet {
        struct Fold<'a>(&'a Adapters);
        impl Change for Fold<'_> {
            fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(layer) = self.0.layers.get(name) else { return param };
                let (id, old, mapper) = param.consume();
                let change = layer.b.clone().matmul(layer.a.clone()).transpose() * self.0.scale;
                let folded = (layer.base.clone() + change).reshape(old.dims());
                let folded =
                    if old.is_require_grad() { Tensor::<D>::from_inner(folded).require_grad() } else { folded };
                Param::from_mapped_value(id, folded, mapper)
            }
        }
        nn::change(unet, &mut Fold(self))
    }

    /// What is learned, as it is written to a file.
    pub(super) fn export(&self) -> BTreeMap<String, Adapter> {
        let adapter = |layer: &Layer| {
            let values = |matrix: &Tensor<2>| {
                let [rows, columns] = matrix.dims();
                flat(&matrix.clone().reshape([rows * columns]))
            };
            Adapter { shape: layer.shape.clone(), a: values(&layer.a), b: values(&layer.b), scale: self.scale }
        };
        self.layers.iter().map(|(name, layer)| (name.clone(), adapter(layer))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::Weights;

    /// `tests/golden/lora/make.py` says what is in it.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/lora/lora.safetensors");
    const PEFT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lora/adapter_model.safetensors");

    #[test]
    fn gradients_of_adapters_are_those_of_pefts_own_backward_pass() {
        let (golden, device) = (Weights::from_bytes(GOLDEN, "golden").unwrap(), Device::flex());
        let peft = crate::cascade::lora::Lora::open(std::path::Path::new(PEFT)).unwrap();
        let mut gradients = GradientSum::default();
        let mut layers = BTreeMap::new();
        for (name, adapter) in &peft.adapters {
            let [rows, columns] = matrix(&adapter.shape).unwrap();
            let values = |kind: &str| golden.tensor_f32(&format!("{kind}.{name}"), &adapter.shape).unwrap();
            let tensor =
                |values: Vec<f32>, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), &device);
            let gradient = TensorData::new(values("grad"), [rows * columns]);
            gradients.insert(name.clone(), Tensor::from_data(gradient, &device));
            let layer = Layer {
                shape: adapter.shape.clone(),
                base: tensor(values("base"), [rows, columns]),
                a: tensor(adapter.a.clone(), [2, rows]),
                b: tensor(adapter.b.clone(), [columns, 2]),
            };
            layers.insert(name.clone(), layer);
        }
        let adapters = Adapters { scale: 3.0, layers };
        let mut projected = adapters.project(gradients);
        for name in peft.adapters.keys() {
            for (slot, kind) in slots(name).iter().zip(["grad_a", "grad_b"]) {
                let expected = format!("{kind}.{name}");
                let expected = golden.tensor_f32(&expected, golden.shape(&expected).unwrap()).unwrap();
                let found = flat(&projected.take(slot).unwrap());
                assert_eq!(found.len(), expected.len());
                let most = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let furthest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(furthest < 1e-5 * most, "{slot}: {furthest} of {most}");
            }
        }
        assert_eq!(adapters.export(), peft.adapters);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let lora = |rank, alpha| LoraConfig { rank, alpha, r#where: LoraPlace::All }.validate();
        assert!(lora(8, None).is_ok() && lora(8, Some(0.5)).is_ok());
        for (rank, alpha, words) in [(0, None, "rank is 0"), (8, Some(0.0), "alpha is 0"), (8, Some(f64::NAN), "alpha")]
        {
            let error = lora(rank, alpha).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
