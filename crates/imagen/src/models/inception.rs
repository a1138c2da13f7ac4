//! Inception-v3 as FID has it (Szegedy et al. 2015; Heusel et al. 2017): pictures in, the 2048 numbers of the last pooling
//! layer out.
//!
//! The network is the one of pytorch-fid, which follows TensorFlow's of 2015: averages count no padding, and the last block
//! pools by the largest number. Batch normalisation is folded into the convolutions when weights are read; activations are
//! `[n, h, w, c]`.
//!
//! Deliberately not here: the classifier (`fc` in the file is passed over), training, and how pictures come to 299×299,
//! which is part of what a distance is (`eval::Extractor`).

use burn::tensor::{Device, Tensor, TensorData};

use super::weights::Weights;
use crate::error::{Error, Result};
use crate::nn::ops::{self, Pooling};

/// What batch normalisation adds to the variance.
const EPSILON: f32 = 1e-3;

/// A convolution of the network: input and output channels, window, stride, padding.
#[derive(Clone, Copy)]
struct Shape(usize, usize, [usize; 2], usize, [usize; 2]);

/// A 1×1 convolution.
const fn one(c: usize, k: usize) -> Shape {
    Shape(c, k, [1, 1], 1, [0, 0])
}

/// A 3×3 convolution that keeps the size.
const fn three(c: usize, k: usize) -> Shape {
    Shape(c, k, [3, 3], 1, [1, 1])
}

/// One that halves it.
const fn half(c: usize, k: usize) -> Shape {
    Shape(c, k, [3, 3], 2, [0, 0])
}

/// A window of one row.
const fn row(c: usize, k: usize, wide: usize) -> Shape {
    Shape(c, k, [1, wide], 1, [0, wide / 2])
}

/// A window of one column.
const fn column(c: usize, k: usize, high: usize) -> Shape {
    Shape(c, k, [high, 1], 1, [high / 2, 0])
}

/// What pools 3×3 windows, and their distance.
type Pool = (Pooling, usize);

/// Their mean, same size.
const MEAN: Pool = (Pooling::Mean, 1);
/// Their largest number, same size.
const LARGEST: Pool = (Pooling::Largest, 1);
/// Their largest number, half the size.
const HALVE: Pool = (Pooling::Largest, 2);

/// A way through a block: its convolutions one after the other, by name; with a fork at the end, the last two side by side.
struct Branch {
    pool: Option<Pool>,
    convolutions: Vec<(&'static str, Shape)>,
    fork: bool,
}

fn branch<const N: usize>(convolutions: [(&'static str, Shape); N]) -> Branch {
    Branch { pool: None, convolutions: convolutions.to_vec(), fork: false }
}

fn forked<const N: usize>(convolutions: [(&'static str, Shape); N]) -> Branch {
    Branch { fork: true, ..branch(convolutions) }
}

fn pooled<const N: usize>(pool: Pool, convolutions: [(&'static str, Shape); N]) -> Branch {
    Branch { pool: Some(pool), ..branch(convolutions) }
}

/// The blocks in their order, each a name in front of its branches' names.
fn plan() -> Vec<(&'static str, Vec<Branch>)> {
    let stem = |name, shape| ("", vec![branch([(name, shape)])]);
    let halve = || ("", vec![pooled(HALVE, [])]);
    let a = |name, c, pool| {
        let small = branch([("branch1x1", one(c, 64))]);
        let five = Shape(48, 64, [5, 5], 1, [2, 2]);
        let wide = branch([("branch5x5_1", one(c, 48)), ("branch5x5_2", five)]);
        let double = branch([
            ("branch3x3dbl_1", one(c, 64)),
            ("branch3x3dbl_2", three(64, 96)),
            ("branch3x3dbl_3", three(96, 96)),
        ]);
        (name, vec![small, wide, double, pooled(MEAN, [("branch_pool", one(c, pool))])])
    };
    let c = |name, n| {
        let single =
            branch([("branch7x7_1", one(768, n)), ("branch7x7_2", row(n, n, 7)), ("branch7x7_3", column(n, 192, 7))]);
        let double = branch([
            ("branch7x7dbl_1", one(768, n)),
            ("branch7x7dbl_2", column(n, n, 7)),
            ("branch7x7dbl_3", row(n, n, 7)),
            ("branch7x7dbl_4", column(n, n, 7)),
            ("branch7x7dbl_5", row(n, 192, 7)),
        ]);
        let pool = pooled(MEAN, [("branch_pool", one(768, 192))]);
        (name, vec![branch([("branch1x1", one(768, 192))]), single, double, pool])
    };
    let e = |name, c, pool| {
        let single = forked([
            ("branch3x3_1", one(c, 384)),
            ("branch3x3_2a", row(384, 384, 3)),
            ("branch3x3_2b", column(384, 384, 3)),
        ]);
        let double = forked([
            ("branch3x3dbl_1", one(c, 448)),
            ("branch3x3dbl_2", three(448, 384)),
            ("branch3x3dbl_3a", row(384, 384, 3)),
            ("branch3x3dbl_3b", column(384, 384, 3)),
        ]);
        (name, vec![branch([("branch1x1", one(c, 320))]), single, double, pooled(pool, [("branch_pool", one(c, 192))])])
    };
    let b = vec![
        branch([("branch3x3", half(288, 384))]),
        branch([("branch3x3dbl_1", one(288, 64)), ("branch3x3dbl_2", three(64, 96)), ("branch3x3dbl_3", half(96, 96))]),
        pooled(HALVE, []),
    ];
    let d = vec![
        branch([("branch3x3_1", one(768, 192)), ("branch3x3_2", half(192, 320))]),
        branch([
            ("branch7x7x3_1", one(768, 192)),
            ("branch7x7x3_2", row(192, 192, 7)),
            ("branch7x7x3_3", column(192, 192, 7)),
            ("branch7x7x3_4", half(192, 192)),
        ]),
        pooled(HALVE, []),
    ];
    vec![
        stem("Conv2d_1a_3x3", half(3, 32)),
        stem("Conv2d_2a_3x3", Shape(32, 32, [3, 3], 1, [0, 0])),
        stem("Conv2d_2b_3x3", three(32, 64)),
        halve(),
        stem("Conv2d_3b_1x1", one(64, 80)),
        stem("Conv2d_4a_3x3", Shape(80, 192, [3, 3], 1, [0, 0])),
        halve(),
        a("Mixed_5b.", 192, 32),
        a("Mixed_5c.", 256, 64),
        a("Mixed_5d.", 288, 64),
        ("Mixed_6a.", b),
        c("Mixed_6b.", 128),
        c("Mixed_6c.", 160),
        c("Mixed_6d.", 160),
        c("Mixed_6e.", 192),
        ("Mixed_7a.", d),
        e("Mixed_7b.", 1280, MEAN),
        e("Mixed_7c.", 2048, LARGEST),
    ]
}

/// The frozen network on a device.
#[derive(Debug)]
pub struct Inception {
    device: Device,
    /// Blocks of branches.
    blocks: Vec<Vec<Way>>,
}

#[derive(Debug)]
struct Way {
    pool: Option<Pool>,
    convolutions: Vec<Convolution>,
    fork: bool,
}

#[derive(Debug)]
struct Convolution {
    /// `[kh, kw, c, k]`
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    padding: [usize; 2],
}

impl Inception {
    /// How many numbers a picture becomes.
    pub const DIM: usize = 2048;
    /// The side of the pictures that it was trained on.
    pub const SIDE: usize = 299;
    /// The smallest side that leaves a pixel after all reductions.
    const LEAST: usize = 75;

    /// Name and shape of each tensor that the network reads, as pytorch-fid names them.
    pub fn tensors() -> Vec<(String, Vec<usize>)> {
        let plan = plan();
        let each = plan.iter().flat_map(|(block, branches)| {
            let all = branches.iter().flat_map(|branch| &branch.convolutions);
            all.flat_map(move |(name, Shape(c, k, [kh, kw], ..))| {
                let name = format!("{block}{name}");
                let vectors = VECTORS.map(|part| (format!("{name}.{part}"), vec![*k]));
                [(format!("{name}.conv.weight"), vec![*k, *c, *kh, *kw])].into_iter().chain(vectors)
            })
        });
        each.collect()
    }

    /// The network with the weights of pytorch-fid's state dict, saved as safetensors.
    ///
    /// The network lives on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when tensors are missing or mis-shaped (all listed), or hold numbers that are not finite.
    pub fn new(weights: &Weights, device: &Device) -> Result<Self> {
        let device = device.clone().without_autodiff();
        weights.require(&Self::tensors())?;
        let way = |block: &str, branch: &Branch| {
            let convolutions = branch.convolutions.iter();
            let convolutions = convolutions
                .map(|(name, shape)| Convolution::read(weights, &format!("{block}{name}"), *shape, &device));
            Ok(Way { pool: branch.pool, convolutions: convolutions.collect::<Result<_>>()?, fork: branch.fork })
        };
        let blocks = plan().into_iter().map(|(block, branches)| branches.iter().map(|b| way(block, b)).collect());
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, device })
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The features `[n, 2048]` of pictures `[n, h, w, 3]` about [-1, 1], which are 299×299 wherever features are compared.
    ///
    /// # Errors
    /// `Usage` when there is no picture, a side is below 75, or a pixel has other than three numbers.
    pub fn features(&self, pictures: Tensor<4>) -> Result<Tensor<2>> {
        let dims @ [n, h, w, c] = pictures.dims();
        if c != 3 || n == 0 || h.min(w) < Self::LEAST {
            return Err(Error::usage(format!("pictures are {dims:?}; Inception takes [n, h, w, 3] from 75×75 on")));
        }
        let mut x = pictures;
        for block in &self.blocks {
            let mut parts: Vec<Tensor<4>> = block.iter().flat_map(|way| way.forward(x.clone())).collect();
            x = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, 3) };
        }
        let [n, h, w, c] = x.dims();
        Ok(x.reshape([n, h * w, c]).mean_dim(1).reshape([n, c]))
    }
}

impl Way {
    /// What leaves the branch: one map, or two where it forks.
    fn forward(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let x = match self.pool {
            Some((pooling, stride)) => ops::pool3x3(x, pooling, stride),
            None => x,
        };
        let (along, last) = self.convolutions.split_at(self.convolutions.len() - if self.fork { 2 } else { 0 });
        let x = along.iter().fold(x, |x, convolution| convolution.forward(x));
        if self.fork { last.iter().map(|convolution| convolution.forward(x.clone())).collect() } else { vec![x] }
    }
}

impl Convolution {
    /// Weights and normalisation as one: `w · γ/√(var + ε)`, `β − mean · γ/√(var + ε)`.
    fn read(weights: &Weights, name: &str, shape: Shape, device: &Device) -> Result<Self> {
        let Shape(c, k, [kh, kw], stride, padding) = shape;
        let [gamma, beta, mean, variance] = VECTORS.map(|part| weights.tensor_f32(&format!("{name}.{part}"), &[k]));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        if let Some(bad) = variance.iter().find(|v| **v < 0.0) {
            return Err(Error::model(format!("{}: `{name}.bn.running_var` holds {bad}", weights.label())));
        }
        let factor: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + EPSILON).sqrt()).collect();
        let stored = weights.tensor_f32(&format!("{name}.conv.weight"), &[k, c, kh, kw])?;
        let mut weight = vec![0.0; stored.len()]; // [kh, kw, c, k]
        for (i, w) in stored.iter().enumerate() {
            let (out, input, place) = (i / (c * kh * kw), i / (kh * kw) % c, i % (kh * kw));
            weight[(place * c + input) * k + out] = w * factor[out];
        }
        let bias = (0..k).map(|i| beta[i] - mean[i] * factor[i]).collect();
        Ok(Self {
            weight: Tensor::from_data(TensorData::new(weight, [kh, kw, c, k]), device),
            bias: Tensor::from_data(TensorData::new::<f32, _>(bias, [k]), device),
            stride,
            padding,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::conv2d(x, self.weight.clone(), self.bias.clone(), self.stride, self.padding, true)
    }
}

const VECTORS: [&str; 4] = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
