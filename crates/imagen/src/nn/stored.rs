//! Linear layers and 3×3 convolutions of frozen networks whose weights stay in memory as a file stores them: f32, f16, bf16, or int8 with a scale
//! for every output feature.
//!
//! Where the kernels cannot compute, weights are brought to the device when they are first used there, and stay.
//!
//! Deliberately not here: their products (`ops`), training (the weights are constants), and reading of files (`models::weights`).

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{DType, FloatDType, TensorData};
use imagen_kernels::stored::Format;
use imagen_kernels::{conv, stored};

pub use imagen_kernels::stored::Weights as StoredWeights;
pub use imagen_kernels::stored::quantize_rows;

/// Frozen weights from `c` to `k` features; a clone shares them.
#[derive(Clone, Debug)]
pub struct StoredLinear(Arc<Kept<stored::StoredLinear>>);

/// Weights for the kernels, and what devices without them have of these weights.
#[derive(Debug)]
struct Kept<W> {
    kernel: W,
    /// A backend's tensor for each device that asked.
    on_devices: Mutex<Vec<Box<dyn Any + Send + Sync>>>,
}

impl<W> Kept<W> {
    fn new(kernel: W) -> Arc<Self> {
        Arc::new(Self { kernel, on_devices: Mutex::default() })
    }

    /// The weights in f32 on a device, where they stay in their own form if it has arithmetic of 16 bits.
    fn on_device<B: Backend>(
        &self,
        format: Format,
        values: impl FnOnce() -> TensorData,
        device: &B::Device,
    ) -> FloatTensor<B> {
        let mut kept = self.on_devices.lock().unwrap_or_else(PoisonError::into_inner);
        // devices are equal whether they record for the backward pass or not
        let here = |w: &&FloatTensor<B>| w.device() == *device && B::ad_enabled(&w.device()) == B::ad_enabled(device);
        let there = kept.iter().filter_map(|any| any.downcast_ref::<FloatTensor<B>>()).find(here);
        let weights = there.cloned().unwrap_or_else(|| {
            let narrow = match format {
                Format::F16 => Some(DType::F16),
                Format::Bf16 => Some(DType::BF16),
                Format::F32 | Format::Int8 => None,
            };
            let form = narrow.filter(|form| B::supports_dtype(device, *form)).unwrap_or(DType::F32);
            let weights = B::float_from_data(values().convert_dtype(form), device);
            kept.push(Box::new(weights.clone()));
            weights
        });
        match weights.dtype() {
            DType::F32 => weights,
            _ => B::float_cast(weights, FloatDType::F32),
        }
    }
}

impl StoredLinear {
    /// From weights `[k, c]`, as PyTorch has them: one row per output feature.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_rows(c: usize, k: usize, weights: StoredWeights<'_>) -> Self {
        Self(Kept::new(stored::StoredLinear::from_rows(c, k, weights)))
    }

    /// Input and output features, `(c, k)`.
    pub fn features(&self) -> (usize, usize) {
        self.0.kernel.features()
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.0.kernel.bytes()
    }

    /// The weights `[c, k]` in f32 on a device, for the operation's definition; brought there once.
    pub(super) fn on_device<B: Backend>(&self, device: &B::Device) -> FloatTensor<B> {
        let (kernel, (c, k)) = (&self.0.kernel, self.features());
        self.0.on_device::<B>(kernel.format(), || TensorData::new(kernel.widened(), [c, k]), device)
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &stored::StoredLinear {
        &self.0.kernel
    }
}

/// Frozen weights of a 3×3 convolution from `c` to `k` channels, stride 1 and padding 1; a clone shares them.
#[derive(Clone, Debug)]
pub struct StoredConv(Arc<Kept<conv::StoredConv>>);

impl StoredConv {
    /// From weights `[k, c, 3, 3]`, as PyTorch has them.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_pytorch(c: usize, k: usize, weights: StoredWeights<'_>) -> Self {
        Self(Kept::new(conv::StoredConv::from_pytorch(c, k, weights)))
    }

    /// Input and output channels, `(c, k)`.
    pub fn channels(&self) -> (usize, usize) {
        self.0.kernel.channels()
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.0.kernel.bytes()
    }

    /// The weights `[3, 3, c, k]` in f32 on a device, for the operation's definition; brought there once.
    pub(super) fn on_device<B: Backend>(&self, device: &B::Device) -> FloatTensor<B> {
        let (kernel, (c, k)) = (&self.0.kernel, self.channels());
        self.0.on_device::<B>(kernel.format(), || TensorData::new(kernel.widened(), [3, 3, c, k]), device)
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &conv::StoredConv {
        &self.0.kernel
    }
}
