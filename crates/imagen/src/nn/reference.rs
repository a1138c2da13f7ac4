//! Each operation's definition in ordinary backend primitives: any device runs it, any device differentiates it.
//!
//! Written to be read and compared with; the CPU has faster implementations in `cpu`.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice, TensorData, ops::ConvOptions};
use imagen_kernels::{adafactor::Adafactor as AdafactorStep, norm::Activation, optimizer::Adam, resample::Pooling};

use super::arguments::{AdafactorKind, BlockParameters, Shortcut};
use super::{StoredConv, StoredLinear};

const EPS: f32 = 1e-5;

fn reshape<B: Backend, const N: usize>(x: FloatTensor<B>, shape: [usize; N]) -> FloatTensor<B> {
    B::float_reshape(x, Shape::from(shape))
}

fn scaled<B: Backend>(x: FloatTensor<B>, scale: f32) -> FloatTensor<B> {
    if scale == 1.0 { x } else { B::float_mul_scalar(x, scale.into()) }
}

/// The slice `from..to` of the last axis.
fn last<B: Backend>(x: FloatTensor<B>, from: usize, to: usize) -> FloatTensor<B> {
    let mut slices = vec![Slice::full(); x.shape().num_dims()];
    *slices.last_mut().expect("a tensor has an axis") = Slice::from(from..to);
    B::float_slice(x, &slices)
}

pub(super) fn conv3x3<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    stride: usize,
    scale: f32,
) -> FloatTensor<B> {
    let y = conv2d::<B>(x, w, b, stride, [1, 1]);
    let y = match residual {
        Some(r) => B::float_add(y, r),
        None => y,
    };
    scaled::<B>(y, scale)
}

pub(super) fn conv2d<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
    stride: usize,
    padding: [usize; 2],
) -> FloatTensor<B> {
    let x = B::float_permute(x, &[0, 3, 1, 2]); // [n, c, h, w]
    let w = B::float_permute(w, &[3, 2, 0, 1]); // [k, c, kh, kw]
    let y = B::conv2d(x, w, Some(b), ConvOptions::new([stride, stride], padding, [1, 1], 1));
    B::float_permute(y, &[0, 2, 3, 1]) // [n, h, w, k]
}

pub(super) fn convolution<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
    stride: usize,
    pad_h: usize,
    pad_w: usize,
    rectified: bool,
) -> FloatTensor<B> {
    let y = conv2d::<B>(x, w, b, stride, [pad_h, pad_w]);
    if rectified { B::relu(y) } else { y }
}

pub(super) fn pool3x3<B: Backend>(x: FloatTensor<B>, pooling: Pooling, stride: usize) -> FloatTensor<B> {
    let x = B::float_permute(x, &[0, 3, 1, 2]); // [n, c, h, w]
    let padding = [usize::from(stride == 1); 2];
    let y = match pooling {
        Pooling::Mean => B::avg_pool2d(x, [3, 3], [stride, stride], padding, false, false),
        Pooling::Largest => B::max_pool2d(x, [3, 3], [stride, stride], padding, [1, 1], false),
    };
    B::float_permute(y, &[0, 2, 3, 1])
}

pub(super) fn group_norm<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    film: Option<FloatTensor<B>>,
    groups: usize,
    activation: Activation,
) -> FloatTensor<B> {
    let shape = x.shape();
    let (n, h, w, c) = (shape[0], shape[1], shape[2], shape[3]);
    let x = reshape::<B, 4>(x, [n, h * w, groups, c / groups]);
    let mean = |t: FloatTensor<B>| B::float_mean_dim(B::float_mean_dim(t, 1), 3); // [n, 1, groups, 1]
    let centred = B::float_sub(x.clone(), mean(x));
    let variance = mean(B::float_mul(centred.clone(), centred.clone()));
    let z = B::float_div(centred, B::float_sqrt(B::float_add_scalar(variance, EPS.into())));
    let z = reshape::<B, 3>(z, [n, h * w, c]);
    let z = B::float_mul(z, reshape::<B, 3>(gamma, [1, 1, c]));
    let mut z = B::float_add(z, reshape::<B, 3>(beta, [1, 1, c]));
    if let Some(film) = film {
        let scale = B::float_add_scalar(reshape::<B, 3>(last::<B>(film.clone(), 0, c), [n, 1, c]), 1.0.into());
        let shift = reshape::<B, 3>(last::<B>(film, c, 2 * c), [n, 1, c]);
        z = B::float_add(B::float_mul(z, scale), shift);
    }
    let z = match activation {
        Activation::None => z,
        Activation::Silu => B::float_mul(z.clone(), B::sigmoid(z)),
        Activation::Gelu => B::gelu(z),
    };
    reshape::<B, 4>(z, [n, h, w, c])
}

pub(super) fn residual_block<B: Backend>(
    x: FloatTensor<B>,
    film: FloatTensor<B>,
    p: BlockParameters<B>,
) -> FloatTensor<B> {
    let h = group_norm::<B>(x.clone(), p.gamma1, p.beta1, None, p.groups[0], p.activation);
    let h = conv3x3::<B>(h, p.weight1, p.bias1, None, 1, 1.0);
    let h = group_norm::<B>(h, p.gamma2, p.beta2, Some(film), p.groups[1], p.activation);
    let shortcut = match p.shortcut {
        Shortcut::Input => x,
        Shortcut::Projected { weight, bias } => dense::<B>(x, weight, bias, None, 1.0),
    };
    let shortcut = B::float_mul_scalar(shortcut, p.shortcut_scale.into());
    conv3x3::<B>(h, p.weight2, p.bias2, Some(shortcut), 1, p.scale)
}

pub(super) fn layer_norm<B: Backend>(x: FloatTensor<B>, gamma: FloatTensor<B>, beta: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let axis = shape.num_dims() - 1;
    let c = shape[axis];
    let rows = shape.num_elements() / c.max(1);
    let x = reshape::<B, 2>(x, [rows, c]);
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let z = B::float_div(centred, B::float_sqrt(B::float_add_scalar(variance, EPS.into())));
    let z = B::float_add(B::float_mul(z, reshape::<B, 2>(gamma, [1, c])), reshape::<B, 2>(beta, [1, c]));
    B::float_reshape(z, shape)
}

pub(super) fn attention<B: Backend>(
    q: FloatTensor<B>,
    kv: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    heads: usize,
) -> FloatTensor<B> {
    let d = q.shape()[2] / heads;
    attend::<B>(q, kv, None, mask, heads, 1.0 / (d as f32).sqrt())
}

pub(super) fn biased_attention<B: Backend>(
    q: FloatTensor<B>,
    kv: FloatTensor<B>,
    bias: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    scale: f32,
) -> FloatTensor<B> {
    let shape = bias.shape();
    let (heads, tq, tk) = (shape[0], shape[1], shape[2]);
    attend::<B>(q, kv, Some(reshape::<B, 4>(bias, [1, heads, tq, tk])), mask, heads, scale)
}

/// Attention of every kind; `bias [1, heads, tq, tk]`.
fn attend<B: Backend>(
    q: FloatTensor<B>,
    kv: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    mask: Option<FloatTensor<B>>,
    heads: usize,
    scale: f32,
) -> FloatTensor<B> {
    let shape = q.shape();
    let (b, tq, c) = (shape[0], shape[1], shape[2]);
    let (tk, d) = (kv.shape()[1], c / heads);
    // [b, t, heads·d] -> [b, heads, t, d]
    let split = |x: FloatTensor<B>, t: usize| B::float_permute(reshape::<B, 4>(x, [b, t, heads, d]), &[0, 2, 1, 3]);
    let (q, k, v) = (split(q, tq), split(last::<B>(kv.clone(), 0, c), tk), split(last::<B>(kv, c, 2 * c), tk));
    let scores = B::float_matmul(q, B::float_swap_dims(k, 2, 3)); // [b, heads, tq, tk]
    let mut scores = B::float_mul_scalar(scores, scale.into());
    if let Some(bias) = bias {
        scores = B::float_add(scores, bias);
    }
    let keep = mask.map(|m| reshape::<B, 4>(m, [b, 1, 1, tk]));
    if let Some(keep) = &keep {
        // 0 where attended, far below any score where not
        let bias = B::float_mul_scalar(B::float_add_scalar(keep.clone(), (-1.0).into()), 1e9.into());
        scores = B::float_add(scores, bias);
    }
    let peak = B::float_max_dim(scores.clone(), 3);
    let mut p = B::float_exp(B::float_sub(scores, B::float_detach(peak)));
    if let Some(keep) = &keep {
        p = B::float_mul(p, keep.clone());
    }
    let mut total = B::float_sum_dim(p.clone(), 3);
    if let Some(keep) = keep {
        // 1 where nothing is attended, so that 0 / total is 0 there and has a gradient
        let nothing = B::float_add_scalar(B::float_neg(B::float_max_dim(keep, 3)), 1.0.into());
        total = B::float_add(total, nothing);
    }
    let o = B::float_matmul(B::float_div(p, total), v); // [b, heads, tq, d]
    reshape::<B, 3>(B::float_permute(o, &[0, 2, 1, 3]), [b, tq, c])
}

pub(super) fn dense<B: Backend>(
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    scale: f32,
) -> FloatTensor<B> {
    let mut shape = x.shape();
    let axis = shape.num_dims() - 1;
    let (c, k) = (w.shape()[0], w.shape()[1]);
    let rows = shape.num_elements() / c.max(1);
    shape[axis] = k;
    let y = B::float_matmul(reshape::<B, 2>(x, [rows, c]), w);
    let y = B::float_reshape(B::float_add(y, reshape::<B, 2>(b, [1, k])), shape);
    let y = match residual {
        Some(r) => B::float_add(y, r),
        None => y,
    };
    scaled::<B>(y, scale)
}

pub(super) fn stored_linear<B: Backend>(
    x: FloatTensor<B>,
    w: StoredLinear,
    bias: Option<FloatTensor<B>>,
    residual: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let ((_, k), device) = (w.features(), x.device());
    let w = w.on_device::<B>(&device);
    let bias = bias.unwrap_or_else(|| B::float_from_data(TensorData::new(vec![0.0f32; k], [k]), &device));
    dense::<B>(x, w, bias, residual, 1.0)
}

pub(super) fn stored_conv3x3<B: Backend>(
    x: FloatTensor<B>,
    w: StoredConv,
    bias: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    scale: f32,
) -> FloatTensor<B> {
    let w = w.on_device::<B>(&x.device());
    conv3x3::<B>(x, w, bias, residual, 1, scale)
}

pub(super) fn rms_norm<B: Backend>(x: FloatTensor<B>, gamma: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let shape = x.shape();
    let c = shape[shape.num_dims() - 1];
    let x = reshape::<B, 2>(x, [shape.num_elements() / c.max(1), c]);
    let square = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
    let z = B::float_div(x, B::float_sqrt(B::float_add_scalar(square, eps.into())));
    B::float_reshape(B::float_mul(z, reshape::<B, 2>(gamma, [1, c])), shape)
}

pub(super) fn gated_gelu_tanh<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let cube = B::float_mul(B::float_mul(a.clone(), a.clone()), a.clone());
    let inner = B::float_add(a.clone(), B::float_mul_scalar(cube, 0.044_715.into()));
    let tanh = B::float_tanh(B::float_mul_scalar(inner, (2.0 / std::f64::consts::PI).sqrt().into()));
    let gelu = B::float_mul_scalar(B::float_mul(a, B::float_add_scalar(tanh, 1.0.into())), 0.5.into());
    B::float_mul(gelu, b)
}

pub(super) fn gelu<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::gelu(x)
}

pub(super) fn upsample2<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let (n, h, w, c) = (shape[0], shape[1], shape[2], shape[3]);
    let x = B::float_expand(reshape::<B, 6>(x, [n, h, 1, w, 1, c]), Shape::from([n, h, 2, w, 2, c]));
    reshape::<B, 4>(x, [n, 2 * h, 2 * w, c])
}

pub(super) fn average_pool2<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let (n, h, w, c) = (shape[0], shape[1], shape[2], shape[3]);
    let x = reshape::<B, 6>(x, [n, h / 2, 2, w / 2, 2, c]);
    let x = B::float_mean_dim(B::float_mean_dim(x, 2), 4);
    reshape::<B, 4>(x, [n, h / 2, w / 2, c])
}

pub(super) fn pixel_shuffle<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let (n, h, w, c) = (shape[0], shape[1], shape[2], shape[3] / 4);
    let x = B::float_swap_dims(reshape::<B, 5>(x, [n, h, w, 2, 2 * c]), 2, 3); // [n, h, 2, w, 2c]
    reshape::<B, 4>(x, [n, 2 * h, 2 * w, c])
}

pub(super) fn concat<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let axis = a.shape().num_dims() - 1;
    B::float_cat(vec![a, b], axis)
}

pub(super) fn add_scaled<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, scale: f32) -> FloatTensor<B> {
    scaled::<B>(B::float_add(a, b), scale)
}

pub(super) fn adam<B: Backend>(
    w: FloatTensor<B>,
    g: FloatTensor<B>,
    m: FloatTensor<B>,
    v: FloatTensor<B>,
    average: FloatTensor<B>,
    s: Adam,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let g = scaled::<B>(g, s.scale);
    let m = self::average::<B>(m, g.clone(), s.beta1.into());
    let v = self::average::<B>(v, B::float_mul(g.clone(), g), s.beta2.into());
    let correct1 = 1.0 - f64::from(s.beta1).powi(s.step as i32);
    let correct2 = 1.0 - f64::from(s.beta2).powi(s.step as i32);
    let root = B::float_sqrt(B::float_mul_scalar(v.clone(), (1.0 / correct2).into()));
    let direction = B::float_div(
        B::float_mul_scalar(m.clone(), (f64::from(s.lr) / correct1).into()),
        B::float_add_scalar(root, s.eps.into()),
    );
    let w = B::float_sub(scaled::<B>(w, 1.0 - s.lr * s.weight_decay), direction);
    let average = self::average::<B>(average, w.clone(), s.average_decay);
    (w, m, v, average)
}

/// Algorithms 4 to 6 of Shazeer & Stern: `w, g [n, rows, columns]`, row means `[n, rows, 1]`, column means
/// `[n, 1, columns]`.
pub(super) fn adafactor<B: Backend>(
    w: FloatTensor<B>,
    g: FloatTensor<B>,
    first: FloatTensor<B>,
    rest: FloatTensor<B>,
    m: FloatTensor<B>,
    kind: AdafactorKind,
    s: AdafactorStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let count = w.shape().num_elements() as f32;
    // the root mean square as a tensor of one number
    let rms = |x: FloatTensor<B>| {
        let mean = B::float_mul_scalar(B::float_sum(B::float_mul(x.clone(), x)), (1.0 / count).into());
        reshape::<B, 3>(B::float_sqrt(mean), [1, 1, 1])
    };
    let g = scaled::<B>(g, s.scale);
    let square = B::float_add_scalar(B::float_mul(g.clone(), g.clone()), 1e-30.into());
    let (first, rest, second) = if kind.factored {
        let row = self::average::<B>(first, B::float_mean_dim(square.clone(), 2), s.beta2.into());
        let column = self::average::<B>(rest, B::float_mean_dim(square, 1), s.beta2.into());
        let share = B::float_div(row.clone(), B::float_mean_dim(row.clone(), 1));
        (row, column.clone(), B::float_mul(share, column))
    } else {
        let v = self::average::<B>(first, square, s.beta2.into());
        (v.clone(), rest, v)
    };
    let update = B::float_div(g, B::float_sqrt(second));
    let bound = B::float_clamp_min(B::float_mul_scalar(rms(update.clone()), (1.0 / s.clip).into()), 1.0.into());
    let mut update = B::float_mul_scalar(B::float_div(update, bound), s.lr.into());
    if s.relative {
        update = B::float_mul(update, B::float_clamp_min(rms(w.clone()), 1e-3.into()));
    }
    let (m, update) = if kind.first_moment {
        let m = self::average::<B>(m, update, s.beta1.into());
        (m.clone(), m)
    } else {
        (m, update)
    };
    (B::float_sub(scaled::<B>(w, 1.0 - s.lr * s.weight_decay), update), first, rest, m)
}

/// `decay · old + (1 − decay) · new`.
pub(super) fn average<B: Backend>(old: FloatTensor<B>, new: FloatTensor<B>, decay: f64) -> FloatTensor<B> {
    B::float_add(B::float_mul_scalar(old, decay.into()), B::float_mul_scalar(new, (1.0 - decay).into()))
}

pub(super) fn sum_of_squares<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum(B::float_mul(x.clone(), x))
}
