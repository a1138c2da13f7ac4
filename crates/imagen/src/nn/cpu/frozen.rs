//! The operations of frozen networks on the CPU kernels: weights as they are stored, attention with a bias, RMS
//! normalisation, and convolutions with any window.
//!
//! They are never recorded: a tracked tensor takes the definition in `reference` instead.

use imagen_kernels::biased_attention::BiasedAttention;
use imagen_kernels::elementwise;
use imagen_kernels::linear::Linear;
use imagen_kernels::norm::RmsNorm;
use rayon::prelude::*;

use super::{T, contiguous, conv_output, conv_shape, dims, filled, pool, recycle, slice, transformed};
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

/// 3×3 windows with padding 1 have a kernel of their own, 1×1 ones are a matrix; the others are cut out into rows, some rows
/// of pixels at a time, and multiplied.
pub(super) fn conv2d(x: T, w: T, b: T, stride: usize, padding: [usize; 2]) -> T {
    /// Numbers of windows that are in memory at once.
    const CUT_OUT: usize = 1 << 22;
    let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
    let ([n, high, wide, c], [kh, kw, _, k]) = (dims(&x), dims(&w));
    if [kh, kw] == [3, 3] && padding == [1, 1] && stride <= 2 {
        let shape = conv_shape(&x, &w, stride);
        let prepared = transformed(shape, &w);
        let y = filled(conv_output(&shape), |y| {
            shape.forward_prepared(slice(&x), &prepared, Some(slice(&b)), None, 1.0, y);
        });
        recycle(x);
        return y;
    }
    let windows = Windows { high, wide, c, kh, kw, stride, padding };
    let ([oh, ow], width) = (windows.output(), kh * kw * c);
    let y = filled([n, oh, ow, k], |y| {
        if [kh, kw, stride] == [1, 1, 1] && padding == [0, 0] {
            return Linear { rows: n * oh * ow, c, k }.forward(slice(&x), slice(&w), Some(slice(&b)), None, 1.0, y);
        }
        let lines = (CUT_OUT / (ow * width).max(1)).clamp(1, oh.max(1));
        let mut rows = pool::take(lines * ow * width);
        for (x, y) in slice(&x).chunks_exact((high * wide * c).max(1)).zip(y.chunks_exact_mut((oh * ow * k).max(1))) {
            for (i, y) in y.chunks_mut(lines * ow * k).enumerate() {
                let count = y.len() / k;
                windows.cut(x, i * lines, &mut rows[..count * width]);
                let linear = Linear { rows: count, c: width, k };
                linear.forward(&rows[..count * width], slice(&w), Some(slice(&b)), None, 1.0, y);
            }
        }
        pool::give(rows);
    });
    recycle(x);
    y
}

/// The windows of a convolution over one picture `[high, wide, c]`.
struct Windows {
    high: usize,
    wide: usize,
    c: usize,
    kh: usize,
    kw: usize,
    stride: usize,
    padding: [usize; 2],
}

impl Windows {
    /// Height and width of the output.
    fn output(&self) -> [usize; 2] {
        let out = |size: usize, window: usize, pad: usize| {
            (size + 2 * pad).checked_sub(window).map_or(0, |rest| rest / self.stride + 1)
        };
        [out(self.high, self.kh, self.padding[0]), out(self.wide, self.kw, self.padding[1])]
    }

    /// The windows of the output's rows from `first` on, as many as `to` holds: `[pixels, kh, kw, c]`.
    fn cut(&self, x: &[f32], first: usize, to: &mut [f32]) {
        let Self { high, wide, c, kh, kw, stride, padding: [top, left] } = *self;
        let [_, ow] = self.output();
        to.par_chunks_mut(ow * kh * kw * c).enumerate().for_each(|(line, to)| {
            for (column, window) in to.chunks_exact_mut(kh * kw * c).enumerate() {
                for (i, row) in window.chunks_exact_mut(kw * c).enumerate() {
                    let y = ((first + line) * stride + i).wrapping_sub(top);
                    if y >= high {
                        row.fill(0.0);
                        continue;
                    }
                    // columns from..until of the window lie inside the picture
                    let start = column * stride;
                    let from = left.saturating_sub(start).min(kw);
                    let until = (wide + left).saturating_sub(start).clamp(from, kw);
                    row[..from * c].fill(0.0);
                    row[until * c..].fill(0.0);
                    if from < until {
                        let at = (y * wide + start + from - left) * c;
                        row[from * c..until * c].copy_from_slice(&x[at..][..(until - from) * c]);
                    }
                }
            }
        });
    }
}
