//! Weights in the forms that kernels read: made when, kept how long, and the products with them.

use std::sync::{Arc, Mutex, Weak};

use burn::tensor::Bytes;
use imagen_kernels::conv::{self, Conv3x3};
use imagen_kernels::linear::{self, Linear};
use imagen_kernels::precision::Precision;
use tracing::trace_span;

use super::tensors::{T, slice};
use crate::nn::switches::keeps_weights;

/// Weights in the form that a kernel reads, with the place that they were made from.
///
/// A live `Weak` keeps the buffer's address from being reused and makes an in-place write copy instead, so equal
/// places mean equal weights.
pub(super) struct Kept<S, P> {
    buffer: Weak<Bytes>,
    /// Of the first weight in the buffer: a tensor may be a view of a part.
    offset: usize,
    /// Of the layer, with one picture or row: the weights serve any number.
    shape: S,
    precision: Precision,
    prepared: Arc<P>,
}

/// The weights of all layers of one kind.
pub(super) type Keeper<S, P> = Mutex<Vec<Kept<S, P>>>;

static CONVOLUTIONS: Keeper<Conv3x3, conv::Prepared> = Mutex::new(Vec::new());
static MATRICES: Keeper<Linear, linear::Prepared> = Mutex::new(Vec::new());

/// What is kept of `w`, or what `prepare` makes of it now.
pub(super) fn kept<S: PartialEq, P>(keeper: &Keeper<S, P>, shape: S, w: &T, prepare: impl FnOnce() -> P) -> Arc<P> {
    let (buffer, offset) = (w.data_arc(), w.layout().start_offset());
    let mut all = keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let precision = Precision::current();
    let same = |e: &&Kept<S, P>| {
        e.buffer.as_ptr() == Arc::as_ptr(&buffer) && (e.offset, e.precision) == (offset, precision) && e.shape == shape
    };
    if let Some(entry) = all.iter().find(same) {
        return entry.prepared.clone();
    }
    let _span = trace_span!("transform weights", shape = ?w.layout().shape().to_vec()).entered();
    let prepared = Arc::new(prepare());
    all.retain(|e| e.buffer.strong_count() > 0);
    all.push(Kept { buffer: Arc::downgrade(&buffer), offset, shape, precision, prepared: prepared.clone() });
    prepared
}

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

/// The weights of an inference's convolution.
pub(super) fn transformed(shape: Conv3x3, w: &T) -> Arc<conv::Prepared> {
    kept_convolution(&CONVOLUTIONS, shape, w, Conv3x3::prepare)
}

/// Weights that a training step keeps for all of its passes (`ops::keeping_weights`), forward and back.
static OF_THE_STEP: [Keeper<Conv3x3, conv::Prepared>; 2] = [const { Mutex::new(Vec::new()) }; 2];

pub(in crate::nn) fn forget_step_weights() {
    OF_THE_STEP.iter().for_each(|all| all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear());
}

/// The pass that a recorded convolution's weights are for.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Forward,
    Back,
}

/// The weights of a recorded convolution, transformed, where that is done once for several calls: those of a step, or
/// `calls` in a row.
pub(super) fn of_step(shape: Conv3x3, w: &T, way: Way, calls: usize) -> Option<Arc<conv::Prepared>> {
    let (keeper, prepare): (_, Prepare) = match way {
        Way::Forward => (&OF_THE_STEP[0], Conv3x3::prepare_briefly),
        Way::Back if shape.stride == 1 => (&OF_THE_STEP[1], Conv3x3::prepare_flipped),
        Way::Back => return None,
    };
    if keeps_weights() {
        Some(kept_convolution(keeper, shape, w, prepare))
    } else {
        (calls > 1).then(|| Arc::new(prepare(&shape, slice(w))))
    }
}

/// A convolution, with weights transformed before or now.
pub(super) fn convolve(
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
pub(super) fn convolve_back(shape: Conv3x3, dy: &[f32], w: &T, prepared: Option<&conv::Prepared>, dx: &mut [f32]) {
    let _span = trace_span!("gradient of input", ?shape).entered();
    match prepared {
        Some(w) => shape.grad_input_prepared(dy, w, dx),
        None => shape.grad_input(dy, slice(w), dx),
    }
}

/// Packed weights, where packing them for each product would be felt and is not avoided by the kernel itself.
fn packed(linear: Linear, w: &T) -> Option<Arc<linear::Prepared>> {
    /// Products of more rows hide the packing, and keeping costs memory.
    const MANY_ROWS: usize = 1024;
    let felt = Linear::FEW_ROWS < linear.rows && linear.rows <= MANY_ROWS;
    felt.then(|| kept(&MATRICES, Linear { rows: 1, ..linear }, w, || linear.prepare(slice(w))))
}

/// A product of inference.
pub(super) fn multiply(
    linear: Linear,
    x: &[f32],
    w: &T,
    bias: &T,
    residual: Option<&[f32]>,
    scale: f32,
    y: &mut [f32],
) {
    match packed(linear, w) {
        Some(w) => linear.forward_prepared(x, &w, Some(slice(bias)), residual, scale, y),
        None => multiply_once(linear, x, w, bias, residual, scale, y),
    }
}

/// One that is recorded: the weights are others in the next step.
pub(super) fn multiply_once(
    linear: Linear,
    x: &[f32],
    w: &T,
    bias: &T,
    residual: Option<&[f32]>,
    scale: f32,
    y: &mut [f32],
) {
    linear.forward(x, slice(w), Some(slice(bias)), residual, scale, y);
}
