//! Linear layers and 3×3 convolutions of frozen networks whose weights stay in memory as a file stores them: f32, f16, bf16, or int8 with a scale
//! for every output feature.
//!
//! Deliberately not here: their products (`ops`), training (the weights are constants), and reading of files (`models::weights`).

use std::sync::Arc;

use imagen_kernels::{conv, stored};

pub use imagen_kernels::stored::Weights as StoredWeights;
pub use imagen_kernels::stored::quantize_rows;

/// Frozen weights from `c` to `k` features; a clone shares them.
#[derive(Clone, Debug)]
pub struct StoredLinear(Arc<stored::StoredLinear>);

impl StoredLinear {
    /// From weights `[k, c]`, as PyTorch has them: one row per output feature.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_rows(c: usize, k: usize, weights: StoredWeights<'_>) -> Self {
        Self(Arc::new(stored::StoredLinear::from_rows(c, k, weights)))
    }

    /// Input and output features, `(c, k)`.
    pub fn features(&self) -> (usize, usize) {
        self.0.features()
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The weights `[c, k]` as f32: for the operation's definition.
    pub(super) fn widened(&self) -> Vec<f32> {
        self.0.widened()
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &stored::StoredLinear {
        &self.0
    }
}

/// Frozen weights of a 3×3 convolution from `c` to `k` channels, stride 1 and padding 1; a clone shares them.
#[derive(Clone, Debug)]
pub struct StoredConv(Arc<conv::StoredConv>);

impl StoredConv {
    /// From weights `[k, c, 3, 3]`, as PyTorch has them.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_pytorch(c: usize, k: usize, weights: StoredWeights<'_>) -> Self {
        Self(Arc::new(conv::StoredConv::from_pytorch(c, k, weights)))
    }

    /// Input and output channels, `(c, k)`.
    pub fn channels(&self) -> (usize, usize) {
        self.0.channels()
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The weights `[3, 3, c, k]` as f32: for the operation's definition.
    pub(super) fn widened(&self) -> Vec<f32> {
        self.0.widened()
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &conv::StoredConv {
        &self.0
    }
}
