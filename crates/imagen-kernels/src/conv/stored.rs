//! 3x3 convolutions, stride 1 and padding 1, whose weights stay as they are stored: f32, f16, bf16, or int8 with a scale per
//! output channel; for inference.
//!
//! Weights that are transformed once and kept take four times their plain size in f32, eight times that of f16. Here the
//! transforms of Winograd are made on the way, from panels that are widened while they are read: each call costs some more
//! multiply-adds, and what is in memory is what the file has. Where reading weights is what the time goes into, few pixels
//! under many channels, reading less makes up for it.

use super::patches::{self, Neighbourhood};
use super::winograd::{Source, Weights as Taps};
use super::{Algorithm, Conv3x3};
use crate::expect_len;
use crate::precision::{Arithmetic, Precision};
use crate::rows::Epilogue;
use crate::scratch;
use crate::stored::{Format, StoredLinear, Weights};

/// Weights of a 3x3 convolution from c to k channels, ready to be applied.
pub struct StoredConv {
    c: usize,
    k: usize,
    /// The nine taps of c channels as the rows of one matrix, `[9 c, k]`.
    taps: StoredLinear,
}

impl std::fmt::Debug for StoredConv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredConv {{ c: {}, k: {}, {:?} }}", self.c, self.k, self.taps)
    }
}

impl StoredConv {
    /// From weights `[k, c, 3, 3]`, as PyTorch has them; the scales of int8 are of k.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn from_pytorch(c: usize, k: usize, weights: Weights<'_>) -> Self {
        Self { c, k, taps: StoredLinear::from_taps(c, k, weights) }
    }

    /// `y = (conv(x, w) + bias + residual) * scale`; x `[n, h, w, c]` with `[n, h, w]` given, bias `[k]`, y and residual
    /// `[n, h, w, k]`.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    pub fn forward(
        &self,
        [n, h, w]: [usize; 3],
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        let Self { c, k, taps } = self;
        let conv = Conv3x3 { n, h, w, c: *c, k: *k, stride: 1 };
        let epilogue = conv.check_forward(x, bias, residual, scale, y);
        let on = Arithmetic { isa: taps.isa(), precision: Precision::current() };
        match conv.algorithm() {
            // few channels, as of weights that are not stored
            Algorithm::Shifted => self.direct(on.isa.into(), &conv, x, epilogue, y),
            Algorithm::Direct => {
                let precision = StoredLinear::precision(n * h * w);
                self.direct(Arithmetic { precision, ..on }, &conv, x, epilogue, y);
            }
            algorithm @ (Algorithm::Winograd4 | Algorithm::Winograd2) => {
                conv.winograd(on, algorithm, x, Source::Weights(Taps::Stored(taps)), epilogue, y);
            }
        }
    }

    /// The definition: neighbourhoods as rows, some at a time, times the taps.
    fn direct(&self, on: Arithmetic, conv: &Conv3x3, x: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
        /// Numbers of neighbourhoods that are in memory at once.
        const AT_ONCE: usize = 1 << 20;
        let Conv3x3 { n, h, w, c, k, .. } = *conv;
        let near = Neighbourhood::of_input(conv, (h, w));
        let (pixels, depth) = (n * h * w, 9 * c);
        let block = (AT_ONCE / depth.max(1)).clamp(1, pixels.max(1));
        let mut rows = scratch::take(block * depth);
        for first in (0..pixels).step_by(block) {
            let count = block.min(pixels - first);
            let (rows, part) = (&mut rows[..count * depth], first * k..(first + count) * k);
            patches::fill(on.isa, near, x, first, count, rows);
            let residual = epilogue.residual.map(|residual| &residual[part.clone()]);
            self.taps.forward_in(on.precision, count, rows, Epilogue { residual, ..epilogue }, &mut y[part]);
        }
    }

    /// Input and output channels, `(c, k)`.
    pub fn channels(&self) -> (usize, usize) {
        (self.c, self.k)
    }

    /// The bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.taps.bytes()
    }

    /// The type of the weights.
    pub fn format(&self) -> Format {
        self.taps.format()
    }

    /// The weights `[3, 3, c, k]` as the numbers that they stand for.
    pub fn widened(&self) -> Vec<f32> {
        let w = self.taps.widened();
        expect_len("the widened weights", &w, 9 * self.c * self.k);
        w
    }
}
