//! The operations of frozen networks against their definitions.

use half::{bf16, f16};

use super::*;
use crate::nn::ops::Pooling;
use crate::nn::{StoredConv, StoredLinear, StoredWeights, quantize_rows};

#[test]
fn stored_linear_is_its_definition() {
    same("stored_linear", |inputs, sizes, fast| {
        let (rows, c, k) = (sizes.pick(1, 40), sizes.pick(1, 40), sizes.pick(1, 40));
        let values = inputs.rng.fold(7).normal(c * k); // [k, c]
        let w = match sizes.pick(0, 3) {
            0 => StoredLinear::from_rows(c, k, StoredWeights::F32(&values)),
            1 => {
                let bits: Vec<u16> = values.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
                StoredLinear::from_rows(c, k, StoredWeights::F16(&bits))
            }
            2 => {
                let bits: Vec<u16> = values.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
                StoredLinear::from_rows(c, k, StoredWeights::Bf16(&bits))
            }
            _ => {
                let (integers, scales) = quantize_rows(&values, k, c);
                StoredLinear::from_rows(c, k, StoredWeights::Int8 { integers: &integers, scales: &scales })
            }
        };
        let x = inputs.draw([2, rows, c]);
        let bias = sizes.coin().then(|| inputs.draw([k]));
        let residual = sizes.coin().then(|| inputs.draw([2, rows, k]));
        if fast {
            return w.forward(x, bias, residual);
        }
        let (x, bias, residual) = (x.into_dispatch(), inner(bias), inner(residual));
        Tensor::from_dispatch(reference::stored_linear::<Dispatch>(x, w, bias, residual))
    });
}

#[test]
fn stored_conv3x3_is_its_definition() {
    same("stored_conv3x3", |inputs, sizes, fast| {
        let (n, h, w) = (sizes.pick(1, 2), sizes.pick(1, 9), sizes.pick(1, 9));
        let (c, k) = (sizes.pick(1, 30), sizes.pick(1, 40));
        let values = inputs.rng.fold(8).normal(9 * c * k); // [k, c, 3, 3]
        let bits: Vec<u16> = values.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        let stored = if sizes.coin() { StoredWeights::F32(&values) } else { StoredWeights::F16(&bits) };
        let stored = StoredConv::from_pytorch(c, k, stored);
        let (x, bias) = (inputs.draw([n, h, w, c]), inputs.draw([k]));
        let residual = sizes.coin().then(|| inputs.draw([n, h, w, k]));
        if fast {
            return stored.forward(x, bias, residual, 0.7);
        }
        let (x, bias, residual) = (x.into_dispatch(), bias.into_dispatch(), inner(residual));
        Tensor::from_dispatch(reference::stored_conv3x3::<Dispatch>(x, stored, bias, residual, 0.7))
    });
}

#[test]
fn stored_weights_in_rows_multiply_as_the_transposed_matrix() {
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // two features of three numbers
    let w = StoredLinear::from_rows(3, 2, StoredWeights::F32(&values));
    let x: Tensor<2> = Tensor::from_data(TensorData::new(vec![1.0f32, 10.0, 100.0], [1, 3]), &Device::flex());
    let expected = [321.0, 654.0];
    assert_eq!(numbers(w.forward(x.clone(), None, None)), expected);
    assert_eq!(numbers(ops::by_definition(|| w.forward(x, None, None))), expected);
}

#[test]
fn biased_attention_is_its_definition() {
    same("biased_attention", |inputs, sizes, fast| {
        let (b, tq, tk) = (sizes.pick(1, 3), sizes.pick(1, 70), sizes.pick(2, 20));
        let (heads, d) = (sizes.pick(1, 3), sizes.pick(1, 20));
        let scale = if sizes.coin() { 1.0 } else { 0.3 };
        let (q, kv) = (inputs.draw([b, tq, heads * d]), inputs.draw([b, tk, 2 * heads * d]));
        let bias = inputs.draw([heads, tq, tk]);
        let mask = (b > 1 && sizes.coin()).then(|| inputs.mask(b, tk));
        if fast {
            return ops::biased_attention(q, kv, bias, mask, scale);
        }
        let (q, kv, bias, mask) = (q.into_dispatch(), kv.into_dispatch(), bias.into_dispatch(), inner(mask));
        Tensor::from_dispatch(reference::biased_attention::<Dispatch>(q, kv, bias, mask, scale))
    });
}

#[test]
fn rms_norm_and_the_gate_are_their_definitions() {
    same("rms_norm", |inputs, sizes, fast| {
        let (rows, c) = (sizes.pick(1, 40), sizes.pick(1, 70));
        let (x, gamma) = (inputs.draw([2, rows, c]), inputs.draw([c]));
        if fast {
            return ops::rms_norm(x, gamma, 1e-3);
        }
        Tensor::from_dispatch(reference::rms_norm::<Dispatch>(x.into_dispatch(), gamma.into_dispatch(), 1e-3))
    });
    same("gated_gelu_tanh", |inputs, sizes, fast| {
        let shape = [sizes.pick(1, 40), sizes.pick(1, 70)];
        let (a, b) = (inputs.draw(shape), inputs.draw(shape));
        if fast {
            return ops::gated_gelu_tanh(a, b);
        }
        Tensor::from_dispatch(reference::gated_gelu_tanh::<Dispatch>(a.into_dispatch(), b.into_dispatch()))
    });
}

#[test]
fn a_convolution_with_any_window_is_its_definition() {
    same("conv2d", |inputs, sizes, fast| {
        // windows that have a kernel of their own, lie across, are as large as the picture, or larger than it unpadded
        let windows = [
            ([1, 1], [0, 0]),
            ([3, 3], [1, 1]),
            ([3, 3], [0, 0]),
            ([1, 7], [0, 3]),
            ([7, 1], [3, 0]),
            ([5, 5], [2, 2]),
            ([4, 2], [1, 0]),
        ];
        let ([kh, kw], padding) = windows[sizes.pick(0, windows.len() - 1)];
        let (n, c, k, stride) = (sizes.pick(1, 2), sizes.pick(1, 20), sizes.pick(1, 20), sizes.pick(1, 3));
        let rectified = sizes.coin();
        let (h, w) = (sizes.pick(kh.max(2) - padding[0], 12), sizes.pick(kw.max(2) - padding[1], 12));
        let (x, weight, b) = (inputs.draw([n, h, w, c]), inputs.draw([kh, kw, c, k]), inputs.draw([k]));
        if fast {
            return ops::conv2d(x, weight, b, stride, padding, rectified);
        }
        let (x, weight, b) = (x.into_dispatch(), weight.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(reference::convolution::<Dispatch>(
            x, weight, b, stride, padding[0], padding[1], rectified,
        ))
    });
}

#[test]
fn pooled_windows_are_their_definition() {
    same("pool3x3", |inputs, sizes, fast| {
        let pooling = if sizes.coin() { Pooling::Mean } else { Pooling::Largest };
        let (stride, n, c) = (sizes.pick(1, 2), sizes.pick(1, 2), sizes.pick(1, 20));
        let x = inputs.draw([n, sizes.pick(3, 9), sizes.pick(3, 9), c]);
        if fast {
            return ops::pool3x3(x, pooling, stride);
        }
        Tensor::from_dispatch(reference::pool3x3::<Dispatch>(x.into_dispatch(), pooling, stride))
    });
}
