//! What was measured of a picture: linear maps M with their transposes and pseudo-inverses.
//!
//! A picture is `[height, width, channels]`, row-major, in [-1, 1]. M†M is the projection onto what a measurement tells of a
//! picture; what lies beside it the denoiser has to know.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// A linear measurement of pictures of one shape.
pub trait Operator {
    /// Height, width and channels of the pictures.
    fn shape(&self) -> [usize; 3];

    /// What is measured of a picture, M x.
    fn measure(&self, x: &[f32]) -> Vec<f32>;

    /// The transpose, Mᵀ y.
    fn adjoint(&self, y: &[f32]) -> Vec<f32>;

    /// The least picture of which this is measured, M† y.
    fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32>;
}

/// Single pixels, all channels of each: a hole, or a few at random.
#[derive(Clone, Debug)]
pub struct Pixels {
    shape: [usize; 3],
    /// Their numbers, ascending.
    known: Vec<usize>,
}

impl Pixels {
    /// The pixels that are `known`, `height * width` of them.
    ///
    /// # Errors
    /// `Usage` where their number is another, or none is known.
    pub fn new(shape: [usize; 3], known: &[bool]) -> Result<Self> {
        let [h, w, _] = shape;
        if known.len() != h * w {
            return Err(Error::usage(format!(
                "{} pixels are said to be known or not, and there are {h}x{w}",
                known.len()
            )));
        }
        let known: Vec<usize> = (0..h * w).filter(|i| known[*i]).collect();
        if known.is_empty() {
            Err(Error::usage("no pixel is known: there is nothing to restore a picture from"))
        } else {
            Ok(Self { shape, known })
        }
    }

    /// This part of the pixels, drawn from a seed.
    ///
    /// # Errors
    /// `Usage` where the part is not above 0 and at most 1.
    pub fn random(shape: [usize; 3], part: f64, seed: u64) -> Result<Self> {
        if !(part > 0.0 && part <= 1.0) {
            return Err(Error::usage(format!(
                "random-pixels:{part}: expected the part that is known, above 0 and at most 1"
            )));
        }
        let all = shape[0] * shape[1];
        let count = ((all as f64 * part).round() as usize).clamp(1, all);
        let mut known = vec![false; all];
        Rng::new(seed).fold(PIXELS).permutation(all)[..count].iter().for_each(|i| known[*i] = true);
        Self::new(shape, &known)
    }
}

/// Stream of the seed that chooses pixels.
const PIXELS: u64 = 0x9178;

impl Operator for Pixels {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn measure(&self, x: &[f32]) -> Vec<f32> {
        let c = self.shape[2];
        self.known.iter().flat_map(|i| &x[i * c..(i + 1) * c]).copied().collect()
    }

    fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        let [h, w, c] = self.shape;
        let mut x = vec![0.0; h * w * c];
        for (i, values) in self.known.iter().zip(y.chunks_exact(c)) {
            x[i * c..(i + 1) * c].copy_from_slice(values);
        }
        x
    }

    fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32> {
        self.adjoint(y)
    }
}

/// The means of square blocks: a picture that was made smaller.
#[derive(Clone, Debug)]
pub struct BlockMeans {
    shape: [usize; 3],
    side: usize,
}

impl BlockMeans {
    /// Blocks of `side * side` pixels.
    ///
    /// # Errors
    /// `Usage` where they do not divide the picture.
    pub fn new(shape: [usize; 3], side: usize) -> Result<Self> {
        let [h, w, _] = shape;
        if side > 0 && h % side == 0 && w % side == 0 {
            Ok(Self { shape, side })
        } else {
            Err(Error::usage(format!("superres:{side}: expected a number that divides {h} and {w}")))
        }
    }

    /// `block(y, i)` for each number i of a picture and the number of its block's mean.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let ([h, w, c], side) = (self.shape, self.side);
        (0..h * w * c).map(move |i| {
            let (channel, pixel) = (i % c, i / c);
            ((pixel / w / side) * (w / side) + pixel % w / side) * c + channel
        })
    }
}

impl Operator for BlockMeans {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn measure(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / (self.side * self.side)];
        self.places().zip(x).for_each(|(place, value)| y[place] += value);
        y.iter_mut().for_each(|mean| *mean /= (self.side * self.side) as f32);
        y
    }

    fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        self.places().map(|place| y[place] / (self.side * self.side) as f32).collect()
    }

    fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32> {
        self.places().map(|place| y[place]).collect()
    }
}

/// The luma of a colour picture: its grey version.
#[derive(Clone, Debug)]
pub struct Grey {
    shape: [usize; 3],
}

/// Rec. 601, as Pillow and most programs make pictures grey.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

impl Grey {
    /// Of pictures with three channels.
    ///
    /// # Errors
    /// `Usage` where there are others.
    pub fn new(shape: [usize; 3]) -> Result<Self> {
        match shape[2] {
            3 => Ok(Self { shape }),
            channels => Err(Error::usage(format!("grey: the model draws {channels} channels; expected 3"))),
        }
    }
}

impl Operator for Grey {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn measure(&self, x: &[f32]) -> Vec<f32> {
        x.as_chunks::<3>()
            .0
            .iter()
            .map(|pixel| pixel.iter().zip(LUMA).map(|(value, weight)| value * weight).sum())
            .collect()
    }

    fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        y.iter().flat_map(|grey| LUMA.map(|weight| weight * grey)).collect()
    }

    fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32> {
        let square: f32 = LUMA.iter().map(|weight| weight * weight).sum();
        y.iter().flat_map(|grey| LUMA.map(|weight| weight * grey / square)).collect()
    }
}

/// A gain for each frequency of the cosine transform, channel by channel: a Gaussian blur (mirrored at the edges), or low
/// frequencies alone. What is measured is a picture.
#[derive(Clone, Debug)]
pub struct Frequencies {
    shape: [usize; 3],
    /// The orthonormal transforms of columns and rows, `[n, n]`.
    transforms: [Vec<f32>; 2],
    /// `[height, width]`.
    gains: Vec<f32>,
}

/// Frequencies that are weaker than this count as not measured: to amplify them would amplify rounding as much.
const WEAKEST: f32 = 0.02;

impl Frequencies {
    /// A blur whose Gaussian has this standard deviation, in pixels.
    ///
    /// # Errors
    /// `Usage` where it is not above 0.
    pub fn blur(shape: [usize; 3], sigma: f64) -> Result<Self> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(Error::usage(format!("blur:{sigma}: expected a standard deviation in pixels, above 0")));
        }
        let [h, w, _] = shape;
        let gain = |k: usize, n: usize| {
            let frequency = std::f64::consts::PI * k as f64 / n as f64;
            (-0.5 * (sigma * frequency).powi(2)).exp()
        };
        let gains = (0..h * w).map(|i| (gain(i / w, h) * gain(i % w, w)) as f32).collect();
        Ok(Self::with(shape, gains))
    }

    /// The lowest of all frequencies, this part of them.
    ///
    /// # Errors
    /// `Usage` where the part is not above 0 and at most 1.
    pub fn lowest(shape: [usize; 3], part: f64) -> Result<Self> {
        if !(part > 0.0 && part <= 1.0) {
            return Err(Error::usage(format!(
                "spectral:{part}: expected the part that is kept, above 0 and at most 1"
            )));
        }
        let [h, w, _] = shape;
        let square = |i: usize| ((i / w) as f64 / h as f64).powi(2) + ((i % w) as f64 / w as f64).powi(2);
        let mut order: Vec<usize> = (0..h * w).collect();
        order.sort_by(|a, b| square(*a).total_cmp(&square(*b)).then(a.cmp(b)));
        let mut gains = vec![0.0; h * w];
        let count = ((h * w) as f64 * part).round().max(1.0) as usize;
        order[..count].iter().for_each(|i| gains[*i] = 1.0);
        Ok(Self::with(shape, gains))
    }

    fn with(shape: [usize; 3], gains: Vec<f32>) -> Self {
        Self { shape, transforms: [cosines(shape[0]), cosines(shape[1])], gains }
    }

    /// Each channel in frequencies, times these gains, and back.
    fn filtered(&self, x: &[f32], gain: impl Fn(f32) -> f32) -> Vec<f32> {
        let [h, w, c] = self.shape;
        let [rows, columns] = &self.transforms;
        let mut out = vec![0.0; x.len()];
        for channel in 0..c {
            let plane: Vec<f32> = x.iter().skip(channel).step_by(c).copied().collect();
            // C_h X C_wᵀ, and with the transposes back
            let mut spectrum = product([rows, &product([&plane, columns], [h, w, w], true)], [h, h, w], false);
            spectrum.iter_mut().zip(&self.gains).for_each(|(value, own)| *value *= gain(*own));
            let half = product([&spectrum, columns], [h, w, w], false);
            let transposed: Vec<f32> = (0..h * h).map(|i| rows[(i % h) * h + i / h]).collect();
            let plane = product([&transposed, &half], [h, h, w], false);
            plane.into_iter().enumerate().for_each(|(i, value)| out[i * c + channel] = value);
        }
        out
    }
}

impl Operator for Frequencies {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn measure(&self, x: &[f32]) -> Vec<f32> {
        self.filtered(x, |gain| gain)
    }

    fn adjoint(&self, y: &[f32]) -> Vec<f32> {
        self.filtered(y, |gain| gain)
    }

    fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32> {
        self.filtered(y, |gain| if gain < WEAKEST { 0.0 } else { gain.recip() })
    }
}

/// The orthonormal cosine transform (DCT-II) of n numbers, `[n, n]`: row k is frequency k.
fn cosines(n: usize) -> Vec<f32> {
    let entry = |i: usize| {
        let (k, x) = ((i / n) as f64, (i % n) as f64);
        let norm = if k == 0.0 { 1.0 / n as f64 } else { 2.0 / n as f64 };
        (norm.sqrt() * (std::f64::consts::PI * (x + 0.5) * k / n as f64).cos()) as f32
    };
    (0..n * n).map(entry).collect()
}

/// The product of `[n, k]` and `[k, m]`, the second transposed where it is said to be.
fn product([a, b]: [&Vec<f32>; 2], [n, k, m]: [usize; 3], transposed: bool) -> Vec<f32> {
    let mut out = vec![0.0; n * m];
    for i in 0..n {
        for j in 0..k {
            let factor = a[i * k + j];
            for (column, value) in out[i * m..(i + 1) * m].iter_mut().enumerate() {
                *value += factor * if transposed { b[column * k + j] } else { b[j * m + column] };
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [8, 12, 3];

    fn all() -> Vec<(&'static str, Box<dyn Operator>)> {
        vec![
            ("random pixels", Box::new(Pixels::random(SHAPE, 0.3, 5).unwrap())),
            ("block means", Box::new(BlockMeans::new(SHAPE, 4).unwrap())),
            ("grey", Box::new(Grey::new(SHAPE).unwrap())),
            ("blur", Box::new(Frequencies::blur(SHAPE, 1.5).unwrap())),
            ("low frequencies", Box::new(Frequencies::lowest(SHAPE, 0.2).unwrap())),
        ]
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    fn furthest(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn the_adjoint_is_the_transpose() {
        for (name, operator) in all() {
            let x = Rng::new(1).normal(SHAPE.iter().product());
            let y = Rng::new(2).normal(operator.measure(&x).len());
            let (left, right) = (dot(&operator.measure(&x), &y), dot(&x, &operator.adjoint(&y)));
            assert!((left - right).abs() < 1e-3, "{name}: {left} and {right}");
        }
    }

    #[test]
    fn the_pseudo_inverse_projects_and_keeps_what_was_measured() {
        for (name, operator) in all() {
            let x = Rng::new(3).normal(SHAPE.iter().product());
            let once = operator.pseudo_inverse(&operator.measure(&x));
            let twice = operator.pseudo_inverse(&operator.measure(&once));
            assert!(furthest(&once, &twice) < 2e-4, "{name}: {}", furthest(&once, &twice));
            // what is left of the picture is measured as nothing: but for frequencies that are too weak to count
            let rest: Vec<f32> = x.iter().zip(&once).map(|(x, part)| x - part).collect();
            let unseen = operator.measure(&rest).iter().fold(0.0f32, |most, y| most.max(y.abs()));
            assert!(unseen < 0.1, "{name}: {unseen}");
            assert!(dot(&rest, &once).abs() < 1e-2, "{name}: at right angles");
        }
    }

    #[test]
    fn a_blur_keeps_means_and_lowers_contrast_as_a_gaussian_does() {
        let shape = [32, 32, 1];
        let mut point = vec![0.0; 32 * 32];
        point[16 * 32 + 16] = 1.0;
        let blurred = Frequencies::blur(shape, 2.0).unwrap().measure(&point);
        assert!((blurred.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        let expected = |x: f32, y: f32| (-(x * x + y * y) / 8.0).exp() / (8.0 * std::f32::consts::PI);
        for (dx, dy) in [(0, 0), (1, 0), (2, 3), (4, 0)] {
            let found = blurred[(16 + dy) * 32 + 16 + dx];
            let expected = expected(dx as f32, dy as f32);
            assert!((found - expected).abs() < 2e-4, "{dx}, {dy}: {found} and {expected}");
        }
    }

    #[test]
    fn what_measures_nothing_or_does_not_fit_is_refused() {
        let refused = |result: Result<Box<dyn Operator>>, words: &str| {
            let error = result.err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        };
        fn boxed<T: Operator + 'static>(result: Result<T>) -> Result<Box<dyn Operator>> {
            result.map(|operator| Box::new(operator) as Box<dyn Operator>)
        }
        refused(boxed(BlockMeans::new(SHAPE, 5)), "divides 8 and 12");
        refused(boxed(BlockMeans::new(SHAPE, 0)), "divides");
        refused(boxed(Pixels::random(SHAPE, 0.0, 1)), "above 0");
        refused(boxed(Pixels::new(SHAPE, &[false; 96])), "no pixel is known");
        refused(boxed(Pixels::new(SHAPE, &[true; 5])), "8x12");
        refused(boxed(Frequencies::blur(SHAPE, f64::NAN)), "above 0");
        refused(boxed(Frequencies::lowest(SHAPE, 1.5)), "at most 1");
        refused(boxed(Grey::new([8, 8, 1])), "1 channels");
    }
}
