//! A residual block as one recorded operation (`ops::residual_block`).
//!
//! Inference goes through the batch a few pictures at a time, so that their maps stay in cache from one part of the block
//! to the next. For the way back it keeps x and the first convolution's output; both normalised maps are made again from
//! their statistics, one pass over memory each. Where memory is dearer than time (`ops::recomputing`) it keeps x alone.
//! x takes part twice, in the block and in its shortcut, and both gradients meet here instead of in the tensor library.

use std::sync::Arc;

use burn::backend::{Backend, tensor::FloatTensor};
use burn::tensor::Shape;
use imagen_kernels::conv::Conv3x3;
use imagen_kernels::elementwise;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{GroupNorm, GroupStats};
use tracing::trace_span;

use super::super::extension::{BlockParameters, Shortcut};
use super::super::ops::{Activation, recomputes};
use super::autodiff::{BackwardFn, scaled_gradient};
use super::pool::{self, Saved, recycle};
use super::{
    EPS, T, contiguous, conv_output, conv_shape, convolve, convolve_back, dims, filled, group_norm_shape, multiply,
    slice, tensor, transformed,
};

/// Numbers of a map of the pictures that inference takes at a time; of the shared cache of ordinary processors, a tenth.
const TOGETHER: usize = 1 << 19;

/// gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2; weight and bias of the shortcut, if it has any.
type Tensors<X> = [Option<X>; 10];

/// What is not a tensor of a block.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    groups: [usize; 2],
    activation: Activation,
    shortcut_scale: f32,
    scale: f32,
}

/// A block's parameters by what they are.
pub(super) fn parts<B: Backend>(p: BlockParameters<B>) -> (Tensors<FloatTensor<B>>, Numbers) {
    let (weight, bias) = match p.shortcut {
        Shortcut::Projected { weight, bias } => (Some(weight), Some(bias)),
        Shortcut::Input => (None, None),
    };
    let [gamma1, beta1, weight1, bias1] = [p.gamma1, p.beta1, p.weight1, p.bias1].map(Some);
    let [gamma2, beta2, weight2, bias2] = [p.gamma2, p.beta2, p.weight2, p.bias2].map(Some);
    let tensors = [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2, weight, bias];
    let BlockParameters { groups, activation, shortcut_scale, scale, .. } = p;
    (tensors, Numbers { groups, activation, shortcut_scale, scale })
}

/// The parameters on the CPU.
pub(super) struct Block {
    gamma: [T; 2],
    beta: [T; 2],
    weight: [T; 2],
    bias: [T; 2],
    /// Weights and bias.
    shortcut: Option<[T; 2]>,
    numbers: Numbers,
}

impl Block {
    pub(super) fn new(tensors: Tensors<T>, numbers: Numbers) -> Self {
        let [branch @ .., weight, bias] = tensors.map(|t| t.map(contiguous));
        let branch = branch.map(|t| t.expect("the branch has all its parameters"));
        let [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2] = branch;
        Self {
            gamma: [gamma1, gamma2],
            beta: [beta1, beta2],
            weight: [weight1, weight2],
            bias: [bias1, bias2],
            shortcut: weight.zip(bias).map(<[T; 2]>::from),
            numbers,
        }
    }

    /// The two convolutions for x `[n, h, w, c]`.
    fn convolutions(&self, x: &T) -> [Conv3x3; 2] {
        let first = conv_shape(x, &self.weight[0], 1);
        [first, Conv3x3 { c: first.k, ..first }]
    }

    /// The shortcut of the rows of `x`, by `multiply` where it has weights; `None` where it is x itself.
    fn shortcut(&self, x: &[f32], multiply: Multiply) -> Option<Vec<f32>> {
        let scale = self.numbers.shortcut_scale;
        match &self.shortcut {
            Some([weight, bias]) => {
                let linear = projection(x.len(), weight);
                let _span = trace_span!("linear", x = ?[linear.rows, linear.c], linear.k).entered();
                let mut y = pool::take(linear.rows * linear.k);
                multiply(linear, x, weight, bias, None, scale, &mut y);
                Some(y)
            }
            None if scale == 1.0 => None,
            None => {
                let mut y = pool::take(x.len());
                y.copy_from_slice(x);
                elementwise::scale(&mut y, scale);
                Some(y)
            }
        }
    }
}

/// A product with a matrix: shape, x, weights, bias, residual, scale, y.
type Multiply = fn(Linear, &[f32], &T, &T, Option<&[f32]>, f32, &mut [f32]);

/// One that is recorded.
fn multiply_once(linear: Linear, x: &[f32], w: &T, bias: &T, residual: Option<&[f32]>, scale: f32, y: &mut [f32]) {
    linear.forward(x, slice(w), Some(slice(bias)), residual, scale, y);
}

/// The shape of a shortcut's product with `numbers` in its input.
fn projection(numbers: usize, weight: &T) -> Linear {
    let [c, k] = dims(weight);
    Linear { rows: numbers / c.max(1), c, k }
}

/// The output alone.
pub(super) fn infer(x: T, film: T, block: Block) -> T {
    let (x, film) = (contiguous(x), contiguous(film));
    let [conv1, conv2] = block.convolutions(&x);
    let Conv3x3 { n: all, h, w, c, k, .. } = conv1;
    let Block { gamma, beta, weight, bias, numbers, .. } = &block;
    let Numbers { groups, activation, scale, .. } = *numbers;
    let prepared = [transformed(conv1, &weight[0]), transformed(conv2, &weight[1])];
    let (area, together) = (h * w, (TOGETHER / (h * w * c.max(k)).max(1)).max(1));
    let norm = |n, i: usize, x: &[f32], film: Option<&[f32]>, y: &mut [f32]| {
        let (c, groups) = (gamma[i].layout().num_elements(), groups[i]);
        let _span = trace_span!("group_norm", x = ?[n, h, w, c]).entered();
        let norm = GroupNorm { n, hw: area, c, groups, eps: EPS, activation };
        norm.forward(x, slice(&gamma[i]), slice(&beta[i]), film, y);
    };
    let y = filled(conv_output(&conv2), |y| {
        for first in (0..all).step_by(together) {
            let n = together.min(all - first);
            let x = &slice(&x)[first * area * c..(first + n) * area * c];
            let y = &mut y[first * area * k..(first + n) * area * k];
            let mut normal = pool::take(n * area * c);
            norm(n, 0, x, None, &mut normal);
            let mut hidden = pool::take(n * area * k);
            trace_span!("conv3x3", x = ?[n, h, w, c], k).in_scope(|| {
                let conv = Conv3x3 { n, ..conv1 };
                conv.forward_prepared(&normal, &prepared[0], Some(slice(&bias[0])), None, 1.0, &mut hidden);
            });
            pool::give(normal);
            let mut normal = pool::take(n * area * k);
            let film = &slice(&film)[first * 2 * k..][..n * 2 * k];
            norm(n, 1, &hidden, Some(film), &mut normal);
            pool::give(hidden);
            let shortcut = block.shortcut(x, multiply);
            trace_span!("conv3x3", x = ?[n, h, w, k], k).in_scope(|| {
                let (conv, residual) = (Conv3x3 { n, ..conv2 }, shortcut.as_deref().unwrap_or(x));
                conv.forward_prepared(&normal, &prepared[1], Some(slice(&bias[1])), Some(residual), scale, y);
            });
            [Some(normal), shortcut].into_iter().flatten().for_each(pool::give);
        }
    });
    recycle(x);
    y
}

/// What the way back needs.
struct Kept {
    x: Saved,
    film: T,
    block: Block,
    /// The first convolution's output, unless it is made again.
    h: Option<Saved>,
    norms: [GroupNorm; 2],
    stats: [GroupStats; 2],
    convs: [Conv3x3; 2],
}

/// The output and its backward pass; inputs and gradients are x, film and the block's tensors.
pub(super) fn forward(x: T, film: T, block: Block) -> (T, Arc<BackwardFn<12>>) {
    let Block { gamma, beta, weight, bias, numbers, .. } = &block;
    let Numbers { groups, activation, scale, .. } = *numbers;
    let [conv1, conv2] = block.convolutions(&x);
    let norm1 = group_norm_shape(&x, groups[0], activation);
    let mut normal = pool::take(x.layout().num_elements());
    let stats1 = norm1.forward(slice(&x), slice(&gamma[0]), slice(&beta[0]), None, &mut normal);
    let h = filled(conv_output(&conv1), |h| convolve(conv1, &normal, &weight[0], &bias[0], None, 1.0, h));
    pool::give(normal);
    let norm2 = group_norm_shape(&h, groups[1], activation);
    let mut normal = pool::take(h.layout().num_elements());
    let stats2 = norm2.forward(slice(&h), slice(&gamma[1]), slice(&beta[1]), Some(slice(&film)), &mut normal);
    let shortcut = block.shortcut(slice(&x), multiply_once);
    let y = filled(conv_output(&conv2), |y| {
        let residual = shortcut.as_deref().unwrap_or(slice(&x));
        convolve(conv2, &normal, &weight[1], &bias[1], Some(residual), scale, y);
    });
    [Some(normal), shortcut].into_iter().flatten().for_each(pool::give);
    // dropped on the way back or here, the map goes back to the pool
    let h = Saved::from(h);
    let kept = Kept {
        x: x.into(),
        film,
        block,
        h: (!recomputes()).then_some(h),
        norms: [norm1, norm2],
        stats: [stats1, stats2],
        convs: [conv1, conv2],
    };
    (y, Arc::new(move |_: [bool; 12], dy: T| kept.backward(dy)))
}

impl Kept {
    fn backward(&self, dy: T) -> [Option<T>; 12] {
        let Self { x, film, block, norms: [norm1, norm2], stats: [stats1, stats2], convs: [conv1, conv2], .. } = self;
        let Block { gamma, beta, weight, bias, numbers, .. } = block;
        let again = self.h.is_none().then(|| {
            let mut normal = pool::take(x.layout().num_elements());
            norm1.forward_again(stats1, slice(x), &mut normal);
            let h = filled(conv_output(conv1), |h| convolve(*conv1, &normal, &weight[0], &bias[0], None, 1.0, h));
            pool::give(normal);
            Saved::from(h)
        });
        let h: &T = self.h.as_ref().or(again.as_ref()).expect("kept, or made again");
        let dy = scaled_gradient(dy, numbers.scale);

        let mut normal = pool::take(h.layout().num_elements());
        trace_span!("norm again").in_scope(|| norm2.forward_again(stats2, slice(h), &mut normal));
        let (dw2, db2) = weight_gradient(conv2, &normal, slice(&dy), &weight[1]);
        let mut dh = normal; // overwritten
        trace_span!("gradient of input").in_scope(|| convolve_back(*conv2, slice(&dy), &weight[1], &mut dh));
        let mut dfilm = vec![0.0; film.layout().num_elements()];
        let (h, film_numbers) = (slice(h), Some(slice(film)));
        let [dgamma2, dbeta2] =
            norm_gradient(norm2, stats2, h, [&gamma[1], &beta[1]], film_numbers, &mut dh, Some(&mut dfilm));

        let mut normal = pool::take(x.layout().num_elements());
        trace_span!("norm again").in_scope(|| norm1.forward_again(stats1, slice(x), &mut normal));
        let (dw1, db1) = weight_gradient(conv1, &normal, &dh, &weight[0]);
        let mut dx = normal; // overwritten
        trace_span!("gradient of input").in_scope(|| convolve_back(*conv1, &dh, &weight[0], &mut dx));
        pool::give(dh);
        let [dgamma1, dbeta1] = norm_gradient(norm1, stats1, slice(x), [&gamma[0], &beta[0]], None, &mut dx, None);

        let dy = scaled_gradient(dy, numbers.shortcut_scale);
        let dshortcut = block.shortcut.as_ref().map(|[weight, bias]| {
            let _span = trace_span!("gradient of shortcut").entered();
            let linear = projection(dx.len(), weight);
            linear.add_grad_input(slice(&dy), slice(weight), &mut dx);
            let mut db = vec![0.0; bias.layout().num_elements()];
            let dw = filled(weight.layout().shape().clone(), |dw| {
                linear.grad_weight(slice(x), slice(&dy), dw, Some(&mut db));
            });
            (dw, channels(db))
        });
        if dshortcut.is_none() {
            elementwise::add_assign(&mut dx, slice(&dy));
        }
        recycle(dy);
        let (dweight, dbias) = dshortcut.unzip();

        let like = |t: &T, values: Vec<f32>| Some(tensor(values, t.layout().shape().clone()));
        [
            like(x, dx),
            like(film, dfilm),
            Some(dgamma1),
            Some(dbeta1),
            Some(dw1),
            Some(db1),
            Some(dgamma2),
            Some(dbeta2),
            Some(dw2),
            Some(db2),
            dweight,
            dbias,
        ]
    }
}

/// One number for each channel.
fn channels(values: Vec<f32>) -> T {
    let shape = Shape::from([values.len()]);
    tensor(values, shape)
}

/// The gradients of a convolution's weights and bias.
fn weight_gradient(conv: &Conv3x3, x: &[f32], dy: &[f32], weight: &T) -> (T, T) {
    let _span = trace_span!("gradient of weights").entered();
    let mut bias = vec![0.0; conv.k];
    let dw = filled(weight.layout().shape().clone(), |dw| conv.grad_weight(x, dy, dw, Some(&mut bias)));
    (dw, channels(bias))
}

/// The gradients of a norm's scale and shift; that of its output in `d` becomes that of its input.
fn norm_gradient(
    norm: &GroupNorm,
    stats: &GroupStats,
    x: &[f32],
    [gamma, beta]: [&T; 2],
    film: Option<&[f32]>,
    d: &mut [f32],
    dfilm: Option<&mut [f32]>,
) -> [T; 2] {
    let _span = trace_span!("gradient of norm").entered();
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; norm.c]);
    norm.backward(stats, x, slice(gamma), slice(beta), film, d, &mut dgamma, &mut dbeta, dfilm);
    [dgamma, dbeta].map(channels)
}
