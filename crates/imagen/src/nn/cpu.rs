//! The operations on this project's CPU kernels: inference here, differentiation in `autodiff`, buffers in `pool`.
//!
//! Weights of inference are transformed or packed once and kept as long as the weight tensor lives (`Kept`).
//! Saved tensors are reference-counted, never copied.

use std::sync::{Arc, Mutex, Weak};

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use imagen_kernels::adafactor::SecondMoment;
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::{self, Conv3x3};
use imagen_kernels::linear::{self, Linear};
use imagen_kernels::norm::{GroupNorm, LayerNorm};
use imagen_kernels::{elementwise, optimizer, resample};
use tracing::trace_span;

use super::extension::{BlockParameters, Maybe, NetworkOps};
use super::ops::{Activation, AdafactorKind, AdafactorStep, AdamStep, Pooling, keeps_weights};
use super::{StoredConv, StoredLinear};

mod autodiff;
mod frozen;
mod pool;
mod residual;

use pool::recycle;
use residual::Block;

const EPS: f32 = 1e-5;

type T = FlexTensor;

// ---- tensors as slices ----

/// The tensor with its elements in row-major order.
fn contiguous(t: T) -> T {
    if t.as_slice::<f32>().is_some() { t } else { t.to_contiguous() }
}

fn slice(t: &T) -> &[f32] {
    t.as_slice::<f32>().expect("operations make their inputs contiguous f32 first")
}

fn dims<const D: usize>(t: &T) -> [usize; D] {
    t.layout().shape().to_vec().try_into().expect("the wrapper in `ops` fixes the rank")
}

fn tensor(data: Vec<f32>, shape: Shape) -> T {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape), DType::F32)
}

/// A new tensor whose every element `fill` writes.
fn filled(shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> T {
    let shape = shape.into();
    let mut data = pool::take(shape.num_elements());
    fill(&mut data);
    tensor(data, shape)
}

/// A tensor whose storage may be overwritten: the same one if nobody else holds it, a copy otherwise.
fn owned(t: T) -> T {
    let t = contiguous(t);
    let whole = t.layout().start_offset() == 0 && t.bytes().len() == 4 * t.layout().num_elements();
    if whole && t.is_unique() {
        return t;
    }
    filled(t.layout().shape().clone(), |copy| copy.copy_from_slice(slice(&t)))
}

// ---- weights that inference keeps ----

/// Weights in the form that a kernel reads, with the place that they were made from.
///
/// A live `Weak` keeps the buffer's address from being reused and makes an in-place write copy instead, so equal
/// places mean equal weights.
struct Kept<S, P> {
    buffer: Weak<Bytes>,
    /// Of the first weight in the buffer: a tensor may be a view of a part.
    offset: usize,
    /// Of the layer, with one picture or row: the weights serve any number.
    shape: S,
    prepared: Arc<P>,
}

/// The weights of all layers of one kind.
type Keeper<S, P> = Mutex<Vec<Kept<S, P>>>;

static CONVOLUTIONS: Keeper<Conv3x3, conv::Prepared> = Mutex::new(Vec::new());
static MATRICES: Keeper<Linear, linear::Prepared> = Mutex::new(Vec::new());

/// What is kept of `w`, or what `prepare` makes of it now.
fn kept<S: PartialEq, P>(keeper: &Keeper<S, P>, shape: S, w: &T, prepare: impl FnOnce() -> P) -> Arc<P> {
    let (buffer, offset) = (w.data_arc(), w.layout().start_offset());
    let mut all = keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let same = |e: &&Kept<S, P>| e.buffer.as_ptr() == Arc::as_ptr(&buffer) && e.offset == offset && e.shape == shape;
    if let Some(entry) = all.iter().find(same) {
        return entry.prepared.clone();
    }
    let _span = trace_span!("transform weights", shape = ?w.layout().shape().to_vec()).entered();
    let prepared = Arc::new(prepare());
    all.retain(|e| e.buffer.strong_count() > 0);
    all.push(Kept { buffer: Arc::downgrade(&buffer), offset, shape, prepared: prepared.clone() });
    prepared
}

// ---- convolution ----

/// A way to prepare a convolution's weights.
type Prepare = fn(&Conv3x3, &[f32]) -> conv::Prepared;

/// Weights that `keeper` keeps in a form chosen for the first batch's size.
fn kept_convolution(
    keeper: &Keeper<Conv3x3, conv::Prepared>,
    shape: Conv3x3,
    w: &T,
    to: Prepare,
) -> Arc<conv::Prepared> {
    kept(keeper, Conv3x3 { n: 1, ..shape }, w, || to(&shape, slice(w)))
}

/// Those of inference.
fn transformed(shape: Conv3x3, w: &T) -> Arc<conv::Prepared> {
    kept_convolution(&CONVOLUTIONS, shape, w, Conv3x3::prepare)
}

/// Weights that a training step keeps for all of its passes (`ops::keeping_weights`), forward and back.
static OF_THE_STEP: [Keeper<Conv3x3, conv::Prepared>; 2] = [const { Mutex::new(Vec::new()) }; 2];

pub(super) fn release_buffers() {
    pool::clear();
}

pub(super) fn forget_step_weights() {
    OF_THE_STEP.iter().for_each(|all| all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear());
}

/// The pass that a recorded convolution's weights are for.
#[derive(Clone, Copy)]
enum Way {
    Forward,
    Back,
}

/// The weights of a recorded convolution, transformed, where that is done once for several calls: those of a step, or
/// `calls` in a row.
fn of_step(shape: Conv3x3, w: &T, way: Way, calls: usize) -> Option<Arc<conv::Prepared>> {
    let (keeper, prepare): (_, Prepare) = match way {
        Way::Forward => (&OF_THE_STEP[0], Conv3x3::prepare_briefly),
        Way::Back if shape.stride == 1 => (&OF_THE_STEP[1], Conv3x3::prepare_flipped),
        Way::Back => return None,
    };
    match keeps_weights() {
        true => Some(kept_convolution(keeper, shape, w, prepare)),
        false => (calls > 1).then(|| Arc::new(prepare(&shape, slice(w)))),
    }
}

/// A convolution, with weights transformed before or now.
fn convolve(
    shape: Conv3x3,
    x: &[f32],
    w: &T,
    prepared: Option<&conv::Prepared>,
    bias: &T,
    residual: Option<&[f32]>,
    scale: f32,
    y: &mut [f32],
) {
    match prepared {
        Some(w) => shape.forward_prepared(x, w, Some(slice(bias)), residual, scale, y),
        None => shape.forward(x, slice(w), Some(slice(bias)), residual, scale, y),
    }
}

/// The gradient of a convolution's input.
fn convolve_back(shape: Conv3x3, dy: &[f32], w: &T, prepared: Option<&conv::Prepared>, dx: &mut [f32]) {
    let _span = trace_span!("gradient of input", ?shape).entered();
    match prepared {
        Some(w) => shape.grad_input_prepared(dy, w, dx),
        None => shape.grad_input(dy, slice(w), dx),
    }
}

fn conv_shape(x: &T, w: &T, stride: usize) -> Conv3x3 {
    let [n, h, wide, c] = dims(x);
    let [_, _, _, k] = dims(w);
    Conv3x3 { n, h, w: wide, c, k, stride }
}

fn conv_output(shape: &Conv3x3) -> [usize; 4] {
    [shape.n, shape.out_h(), shape.out_w(), shape.k]
}

// ---- normalisation ----

fn group_norm_shape(x: &T, groups: usize, activation: Activation) -> GroupNorm {
    let [n, h, w, c] = dims(x);
    GroupNorm { n, hw: h * w, c, groups, eps: EPS, activation }
}

fn layer_norm_shape(x: &T) -> LayerNorm {
    let c = *x.layout().shape().to_vec().last().expect("a tensor has an axis");
    LayerNorm { rows: x.layout().num_elements() / c.max(1), c, eps: EPS }
}

// ---- attention, linear ----

fn attention_shape(q: &T, kv: &T, heads: usize) -> Attention {
    let [b, tq, c] = dims(q);
    let [_, tk, _] = dims(kv);
    Attention { b, heads, tq, tk, d: c / heads }
}

fn linear_shape(x: &T, w: &T) -> (Linear, Shape) {
    let [c, k] = dims(w);
    let mut shape = x.layout().shape().clone();
    let axis = shape.num_dims() - 1;
    shape[axis] = k;
    (Linear { rows: x.layout().num_elements() / c.max(1), c, k }, shape)
}

/// Packed weights, where packing them for each product would be felt and is not avoided by the kernel itself.
fn packed(linear: Linear, w: &T) -> Option<Arc<linear::Prepared>> {
    /// Products of more rows hide the packing, and keeping costs memory.
    const MANY_ROWS: usize = 1024;
    let felt = Linear::FEW_ROWS < linear.rows && linear.rows <= MANY_ROWS;
    felt.then(|| kept(&MATRICES, Linear { rows: 1, ..linear }, w, || linear.prepare(slice(w))))
}

/// A product of inference.
fn multiply(linear: Linear, x: &[f32], w: &T, bias: &T, residual: Option<&[f32]>, scale: f32, y: &mut [f32]) {
    match packed(linear, w) {
        Some(w) => linear.forward_prepared(x, &w, Some(slice(bias)), residual, scale, y),
        None => linear.forward(x, slice(w), Some(slice(bias)), residual, scale, y),
    }
}

/// One that is recorded: the weights are others in the next step.
fn multiply_once(linear: Linear, x: &[f32], w: &T, bias: &T, residual: Option<&[f32]>, scale: f32, y: &mut [f32]) {
    linear.forward(x, slice(w), Some(slice(bias)), residual, scale, y);
}

/// `(a, b)` widths and the shape of their concatenation.
fn concat_shape(a: &T, b: &T) -> (usize, usize, Shape) {
    let mut shape = a.layout().shape().clone();
    let axis = shape.num_dims() - 1;
    let (ca, cb) = (shape[axis], b.layout().shape()[axis]);
    shape[axis] = ca + cb;
    (ca, cb, shape)
}

impl NetworkOps for Flex {
    fn conv3x3(x: T, w: T, b: T, residual: Maybe<Self>, stride: usize, scale: f32) -> T {
        let (x, w, b, r) = (contiguous(x), contiguous(w), contiguous(b), residual.into_option().map(contiguous));
        let shape = conv_shape(&x, &w, stride);
        let prepared = transformed(shape, &w);
        let y = filled(conv_output(&shape), |y| {
            shape.forward_prepared(slice(&x), &prepared, Some(slice(&b)), r.as_ref().map(slice), scale, y);
        });
        [Some(x), r].into_iter().flatten().for_each(recycle);
        y
    }

    fn group_norm(x: T, gamma: T, beta: T, film: Maybe<Self>, groups: usize, activation: Activation) -> T {
        let (x, film) = (contiguous(x), film.into_option().map(contiguous));
        let norm = group_norm_shape(&x, groups, activation);
        let y = filled(x.layout().shape().clone(), |y| {
            norm.forward(slice(&x), slice(&gamma), slice(&beta), film.as_ref().map(slice), y);
        });
        recycle(x);
        y
    }

    fn residual_block(x: T, film: T, p: BlockParameters<Self>) -> T {
        let (tensors, numbers) = residual::parts(p);
        residual::infer(x, film, Block::new(tensors, numbers))
    }

    fn layer_norm(x: T, gamma: T, beta: T) -> T {
        let x = contiguous(x);
        let y = filled(x.layout().shape().clone(), |y| {
            layer_norm_shape(&x).forward(slice(&x), slice(&gamma), slice(&beta), y);
        });
        recycle(x);
        y
    }

    fn attention(q: T, kv: T, mask: Maybe<Self>, heads: usize) -> T {
        let (q, kv, mask) = (contiguous(q), contiguous(kv), mask.into_option().map(contiguous));
        let shape = attention_shape(&q, &kv, heads);
        let mask = mask.as_ref().map(slice);
        let o = filled(q.layout().shape().clone(), |o| shape.forward(slice(&q), slice(&kv), mask, o));
        [q, kv].into_iter().for_each(recycle);
        o
    }

    fn dense(x: T, w: T, b: T, residual: Maybe<Self>, scale: f32) -> T {
        let (x, w, b, r) = (contiguous(x), contiguous(w), contiguous(b), residual.into_option().map(contiguous));
        let (linear, shape) = linear_shape(&x, &w);
        let y = filled(shape, |y| multiply(linear, slice(&x), &w, &b, r.as_ref().map(slice), scale, y));
        [Some(x), r].into_iter().flatten().for_each(recycle);
        y
    }

    fn gelu(x: T) -> T {
        let x = contiguous(x);
        let y = filled(x.layout().shape().clone(), |y| elementwise::gelu(slice(&x), y));
        recycle(x);
        y
    }

    fn stored_linear(x: T, w: StoredLinear, bias: Maybe<Self>, residual: Maybe<Self>) -> T {
        frozen::stored_linear(x, &w, bias.into_option(), residual.into_option())
    }

    fn stored_conv3x3(x: T, w: StoredConv, bias: T, residual: Maybe<Self>, scale: f32) -> T {
        frozen::stored_conv3x3(x, &w, bias, residual.into_option(), scale)
    }

    fn biased_attention(q: T, kv: T, bias: T, mask: Maybe<Self>, scale: f32) -> T {
        frozen::biased_attention(q, kv, bias, mask.into_option(), scale)
    }

    fn rms_norm(x: T, gamma: T, eps: f32) -> T {
        frozen::rms_norm(x, &gamma, eps)
    }

    fn gated_gelu_tanh(a: T, b: T) -> T {
        frozen::gated_gelu_tanh(a, b)
    }

    fn convolution(x: T, w: T, b: T, stride: usize, pad_h: usize, pad_w: usize, rectified: bool) -> T {
        frozen::conv2d(x, w, b, stride, [pad_h, pad_w], rectified)
    }

    fn pool3x3(x: T, pooling: Pooling, stride: usize) -> T {
        frozen::pool3x3(x, pooling, stride)
    }

    fn upsample2(x: T) -> T {
        let x = contiguous(x);
        let [n, h, w, c] = dims(&x);
        let y = filled([n, 2 * h, 2 * w, c], |y| resample::upsample2(slice(&x), n, h, w, c, y));
        recycle(x);
        y
    }

    fn average_pool2(x: T) -> T {
        let x = contiguous(x);
        let [n, h, w, c] = dims(&x);
        let y = filled([n, h / 2, w / 2, c], |y| resample::average_pool2(slice(&x), n, h, w, c, y));
        recycle(x);
        y
    }

    fn pixel_shuffle(x: T) -> T {
        let x = contiguous(x);
        let [n, h, w, c4] = dims(&x);
        let c = c4 / 4;
        let y = filled([n, 2 * h, 2 * w, c], |y| resample::pixel_shuffle(slice(&x), n, h, w, c, y));
        recycle(x);
        y
    }

    fn concat(a: T, b: T) -> T {
        let (a, b) = (contiguous(a), contiguous(b));
        let (ca, cb, shape) = concat_shape(&a, &b);
        let y = filled(shape, |y| elementwise::concat(slice(&a), ca, slice(&b), cb, y));
        [a, b].into_iter().for_each(recycle);
        y
    }

    fn add_scaled(a: T, b: T, scale: f32) -> T {
        let (a, b) = (contiguous(a), contiguous(b));
        let y = filled(a.layout().shape().clone(), |y| elementwise::add(slice(&a), slice(&b), scale, y));
        [a, b].into_iter().for_each(recycle);
        y
    }

    fn adam(w: T, g: T, m: T, v: T, average: T, s: AdamStep) -> (T, T, T, T) {
        let (mut w, g, mut m, mut v, mut average) = (owned(w), contiguous(g), owned(m), owned(v), owned(average));
        let adam = optimizer::Adam {
            lr: s.lr,
            beta1: s.beta1,
            beta2: s.beta2,
            eps: s.eps,
            weight_decay: s.weight_decay,
            step: s.step,
        };
        let [wn, mn, vn, an] = [&mut w, &mut m, &mut v, &mut average].map(|t| t.storage_mut::<f32>());
        adam.step(wn, slice(&g), s.scale, mn, vn, an, s.average_decay);
        recycle(g);
        (w, m, v, average)
    }

    fn adafactor(w: T, g: T, first: T, rest: T, m: T, kind: AdafactorKind, s: AdafactorStep) -> (T, T, T, T) {
        let (mut w, g, mut first, mut rest, mut m) = (owned(w), contiguous(g), owned(first), owned(rest), owned(m));
        let [_, rows, columns] = dims(&w);
        let [wn, row, column, mn] = [&mut w, &mut first, &mut rest, &mut m].map(|t| t.storage_mut::<f32>());
        let second = match kind.factored {
            true => SecondMoment::Factored { rows, columns, row, column },
            false => SecondMoment::Whole(row),
        };
        s.step(wn, slice(&g), second, kind.first_moment.then_some(mn));
        recycle(g);
        (w, first, rest, m)
    }

    fn average(average: T, w: T, decay: f32) -> T {
        let (mut average, w) = (owned(average), contiguous(w));
        optimizer::ema(average.storage_mut::<f32>(), slice(&w), decay);
        average
    }

    fn sum_of_squares(x: T) -> T {
        let x = contiguous(x);
        tensor(vec![optimizer::sum_of_squares(slice(&x)) as f32], Shape::from([1]))
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    //! Other devices take the definitions in `reference`.
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::{Autodiff, Cube};

    use super::NetworkOps;

    impl NetworkOps for Cube {}
    impl<C: CheckpointStrategy> NetworkOps for Autodiff<Cube, C> {}
}
