//! The operations on this project's CPU kernels: inference here, differentiation in `autodiff`, buffers in `pool`.
//!
//! Weights of inference are transformed or packed once and kept as long as the weight tensor lives (`weights`).
//! Saved tensors are reference-counted, never copied.

use burn::backend::Flex;
use burn::tensor::Shape;
use imagen_kernels::adafactor::{Adafactor as AdafactorStep, SecondMoment};
use imagen_kernels::norm::Activation;
use imagen_kernels::optimizer::Adam;
use imagen_kernels::resample::{self, Pooling};
use imagen_kernels::{elementwise, optimizer};

use super::arguments::{AdafactorKind, BlockParameters, Maybe};
use super::extension::NetworkOps;
use super::{StoredConv, StoredLinear};

mod autodiff;
mod frozen;
mod pool;
mod residual;
mod shapes;
mod tensors;
mod weights;

pub(super) use pool::clear as release_buffers;
pub(super) use weights::forget_step_weights;

use pool::recycle;
use residual::Block;
use shapes::{
    attention_shape, concat_shape, conv_output, conv_shape, group_norm_shape, layer_norm_shape, linear_shape,
};
use tensors::{T, contiguous, dims, filled, owned, slice, tensor};
use weights::{multiply, transformed};

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

    fn adam(w: T, g: T, m: T, v: T, average: T, s: Adam) -> (T, T, T, T) {
        let (mut w, g, mut m, mut v, mut average) = (owned(w), contiguous(g), owned(m), owned(v), owned(average));
        let [wn, mn, vn, an] = [&mut w, &mut m, &mut v, &mut average].map(|t| t.storage_mut::<f32>());
        s.step(wn, slice(&g), mn, vn, an);
        recycle(g);
        (w, m, v, average)
    }

    fn adafactor(w: T, g: T, first: T, rest: T, m: T, kind: AdafactorKind, s: AdafactorStep) -> (T, T, T, T) {
        let (mut w, g, mut first, mut rest, mut m) = (owned(w), contiguous(g), owned(first), owned(rest), owned(m));
        let [_, rows, columns] = dims(&w);
        let [wn, row, column, mn] = [&mut w, &mut first, &mut rest, &mut m].map(|t| t.storage_mut::<f32>());
        let second = if kind.factored {
            SecondMoment::Factored { rows, columns, row, column }
        } else {
            SecondMoment::Whole(row)
        };
        s.step(wn, slice(&g), second, kind.first_moment.then_some(mn));
        recycle(g);
        (w, first, rest, m)
    }

    fn average(average: T, w: T, decay: f64) -> T {
        let (mut average, w) = (owned(average), contiguous(w));
        optimizer::ema(average.storage_mut::<f32>(), slice(&w), decay);
        average
    }

    fn sum_of_squares(x: T) -> T {
        let x = contiguous(x);
        tensor(vec![optimizer::sum_of_squares(slice(&x)) as f32], Shape::from([1]))
    }
}
