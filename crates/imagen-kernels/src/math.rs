//! Functions of a vector's lanes: exp, the logistic function, SiLU, erf, GELU in both forms, and their slopes.
//!
//! Accuracy: exp and 2^x within 2 units in the last place, the logistic function within 3e-6 of itself, erf within 2e-7
//! absolute. A lane that is not a number stays one.

use crate::simd::Simd;

/// e^x; x is clamped to about ±87, so that the result is normal and finite.
#[inline(always)]
pub(crate) fn exp<V: Simd>(x: V) -> V {
    // The bounds come first, as in `clamp`.
    let x = x.all(-87.3).max(x.all(88.3).min(x));
    let n = (x * x.all(std::f32::consts::LOG2_E)).round();
    // x - n ln 2 in two steps; |r| <= ln 2 / 2.
    let r = n.neg_mul_add(x.all(-2.121_944_4e-4), n.neg_mul_add(x.all(0.693_359_4), x));
    let mut p = x.all(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, x.all(coefficient));
    }
    let y = (p * r).mul_add(r, r) + x.all(1.0);
    y * n.exp2_integral()
}

/// 2^x for x <= 127; 0 below about -126.5, where the result would not be normal. Cheaper than [`exp`]: the integral part
/// comes off without rounding.
#[inline(always)]
pub(crate) fn exp2<V: Simd>(x: V) -> V {
    // The bound comes first: `max` returns its argument when it is not a number. 2^-127 in bits is 0.
    let x = x.all(-127.0).max(x);
    let n = x.round();
    let r = x - n;
    let mut p = x.all(1.540_353e-4);
    for coefficient in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, std::f32::consts::LN_2, 1.0] {
        p = p.mul_add(r, x.all(coefficient));
    }
    p * n.exp2_integral()
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<V: Simd>(x: V) -> V {
    // 2^126 is large enough to stand for infinity; the bound comes first, for numbers that are none.
    let power = x * x.all(-std::f32::consts::LOG2_E);
    (x.all(1.0) + exp2(x.all(126.0).min(power))).reciprocal()
}

/// x sigmoid(x).
#[inline(always)]
pub(crate) fn silu<V: Simd>(x: V) -> V {
    x * sigmoid(x)
}

/// The derivative of [`silu`]; 1 - sigmoid(x) comes without cancellation.
#[inline(always)]
pub(crate) fn silu_slope<V: Simd>(x: V) -> V {
    let e = exp(x.all(0.0) - x);
    let s = (x.all(1.0) + e).reciprocal();
    s * x.mul_add(e * s, x.all(1.0))
}

/// x cut off at ±`bound`; what is not a number stays it.
#[inline(always)]
fn clamp<V: Simd>(x: V, bound: f32) -> V {
    // The bounds come first: `min` and `max` return their argument when it is not a number.
    x.all(-bound).max(x.all(bound).min(x))
}

/// erf(x) for x >= 0, by Abramowitz and Stegun 7.1.26; `gauss` is e^(-x^2).
#[inline(always)]
fn erf_positive<V: Simd>(x: V, gauss: V) -> V {
    let one = x.all(1.0);
    let t = x.mul_add(x.all(0.327_591_1), one).reciprocal();
    let mut p = x.all(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p.mul_add(t, x.all(coefficient));
    }
    (p * t).neg_mul_add(gauss, one)
}

/// GELU in its exact form, x (1 + erf(x / sqrt 2)) / 2.
#[inline(always)]
pub(crate) fn gelu<V: Simd>(x: V) -> V {
    // |x| as the larger of x and -x; erf is odd, so x erf(x) = |x| erf(|x|).
    let size = (x.all(0.0) - x).max(x);
    let half = x.all(0.5);
    let z = size * x.all(std::f32::consts::FRAC_1_SQRT_2);
    half * size.mul_add(erf_positive(z, exp(x.all(0.0) - z * z)), x)
}

/// The derivative of [`gelu`]: the normal distribution's Phi(x) + x phi(x).
#[inline(always)]
pub(crate) fn gelu_slope<V: Simd>(x: V) -> V {
    // Constant in f32 beyond; keeps the product with phi from overflowing.
    let x = clamp(x, 14.0);
    let half = x.all(0.5);
    let z = (x.all(0.0) - x).max(x) * x.all(std::f32::consts::FRAC_1_SQRT_2);
    let gauss = exp(x.all(0.0) - z * z);
    let sign = clamp(x * x.all(1e30), 1.0);
    let distribution = (sign * erf_positive(z, gauss)).mul_add(half, half);
    // 1 / sqrt(2 pi)
    (x * gauss).mul_add(x.all(0.398_942_3), distribution)
}

/// sqrt(2 / pi)
const GELU_TANH_LINEAR: f32 = 0.797_884_6;
const GELU_TANH_CUBIC: f32 = 0.044_715 * GELU_TANH_LINEAR;

/// GELU in its approximate form, x (1 + tanh u) / 2 = x sigmoid(2 u) for u = sqrt(2 / pi) (x + 0.044715 x^3).
#[inline(always)]
pub(crate) fn gelu_tanh<V: Simd>(x: V) -> V {
    let twice_u = x * (x * x).mul_add(x.all(2.0 * GELU_TANH_CUBIC), x.all(2.0 * GELU_TANH_LINEAR));
    x * sigmoid(twice_u)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::kernel::Kernel;

    /// `y[i] = exp2(x[i])` or `sigmoid(x[i])`.
    struct Each<'a> {
        x: &'a [f32],
        y: &'a mut [f32],
        logistic: bool,
    }

    impl Kernel for Each<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Simd>(self) {
            for (x, y) in self.x.chunks(V::LANES).zip(self.y.chunks_mut(V::LANES)) {
                // SAFETY: both chunks have x.len() numbers.
                unsafe {
                    let value = V::load_first(x.as_ptr(), x.len());
                    let value = if self.logistic { sigmoid(value) } else { exp2(value) };
                    value.store_first(y.as_mut_ptr(), x.len());
                }
            }
        }
    }

    fn each(isa: Isa, x: &[f32], logistic: bool) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        // SAFETY: the instruction set is available; both slices are equally long.
        unsafe { isa.run(Each { x, y: &mut y, logistic }) };
        y
    }

    #[test]
    fn powers_of_two_are_accurate_and_end_in_zero() {
        for isa in Isa::available() {
            let x: Vec<f32> = (0..20_001).map(|i| -126.0 + i as f32 * 0.01265).collect();
            for (x, y) in x.iter().zip(each(isa, &x, false)) {
                let error = f64::from(y) / f64::from(*x).exp2() - 1.0;
                assert!(error.abs() < 2.4e-7, "2^{x} is off by {error:.1e} on {isa:?}");
            }
            let ends = each(isa, &[0.0, -127.0, -1e30, f32::NEG_INFINITY, f32::NAN], false);
            assert_eq!(ends[..4], [1.0, 0.0, 0.0, 0.0], "{isa:?}");
            assert!(ends[4].is_nan(), "{isa:?}");
        }
    }

    #[test]
    fn the_logistic_function_saturates() {
        for isa in Isa::available() {
            let x: Vec<f32> = (-200..=200).map(|i| i as f32 * 0.1).collect();
            for (x, y) in x.iter().zip(each(isa, &x, true)) {
                let expected = 1.0 / (1.0 + (-f64::from(*x)).exp());
                assert!((f64::from(y) / expected - 1.0).abs() < 3e-6, "sigmoid({x}) is {y} on {isa:?}");
            }
            let ends = each(isa, &[1e30, -1e30, f32::NAN], true);
            assert!(
                (ends[0] - 1.0).abs() < 1e-6 && (0.0..1e-30).contains(&ends[1]) && ends[2].is_nan(),
                "{ends:?} on {isa:?}"
            );
        }
    }
}
