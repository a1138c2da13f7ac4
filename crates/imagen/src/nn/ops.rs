//! The coarse operations that the networks are made of, on runtime tensors of any device.
//!
//! This is the only door between the networks and the kernels: models never know which implementation runs.
//! Activations are channels-last, convolution weights `[3, 3, c, k]` (height, width, in, out), matrices `[c, k]`.
//! Each of them is a span of `tracing`, so that a program can see where the time goes.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use tracing::trace_span;

use super::extension::{Maybe, NetworkOps};

/// The numbers of one Adam step (Kingma & Ba, algorithm 1; decoupled weight decay of Loshchilov & Hutter).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay; 0 for Adam.
    pub weight_decay: f32,
    /// 1 for the first step.
    pub step: u64,
}

fn maybe<const D: usize>(tensor: Option<Tensor<D>>) -> Maybe<Dispatch> {
    tensor.map_or(Maybe::None, |t| Maybe::Some(t.into_dispatch()))
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
    let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NetworkOps>::conv3x3(x, w, b, maybe(residual), stride, scale))
}

/// `act((GN(x)·γ + β)·(1 + film[:, :c]) + film[:, c:])`, act = SiLU or nothing; ε = 1e-5.
///
/// `x [n, h, w, c]`, `γ, β [c]`, `film [n, 2c]`; `c` is a multiple of `groups`.
pub fn group_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    film: Option<Tensor<2>>,
    groups: usize,
    silu: bool,
) -> Tensor<4> {
    let _span = trace_span!("group_norm", x = ?x.dims(), film = film.is_some(), silu).entered();
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NetworkOps>::group_norm(x, gamma, beta, maybe(film), groups, silu))
}

/// Layer normalisation over the last axis, ε = 1e-5; `γ, β [c]`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<D> {
    let _span = trace_span!("layer_norm", x = ?x.dims()).entered();
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NetworkOps>::layer_norm(x, gamma, beta))
}

/// Softmax attention, scale 1/√d. A query that may attend to nothing yields 0.
///
/// `q [b, tq, heads·d]`, `kv [b, tk, 2·heads·d]` (keys first, then values), `mask [b, tk]` (1 = attend, 0 = ignore).
pub fn attention(q: Tensor<3>, kv: Tensor<3>, mask: Option<Tensor<2>>, heads: usize) -> Tensor<3> {
    let _span = trace_span!("attention", q = ?q.dims(), kv = ?kv.dims(), heads).entered();
    let (q, kv) = (q.into_dispatch(), kv.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NetworkOps>::attention(q, kv, maybe(mask), heads))
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
    let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NetworkOps>::dense(x, w, b, maybe(residual), scale))
}

/// Nearest-neighbour up-sampling by two: `[n, h, w, c]` → `[n, 2h, 2w, c]`.
pub fn upsample2(x: Tensor<4>) -> Tensor<4> {
    let _span = trace_span!("upsample2", x = ?x.dims()).entered();
    Tensor::from_dispatch(<Dispatch as NetworkOps>::upsample2(x.into_dispatch()))
}

/// Mean over 2×2 blocks: `[n, 2h, 2w, c]` → `[n, h, w, c]`.
pub fn average_pool2(x: Tensor<4>) -> Tensor<4> {
    let _span = trace_span!("average_pool2", x = ?x.dims()).entered();
    Tensor::from_dispatch(<Dispatch as NetworkOps>::average_pool2(x.into_dispatch()))
}

/// Concatenation on the last axis.
pub fn concat<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let _span = trace_span!("concat", a = ?a.dims(), b = ?b.dims()).entered();
    Tensor::from_dispatch(<Dispatch as NetworkOps>::concat(a.into_dispatch(), b.into_dispatch()))
}

/// `(a + b) · scale`, shapes equal.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>, scale: f32) -> Tensor<D> {
    let _span = trace_span!("add", a = ?a.dims()).entered();
    Tensor::from_dispatch(<Dispatch as NetworkOps>::add_scaled(a.into_dispatch(), b.into_dispatch(), scale))
}

/// One Adam step on inner tensors (never differentiated): the new `(w, m, v)`.
pub fn adam<const D: usize>(
    w: Tensor<D>,
    g: Tensor<D>,
    m: Tensor<D>,
    v: Tensor<D>,
    step: AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let (w, g, m, v) = (w.into_dispatch(), g.into_dispatch(), m.into_dispatch(), v.into_dispatch());
    let (w, m, v) = <Dispatch as NetworkOps>::adam(w, g, m, v, step);
    (Tensor::from_dispatch(w), Tensor::from_dispatch(m), Tensor::from_dispatch(v))
}

/// `average·decay + w·(1 − decay)` on inner tensors.
pub fn ema<const D: usize>(average: Tensor<D>, w: Tensor<D>, decay: f32) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as NetworkOps>::ema(average.into_dispatch(), w.into_dispatch(), decay))
}

/// Σ x², on an inner tensor.
pub fn sum_of_squares(x: Tensor<1>) -> f64 {
    f64::from((x.clone() * x).sum().into_scalar::<f32>())
}
