//! Keeping x̂ within the training data's range [−1, 1] (Imagen, section 2.3 and figure A.31).
//!
//! Large guidance weights push x̂ out of that range, and the sampler feeds it back to the network. Thresholding comes
//! after guidance and before the sampler's update, at every step, for each picture on its own.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use imagen_kernels::quantile::abs_quantiles;

use super::check_finite;
use super::forward::column;
use crate::error::{Error, Result};
use crate::names;

/// What is done to an x̂ that leaves [−1, 1]. Written `none`, `static`, `dynamic`, `dynamic:0.95`
/// or `dynamic:0.95:1.5`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thresholding {
    /// Nothing: poor pictures at large guidance weights.
    None,
    /// Cut off at ±1: no blank pictures, but saturated ones.
    Static,
    /// Cut off at ±s and divided by s, where s is a percentile of the picture's |x̂|, at least 1 and at most `cap`.
    Dynamic {
        /// The percentile as a ratio in [0, 1]; the paper's 99.5 is 0.995.
        percentile: f64,
        /// The largest s, 1 or more; infinite in the paper. What lies beyond it saturates, as DeepFloyd IF has it.
        cap: f64,
    },
}

/// The paper's percentile (figure A.10).
const PERCENTILE: f64 = 0.995;

impl Default for Thresholding {
    fn default() -> Self {
        Self::dynamic(PERCENTILE)
    }
}

impl Thresholding {
    /// Every kind, with default settings.
    pub const ALL: [Self; 3] = [Self::None, Self::Static, Self::dynamic(PERCENTILE)];

    /// Dynamic thresholding as in the paper, without a cap.
    pub const fn dynamic(percentile: f64) -> Self {
        Self::Dynamic { percentile, cap: f64::INFINITY }
    }

    /// The thresholded x̂, `[n, …]`.
    ///
    /// # Errors
    /// [`NonFinite`](crate::error::ErrorKind::NonFinite): cutting off would hide an infinite number.
    pub fn apply<const D: usize>(self, x_hat: Tensor<D>) -> Result<Tensor<D>> {
        check_finite(&x_hat, "x_hat")?;
        Ok(match self {
            Self::None => x_hat,
            Self::Static => x_hat.clamp(-1.0, 1.0),
            Self::Dynamic { percentile, cap } => {
                // clip(x̂, −s, s) / s = clip(x̂ / s, −1, 1), s = max(percentile of |x̂|, 1) of each picture
                let scales = if x_hat.device() == Device::flex() {
                    let values = x_hat.to_data().convert::<f32>().try_to_vec::<f32>().expect("converted to f32");
                    let mut scales = vec![1.0; x_hat.dims()[0]];
                    abs_quantiles(&values, percentile, &mut scales);
                    column(scales.into_iter().map(|scale| scale.max(1.0).min(cap)), &x_hat.device())
                } else {
                    let scales = quantiles_there(x_hat.clone(), percentile).clamp_min(1.0);
                    let scales = if cap.is_finite() { scales.clamp_max(cap) } else { scales };
                    let mut shape = [1; D];
                    shape[0] = x_hat.dims()[0];
                    scales.reshape(shape)
                };
                (x_hat / scales).clamp(-1.0, 1.0)
            }
        })
    }
}

/// Halvings of the range in which a quantile is looked for: what is left then holds one number, or equal ones within f32.
const HALVINGS: usize = 30;

/// The quantile of |x| of each picture, `[n, 1]`, where x is: numbers are counted, not sorted, and nothing is read.
///
/// Between the two numbers of neighbouring ranks it is on the straight line, as NumPy has it.
fn quantiles_there<const D: usize>(x: Tensor<D>, percentile: f64) -> Tensor<2> {
    let n = x.dims()[0];
    let x = x.detach().abs().reshape([n as i32, -1]);
    let count = x.dims()[1];
    let rank = percentile * (count - 1) as f64;
    let (below, part) = (rank.floor(), rank - rank.floor());
    // at least `below + 1` numbers are at most `high`, and fewer at most `low`
    let mut high = x.clone().max_dim(1);
    let mut low = high.clone() * 0.0 - 1.0;
    for _ in 0..HALVINGS {
        let middle = (low.clone() + high.clone()) * 0.5;
        let enough = count_up_to(&x, &middle).greater_equal_elem(below + 1.0);
        low = low.mask_where(enough.clone().bool_not(), middle.clone());
        high = high.mask_where(enough, middle);
    }
    // the numbers themselves: the largest that is not above, and the smallest that is
    let reached = x.clone().lower_equal(high.clone().expand([n, count]));
    let first = x.clone().mask_fill(reached.clone().bool_not(), -1.0).max_dim(1);
    if part == 0.0 {
        return first;
    }
    let above = x.clone().mask_fill(reached, f32::INFINITY).min_dim(1);
    let shared = count_up_to(&x, &first).greater_equal_elem(below + 2.0);
    let second = above.mask_where(shared, first.clone());
    first.clone() + (second - first) * part
}

/// How many numbers of each row are at most the row's limit, `[n, 1]`.
fn count_up_to(x: &Tensor<2>, limit: &Tensor<2>) -> Tensor<2> {
    x.clone().lower_equal(limit.clone().expand(x.dims())).float().sum_dim(1)
}

impl fmt::Display for Thresholding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.pad("none"),
            Self::Static => f.pad("static"),
            Self::Dynamic { percentile, cap } if cap.is_finite() => f.pad(&format!("dynamic:{percentile}:{cap}")),
            Self::Dynamic { percentile, .. } => names::write(f, "dynamic", percentile, PERCENTILE),
        }
    }
}

impl FromStr for Thresholding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        match (names::find("thresholding", &Self::ALL, name)?, setting) {
            (kind, None) => Ok(kind),
            (Self::Dynamic { .. }, Some(setting)) => {
                let (ratio, cap) = names::split(setting);
                let percentile = names::number("percentile of dynamic thresholding", ratio, 0.0..=1.0)?;
                let cap =
                    cap.map(|cap| names::number("cap of dynamic thresholding", cap, 1.0..=f64::MAX)).transpose()?;
                Ok(Self::Dynamic { percentile, cap: cap.unwrap_or(f64::INFINITY) })
            }
            (kind, Some(setting)) => Err(names::no_setting(kind, setting)),
        }
    }
}

names::by_text!(Thresholding);

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::error::ErrorKind;
    use crate::rng::Rng;

    fn pictures<const N: usize, const M: usize>(values: [[f32; M]; N]) -> Tensor<2> {
        Tensor::from_data(values, &Device::flex())
    }

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn quantiles_that_are_counted_are_those_that_are_sorted() {
        for (len, percentile) in [(1, 0.3), (2, 0.5), (7, 0.0), (7, 1.0), (7, 0.41), (1000, 0.995), (12_288, 0.995)] {
            let numbers = Rng::new(len as u64).normal(3 * len);
            // many equal numbers, huge ones, and a picture of nothing
            let shaped = numbers.iter().enumerate().map(|(i, x)| match i / len {
                0 => *x,
                1 => (x * 2.0).round() * 1e3,
                _ => 0.0,
            });
            let values: Vec<f32> = shaped.collect();
            let mut expected = vec![0.0; 3];
            abs_quantiles(&values, percentile, &mut expected);
            let x = Tensor::<2>::from_data(TensorData::new(values, [3, len]), &Device::flex());
            for (found, expected) in self::values(quantiles_there(x, percentile)).iter().zip(expected) {
                let far = f64::from(*found) - expected;
                assert!(far.abs() <= 1e-6 * expected, "{len} {percentile}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn dynamic_equals_static_when_the_percentile_is_at_most_one() {
        let x = pictures([[-3.0, 0.5, -0.25, 0.75], [0.1, -0.2, 0.3, -1.0]]);
        let dynamic = Thresholding::dynamic(0.6).apply(x.clone()).unwrap();
        assert_eq!(values(dynamic), values(Thresholding::Static.apply(x).unwrap()));
    }

    #[test]
    fn dynamic_divides_each_picture_by_its_own_percentile() {
        let x = pictures([[-8.0, 4.0, -2.0, 1.0, 0.0], [0.5, -0.5, 0.25, 1.0, -1.0]]);
        let x = Thresholding::dynamic(0.75).apply(x).unwrap();
        assert_eq!(values(x), [-1.0, 1.0, -0.5, 0.25, 0.0, 0.5, -0.5, 0.25, 1.0, -1.0]);
    }

    #[test]
    fn a_cap_of_one_is_static_and_a_large_one_changes_nothing() {
        let x = pictures([[-8.0, 4.0, -2.0, 1.0, 0.0], [0.5, -0.5, 0.25, 1.0, -1.0]]);
        let capped = |cap| values(Thresholding::Dynamic { percentile: 0.75, cap }.apply(x.clone()).unwrap());
        assert_eq!(capped(1.0), values(Thresholding::Static.apply(x.clone()).unwrap()));
        assert_eq!(capped(100.0), values(Thresholding::dynamic(0.75).apply(x.clone()).unwrap()));
        assert_eq!(capped(2.0)[..5], [-1.0, 1.0, -1.0, 0.5, 0.0]);
    }

    #[test]
    fn none_leaves_x_hat_alone() {
        let x = pictures([[-8.0, 4.0], [0.5, 1.5]]);
        assert_eq!(values(Thresholding::None.apply(x.clone()).unwrap()), values(x));
    }

    #[test]
    fn no_kind_hides_a_number_that_is_not_finite() {
        for kind in Thresholding::ALL {
            for bad in [f32::NAN, f32::INFINITY] {
                let error = kind.apply(pictures([[0.0, bad]])).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NonFinite, "{kind} {bad}");
            }
        }
    }

    #[test]
    fn a_percentile_is_a_ratio() {
        assert_eq!("dynamic:0.95".parse::<Thresholding>().unwrap(), Thresholding::dynamic(0.95));
        let capped = Thresholding::Dynamic { percentile: 0.95, cap: 1.5 };
        assert_eq!(("dynamic:0.95:1.5".parse().unwrap(), capped.to_string().as_str()), (capped, "dynamic:0.95:1.5"));
        assert_eq!("dynamic".parse::<Thresholding>().unwrap(), Thresholding::default());
        let messages = [
            ("dynamic:99.5", "percentile of dynamic thresholding is '99.5', expected a number from 0 to 1"),
            ("static:1", "'static' takes no setting, but ':1' follows it; remove that"),
            ("clip", "unknown thresholding 'clip', expected one of: none, static, dynamic"),
        ];
        for (text, expected) in messages {
            assert_eq!(text.parse::<Thresholding>().unwrap_err().to_string(), expected);
        }
    }
}
