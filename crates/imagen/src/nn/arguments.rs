//! What the operations are given beside tensors.

use burn::backend::{Backend, ExtensionType, tensor::FloatTensor};
use imagen_kernels::norm::Activation;

/// An optional tensor; the extension macro does not accept `Option` as an input.
#[derive(ExtensionType)]
pub enum Maybe<B: Backend> {
    /// The tensor.
    Some(FloatTensor<B>),
    /// No tensor.
    None,
}

impl<B: Backend> Maybe<B> {
    pub(super) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

impl<B: Backend> From<Option<FloatTensor<B>>> for Maybe<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::None, Self::Some)
    }
}

/// What [`super::ops::residual_block`] adds to its branch.
#[derive(ExtensionType)]
pub enum Shortcut<B: Backend> {
    /// Its input.
    Input,
    /// Its input times a matrix.
    Projected {
        /// The matrix.
        weight: FloatTensor<B>,
        /// Its bias.
        bias: FloatTensor<B>,
    },
}

/// The parameters of [`super::ops::residual_block`].
#[derive(ExtensionType)]
pub struct BlockParameters<B: Backend> {
    /// Scale of the first norm.
    pub gamma1: FloatTensor<B>,
    /// Shift of the first norm.
    pub beta1: FloatTensor<B>,
    /// Weights of the first convolution.
    pub weight1: FloatTensor<B>,
    /// Bias of the first convolution.
    pub bias1: FloatTensor<B>,
    /// Scale of the second norm.
    pub gamma2: FloatTensor<B>,
    /// Shift of the second norm.
    pub beta2: FloatTensor<B>,
    /// Weights of the second convolution.
    pub weight2: FloatTensor<B>,
    /// Bias of the second convolution.
    pub bias2: FloatTensor<B>,
    /// The shortcut.
    #[extension_type]
    pub shortcut: Shortcut<B>,
    /// Groups of the two norms.
    pub groups: [usize; 2],
    /// What follows both norms.
    pub activation: Activation,
    /// Factor of the shortcut.
    pub shortcut_scale: f32,
    /// Factor of the sum.
    pub scale: f32,
}

/// Which moments a step of Adafactor keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdafactorKind {
    /// Means of rows and columns instead of the whole second moment.
    pub factored: bool,
    /// Whether there is a first moment.
    pub first_moment: bool,
}
