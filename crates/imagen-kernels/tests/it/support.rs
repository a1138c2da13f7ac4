//! What the twins share: random numbers, the loop over instruction sets, and the measure of agreement.

use imagen_kernels::isa::Isa;

/// A small generator (xorshift); tests need variety, not quality.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A whole number in `low..=high`.
    pub(crate) fn pick(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() >> 33) as usize % (high - low + 1)
    }

    /// About N(0, 1).
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
    }

    pub(crate) fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// Runs `test` on every instruction set, telling it which.
pub(crate) fn on_every_isa(test: impl Fn(Isa)) {
    for isa in Isa::available() {
        isa.force(|| test(isa));
    }
}

/// Relative L2 error; absolute if the reference is (nearly) zero.
pub(crate) fn error(actual: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let size: f64 = expected.iter().map(|e| e * e).sum();
    let distance: f64 = actual.iter().zip(expected).map(|(&a, e)| (f64::from(a) - e).powi(2)).sum();
    (distance / if size > 1e-20 { size } else { 1.0 }).sqrt()
}

#[track_caller]
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], bound: f64) {
    let error = error(actual, expected);
    assert!(error <= bound, "{what}: relative error {error:.1e} exceeds {bound:.0e}");
}

/// Somewhere to write that shows what was left unwritten.
pub(crate) fn blank(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// erf in f64, by its Taylor series about 0; ±1 from ±4 on, which is wrong by 2e-8.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() >= 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
