//! What the rates of `bench` and the times of `plan` are held against: how fast a device is at what it does best.
//!
//! The processor has a kernel of nothing but multiply-adds for that. A GPU has matrix products, as large as a tenth of a second
//! allows, and for estimates the convolution that networks are made of.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};

use imagen::nn::device::Found;
use imagen::nn::ops;
use imagen::rng::Rng;
use imagen_kernels::peak::multiply_add_rate;

/// Sides of the matrices that are tried, the smallest first.
const SIDES: [usize; 6] = [256, 512, 1024, 2048, 4096, 8192];
/// A product that takes this long is large enough.
const LONG_ENOUGH: f64 = 0.1;
/// Pictures, side and channels of the convolution that stands for networks.
const CONVOLUTION: [usize; 3] = [4, 64, 128];

/// The ceiling of a device, to be measured again and again.
pub(super) enum Ceiling {
    /// Of the processor, with the threads that there are.
    Cpu,
    /// Of matrix products of this side.
    Product(usize, Device),
}

impl Ceiling {
    /// Finds out what to measure.
    pub(super) fn of(found: &Found) -> Self {
        if found.is_cpu() {
            return Self::Cpu;
        }
        let device = found.device.clone();
        let [first, .., largest] = SIDES;
        seconds_of_product(first, &device); // the kernel is compiled
        let long = SIDES.into_iter().find(|side| seconds_of_product(*side, &device) >= LONG_ENOUGH);
        Self::Product(long.unwrap_or(largest), device)
    }

    /// Operations a second, two of them a multiply-add.
    pub(super) fn measure(&self) -> f64 {
        match self {
            Self::Cpu => multiply_add_rate(),
            Self::Product(side, device) => 2.0 * (*side as f64).powi(3) / seconds_of_product(*side, device),
        }
    }

    /// What it is called: `this machine's ceiling`.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Cpu => "this machine's ceiling".into(),
            Self::Product(side, _) => format!("what it reaches in products of {side}×{side}"),
        }
    }
}

/// Multiply-adds a second of networks' convolutions on a device.
pub(super) fn convolution_rate(device: &Device) -> f64 {
    let [n, side, channels] = CONVOLUTION;
    let x: Tensor<4> = random([n, side, side, channels], device);
    let (w, b) = (random([3, 3, channels, channels], device), Tensor::zeros([channels], device));
    let run = || drop(ops::conv3x3(x.clone(), w.clone(), b.clone(), None, 1, 1.0));
    seconds(device, run); // the kernel is compiled
    (n * side * side * 9 * channels * channels) as f64 / seconds(device, run).min(seconds(device, run))
}

fn seconds_of_product(side: usize, device: &Device) -> f64 {
    let (a, b): (Tensor<2>, Tensor<2>) = (random([side, side], device), random([side, side], device));
    let run = || drop(a.clone().matmul(b.clone()));
    seconds(device, run).min(seconds(device, run))
}

/// How long something takes on a device that has nothing else to do.
fn seconds(device: &Device, run: impl Fn()) -> f64 {
    // an error would come again where results are read
    let _ = device.sync();
    let begun = Instant::now();
    run();
    let _ = device.sync();
    begun.elapsed().as_secs_f64()
}

/// Numbers around 0: a device may be faster at zeros.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let len: usize = shape.iter().product();
    let row = Rng::new(1).uniform(len.min(1 << 16));
    let numbers: Vec<f32> = row.iter().map(|u| u - 0.5).cycle().take(len).collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}
