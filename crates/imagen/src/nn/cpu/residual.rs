//! A residual block as one recorded operation (`ops::residual_block`).
//!
//! Inference goes through the batch a few pictures at a time, so that their maps stay in cache from one part of the block
//! to the next. For the way back it keeps x and the first convolution's output; both normalised maps are made again from
//! their statistics, one pass over memory each. Where memory is dearer than time (`ops::recomputing`) it keeps x alone.
//! x takes part twice, in the block and as its own shortcut, and both gradients meet here instead of in the tensor library.

use std::sync::Arc;

use imagen_kernels::conv::Conv3x3;
use imagen_kernels::elementwise;
use imagen_kernels::norm::{GroupNorm, GroupStats};

use super::super::ops::{Activation, recomputes};
use super::autodiff::{BackwardFn, scaled_gradient};
use super::pool::{self, Saved, recycle};
use super::{
    EPS, T, contiguous, conv_output, conv_shape, convolve, convolve_back, filled, group_norm_shape, owned, slice,
    tensor, transformed,
};
use burn::tensor::Shape;
use tracing::trace_span;

/// Numbers of a map of the pictures that inference takes at a time; of the shared cache of ordinary processors, a tenth.
const TOGETHER: usize = 1 << 19;

/// The output alone.
pub(super) fn infer(
    x: T,
    film: T,
    shortcut: Option<T>,
    [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2]: [T; 8],
    groups: [usize; 2],
    activation: Activation,
    scale: f32,
) -> T {
    let (x, film, shortcut) = (contiguous(x), contiguous(film), shortcut.map(contiguous));
    let conv1 = conv_shape(&x, &weight1, 1);
    let Conv3x3 { n: all, h, w, c, k, .. } = conv1;
    let conv2 = Conv3x3 { c: k, ..conv1 };
    let [prepared1, prepared2] = [(conv1, &weight1), (conv2, &weight2)].map(|(conv, w)| transformed(conv, w));
    let (area, together) = (h * w, (TOGETHER / (h * w * c.max(k)).max(1)).max(1));
    let norm = |n, [gamma, beta]: [&T; 2], groups, x: &[f32], film: Option<&[f32]>, y: &mut [f32]| {
        let c = gamma.layout().num_elements();
        let _span = trace_span!("group_norm", x = ?[n, h, w, c]).entered();
        GroupNorm { n, hw: area, c, groups, eps: EPS, activation }.forward(x, slice(gamma), slice(beta), film, y);
    };
    let y = filled(conv_output(&conv2), |y| {
        for first in (0..all).step_by(together) {
            let n = together.min(all - first);
            let inputs = first * area * c..(first + n) * area * c;
            let outputs = first * area * k..(first + n) * area * k;
            let residual = &slice(shortcut.as_ref().unwrap_or(&x))[outputs.clone()];
            let y = &mut y[outputs];
            let mut normal = pool::take(n * area * c);
            norm(n, [&gamma1, &beta1], groups[0], &slice(&x)[inputs], None, &mut normal);
            let mut hidden = pool::take(n * area * k);
            trace_span!("conv3x3", x = ?[n, h, w, c], k).in_scope(|| {
                let conv = Conv3x3 { n, ..conv1 };
                conv.forward_prepared(&normal, &prepared1, Some(slice(&bias1)), None, 1.0, &mut hidden);
            });
            pool::give(normal);
            let mut normal = pool::take(n * area * k);
            let film = &slice(&film)[first * 2 * k..][..n * 2 * k];
            norm(n, [&gamma2, &beta2], groups[1], &hidden, Some(film), &mut normal);
            pool::give(hidden);
            trace_span!("conv3x3", x = ?[n, h, w, k], k).in_scope(|| {
                let conv = Conv3x3 { n, ..conv2 };
                conv.forward_prepared(&normal, &prepared2, Some(slice(&bias2)), Some(residual), scale, y);
            });
            pool::give(normal);
        }
    });
    [Some(x), shortcut].into_iter().flatten().for_each(recycle);
    y
}

/// What the way back needs.
struct Kept {
    x: Saved,
    film: T,
    /// gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2.
    parameters: [T; 8],
    /// The first convolution's output, unless it is made again.
    h: Option<Saved>,
    norms: [GroupNorm; 2],
    stats: [GroupStats; 2],
    convs: [Conv3x3; 2],
    scale: f32,
    /// Whether the shortcut is an input of its own.
    shortcut: bool,
}

/// The output and its backward pass; inputs and gradients are x, film, shortcut and the eight parameters.
pub(super) fn forward(
    x: T,
    film: T,
    shortcut: Option<T>,
    parameters: [T; 8],
    groups: [usize; 2],
    activation: Activation,
    scale: f32,
) -> (T, Arc<BackwardFn<11>>) {
    let [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, bias2] = &parameters;
    let norm1 = group_norm_shape(&x, groups[0], activation);
    let conv1 = conv_shape(&x, weight1, 1);
    let mut normal = pool::take(x.layout().num_elements());
    let stats1 = norm1.forward(slice(&x), slice(gamma1), slice(beta1), None, &mut normal);
    let h = filled(conv_output(&conv1), |h| {
        convolve(conv1, &normal, weight1, bias1, None, 1.0, h);
    });
    let norm2 = group_norm_shape(&h, groups[1], activation);
    let conv2 = conv_shape(&h, weight2, 1);
    pool::give(normal);
    let mut normal = pool::take(h.layout().num_elements());
    let stats2 = norm2.forward(slice(&h), slice(gamma2), slice(beta2), Some(slice(&film)), &mut normal);
    let y = filled(conv_output(&conv2), |y| {
        let residual = slice(shortcut.as_ref().unwrap_or(&x));
        convolve(conv2, &normal, weight2, bias2, Some(residual), scale, y);
    });
    pool::give(normal);
    // dropped on the way back or here, the map goes back to the pool
    let h = Saved::from(h);
    let kept = Kept {
        x: x.into(),
        film,
        parameters,
        h: (!recomputes()).then_some(h),
        norms: [norm1, norm2],
        stats: [stats1, stats2],
        convs: [conv1, conv2],
        scale,
        shortcut: shortcut.is_some(),
    };
    (y, Arc::new(move |_: [bool; 11], dy: T| kept.backward(dy)))
}

impl Kept {
    fn backward(&self, dy: T) -> [Option<T>; 11] {
        let Self { x, film, norms: [norm1, norm2], stats: [stats1, stats2], convs: [conv1, conv2], .. } = self;
        let [gamma1, beta1, weight1, bias1, gamma2, beta2, weight2, _] = &self.parameters;
        let again = self.h.is_none().then(|| {
            let mut normal = pool::take(x.layout().num_elements());
            norm1.forward_again(stats1, slice(x), &mut normal);
            let h = filled(conv_output(conv1), |h| {
                convolve(*conv1, &normal, weight1, bias1, None, 1.0, h);
            });
            pool::give(normal);
            Saved::from(h)
        });
        let h: &T = self.h.as_ref().or(again.as_ref()).expect("kept, or made again");
        let dy = scaled_gradient(dy, self.scale);

        let mut normal = pool::take(h.layout().num_elements());
        norm2.forward_again(stats2, slice(h), &mut normal);
        let (dw2, db2) = weight_gradient(conv2, &normal, slice(&dy), weight2);
        let mut dh = normal; // overwritten
        convolve_back(*conv2, slice(&dy), weight2, &mut dh);
        let (mut dgamma2, mut dbeta2) = (vec![0.0; norm2.c], vec![0.0; norm2.c]);
        let mut dfilm = vec![0.0; film.layout().num_elements()];
        norm2.backward(
            stats2,
            slice(h),
            slice(gamma2),
            slice(beta2),
            Some(slice(film)),
            &mut dh,
            &mut dgamma2,
            &mut dbeta2,
            Some(&mut dfilm),
        );

        let mut normal = pool::take(x.layout().num_elements());
        norm1.forward_again(stats1, slice(x), &mut normal);
        let (dw1, db1) = weight_gradient(conv1, &normal, &dh, weight1);
        let mut dx = normal; // overwritten
        convolve_back(*conv1, &dh, weight1, &mut dx);
        pool::give(dh);
        let (mut dgamma1, mut dbeta1) = (vec![0.0; norm1.c], vec![0.0; norm1.c]);
        norm1.backward(stats1, slice(x), slice(gamma1), slice(beta1), None, &mut dx, &mut dgamma1, &mut dbeta1, None);
        let dshortcut = if self.shortcut {
            Some(owned(dy))
        } else {
            elementwise::add_assign(&mut dx, slice(&dy));
            recycle(dy);
            None
        };

        let like = |t: &T, values: Vec<f32>| Some(tensor(values, t.layout().shape().clone()));
        let channels = |values: Vec<f32>| {
            let shape = Shape::from([values.len()]);
            Some(tensor(values, shape))
        };
        [
            like(x, dx),
            like(film, dfilm),
            dshortcut,
            channels(dgamma1),
            channels(dbeta1),
            Some(dw1),
            Some(db1),
            channels(dgamma2),
            channels(dbeta2),
            Some(dw2),
            Some(db2),
        ]
    }
}

/// The gradients of a convolution's weights and bias.
fn weight_gradient(conv: &Conv3x3, x: &[f32], dy: &[f32], weight: &T) -> (T, T) {
    let mut bias = vec![0.0; conv.k];
    let dw = filled(weight.layout().shape().clone(), |dw| conv.grad_weight(x, dy, dw, Some(&mut bias)));
    (dw, tensor(bias, Shape::from([conv.k])))
}
