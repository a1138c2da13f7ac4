//! What the twins share: random numbers, the loop over instruction sets, and the measure of agreement.

use imagen_kernels::isa::Isa;
use imagen_kernels::stored::{Weights, quantize_rows};

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

/// The number that bits of half precision stand for, from the definition.
pub(crate) fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    match exponent {
        0 => sign * fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

/// The number that bits of bfloat16 stand for: they are the upper half of f32.
pub(crate) fn bfloat(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// Weights in each form that can be stored, and the numbers that they stand for.
pub(crate) struct Forms {
    singles: Vec<f32>,
    halves: Vec<u16>,
    bfloats: Vec<u16>,
    integers: Vec<i8>,
    scales: Vec<f32>,
}

impl Forms {
    /// Of `rows` output features, each row with a scale of its own.
    pub(crate) fn new(random: &mut Random, rows: usize, columns: usize) -> Self {
        let singles = random.numbers(rows * columns);
        let bfloats = singles.iter().map(|w| (w.to_bits() >> 16) as u16).collect();
        // halves between 2^-7 and 2 of both signs
        let mut half = || {
            let (exponent, fraction, sign) = (random.pick(8, 15), random.pick(0, 1023), random.pick(0, 1));
            (exponent << 10 | fraction | sign << 15) as u16
        };
        let halves = (0..rows * columns).map(|_| half()).collect();
        let (integers, scales) = quantize_rows(&singles, rows, columns);
        Self { singles, halves, bfloats, integers, scales }
    }

    /// Each form as rows `[k, c]`, and its numbers.
    pub(crate) fn all(&self) -> [(Weights<'_>, Vec<f32>); 4] {
        let Self { singles, halves, bfloats, integers, scales } = self;
        let columns = integers.len().checked_div(scales.len()).unwrap_or(0);
        let scaled = integers.iter().enumerate().map(|(i, &w)| f32::from(w) * scales[i / columns]).collect();
        [
            (Weights::F32(singles), singles.clone()),
            (Weights::F16(halves), halves.iter().map(|&w| half(w) as f32).collect()),
            (Weights::Bf16(bfloats), bfloats.iter().map(|&w| bfloat(w) as f32).collect()),
            (Weights::Int8 { integers, scales }, scaled),
        ]
    }
}
