//! The operations of frozen networks on the CPU kernels: weights as they are stored, attention with a bias, RMS
//! normalisation, and convolutions with any window.
//!
//! They are never recorded: a tracked tensor takes the definition in `reference` instead.

use std::sync::Mutex;

use imagen_kernels::biased_attention::BiasedAttention;
use imagen_kernels::conv::{Conv2d, PreparedConv2d};
use imagen_kernels::elementwise;
use imagen_kernels::norm::RmsNorm;
use imagen_kernels::resample::{Pool3x3, Pooling};

use super::pool::recycle;
use super::tensors::{T, contiguous, dims, filled, slice};
use super::weights::{Keeper, kept};
use crate::nn::{StoredConv, StoredLinear};

pub(super) fn stored_linear(x: T, w: &StoredLinear, bias: Option<T>, residual: Option<T>) -> T {
    let (x, bias, residual) = (contiguous(x), bias.map(contiguous), residual.map(contiguous));
    let (c, k) = w.features();
    let mut shape = x.layout().shape().clone();
    let axis = shape.num_dims() - 1;
    assert!(shape[axis] == c, "x has {} features, the weights take {c}", shape[axis]);
    shape[axis] = k;
    let rows = x.layout().num_elements() / c.max(1);
    let y = filled(shape, |y| {
        w.kernel().forward(rows, slice(&x), bias.as_ref().map(slice), residual.as_ref().map(slice), 1.0, y);
    });
    [Some(x), residual].into_iter().flatten().for_each(recycle);
    y
}

pub(super) fn stored_conv3x3(x: T, w: &StoredConv, bias: T, residual: Option<T>, scale: f32) -> T {
    let (x, bias, residual) = (contiguous(x), contiguous(bias), residual.map(contiguous));
    let ([n, h, wide, found], (c, k)) = (dims(&x), w.channels());
    assert!(found == c, "x has {found} channels, the weights take {c}");
    let y = filled([n, h, wide, k], |y| {
        w.kernel().forward([n, h, wide], slice(&x), Some(slice(&bias)), residual.as_ref().map(slice), scale, y);
    });
    [Some(x), residual].into_iter().flatten().for_each(recycle);
    y
}

pub(super) fn biased_attention(q: T, kv: T, bias: T, mask: Option<T>, scale: f32) -> T {
    let (q, kv, bias, mask) = (contiguous(q), contiguous(kv), contiguous(bias), mask.map(contiguous));
    let ([b, tq, c], [heads, _, tk]) = (dims(&q), dims(&bias));
    let shape = BiasedAttention { b, heads, tq, tk, d: c / heads.max(1), scale };
    let mask = mask.as_ref().map(slice);
    let o = filled([b, tq, c], |o| shape.forward(slice(&q), slice(&kv), slice(&bias), mask, o));
    [q, kv].into_iter().for_each(recycle);
    o
}

pub(super) fn rms_norm(x: T, gamma: &T, eps: f32) -> T {
    let x = contiguous(x);
    let [c] = dims(gamma);
    let norm = RmsNorm { rows: x.layout().num_elements() / c.max(1), c, eps };
    let y = filled(x.layout().shape().clone(), |y| norm.forward(slice(&x), slice(gamma), y));
    recycle(x);
    y
}

pub(super) fn gated_gelu_tanh(a: T, b: T) -> T {
    let (a, b) = (contiguous(a), contiguous(b));
    let y = filled(a.layout().shape().clone(), |y| elementwise::gated_gelu_tanh(slice(&a), slice(&b), y));
    [a, b].into_iter().for_each(recycle);
    y
}

/// The convolutions of frozen networks.
static WINDOWS: Keeper<Conv2d, PreparedConv2d> = Mutex::new(Vec::new());

pub(super) fn conv2d(x: T, w: T, b: T, stride: usize, padding: [usize; 2], rectified: bool) -> T {
    let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
    let ([n, h, wide, c], [rows, columns, _, k]) = (dims(&x), dims(&w));
    let conv = Conv2d { n, h, w: wide, c, k, window: [rows, columns], stride, padding };
    let prepared = kept(&WINDOWS, conv.of_any_pictures(), &w, || conv.prepare(slice(&w)));
    let [oh, ow] = conv.out();
    let y = filled([n, oh, ow, k], |y| conv.forward(slice(&x), &prepared, Some(slice(&b)), rectified, y));
    recycle(x);
    y
}

pub(super) fn pool3x3(x: T, pooling: Pooling, stride: usize) -> T {
    let x = contiguous(x);
    let [n, h, w, c] = dims(&x);
    let pool = Pool3x3 { n, h, w, c, pooling, stride };
    let [oh, ow] = pool.out();
    let y = filled([n, oh, ow, c], |y| pool.forward(slice(&x), y));
    recycle(x);
    y
}
