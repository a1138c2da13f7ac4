//! What of a picture stays while the rest is drawn anew.
//!
//! Two ways of keeping are known. `noised` is that of RePaint (Lugmayr et al., arXiv 2201.09865) and of DeepFloyd's own
//! program: before every step the kept part is the picture with as much noise as z has there, so that the network sees one
//! picture of one level. `clean` is that of diffusers: the kept part of z is the picture without noise all along.

use burn::tensor::Tensor;

use super::PlannedStep;
use crate::names::named;

/// What z is where the picture stays. Written `noised` or `clean`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// The picture with the noise of the step's level.
    #[default]
    Noised,
    /// The picture itself, as in diffusers' pipelines of DeepFloyd IF.
    Clean,
}

named!(Outside, "outside", Noised = "noised", Clean = "clean");

/// The part of a picture that stays.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The picture `[n, h, w, c]`.
    pub picture: Tensor<4>,
    /// How much of each pixel is drawn anew, in [0, 1], `[n, h, w, 1]`.
    pub drawn: Tensor<4>,
    /// What z is where the picture stays.
    pub outside: Outside,
}

impl Keep {
    /// z at a step's level with the kept part put in; pixels of which any part is drawn are z's own. `eps` is normal noise of
    /// z's shape; what is clean takes none.
    pub fn put_into(&self, z: Tensor<4>, step: &PlannedStep, eps: impl FnOnce() -> Tensor<4>) -> Tensor<4> {
        let open = self.drawn.clone().greater_elem(0.0).float();
        let kept = match self.outside {
            Outside::Noised => step.noised(self.picture.clone(), eps()),
            Outside::Clean => self.picture.clone(),
        };
        blend(z, kept, open)
    }

    /// The finished picture: x̂ where it is drawn, the picture where it stays, and the mean by weight between them.
    pub fn finish(&self, x_hat: Tensor<4>) -> Tensor<4> {
        blend(x_hat, self.picture.clone(), self.drawn.clone())
    }
}

/// `a` where `part` is 1, `b` where it is 0, exactly.
fn blend(a: Tensor<4>, b: Tensor<4>, part: Tensor<4>) -> Tensor<4> {
    let rest = part.clone().neg().add_scalar(1.0);
    a * part + b * rest
}
