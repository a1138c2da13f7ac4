//! The operations as an extension of the tensor library's backends: one trait, routed by the tensors' device.
//!
//! Every default body is the operation's definition in ordinary backend primitives (`reference`), so that a device
//! that this project has no kernels for needs no code here. `cpu` overrides them for the CPU.

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use imagen_kernels::{adafactor::Adafactor as AdafactorStep, norm::Activation, optimizer::Adam, resample::Pooling};

use super::arguments::{AdafactorKind, BlockParameters, Maybe};
use super::reference;
use super::{StoredConv, StoredLinear};

/// The coarse operations; shapes and meaning are documented on their wrappers in [`super::ops`].
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait NetworkOps: Backend {
    /// See [`super::ops::conv3x3`].
    fn conv3x3(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        stride: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        reference::conv3x3::<Self>(x, w, b, residual.into_option(), stride, scale)
    }
    /// See [`super::ops::group_norm`].
    fn group_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] film: Maybe<Self>,
        groups: usize,
        activation: Activation,
    ) -> FloatTensor<Self> {
        reference::group_norm::<Self>(x, gamma, beta, film.into_option(), groups, activation)
    }
    /// See [`super::ops::residual_block`].
    fn residual_block(
        x: FloatTensor<Self>,
        film: FloatTensor<Self>,
        #[extension_type] parameters: BlockParameters<Self>,
    ) -> FloatTensor<Self> {
        reference::residual_block::<Self>(x, film, parameters)
    }
    /// See [`super::ops::layer_norm`].
    fn layer_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::layer_norm::<Self>(x, gamma, beta)
    }
    /// See [`super::ops::attention`].
    fn attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        #[extension_type] mask: Maybe<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        reference::attention::<Self>(q, kv, mask.into_option(), heads)
    }
    /// See [`super::ops::linear`].
    fn dense(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        reference::dense::<Self>(x, w, b, residual.into_option(), scale)
    }
    /// See [`super::ops::gelu`].
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::gelu::<Self>(x)
    }
    /// See [`super::ops::stored_linear`].
    fn stored_linear(
        x: FloatTensor<Self>,
        w: StoredLinear,
        #[extension_type] bias: Maybe<Self>,
        #[extension_type] residual: Maybe<Self>,
    ) -> FloatTensor<Self> {
        reference::stored_linear::<Self>(x, w, bias.into_option(), residual.into_option())
    }
    /// See [`super::ops::stored_conv3x3`].
    fn stored_conv3x3(
        x: FloatTensor<Self>,
        w: StoredConv,
        bias: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        reference::stored_conv3x3::<Self>(x, w, bias, residual.into_option(), scale)
    }
    /// See [`super::ops::biased_attention`].
    fn biased_attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] mask: Maybe<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        reference::biased_attention::<Self>(q, kv, bias, mask.into_option(), scale)
    }
    /// See [`super::ops::rms_norm`].
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        reference::rms_norm::<Self>(x, gamma, eps)
    }
    /// See [`super::ops::gated_gelu_tanh`].
    fn gated_gelu_tanh(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::gated_gelu_tanh::<Self>(a, b)
    }
    /// See [`super::ops::conv2d`].
    fn convolution(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        stride: usize,
        pad_h: usize,
        pad_w: usize,
        rectified: bool,
    ) -> FloatTensor<Self> {
        reference::convolution::<Self>(x, w, b, stride, pad_h, pad_w, rectified)
    }
    /// See [`super::ops::pool3x3`].
    fn pool3x3(x: FloatTensor<Self>, pooling: Pooling, stride: usize) -> FloatTensor<Self> {
        reference::pool3x3::<Self>(x, pooling, stride)
    }
    /// See [`super::ops::upsample2`].
    fn upsample2(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::upsample2::<Self>(x)
    }
    /// See [`super::ops::average_pool2`].
    fn average_pool2(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::average_pool2::<Self>(x)
    }
    /// See [`super::ops::pixel_shuffle`].
    fn pixel_shuffle(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::pixel_shuffle::<Self>(x)
    }
    /// See [`super::ops::concat`].
    fn concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::concat::<Self>(a, b)
    }
    /// See [`super::ops::add`].
    fn add_scaled(a: FloatTensor<Self>, b: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        reference::add_scaled::<Self>(a, b, scale)
    }
    /// See [`super::ops::adam`].
    fn adam(
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        average: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::adam::<Self>(w, g, m, v, average, step)
    }
    /// See [`super::ops::adafactor`]; the second moment is `first` alone, or rows and columns. What is not kept comes and
    /// goes as a single number.
    fn adafactor(
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        first: FloatTensor<Self>,
        rest: FloatTensor<Self>,
        m: FloatTensor<Self>,
        kind: AdafactorKind,
        step: AdafactorStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::adafactor::<Self>(w, g, first, rest, m, kind, step)
    }
    /// See [`super::ops::average`].
    fn average(average: FloatTensor<Self>, w: FloatTensor<Self>, decay: f64) -> FloatTensor<Self> {
        reference::average::<Self>(average, w, decay)
    }
    /// See [`super::ops::sums_of_squares`]; `[1]`.
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::sum_of_squares::<Self>(x)
    }
}
