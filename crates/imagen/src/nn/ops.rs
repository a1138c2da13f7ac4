//! The coarse operations that the networks are made of, on runtime tensors of any device.
//!
//! This is the only door between the networks and the kernels: models never know which implementation runs.
//! Activations are channels-last, convolution weights `[3, 3, c, k]` (height, width, in, out), matrices `[c, k]`.
//! Each of them is a span of `tracing`, so that a program can see where the time goes.

use burn::backend::{Dispatch, tensor::FloatTensor};
use burn::tensor::Tensor;
use tracing::trace_span;

pub use imagen_kernels::adafactor::Adafactor as AdafactorStep;
pub use imagen_kernels::norm::Activation;
pub use imagen_kernels::optimizer::Adam as AdamStep;
pub use imagen_kernels::resample::Pooling;

pub use super::arguments::AdafactorKind;
pub use super::switches::{by_definition, recomputing};

use super::arguments::{BlockParameters, Shortcut};
use super::extension::NetworkOps;
use super::switches::{KEEPING, defined, with};
use super::{StoredConv, StoredLinear, cpu, reference};

/// Runs `f`, several passes forward and back over the same weights, so that convolution weights are transformed once for
/// all of them; the transformed ones are dropped at the end.
pub fn keeping_weights<R>(f: impl FnOnce() -> R) -> R {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            cpu::forget_step_weights();
        }
    }
    let _forget = Forget;
    with(&KEEPING, f)
}

/// Gives the memory back that operations keep for the next ones, up to half a gibibyte: between networks whose maps have
/// other sizes.
pub fn release_buffers() {
    cpu::release_buffers();
}

/// An operation: as it is defined, or as the tensors' device has it.
macro_rules! run {
    ($operation:ident($($x:expr),*)) => {
        if defined() {
            reference::$operation::<Dispatch>($($x),*)
        } else {
            <Dispatch as NetworkOps>::$operation($($x.into()),*)
        }
    };
}

fn inner<const D: usize>(tensor: Option<Tensor<D>>) -> Option<FloatTensor<Dispatch>> {
    tensor.map(Tensor::into_dispatch)
}

/// `(conv(x, w) + b + residual) · scale`: 3×3, padding 1, stride 1 or 2.
///
/// `x [n, h, w, c]`, `w [3, 3, c, k]`, `b [k]`, `residual` and result `[n, ⌈h/stride⌉, ⌈w/stride⌉, k]`.
pub fn conv3x3(
    x: Tensor<4>,
    w: Tensor<4>,
    b: Tensor<1>,
    residual: Option<Tensor<4>>,
    stride: usize,
    scale: f32,
) -> Tensor<4> {
    let _span = trace_span!("conv3x3", x = ?x.dims(), k = w.dims()[3], stride).entered();
    let (x, w, b, residual) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch(), inner(residual));
    Tensor::from_dispatch(run!(conv3x3(x, w, b, residual, stride, scale)))
}

/// `act((GN(x)·γ + β)·(1 + film[:, :c]) + film[:, c:])`; ε = 1e-5.
///
/// `x [n, h, w, c]`, `γ, β [c]`, `film [n, 2c]`; `c` is a multiple of `groups`.
pub fn group_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    film: Option<Tensor<2>>,
    groups: usize,
    activation: Activation,
) -> Tensor<4> {
    let _span = trace_span!("group_norm", x = ?x.dims(), film = film.is_some(), ?activation).entered();
    let (x, gamma, beta, film) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch(), inner(film));
    Tensor::from_dispatch(run!(group_norm(x, gamma, beta, film, groups, activation)))
}

/// The parameters of [`residual_block`], `c` channels in, `k` out.
#[derive(Clone, Debug)]
pub struct ResidualBlock {
    /// Scale and shift of the first GroupNorm, `[c]`.
    pub norm1: [Tensor<1>; 2],
    /// Weights of the first convolution, `[3, 3, c, k]`.
    pub weight1: Tensor<4>,
    /// Its bias, `[k]`.
    pub bias1: Tensor<1>,
    /// Scale and shift of the second GroupNorm, `[k]`.
    pub norm2: [Tensor<1>; 2],
    /// Weights of the second convolution, `[3, 3, k, k]`.
    pub weight2: Tensor<4>,
    /// Its bias, `[k]`.
    pub bias2: Tensor<1>,
    /// Groups of the two norms.
    pub groups: [usize; 2],
    /// What follows both norms.
    pub activation: Activation,
    /// Weights `[c, k]` and bias `[k]` of the shortcut; absent where the shortcut is x itself (c = k).
    pub shortcut: Option<(Tensor<2>, Tensor<1>)>,
    /// Factor of the shortcut.
    pub shortcut_scale: f32,
    /// Factor of the sum.
    pub scale: f32,
}

/// `(conv2(act(GN2(conv1(act(GN1(x)))·(1 + γ) + β)) + (x·W + b)·shortcut_scale) · scale` in one operation, which keeps two
/// maps for the backward pass instead of four and lets the gradient of `x` arise in one place.
///
/// `x [n, h, w, c]`, `film [n, 2k]` (γ, β), result `[n, h, w, k]`.
pub fn residual_block(x: Tensor<4>, film: Tensor<2>, block: ResidualBlock) -> Tensor<4> {
    let _span = trace_span!("residual_block", x = ?x.dims(), k = block.bias2.dims()[0]).entered();
    let ResidualBlock { norm1: [gamma1, beta1], weight1, bias1, norm2, weight2, bias2, .. } = block;
    let [gamma2, beta2] = norm2;
    let parameters = BlockParameters {
        gamma1: gamma1.into_dispatch(),
        beta1: beta1.into_dispatch(),
        weight1: weight1.into_dispatch(),
        bias1: bias1.into_dispatch(),
        gamma2: gamma2.into_dispatch(),
        beta2: beta2.into_dispatch(),
        weight2: weight2.into_dispatch(),
        bias2: bias2.into_dispatch(),
        shortcut: match block.shortcut {
            Some((weight, bias)) => Shortcut::Projected { weight: weight.into_dispatch(), bias: bias.into_dispatch() },
            None => Shortcut::Input,
        },
        groups: block.groups,
        activation: block.activation,
        shortcut_scale: block.shortcut_scale,
        scale: block.scale,
    };
    Tensor::from_dispatch(run!(residual_block(x.into_dispatch(), film.into_dispatch(), parameters)))
}

/// Layer normalisation over the last axis, ε = 1e-5; `γ, β [c]`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<D> {
    let _span = trace_span!("layer_norm", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(layer_norm(x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch())))
}

/// Softmax attention, scale 1/√d. A query that may attend to nothing yields 0.
///
/// `q [b, tq, heads·d]`, `kv [b, tk, 2·heads·d]` (keys first, then values), `mask [b, tk]` (1 = attend, 0 = ignore).
pub fn attention(q: Tensor<3>, kv: Tensor<3>, mask: Option<Tensor<2>>, heads: usize) -> Tensor<3> {
    let _span = trace_span!("attention", q = ?q.dims(), kv = ?kv.dims(), heads).entered();
    let (q, kv, mask) = (q.into_dispatch(), kv.into_dispatch(), inner(mask));
    Tensor::from_dispatch(run!(attention(q, kv, mask, heads)))
}

/// `(x·w + b + residual) · scale` over the last axis; `x [.., c]`, `w [c, k]`, `b [k]`, `residual [.., k]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    w: Tensor<2>,
    b: Tensor<1>,
    residual: Option<Tensor<D>>,
    scale: f32,
) -> Tensor<D> {
    let _span = trace_span!("linear", x = ?x.dims(), k = w.dims()[1]).entered();
    let (x, w, b, residual) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch(), inner(residual));
    Tensor::from_dispatch(run!(dense(x, w, b, residual, scale)))
}

/// GELU, exact: `x · Φ(x)`.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let _span = trace_span!("gelu", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(gelu(x.into_dispatch())))
}

impl StoredLinear {
    /// `x·w + bias + residual` over the last axis with the weights in their stored form; `x [.., c]`, `bias [k]`, `residual` and
    /// result `[.., k]`.
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        bias: Option<Tensor<1>>,
        residual: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let _span = trace_span!("stored_linear", x = ?x.dims(), k = self.features().1).entered();
        let (x, w, bias, residual) = (x.into_dispatch(), self.clone(), inner(bias), inner(residual));
        Tensor::from_dispatch(run!(stored_linear(x, w, bias, residual)))
    }
}

impl StoredConv {
    /// `(conv(x, w) + bias + residual)·scale` with the weights in their stored form; `x [n, h, w, c]`, `bias [k]`, `residual` and
    /// result `[n, h, w, k]`.
    pub fn forward(&self, x: Tensor<4>, bias: Tensor<1>, residual: Option<Tensor<4>>, scale: f32) -> Tensor<4> {
        let _span = trace_span!("stored_conv3x3", x = ?x.dims(), k = self.channels().1).entered();
        let (x, w, bias, residual) = (x.into_dispatch(), self.clone(), bias.into_dispatch(), inner(residual));
        Tensor::from_dispatch(run!(stored_conv3x3(x, w, bias, residual, scale)))
    }
}

/// Softmax attention with a bias for every head, query and key: `softmax(scale · q·kᵀ + bias)·v`. A query that may attend to
/// nothing yields 0. A bias of -1e9 hides a key from a query.
///
/// `q [b, tq, heads·d]`, `kv [b, tk, 2·heads·d]` (keys first, then values), `bias [heads, tq, tk]`, `mask [b, tk]` (1 = attend,
/// 0 = ignore).
pub fn biased_attention(
    q: Tensor<3>,
    kv: Tensor<3>,
    bias: Tensor<3>,
    mask: Option<Tensor<2>>,
    scale: f32,
) -> Tensor<3> {
    let _span = trace_span!("biased_attention", q = ?q.dims(), kv = ?kv.dims(), heads = bias.dims()[0]).entered();
    let (q, kv, bias, mask) = (q.into_dispatch(), kv.into_dispatch(), bias.into_dispatch(), inner(mask));
    Tensor::from_dispatch(run!(biased_attention(q, kv, bias, mask, scale)))
}

/// `x / √(mean(x²) + ε) · γ` over the last axis; `γ [c]` (Zhang & Sennrich 2019).
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, eps: f32) -> Tensor<D> {
    let _span = trace_span!("rms_norm", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(rms_norm(x.into_dispatch(), gamma.into_dispatch(), eps)))
}

/// `gelu(a)·b` with GELU in its tanh form: `a·(1 + tanh(√(2/π)·(a + 0.044715·a³)))/2`; shapes equal.
pub fn gated_gelu_tanh<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let _span = trace_span!("gated_gelu_tanh", a = ?a.dims()).entered();
    Tensor::from_dispatch(run!(gated_gelu_tanh(a.into_dispatch(), b.into_dispatch())))
}

/// A convolution with any window, zero padding `[top and bottom, left and right]`: `conv(x, w) + b`, and `max(0, ·)` of it if
/// `rectified`.
///
/// `x [n, h, w, c]`, `w [kh, kw, c, k]`, `b [k]`, result `[n, (h + 2·pad − kh)/stride + 1, .., k]`.
pub fn conv2d(
    x: Tensor<4>,
    w: Tensor<4>,
    b: Tensor<1>,
    stride: usize,
    padding: [usize; 2],
    rectified: bool,
) -> Tensor<4> {
    let _span = trace_span!("conv2d", x = ?x.dims(), w = ?w.dims(), stride).entered();
    let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(run!(convolution(x, w, b, stride, padding[0], padding[1], rectified)))
}

/// Pools 3×3 windows: with stride 1 those around every pixel, which hold what of the picture is in them; with stride 2 those
/// inside the picture.
///
/// `x [n, h, w, c]`, result `[n, h, w, c]` or `[n, (h − 3)/2 + 1, .., c]`.
pub fn pool3x3(x: Tensor<4>, pooling: Pooling, stride: usize) -> Tensor<4> {
    let _span = trace_span!("pool3x3", x = ?x.dims(), ?pooling, stride).entered();
    Tensor::from_dispatch(run!(pool3x3(x.into_dispatch(), pooling, stride)))
}

/// Nearest-neighbour up-sampling by two: `[n, h, w, c]` → `[n, 2h, 2w, c]`.
pub fn upsample2(x: Tensor<4>) -> Tensor<4> {
    let _span = trace_span!("upsample2", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(upsample2(x.into_dispatch())))
}

/// Mean over 2×2 blocks: `[n, 2h, 2w, c]` → `[n, h, w, c]`.
pub fn average_pool2(x: Tensor<4>) -> Tensor<4> {
    let _span = trace_span!("average_pool2", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(average_pool2(x.into_dispatch())))
}

/// Channels to pixels: `[n, h, w, 4c]`, the 2×2 block row by row, → `[n, 2h, 2w, c]`.
pub fn pixel_shuffle(x: Tensor<4>) -> Tensor<4> {
    let _span = trace_span!("pixel_shuffle", x = ?x.dims()).entered();
    Tensor::from_dispatch(run!(pixel_shuffle(x.into_dispatch())))
}

/// Concatenation on the last axis.
pub fn concat<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let _span = trace_span!("concat", a = ?a.dims(), b = ?b.dims()).entered();
    Tensor::from_dispatch(run!(concat(a.into_dispatch(), b.into_dispatch())))
}

/// `(a + b) · scale`, shapes equal.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>, scale: f32) -> Tensor<D> {
    let _span = trace_span!("add", a = ?a.dims()).entered();
    Tensor::from_dispatch(run!(add_scaled(a.into_dispatch(), b.into_dispatch(), scale)))
}

/// One Adam step and the moving average of the new weights, on inner tensors (never differentiated):
/// `(w, g, m, v, average)` → the new `(w, m, v, average)`.
pub fn adam<const D: usize>(
    w: Tensor<D>,
    g: Tensor<D>,
    m: Tensor<D>,
    v: Tensor<D>,
    average: Tensor<D>,
    step: AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>, Tensor<D>) {
    let [w, g, m, v, average] = [w, g, m, v, average].map(Tensor::into_dispatch);
    let (w, m, v, average) = run!(adam(w, g, m, v, average, step));
    let new = Tensor::from_dispatch;
    (new(w), new(m), new(v), new(average))
}

/// What [`adafactor`] keeps of squared gradients.
#[derive(Clone, Debug)]
// handles, a few at a time
#[allow(clippy::large_enum_variant)]
pub enum SecondMoment {
    /// Means over the rows `[n, rows, 1]` and the columns `[n, 1, columns]` of n matrices.
    Factored {
        /// Of each row.
        row: Tensor<3>,
        /// Of each column.
        column: Tensor<3>,
    },
    /// All of them, of the weights' shape.
    Whole(Tensor<3>),
}

/// One step of Adafactor, on inner tensors: weights and gradient `[n, rows, columns]`, the moments that are kept → the new
/// (w, second moment, first moment). The first moment is that of the updates, the rate included.
pub fn adafactor(
    w: Tensor<3>,
    g: Tensor<3>,
    second: SecondMoment,
    m: Option<Tensor<3>>,
    step: AdafactorStep,
) -> (Tensor<3>, SecondMoment, Option<Tensor<3>>) {
    // the second moment as two tensors, the latter without a number where it is kept whole
    let (first, rest, factored) = match second {
        SecondMoment::Factored { row, column } => (row, column, true),
        SecondMoment::Whole(v) => (v, Tensor::zeros([1, 1, 1], &w.device()), false),
    };
    let kept = m.is_some();
    let m = m.unwrap_or_else(|| Tensor::zeros([1, 1, 1], &w.device()));
    let [w, g, first, rest, m] = [w, g, first, rest, m].map(Tensor::into_dispatch);
    let kind = AdafactorKind { factored, first_moment: kept };
    let (w, first, rest, m) = run!(adafactor(w, g, first, rest, m, kind, step));
    let new = Tensor::from_dispatch;
    let (first, rest): (Tensor<3>, Tensor<3>) = (new(first), new(rest));
    let second =
        if factored { SecondMoment::Factored { row: first, column: rest } } else { SecondMoment::Whole(first) };
    (new(w), second, kept.then(|| new(m)))
}

/// `decay · average + (1 − decay) · w`, on inner tensors.
pub fn average<const D: usize>(average: Tensor<D>, w: Tensor<D>, decay: f64) -> Tensor<D> {
    Tensor::from_dispatch(run!(average(average.into_dispatch(), w.into_dispatch(), decay)))
}

/// Σ x² of each of some inner tensors; they are read from the device together.
pub fn sums_of_squares(tensors: impl IntoIterator<Item = Tensor<1>>) -> Vec<f64> {
    let sum = |x: Tensor<1>| {
        let x = x.into_dispatch();
        Tensor::<1>::from_dispatch(run!(sum_of_squares(x)))
    };
    let sums: Vec<Tensor<1>> = tensors.into_iter().map(sum).collect();
    if sums.is_empty() {
        return Vec::new();
    }
    Tensor::cat(sums, 0).into_data().iter::<f32>().map(f64::from).collect()
}
