//! Convolutions with any window, stride and padding, for inference, with the rectifier that mostly follows them.

use super::FEW;
use super::patches::{Neighbourhood, Product, Target};
use super::winograd::{self, F4, Source, Tiling, Weights};
use crate::gemm::{self, packed_len};
use crate::isa::Isa;
use crate::rows::Epilogue;
use crate::scratch::Aligned;
use crate::{expect_len, linear};

/// A convolution: x `[n, h, w, c]`, w `[rows, columns, c, k]`, y `[n, oh, ow, k]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Pictures in the batch.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Rows and columns of the window.
    pub window: [usize; 2],
    /// Pixels from one window to the next, in both directions; at least 1.
    pub stride: usize,
    /// Zeros above and below, and on the left and the right.
    pub padding: [usize; 2],
}

/// Weights in the form that a [`Conv2d`] reads; independent of n, h and w.
pub struct PreparedConv2d {
    isa: Isa,
    /// [`Conv2d::of_any_pictures`].
    of: Conv2d,
    data: Aligned,
}

impl std::fmt::Debug for PreparedConv2d {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedConv2d {{ {:?}, {:?} }}", self.isa, self.of)
    }
}

impl Conv2d {
    /// Height and width of the output; 0 where the padded picture is smaller than the window.
    pub fn out(&self) -> [usize; 2] {
        let out = |size: usize, window: usize, padding: usize| {
            (size + 2 * padding).checked_sub(window).map_or(0, |rest| rest / self.stride + 1)
        };
        [out(self.h, self.window[0], self.padding[0]), out(self.w, self.window[1], self.padding[1])]
    }

    /// The convolution with n, h and w of 0: what its weights are prepared for.
    pub fn of_any_pictures(&self) -> Self {
        Self { n: 0, h: 0, w: 0, ..*self }
    }

    /// The weights transformed or packed once.
    ///
    /// # Panics
    /// If the stride is 0, or a slice does not have the length of its shape; so do all methods.
    pub fn prepare(&self, w: &[f32]) -> PreparedConv2d {
        let Self { c, k, window: [rows, columns], stride, .. } = *self;
        assert!(stride > 0, "a stride of 0 goes nowhere");
        expect_len("w", w, rows * columns * c * k);
        let isa = Isa::current();
        let data = if self.is_winograd() {
            let mut data = Aligned::new(winograd::weights_len::<F4>(isa.into(), c, k));
            winograd::transform_weights::<F4>(isa.into(), Weights::Plain(w), c, k, &mut data);
            data
        } else {
            let mut data = Aligned::new(packed_len(isa.into(), rows * columns * c, k));
            gemm::pack(isa.into(), w, rows * columns * c, k, &mut data);
            data
        };
        PreparedConv2d { isa, of: self.of_any_pictures(), data }
    }

    /// `y = conv(x, w) + bias`, and `max(y, 0)` if `rectified`.
    ///
    /// # Panics
    /// Also if the weights were prepared for another convolution.
    pub fn forward(&self, x: &[f32], w: &PreparedConv2d, bias: Option<&[f32]>, rectified: bool, y: &mut [f32]) {
        let Self { n, h, w: width, c, k, window: [rows, columns], stride, padding } = *self;
        let grid @ (oh, ow) = self.out().into();
        expect_len("x", x, n * h * width * c);
        expect_len("y", y, n * oh * ow * k);
        assert!(w.of == self.of_any_pictures(), "the weights were prepared for {w:?}, this is {self:?}");
        let least = if rectified { 0.0 } else { f32::NEG_INFINITY };
        let epilogue = Epilogue { least, ..Epilogue::new(bias, None, 1.0) };
        epilogue.check(n * oh * ow, k);
        if self.is_winograd() {
            let tiling = Tiling::padded::<F4>(n, (h, width), padding[0]);
            return winograd::forward_on::<F4>(w.isa.into(), tiling, (c, k), x, Source::Prepared(&w.data), epilogue, y);
        }
        if ([rows, columns], stride, padding) == ([1, 1], 1, [0, 0]) {
            return linear::product(w.isa.into(), x, [n * h * width, c, k], 0..k, &w.data, epilogue, false, y);
        }
        let [top, left] = padding.map(|zeros| -(zeros as isize));
        let near = Neighbourhood { h, w: width, c, grid, step: stride, top, left, rows, columns };
        Product { near, x, weights: &w.data, k, target: Target::whole(n, grid), epilogue }.run(w.isa.into(), y);
    }

    fn is_winograd(&self) -> bool {
        self.window == [3, 3]
            && self.stride == 1
            && matches!(self.padding, [0, 0] | [1, 1])
            && self.c.min(self.k) >= FEW
    }
}
