//! What the network's output means: ε, v or x (Imagen, section 2.1 and appendix A; v: Salimans & Ho, arXiv
//! 2202.00512, section 4).
//!
//! Given z = α x + σ ε, any one of ε, x and v = α ε − σ x determines the others. All three maps from output to x̂ are
//! affine for a fixed z, so guidance may be applied to the network's outputs or to ε with the same result. Nothing is
//! thresholded here.

use burn::tensor::Tensor;

use super::LogSnr;
use super::forward::scale;
use crate::names;

/// The quantity that the network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Parameterization {
    /// The noise ε: the paper's choice.
    #[default]
    Eps,
    /// v = α ε − σ x: well conditioned at every level.
    V,
    /// The picture x itself.
    X,
}

names::named!(Parameterization, "parameterization", Eps = "eps", V = "v", X = "x");

impl Parameterization {
    /// x̂ from the network's output at z; one level per picture, or one for all.
    ///
    /// At λ = −20 an ε-prediction is divided by α = 4.5e-5, and so are its errors: threshold the result.
    pub fn x_hat<const D: usize>(self, output: Tensor<D>, z: Tensor<D>, levels: &[LogSnr]) -> Tensor<D> {
        match self {
            Self::Eps => scale(z, levels, |l| 1.0 / l.alpha()) - scale(output, levels, |l| l.sigma() / l.alpha()),
            Self::V => scale(z, levels, LogSnr::alpha) - scale(output, levels, LogSnr::sigma),
            Self::X => output,
        }
    }

    /// ε from the network's output at z; one level per picture, or one for all.
    ///
    /// At λ = 20 an x-prediction's ε is a difference divided by σ = 4.5e-5, with that much of rounding in it.
    pub fn eps<const D: usize>(self, output: Tensor<D>, z: Tensor<D>, levels: &[LogSnr]) -> Tensor<D> {
        match self {
            Self::Eps => output,
            Self::V => scale(z, levels, LogSnr::sigma) + scale(output, levels, LogSnr::alpha),
            Self::X => scale(z, levels, |l| 1.0 / l.sigma()) - scale(output, levels, |l| l.alpha() / l.sigma()),
        }
    }

    /// What the network should have said for a picture x under noise ε: the training target.
    pub fn target<const D: usize>(self, x: Tensor<D>, eps: Tensor<D>, levels: &[LogSnr]) -> Tensor<D> {
        match self {
            Self::Eps => eps,
            Self::V => scale(eps, levels, LogSnr::alpha) - scale(x, levels, LogSnr::sigma),
            Self::X => x,
        }
    }
}
