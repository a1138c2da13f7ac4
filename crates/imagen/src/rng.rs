//! The library's only randomness: a counter-based generator whose draws are pure functions of a key.
//!
//! The core is Philox4x32 with ten rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011). A key is refined with [`Rng::fold`], usually by (seed, image, stage, step), and then drawn from once; the
//! i-th number depends on the key and on i alone, so a picture's noise does not know which batch the picture is in.
//!
//! Normal numbers come from Box and Muller's transform with a logarithm, sine and cosine of our own: plain IEEE
//! additions, multiplications, divisions and one square root, no function of the platform's mathematics library. The
//! same key therefore gives the same bits on every machine.
//!
//! It deliberately has no state that advances, no source of entropy and no tensors, and it is not for secrets.

use std::f64::consts::{LN_2, TAU};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and √3 − 1 as fractions of 2³²: what the key grows by in each round.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// Changes the key for folding, so that a folded key is never equal to numbers drawn from its parent.
const FOLD: u32 = 0x666F_6C64;
/// Blocks that are computed side by side, for the compiler to put into vector registers.
const LANES: usize = 16;
const WORDS: usize = 4;

/// A key to an endless sequence of random numbers; copying it copies the sequence.
///
/// One key serves one purpose: two draws from the same key share their bits. Fold to get independent keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rng {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Rng {
    /// The key of a seed.
    pub fn new(seed: u64) -> Self {
        Self { key: halves(seed), stream: [0, 0] }
    }

    /// The key for `number` below this one: `Rng::new(seed).fold(image).fold(stage).fold(step)`.
    ///
    /// Different numbers always give different keys, and the order of folding matters.
    pub fn fold(self, number: u64) -> Self {
        let [low, high] = halves(number);
        let counter = [low, high, self.stream[0], self.stream[1]];
        let [a, b, c, d] = philox(counter, [self.key[0] ^ FOLD, self.key[1]]);
        Self { key: [a, b], stream: [c, d] }
    }

    /// A 64-bit number.
    pub fn u64(self) -> u64 {
        self.nth_u64(0)
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn unit(self) -> f64 {
        (self.u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A whole number in `0..n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        let rejected_below = n.wrapping_neg() % n;
        let mut draws = (0..).map(|i| u128::from(self.nth_u64(i)) * u128::from(n));
        let product = draws.find(|product| *product as u64 >= rejected_below);
        (product.expect("the counter does not end") >> 64) as u64
    }

    /// The numbers `0..n` in random order (Fisher and Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            let chosen = self.fold(last as u64).below(last as u64 + 1) as usize;
            order.swap(last, chosen);
        }
        order
    }

    /// `n` numbers uniform in [0, 1) with 24 random bits each.
    pub fn uniform(self, n: usize) -> Vec<f32> {
        self.fill(n, |words| words.map(|lanes| lanes.map(|word| (word >> 8) as f32 * (1.0 / (1 << 24) as f32))))
    }

    /// `n` numbers from the normal distribution of mean 0 and variance 1; none is beyond ±6.77.
    pub fn normal(self, n: usize) -> Vec<f32> {
        self.fill(n, |[a, b, c, d]| {
            let ([a, b], [c, d]) = (box_muller(a, b), box_muller(c, d));
            [a, b, c, d]
        })
    }

    /// Element i is the `i % 4`-th word of block `i / 4`, mapped by `f`.
    fn fill(self, n: usize, f: impl Fn([[u32; LANES]; WORDS]) -> [[f32; LANES]; WORDS]) -> Vec<f32> {
        let mut out = vec![0.0; n];
        for (group, out) in out.chunks_mut(LANES * WORDS).enumerate() {
            let mut words = [[0; LANES]; WORDS];
            // several arrays are walked side by side
            #[allow(clippy::needless_range_loop)]
            for lane in 0..LANES {
                let block = self.block((group * LANES + lane) as u64);
                (0..WORDS).for_each(|word| words[word][lane] = block[word]);
            }
            let values = f(words);
            for (lane, block) in out.chunks_mut(WORDS).enumerate() {
                for (element, word) in block.iter_mut().zip(&values) {
                    *element = word[lane];
                }
            }
        }
        out
    }

    /// Block `index` of this key's sequence.
    #[inline(always)]
    fn block(self, index: u64) -> [u32; WORDS] {
        let [low, high] = halves(index);
        philox([low, high, self.stream[0], self.stream[1]], self.key)
    }

    fn nth_u64(self, i: u64) -> u64 {
        let [a, b, c, d] = self.block(i / 2);
        let (low, high) = if i % 2 == 0 { (a, b) } else { (c, d) };
        u64::from(high) << 32 | u64::from(low)
    }
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// Philox4x32-10.
#[inline(always)]
fn philox(mut counter: [u32; WORDS], mut key: [u32; 2]) -> [u32; WORDS] {
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = counter;
        let even = u64::from(c0) * u64::from(MULTIPLIERS[0]);
        let odd = u64::from(c2) * u64::from(MULTIPLIERS[1]);
        counter = [(odd >> 32) as u32 ^ c1 ^ key[0], odd as u32, (even >> 32) as u32 ^ c3 ^ key[1], even as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Two independent normal numbers per lane from two words: √(−2 ln u) · (cos φ, sin φ).
#[inline(always)]
fn box_muller(radius: [u32; LANES], angle: [u32; LANES]) -> [[f32; LANES]; 2] {
    let mut out = [[0.0; LANES]; 2];
    for lane in 0..LANES {
        let radius = (-2.0 * ln_of_fraction(radius[lane])).sqrt();
        let (cos, sin) = cos_sin_of_turn(angle[lane]);
        out[0][lane] = (radius * cos) as f32;
        out[1][lane] = (radius * sin) as f32;
    }
    out
}

/// ln((word + ½) / 2³²) within a relative error of 1e-11.
#[inline(always)]
fn ln_of_fraction(word: u32) -> f64 {
    let fraction = (f64::from(word) + 0.5) * (1.0 / (1u64 << 32) as f64);
    // fraction = 2^exponent · mantissa, the mantissa within [√½, √2): where ln is flattest.
    const SQRT_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
    const ONE: u64 = 0x3FF0_0000_0000_0000;
    let bits = fraction.to_bits();
    let above = bits.wrapping_add(ONE - SQRT_HALF);
    let exponent = f64::from((above >> 52) as i32 - 1023);
    let mantissa = f64::from_bits((above & 0x000F_FFFF_FFFF_FFFF) + SQRT_HALF);
    // ln m = 2 artanh s, s = (m − 1) / (m + 1), |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = polynomial(s * s, [1.0, 1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0]);
    exponent * LN_2 + 2.0 * s * series
}

/// Cosine and sine of word / 2³² of a full turn, within 1e-11.
#[inline(always)]
fn cos_sin_of_turn(word: u32) -> (f64, f64) {
    // The nearest quarter turn, and the rest within an eighth of a turn.
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let rest = f64::from(word.wrapping_sub(quarter << 30) as i32) * (TAU / (1u64 << 32) as f64);
    let square = rest * rest;
    let cos = polynomial(
        square,
        [1.0, -1.0 / 2.0, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0, -1.0 / 3_628_800.0, 1.0 / 479_001_600.0],
    );
    let sin =
        rest * polynomial(square, [1.0, -1.0 / 6.0, 1.0 / 120.0, -1.0 / 5_040.0, 1.0 / 362_880.0, -1.0 / 39_916_800.0]);
    let (c, s) = if quarter & 1 == 0 { (cos, sin) } else { (sin, cos) };
    (if quarter == 1 || quarter == 2 { -c } else { c }, if quarter >= 2 { -s } else { s })
}

/// Horner's rule, the constant term first.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_its_authors() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected, "{counter:x?} {key:x?}");
        }
    }

    #[test]
    fn an_element_depends_on_its_key_and_index_alone() {
        let rng = Rng::new(7).fold(3);
        let (normal, uniform) = (rng.normal(1000), rng.uniform(1000));
        for n in [0, 1, 2, 3, 4, 5, 63, 64, 65, 999] {
            assert_eq!(rng.normal(n), normal[..n], "{n} normal numbers");
            assert_eq!(rng.uniform(n), uniform[..n], "{n} uniform numbers");
        }
    }

    #[test]
    fn the_bits_are_the_same_on_every_machine() {
        assert_eq!(Rng::new(0).u64(), 0xe169_c58d_6627_e8d5);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(Rng::new(1).fold(2).fold(3).uniform(3)), [0x3f35_bbd4, 0x3f11_d1d4, 0x3e58_e3c4]);
        assert_eq!(bits(Rng::new(1).fold(2).fold(3).normal(3)), [0xbf3f_f8dd, 0xbeb3_8443, 0x3f60_124a]);
    }

    #[test]
    fn logarithm_and_angle_agree_with_the_platform() {
        let edges = [0, 1, 2, (1 << 29) - 1, 1 << 29, (1 << 30) - 1, 1 << 30, 1 << 31, u32::MAX - 1, u32::MAX];
        let spread = (0..100_000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
        for word in edges.into_iter().chain(spread) {
            let expected = ((f64::from(word) + 0.5) / 4_294_967_296.0).ln();
            let error = (ln_of_fraction(word) - expected) / expected;
            assert!(error.abs() < 1e-11, "ln of {word}: relative error {error:e}");
            let phi = f64::from(word) / 4_294_967_296.0 * TAU;
            let (cos, sin) = cos_sin_of_turn(word);
            let error = (cos - phi.cos()).abs().max((sin - phi.sin()).abs());
            assert!(error < 1e-11, "angle {word}: error {error:e}");
        }
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_normal_distribution() {
        let n = 1_000_000;
        let values: Vec<f64> = Rng::new(11).normal(n).into_iter().map(f64::from).collect();
        let mean_of = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        let within = |limit: f64| mean_of(&|i| f64::from(u8::from(values[i].abs() < limit)));
        // Expectation and five standard errors.
        let cases = [
            ("mean", mean_of(&|i| values[i]), 0.0, 5e-3),
            ("variance", mean_of(&|i| values[i].powi(2)), 1.0, 7.1e-3),
            ("third moment", mean_of(&|i| values[i].powi(3)), 0.0, 2e-2),
            ("fourth moment", mean_of(&|i| values[i].powi(4)), 3.0, 4.9e-2),
            ("neighbours", mean_of(&|i| values[i] * values[(i + 1) % n]), 0.0, 5e-3),
            ("squares of neighbours", mean_of(&|i| (values[i] * values[(i + 1) % n]).powi(2)), 1.0, 1.5e-2),
            ("within 1", within(1.0), 0.682_689, 2.4e-3),
            ("within 2", within(2.0), 0.954_500, 1.1e-3),
            ("within 4", within(4.0), 0.999_937, 4e-5),
        ];
        for (what, found, expected, tolerance) in cases {
            assert!((found - expected).abs() < tolerance, "{what}: {found}, expected {expected}");
        }
    }

    #[test]
    fn uniform_numbers_fill_the_half_open_interval_evenly() {
        let n = 1_000_000;
        let mut bins = [0.0; 100];
        for value in Rng::new(5).uniform(n) {
            assert!((0.0..1.0).contains(&value));
            bins[(value * 100.0) as usize] += 1.0;
        }
        let chi_squared: f64 = bins.iter().map(|count| (count - 1e4f64).powi(2) / 1e4).sum();
        // 99 degrees of freedom: mean 99, standard deviation 14.
        assert!((40.0..170.0).contains(&chi_squared), "{chi_squared}");
        let units = (0..1000).map(|i| Rng::new(5).fold(i).unit());
        assert!((units.sum::<f64>() / 1000.0 - 0.5).abs() < 0.05);
    }

    #[test]
    fn folding_gives_unrelated_keys() {
        let root = Rng::new(0);
        assert_ne!(root.fold(1).fold(2), root.fold(2).fold(1));
        assert_ne!(root.fold(0), root);
        assert_ne!(root.fold(1), Rng::new(1).fold(1));
        // A folded key is not a number drawn from its parent.
        assert_ne!(root.fold(0).key, [root.u64() as u32, (root.u64() >> 32) as u32]);
        let (a, b) = (root.fold(1).normal(100_000), root.fold(2).normal(100_000));
        let correlation = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum::<f64>() / 1e5;
        assert!(correlation.abs() < 0.016, "{correlation}");
    }

    #[test]
    fn bounded_numbers_are_even_and_stay_below_the_bound() {
        let mut counts = [0; 3];
        for i in 0..30_000 {
            counts[Rng::new(9).fold(i).below(3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(Rng::new(9).below(1), 0);
        // A bound above 2⁶³ rejects nearly every second draw.
        let bound = (1 << 63) + 1;
        assert!((0..100).all(|i| Rng::new(9).fold(i).below(bound) < bound));
    }

    #[test]
    fn a_permutation_holds_every_number_once_and_every_order_is_as_likely() {
        let mut order = Rng::new(3).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        assert!(Rng::new(3).permutation(0).is_empty());
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..12_000 {
            *counts.entry(Rng::new(3).fold(i).permutation(3)).or_insert(0) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}
