//! The shapes of operations, from those of their tensors.

use burn::tensor::Shape;
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::Conv3x3;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::{Activation, GroupNorm, LayerNorm};

use super::tensors::{T, dims};

pub(super) const EPS: f32 = 1e-5;

pub(super) fn conv_shape(x: &T, w: &T, stride: usize) -> Conv3x3 {
    let [n, h, wide, c] = dims(x);
    let [_, _, _, k] = dims(w);
    Conv3x3 { n, h, w: wide, c, k, stride }
}

pub(super) fn conv_output(shape: &Conv3x3) -> [usize; 4] {
    [shape.n, shape.out_h(), shape.out_w(), shape.k]
}

pub(super) fn group_norm_shape(x: &T, groups: usize, activation: Activation) -> GroupNorm {
    let [n, h, w, c] = dims(x);
    GroupNorm { n, hw: h * w, c, groups, eps: EPS, activation }
}

pub(super) fn layer_norm_shape(x: &T) -> LayerNorm {
    let c = *x.layout().shape().to_vec().last().expect("a tensor has an axis");
    LayerNorm { rows: x.layout().num_elements() / c.max(1), c, eps: EPS }
}

pub(super) fn attention_shape(q: &T, kv: &T, heads: usize) -> Attention {
    let [b, tq, c] = dims(q);
    let [_, tk, _] = dims(kv);
    Attention { b, heads, tq, tk, d: c / heads }
}

pub(super) fn linear_shape(x: &T, w: &T) -> (Linear, Shape) {
    let [c, k] = dims(w);
    let mut shape = x.layout().shape().clone();
    let axis = shape.num_dims() - 1;
    shape[axis] = k;
    (Linear { rows: x.layout().num_elements() / c.max(1), c, k }, shape)
}

/// `(a, b)` widths and the shape of their concatenation.
pub(super) fn concat_shape(a: &T, b: &T) -> (usize, usize, Shape) {
    let mut shape = a.layout().shape().clone();
    let axis = shape.num_dims() - 1;
    let (ca, cb) = (shape[axis], b.layout().shape()[axis]);
    shape[axis] = ca + cb;
    (ca, cb, shape)
}
