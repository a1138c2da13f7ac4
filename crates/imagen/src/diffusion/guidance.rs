//! Classifier-free guidance (Imagen, section 2.2, eq. 2): ε̃ = w ε(z, c) + (1 − w) ε(z).
//!
//! The weight follows the paper: w = 1 is no guidance, larger is stronger, 0 ignores the text. (Some papers call the
//! same thing w = 0.) Guidance does not call the network; when [`Guidance::is_none`] holds, the caller need not compute
//! the branch without text at all.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::forward::column;
use crate::error::{Error, Result};

/// How strongly the text pulls.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Guidance {
    weight: f64,
}

impl Guidance {
    /// No guidance: w = 1.
    pub const NONE: Self = Self { weight: 1.0 };
    /// The largest weight: pictures are burnt out far below it, and numbers stay finite up to it.
    pub const MOST: f64 = 1e4;

    /// Guidance of weight w.
    ///
    /// # Errors
    /// [`Usage`](crate::error::ErrorKind::Usage) when the weight is not from 0 to [`Self::MOST`].
    pub fn new(weight: f64) -> Result<Self> {
        if (0.0..=Self::MOST).contains(&weight) {
            return Ok(Self { weight });
        }
        let most = Self::MOST;
        Err(Error::usage(format!("guidance weight is {weight}, expected 0 to {most}; 1 means no guidance")))
    }

    /// The weight w.
    pub fn weight(self) -> f64 {
        self.weight
    }

    /// Whether the prediction without text has no influence (w = 1).
    pub fn is_none(self) -> bool {
        self.weight == 1.0
    }

    /// The guided prediction from those with and without text, of any shape.
    ///
    /// Meant for ε; for a fixed z it may as well be applied to outputs in v or to x̂, as they are affine in ε and the
    /// two weights sum to 1. Apply it before thresholding.
    pub fn combine<const D: usize>(self, with_text: Tensor<D>, without_text: Tensor<D>) -> Tensor<D> {
        if self.is_none() {
            return with_text;
        }
        with_text.mul_scalar(self.weight) + without_text.mul_scalar(1.0 - self.weight)
    }
}

/// A guided prediction `[n, h, w, c]` brought near the spread of the one with text, of each picture: `part` of the way to its
/// standard deviation (Lin et al., arXiv 2305.08891, section 3.4), so that a strong guidance burns no colours out.
pub fn rescale(guided: Tensor<4>, with_text: Tensor<4>, part: f64) -> Tensor<4> {
    if part == 0.0 {
        return guided;
    }
    let deviation = |x: Tensor<4>| {
        let [n, h, w, c] = x.dims();
        x.reshape([n, h * w * c]).var(1).sqrt().reshape([n, 1, 1, 1])
    };
    let whole = deviation(with_text) / deviation(guided.clone()).clamp_min(f32::MIN_POSITIVE);
    guided.clone() * whole.mul_scalar(part) + guided.mul_scalar(1.0 - part)
}

/// Predictions on the way from `a` to `b [n, …]`, of each picture this part: those of a picture that both texts describe, each as
/// far as its part says (a product of the two distributions' powers).
pub fn between<const D: usize>(a: Tensor<D>, b: Tensor<D>, parts: &[f64]) -> Tensor<D> {
    let device = a.device();
    let rest = column(parts.iter().map(|part| 1.0 - part), &device);
    a * rest + b * column(parts.iter().copied(), &device)
}

impl Default for Guidance {
    fn default() -> Self {
        Self::NONE
    }
}

impl TryFrom<f64> for Guidance {
    type Error = Error;

    fn try_from(weight: f64) -> Result<Self> {
        Self::new(weight)
    }
}

impl From<Guidance> for f64 {
    fn from(guidance: Guidance) -> Self {
        guidance.weight
    }
}

impl fmt::Display for Guidance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.weight.fmt(f)
    }
}

impl FromStr for Guidance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let weight = text.parse().map_err(|_| Error::usage(format!("guidance weight '{text}' is not a number")))?;
        Self::new(weight)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn row(values: [f32; 3]) -> Tensor<1> {
        Tensor::from_data(values, &Device::flex())
    }

    #[test]
    fn weight_one_is_the_identity_bit_for_bit() {
        let with_text = row([0.1, -0.7, 1e-30]);
        let guided = Guidance::NONE.combine(with_text.clone(), row([f32::NAN; 3]));
        assert_eq!(guided.into_data(), with_text.into_data());
        assert!(Guidance::default().is_none() && !Guidance::new(1.35).unwrap().is_none());
    }

    #[test]
    fn the_guided_prediction_moves_away_from_the_one_without_text() {
        for (weight, expected) in [(0.0, [1.0, 1.0, 1.0]), (3.0, [4.0, 1.0, -2.0]), (0.5, [1.5, 1.0, 0.5])] {
            let guided = Guidance::new(weight).unwrap().combine(row([2.0, 1.0, 0.0]), row([1.0; 3]));
            assert_eq!(guided.into_data().try_to_vec::<f32>().unwrap(), expected, "weight {weight}");
        }
    }

    #[test]
    fn between_two_predictions_each_end_is_its_own() {
        let [a, b] = [[0.1, -0.7, 1e-30], [9.0, 2.0, -4.0]].map(row);
        let found = between(a, b, &[0.0, 1.0, 0.5]).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(found, [0.1, 2.0, -2.0]);
    }

    #[test]
    fn a_weight_that_is_negative_or_not_finite_is_refused() {
        for text in ["-1", "NaN", "inf", "strong", ""] {
            assert!(text.parse::<Guidance>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Guidance>("-1.0").is_err());
        assert_eq!(serde_json::from_str::<Guidance>("7.5").unwrap(), "7.5".parse().unwrap());
    }
}
