//! A residual block as one recorded operation (`ops::residual_block`).
//!
//! It goes through the batch a few pictures at a time, forward and back, so that their maps stay in cache from one part of
//! the block to the next. For the backward pass it keeps x and the first convolution's output; both normalised maps are made
//! again from their statistics, one pass each. Where memory is dearer than time (`ops::recomputing`) it keeps x alone.
//! x takes part twice, in the block and in its shortcut, and both gradients meet here instead of in the tensor library.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::{Backend, tensor::FloatTensor};
use burn::tensor::Shape;
use imagen_kernels::conv::{self, Conv3x3};
use imagen_kernels::elementwise;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{Activation, GroupNorm, GroupStats};
use tracing::{Span, trace_span};

use super::pool::{self, Saved, recycle};
use super::shapes::{EPS, conv_output, conv_shape};
use super::tensors::{BackwardFn, T, contiguous, dims, filled, owned, slice, tensor};
use super::weights::{Way, convolve, convolve_back, multiply, multiply_once, of_step, transformed};
use crate::nn::arguments::{BlockParameters, Shortcut};
use crate::nn::switches::recomputes;

/// Numbers of a map of the pictures that are taken at a time; of the shared cache of ordinary processors, a tenth.
/// Tests go through several portions.
const TOGETHER: usize = if cfg!(test) { 1 << 11 } else { 1 << 19 };
/// Transformed weights for a number of a channel's inputs and outputs.
const TRANSFORMED: usize = if cfg!(test) { 1 } else { 36 };

/// The pictures of a batch in nearly equal portions of as many as are taken at a time: more where the transformed weights,
/// which every portion reads, are what is large.
fn portions(conv: &Conv3x3) -> impl Iterator<Item = Range<usize>> + use<> {
    let (all, numbers) = (conv.n, conv.h * conv.w * conv.c.max(conv.k));
    let most = (TOGETHER.max(TRANSFORMED * conv.c * conv.k) / numbers.max(1)).max(1);
    let each = all.div_ceil(all.div_ceil(most).max(1)).max(1);
    (0..all).step_by(each).map(move |first| first..all.min(first + each))
}

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

    /// The norm before convolution `i`.
    fn norm(&self, conv: Conv3x3, i: usize) -> GroupNorm {
        let (Numbers { groups, activation, .. }, Conv3x3 { n, h, w, c, .. }) = (self.numbers, conv);
        GroupNorm { n, hw: h * w, c, groups: groups[i], eps: EPS, activation }
    }

    /// The first norm and convolution of some pictures, to `h`.
    fn first_half(&self, conv: Conv3x3, w: Prepared<'_>, x: &[f32], h: &mut [f32]) -> GroupStats {
        let (norm, mut normal) = (self.norm(conv, 0), pool::take(x.len()));
        let stats = normalize(norm, x, [&self.gamma[0], &self.beta[0]], None, &mut normal);
        let span = convolution_span(conv).entered();
        convolve(conv, &normal, &self.weight[0], w, &self.bias[0], None, 1.0, h);
        drop(span);
        pool::give(normal);
        stats
    }

    /// The rest: from `h` and `x` of some pictures to `y`.
    fn second_half(
        &self,
        conv: Conv3x3,
        w: Prepared<'_>,
        [x, h, film]: [&[f32]; 3],
        multiply: Multiply,
        y: &mut [f32],
    ) -> GroupStats {
        let (norm, mut normal) = (self.norm(conv, 1), pool::take(h.len()));
        let stats = normalize(norm, h, [&self.gamma[1], &self.beta[1]], Some(film), &mut normal);
        let shortcut = self.shortcut(x, multiply);
        let residual = Some(shortcut.as_deref().unwrap_or(x));
        let span = convolution_span(conv).entered();
        convolve(conv, &normal, &self.weight[1], w, &self.bias[1], residual, self.numbers.scale, y);
        drop(span);
        [Some(normal), shortcut].into_iter().flatten().for_each(pool::give);
        stats
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
            None => Some(scaled_copy(x, scale)),
        }
    }
}

fn normalize(norm: GroupNorm, x: &[f32], [gamma, beta]: [&T; 2], film: Option<&[f32]>, y: &mut [f32]) -> GroupStats {
    let _span = trace_span!("group_norm", x = ?[norm.n, norm.hw, norm.c]).entered();
    norm.forward(x, slice(gamma), slice(beta), film, y)
}

fn convolution_span(Conv3x3 { n, h, w, c, k, .. }: Conv3x3) -> Span {
    trace_span!("conv3x3", x = ?[n, h, w, c], k)
}

/// Transformed weights, where there are any.
type Prepared<'a> = Option<&'a conv::Prepared>;

/// A product with a matrix: shape, x, weights, bias, residual, scale, y.
type Multiply = fn(Linear, &[f32], &T, &T, Option<&[f32]>, f32, &mut [f32]);

/// The shape of a shortcut's product with `numbers` in its input.
fn projection(numbers: usize, weight: &T) -> Linear {
    let [c, k] = dims(weight);
    Linear { rows: numbers / c.max(1), c, k }
}

/// What belongs to some pictures, `each` numbers a picture.
fn of<'a>(pictures: &Range<usize>, all: &'a [f32], each: usize) -> &'a [f32] {
    &all[pictures.start * each..pictures.end * each]
}

fn of_mut<'a>(pictures: &Range<usize>, all: &'a mut [f32], each: usize) -> &'a mut [f32] {
    &mut all[pictures.start * each..pictures.end * each]
}

/// Numbers of a picture's input and output.
fn sizes(conv: &Conv3x3) -> [usize; 2] {
    [conv.h * conv.w * conv.c, conv.h * conv.w * conv.k]
}

/// The output, h if it is kept, and the statistics of each portion of the pictures.
fn run(
    block: &Block,
    [x, film]: [&T; 2],
    prepared: [Prepared<'_>; 2],
    multiply: Multiply,
    keeps_h: bool,
) -> (T, Option<Vec<f32>>, Vec<[GroupStats; 2]>) {
    let convs = block.convolutions(x);
    let ([inputs, outputs], k) = (sizes(&convs[0]), convs[0].k);
    let mut kept = keeps_h.then(|| pool::take(convs[0].n * outputs));
    let mut stats = Vec::new();
    let y = filled(conv_output(&convs[1]), |y| {
        for pictures in portions(&convs[0]) {
            let [conv1, conv2] = convs.map(|conv| Conv3x3 { n: pictures.len(), ..conv });
            let (x, film) = (of(&pictures, slice(x), inputs), of(&pictures, slice(film), 2 * k));
            let mut passing = if keeps_h { Vec::new() } else { pool::take(pictures.len() * outputs) };
            let h = match &mut kept {
                Some(all) => of_mut(&pictures, all, outputs),
                None => &mut passing[..],
            };
            let stats1 = block.first_half(conv1, prepared[0], x, h);
            let y = of_mut(&pictures, y, outputs);
            let stats2 = block.second_half(conv2, prepared[1], [x, h, film], multiply, y);
            stats.push([stats1, stats2]);
            pool::give(passing);
        }
    });
    (y, kept, stats)
}

/// The output alone.
pub(super) fn infer(x: T, film: T, block: Block) -> T {
    let (x, film) = (contiguous(x), contiguous(film));
    let convs = block.convolutions(&x);
    let prepared = [0, 1].map(|i| transformed(convs[i], &block.weight[i]));
    let (y, ..) = run(&block, [&x, &film], prepared.each_ref().map(|w| Some(&**w)), multiply, false);
    recycle(x);
    y
}

/// What the backward pass needs.
struct Kept {
    x: Saved,
    film: T,
    block: Block,
    /// The first convolution's output, unless it is made again.
    h: Option<Saved>,
    convs: [Conv3x3; 2],
    /// Of each portion of the pictures.
    stats: Vec<[GroupStats; 2]>,
}

/// The output and its backward pass; inputs and gradients are x, film and the block's tensors.
pub(super) fn forward(x: T, film: T, block: Block) -> (T, Arc<BackwardFn<12>>) {
    let convs = block.convolutions(&x);
    let calls = portions(&convs[0]).count();
    let prepared = [0, 1].map(|i| of_step(convs[i], &block.weight[i], Way::Forward, calls));
    let prepared = prepared.each_ref().map(Option::as_deref);
    let (y, h, stats) = run(&block, [&x, &film], prepared, multiply_once, !recomputes());
    let h = h.map(|h| tensor(h, Shape::from(conv_output(&convs[0]))).into());
    let kept = Kept { x: x.into(), film, block, h, convs, stats };
    (y, Arc::new(move |_: [bool; 12], dy: T| kept.backward(dy)))
}

/// Sums over portions of the pictures of the gradients of a block's tensors, in the order of [`Tensors`].
#[derive(Default)]
struct Gradients([Option<Vec<f32>>; 10]);

impl Gradients {
    /// Adds the gradients of some pictures, from tensor number `first` on.
    fn add(&mut self, first: usize, of_some: impl IntoIterator<Item = Vec<f32>>) {
        for (sum, part) in self.0[first..].iter_mut().zip(of_some) {
            match sum {
                Some(sum) => {
                    elementwise::add_assign(sum, &part);
                    pool::give(part);
                }
                None => *sum = Some(part),
            }
        }
    }
}

impl Kept {
    fn backward(&self, dy: T) -> [Option<T>; 12] {
        let Self { x, film, block, convs, .. } = self;
        let (calls, scale) = (self.stats.len(), block.numbers.scale);
        let again = self.h.is_none().then(|| of_step(convs[0], &block.weight[0], Way::Forward, calls));
        let flipped = [0, 1].map(|i| of_step(convs[i], &block.weight[i], Way::Back, calls));
        let ([inputs, outputs], k) = (sizes(&convs[0]), convs[0].k);
        let mut dy = if scale == 1.0 { dy } else { owned(dy) };
        let (mut dx, mut dfilm) = (pool::take(convs[0].n * inputs), vec![0.0; convs[0].n * 2 * k]);
        let mut gradients = Gradients::default();
        for (pictures, stats) in portions(&convs[0]).zip(&self.stats) {
            let convs @ [conv1, _] = convs.map(|conv| Conv3x3 { n: pictures.len(), ..conv });
            let (x, film) = (of(&pictures, slice(x), inputs), of(&pictures, slice(film), 2 * k));
            let made = again.as_ref().map(|prepared| {
                let mut h = pool::take(pictures.len() * outputs);
                block.first_half(conv1, prepared.as_deref(), x, &mut h);
                h
            });
            let kept = || of(&pictures, slice(self.h.as_ref().expect("kept, or made again")), outputs);
            let h = made.as_deref().unwrap_or_else(kept);
            if scale != 1.0 {
                elementwise::scale(of_mut(&pictures, dy.storage_mut::<f32>(), outputs), scale);
            }
            let dy = of(&pictures, slice(&dy), outputs);
            let dfilm = of_mut(&pictures, &mut dfilm, 2 * k);
            let flipped = flipped.each_ref().map(Option::as_deref);
            let dh = block.second_half_back(convs[1], stats, flipped[1], [h, film, dy], dfilm, &mut gradients);
            made.into_iter().for_each(pool::give);
            let dx = of_mut(&pictures, &mut dx, inputs);
            block.first_half_back(conv1, stats, flipped[0], [x, &dh], dx, &mut gradients);
            pool::give(dh);
            block.shortcut_back([x, dy], dx, &mut gradients);
        }
        recycle(dy);
        let like = |t: &T, values: Vec<f32>| Some(tensor(values, t.layout().shape().clone()));
        let tensors: Vec<Option<&T>> = [Some(&**x), Some(film)].into_iter().chain(block.tensors()).collect();
        let mut all = [Some(dx), Some(dfilm)].into_iter().chain(gradients.0);
        std::array::from_fn(|i| tensors[i].zip(all.next().flatten()).and_then(|(t, values)| like(t, values)))
    }
}

impl Block {
    fn tensors(&self) -> Tensors<&T> {
        let Self { gamma, beta, weight, bias, shortcut, .. } = self;
        let half = |i: usize| [&gamma[i], &beta[i], &weight[i], &bias[i]].map(Some);
        let ([gamma1, beta1, weight1, bias1], [gamma2, beta2, weight2, bias2]) = (half(0), half(1));
        let [weight, bias] = shortcut.as_ref().map_or([None, None], |both| both.each_ref().map(Some));
        [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2, weight, bias]
    }

    /// The gradient of h; that of film goes to `dfilm`.
    fn second_half_back(
        &self,
        conv: Conv3x3,
        stats: &[GroupStats; 2],
        flipped: Prepared<'_>,
        [h, film, dy]: [&[f32]; 3],
        dfilm: &mut [f32],
        gradients: &mut Gradients,
    ) -> Vec<f32> {
        let mut dh = pool::take(h.len());
        let norm = self.norm(conv, 1);
        trace_span!("norm again").in_scope(|| norm.forward_again(&stats[1], h, &mut dh));
        gradients.add(6, weight_gradient(&conv, &dh, dy));
        convolve_back(conv, dy, &self.weight[1], flipped, &mut dh); // overwritten
        gradients.add(4, self.norm_gradient(1, norm, &stats[1], h, Some(film), &mut dh, Some(dfilm)));
        dh
    }

    /// The gradient of x through the branch, to `dx`.
    fn first_half_back(
        &self,
        conv: Conv3x3,
        stats: &[GroupStats; 2],
        flipped: Prepared<'_>,
        [x, dh]: [&[f32]; 2],
        dx: &mut [f32],
        gradients: &mut Gradients,
    ) {
        let norm = self.norm(conv, 0);
        trace_span!("norm again").in_scope(|| norm.forward_again(&stats[0], x, dx));
        gradients.add(2, weight_gradient(&conv, dx, dh));
        convolve_back(conv, dh, &self.weight[0], flipped, dx); // overwritten
        gradients.add(0, self.norm_gradient(0, norm, &stats[0], x, None, dx, None));
    }

    /// Adds the gradient of x through the shortcut to `dx`.
    fn shortcut_back(&self, [x, dy]: [&[f32]; 2], dx: &mut [f32], gradients: &mut Gradients) {
        let _span = trace_span!("shortcut back").entered();
        let scale = self.numbers.shortcut_scale;
        let scaled = (scale != 1.0).then(|| scaled_copy(dy, scale));
        let dy = scaled.as_deref().unwrap_or(dy);
        match &self.shortcut {
            Some([weight, _]) => {
                let linear = projection(x.len(), weight);
                linear.add_grad_input(dy, slice(weight), dx);
                let (mut dw, mut db) = (pool::take(linear.c * linear.k), vec![0.0; linear.k]);
                linear.grad_weight(x, dy, &mut dw, Some(&mut db));
                gradients.add(8, [dw, db]);
            }
            None => elementwise::add_assign(dx, dy),
        }
        scaled.into_iter().for_each(pool::give);
    }

    /// The gradients of scale and shift of norm `i`; that of its output in `d` becomes that of its input.
    fn norm_gradient(
        &self,
        i: usize,
        norm: GroupNorm,
        stats: &GroupStats,
        x: &[f32],
        film: Option<&[f32]>,
        d: &mut [f32],
        dfilm: Option<&mut [f32]>,
    ) -> [Vec<f32>; 2] {
        let _span = trace_span!("norm back").entered();
        let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0; norm.c]);
        let (gamma, beta) = (slice(&self.gamma[i]), slice(&self.beta[i]));
        norm.backward(stats, x, gamma, beta, film, d, &mut dgamma, &mut dbeta, dfilm);
        [dgamma, dbeta]
    }
}

/// The gradients of a convolution's weights and bias.
fn weight_gradient(conv: &Conv3x3, x: &[f32], dy: &[f32]) -> [Vec<f32>; 2] {
    let _span = trace_span!("gradient of weights").entered();
    let (mut dw, mut db) = (pool::take(9 * conv.c * conv.k), vec![0.0; conv.k]);
    conv.grad_weight(x, dy, &mut dw, Some(&mut db));
    [dw, db]
}

fn scaled_copy(x: &[f32], factor: f32) -> Vec<f32> {
    let mut y = pool::take(x.len());
    y.copy_from_slice(x);
    elementwise::scale(&mut y, factor);
    y
}
