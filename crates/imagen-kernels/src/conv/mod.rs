//! 3x3 convolutions with padding 1 on `[n, h, w, c]`, weights `[3, 3, c, k]`, and their gradients.
//!
//! This file picks the algorithm ([`Algorithm`]); each has a file of its own:
//!
//! | shape | algorithm |
//! |---|---|
//! | stride 1 | `winograd`: F(4x4, 3x3), a quarter of the multiplications; F(2x2, 3x3) on maps of at most 2x2, in bfloat16 4x4 |
//! | stride 1, few outputs | `shifted`: one product with all nine taps as columns, then a sum of shifted results |
//! | the rest | `patches`: neighbourhoods are copied into rows, then one product |
//!
//! [`StoredConv`] has weights in f16, bf16 or int8, for inference; [`Conv2d`] any window, for inference too.
//!
//! Prepared weights of F(4x4) are four times as large as the plain ones. Where few pixels share weights that no cache
//! holds, reading them is what the time goes into, and [`Conv3x3::prepare`] takes the algorithm that reads least.
//!
//! The gradient of the input is a convolution with flipped, transposed weights; with stride 2 it is four of them,
//! one for each parity of rows and columns.

mod patches;
mod shape;
mod shifted;
mod stored;
mod window;
mod winograd;

use crate::expect_len;
use crate::gemm;
use crate::precision::{Arithmetic, Precision};
use crate::rows::{Epilogue, column_sums};
use crate::scratch::{self, Scratch};
use patches::{Neighbourhood, Product, Target};
pub use shape::Conv3x3;
pub use stored::StoredConv;
pub use window::{Conv2d, PreparedConv2d};
use winograd::{F2, F4, RoundedF4, Source, Weights};

/// Weights in the form that one convolution's algorithm reads; made by [`Conv3x3::prepare`], independent of n, h
/// and w.
pub struct Prepared {
    algorithm: Algorithm,
    on: Arithmetic,
    c: usize,
    k: usize,
    stride: usize,
    data: Scratch,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { algorithm, on: Arithmetic { isa, precision }, c, k, stride, .. } = self;
        write!(f, "Prepared {{ {algorithm:?}, {isa:?}, {precision:?}, c: {c}, k: {k}, stride: {stride} }}")
    }
}

/// How a convolution is computed. The results differ by rounding alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// F(4x4, 3x3): 36 products for 16 outputs. Stride 1.
    Winograd4,
    /// F(2x2, 3x3): 16 products for 4 outputs. Stride 1.
    Winograd2,
    /// One product with all nine taps as columns, then a sum of shifted results. Stride 1.
    Shifted,
    /// The definition, as one product of copied neighbourhoods and the plain weights.
    Direct,
}

/// Multiply-adds that take as long as reading one weight from memory; measured as 20 to 40 on two AVX2 cores.
const READ: usize = 30;

/// Below so many channels Winograd's transforms cost more than they save.
const FEW: usize = 12;

/// Weights from this many on, as multiplied, do not stay in a cache from one call to the next.
const UNCACHED: usize = 1 << 22;

impl Conv3x3 {
    /// `y = (conv(x, w) + bias + residual) * scale`; bias `[k]`, residual like y.
    ///
    /// # Panics
    /// If the stride is neither 1 nor 2, or a slice does not have the length of its shape; so do all methods.
    pub fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        let epilogue = self.check_forward(x, bias, residual, scale, y);
        expect_len("w", w, 9 * self.c * self.k);
        self.run_once(Arithmetic::current(), x, Weights::Plain(w), epilogue, y);
    }

    /// The weights transformed once, for many calls of [`Conv3x3::forward_prepared`] with any n, h and w.
    pub fn prepare(&self, w: &[f32]) -> Prepared {
        self.prepare_as(self.prepared_algorithm(), w)
    }

    /// As [`Conv3x3::prepare`], for a few calls: the memory is the next one's when the weights are dropped.
    pub fn prepare_briefly(&self, w: &[f32]) -> Prepared {
        self.check_stride();
        expect_len("w", w, 9 * self.c * self.k);
        self.prepare_from(self.prepared_algorithm(), Weights::Plain(w), scratch::take)
    }

    /// As [`Conv3x3::prepare`], for an algorithm of the caller's choice.
    ///
    /// # Panics
    /// Also if the algorithm is for stride 1 and this convolution has another.
    pub fn prepare_as(&self, algorithm: Algorithm, w: &[f32]) -> Prepared {
        self.check_stride();
        expect_len("w", w, 9 * self.c * self.k);
        self.prepare_from(algorithm, Weights::Plain(w), scratch::keep)
    }

    fn prepare_from(&self, algorithm: Algorithm, weights: Weights<'_>, memory: fn(usize) -> Scratch) -> Prepared {
        self.check_algorithm(algorithm);
        let on = Arithmetic::current();
        let mut data = memory(self.prepared_len(on, algorithm));
        self.prepare_into(on, algorithm, weights, &mut data);
        Prepared { algorithm, on, c: self.c, k: self.k, stride: self.stride, data }
    }

    /// As [`Conv3x3::forward`], with weights from [`Conv3x3::prepare`].
    ///
    /// # Panics
    /// Also if the weights were prepared for other channels or another stride.
    pub fn forward_prepared(
        &self,
        x: &[f32],
        w: &Prepared,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        scale: f32,
        y: &mut [f32],
    ) {
        let epilogue = self.check_forward(x, bias, residual, scale, y);
        assert!(
            (w.c, w.k, w.stride) == (self.c, self.k, self.stride),
            "the weights were prepared for {w:?}, the convolution is {self:?}"
        );
        self.run(w.on, w.algorithm, x, &w.data, epilogue, y);
    }

    /// The gradient of x, `[n, h, w, c]`, from that of y.
    pub fn grad_input(&self, gy: &[f32], w: &[f32], gx: &mut [f32]) {
        let Self { n, h, w: width, c, k, stride } = *self;
        self.check_stride();
        expect_len("gy", gy, n * self.out_h() * self.out_w() * k);
        expect_len("w", w, 9 * c * k);
        expect_len("gx", gx, n * h * width * c);
        let on = Arithmetic::current();
        if stride == 2 {
            return patches::grad_input_stride2(on, self, gy, w, gx);
        }
        Conv3x3 { c: k, k: c, ..*self }.run_once(on, gy, Weights::Flipped(w), Epilogue::NONE, gx);
    }

    /// The weights as [`Conv3x3::grad_input`] reads them, transformed once, for a few calls of
    /// [`Conv3x3::grad_input_prepared`]; the memory is the next one's when they are dropped.
    ///
    /// # Panics
    /// Also if the stride is not 1.
    pub fn prepare_flipped(&self, w: &[f32]) -> Prepared {
        let Self { c, k, stride, .. } = *self;
        assert!(stride == 1, "the data gradient of stride {stride} reads the weights as they are");
        expect_len("w", w, 9 * c * k);
        let back = Self { c: k, k: c, ..*self };
        back.prepare_from(back.prepared_algorithm(), Weights::Flipped(w), scratch::take)
    }

    /// [`Conv3x3::grad_input`] with weights from [`Conv3x3::prepare_flipped`].
    ///
    /// # Panics
    /// Also if the weights were prepared for other channels, or the stride is not 1.
    pub fn grad_input_prepared(&self, gy: &[f32], w: &Prepared, gx: &mut [f32]) {
        Self { c: self.k, k: self.c, ..*self }.forward_prepared(gy, w, None, None, 1.0, gx);
    }

    /// The gradient of w, `[3, 3, c, k]`, and of the bias, `[k]`, from that of y.
    pub fn grad_weight(&self, x: &[f32], gy: &[f32], gw: &mut [f32], gb: Option<&mut [f32]>) {
        self.check_stride();
        self.grad_weight_as(self.algorithm(), x, gy, gw, gb);
    }

    /// As [`Conv3x3::grad_weight`], by an algorithm of the caller's choice.
    ///
    /// # Panics
    /// Also if the algorithm is for stride 1 and this convolution has another.
    pub fn grad_weight_as(&self, algorithm: Algorithm, x: &[f32], gy: &[f32], gw: &mut [f32], gb: Option<&mut [f32]>) {
        let Self { n, h, w, c, k, .. } = *self;
        self.check_algorithm(algorithm);
        let pixels = n * self.out_h() * self.out_w();
        expect_len("x", x, n * h * w * c);
        expect_len("gy", gy, pixels * k);
        expect_len("gw", gw, 9 * c * k);
        let on = Arithmetic::current();
        if let Some(gb) = gb.as_deref() {
            expect_len("gb", gb, k);
        }
        match (algorithm, on.precision) {
            (Algorithm::Winograd4, Precision::F32) => return winograd::grad_weight::<F4>(on, self, x, gy, gw, gb),
            (Algorithm::Winograd4, _) => return winograd::grad_weight::<RoundedF4>(on, self, x, gy, gw, gb),
            (Algorithm::Winograd2, _) => return winograd::grad_weight::<F2>(on, self, x, gy, gw, gb),
            (Algorithm::Shifted, _) => shifted::grad_weight(on.isa, self, x, gy, gw),
            (Algorithm::Direct, _) => patches::grad_weight(on, self, x, gy, gw),
        }
        if let Some(gb) = gb {
            column_sums(on.isa, gy, pixels, k, gb);
        }
    }

    fn algorithm(&self) -> Algorithm {
        let Self { h, w, c, k, stride, .. } = *self;
        // Products in bfloat16 take half the time, transforms as long as ever: of small maps, with few tiles for each transformed
        // weight, F(2x2) has the fewer of them.
        let small = match Precision::current() {
            Precision::F32 => 2,
            Precision::Bf16 => 4,
        };
        match () {
            () if stride == 1 && c >= FEW && k >= FEW && h.max(w) <= small => Algorithm::Winograd2,
            () if stride == 1 && c >= FEW && k >= FEW => Algorithm::Winograd4,
            () if stride == 1 && c >= FEW && 9 * k <= 64 => Algorithm::Shifted,
            () => Algorithm::Direct,
        }
    }

    /// The algorithm for weights that are kept: the cheapest by multiply-adds and by weights read, on maps like this one.
    fn prepared_algorithm(&self) -> Algorithm {
        let fastest = self.algorithm();
        let Self { n, h, w, c, k, .. } = *self;
        let small = fastest == Algorithm::Winograd2 && Precision::current() == Precision::Bf16;
        if (fastest != Algorithm::Winograd4 && !small) || 36 * c * k < UNCACHED {
            return fastest;
        }
        let cost = |algorithm: &Algorithm| {
            let (products, side) = match algorithm {
                Algorithm::Winograd4 => (36, 4),
                Algorithm::Winograd2 => (16, 2),
                Algorithm::Shifted | Algorithm::Direct => (9, 1),
            };
            products * (n * h.div_ceil(side) * w.div_ceil(side) + READ)
        };
        let choices = [Algorithm::Direct, Algorithm::Winograd2, Algorithm::Winograd4];
        choices[..if small { 2 } else { 3 }].iter().copied().min_by_key(cost).unwrap_or(fastest)
    }

    fn prepared_len(&self, on: Arithmetic, algorithm: Algorithm) -> usize {
        let Self { c, k, .. } = *self;
        match algorithm {
            Algorithm::Winograd4 => winograd::weights_len::<F4>(on, c, k),
            Algorithm::Winograd2 => winograd::weights_len::<F2>(on, c, k),
            Algorithm::Shifted => gemm::packed_len(on.isa.into(), c, 9 * k),
            Algorithm::Direct => gemm::packed_len(on, 9 * c, k),
        }
    }

    fn prepare_into(&self, on: Arithmetic, algorithm: Algorithm, weights: Weights<'_>, to: &mut [f32]) {
        let Self { c, k, .. } = *self;
        match (algorithm, weights) {
            (Algorithm::Winograd4, _) if on.precision == Precision::F32 => {
                winograd::transform_weights::<F4>(on, weights, c, k, to);
            }
            (Algorithm::Winograd4, _) => winograd::transform_weights::<RoundedF4>(on, weights, c, k, to),
            (Algorithm::Winograd2, _) => winograd::transform_weights::<F2>(on, weights, c, k, to),
            (Algorithm::Shifted, Weights::Plain(w)) => shifted::prepare(on.isa, w, c, k, to),
            (Algorithm::Direct, Weights::Plain(w)) => gemm::pack(on, w, 9 * c, k, to),
            (_, Weights::Flipped(w)) => {
                let mut flipped = scratch::take(9 * c * k);
                patches::flip(w, c, k, &mut flipped);
                self.prepare_into(on, algorithm, Weights::Plain(&flipped), to);
            }
            (_, Weights::Stored(_)) => unreachable!("stored weights go through `StoredConv`"),
        }
    }

    /// A convolution whose weights are used this once.
    fn run_once(&self, on: Arithmetic, x: &[f32], weights: Weights<'_>, epilogue: Epilogue<'_>, y: &mut [f32]) {
        let algorithm = self.algorithm();
        if matches!(algorithm, Algorithm::Winograd4 | Algorithm::Winograd2) {
            return self.winograd(on, algorithm, x, Source::Weights(weights), epilogue, y);
        }
        let mut prepared = scratch::take(self.prepared_len(on, algorithm));
        self.prepare_into(on, algorithm, weights, &mut prepared);
        self.run(on, algorithm, x, &prepared, epilogue, y);
    }

    fn winograd(
        &self,
        on: Arithmetic,
        algorithm: Algorithm,
        x: &[f32],
        source: Source<'_>,
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        match (algorithm, on.precision) {
            (Algorithm::Winograd2, _) => winograd::forward::<F2>(on, self, x, source, epilogue, y),
            (_, Precision::F32) => winograd::forward::<F4>(on, self, x, source, epilogue, y),
            (_, Precision::Bf16) => winograd::forward::<RoundedF4>(on, self, x, source, epilogue, y),
        }
    }

    fn run(
        &self,
        on: Arithmetic,
        algorithm: Algorithm,
        x: &[f32],
        weights: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        match algorithm {
            Algorithm::Winograd4 | Algorithm::Winograd2 => {
                self.winograd(on, algorithm, x, Source::Prepared(weights), epilogue, y);
            }
            Algorithm::Shifted => shifted::forward(on.isa, self, x, weights, epilogue, y),
            Algorithm::Direct => {
                let grid = (self.out_h(), self.out_w());
                let near = Neighbourhood::of_input(self, grid);
                Product { near, x, weights, k: self.k, target: Target::whole(self.n, grid), epilogue }.run(on, y);
            }
        }
    }

    #[track_caller]
    fn check_algorithm(&self, algorithm: Algorithm) {
        self.check_stride();
        let stride = self.stride;
        assert!(stride == 1 || algorithm == Algorithm::Direct, "{algorithm:?} needs stride 1, not {stride}");
    }

    #[track_caller]
    fn check_forward<'a>(
        &self,
        x: &[f32],
        bias: Option<&'a [f32]>,
        residual: Option<&'a [f32]>,
        scale: f32,
        y: &[f32],
    ) -> Epilogue<'a> {
        self.check_stride();
        let pixels = self.n * self.out_h() * self.out_w();
        expect_len("x", x, self.n * self.h * self.w * self.c);
        expect_len("y", y, pixels * self.k);
        let epilogue = Epilogue::new(bias, residual, scale);
        epilogue.check(pixels, self.k);
        epilogue
    }
}
