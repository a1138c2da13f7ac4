//! Separable, antialiased resizing as the Python Imaging Library does it, for bytes and for floating-point numbers.
//!
//! Each output sample is a weighted mean of the input samples under a filter that is stretched by the reduction, so
//! that nothing is skipped ([`Filter::Area`] by a whole factor is the plain mean of a block). The result for bytes equals
//! Pillow's bit for bit (fixed-point weights with 22 fractional bits, a rounded byte between the two passes), because
//! FID depends on it (Parmar et al., "On aliased resizing and surprising subtleties in GAN evaluation", 2022). Bytes with
//! opacity are multiplied by it meanwhile, as there, so that what nobody sees does not bleed into what is seen.
//!
//! No other boundary than clipping the filter at the edge, no gamma, no nearest neighbour.

use std::ops::Range;

use super::{FloatPicture, Picture};
use crate::error::{Error, Result};

/// The weight function of a resize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The mean of what a pixel covers (Pillow's `BOX`, PyTorch's `area` for whole factors).
    #[default]
    Area,
    /// A triangle of one pixel to each side.
    Bilinear,
    /// Keys' cubic with a = -1/2, two pixels to each side; may overshoot.
    Bicubic,
}

impl Filter {
    /// How far the filter reaches from its centre, in pixels of the coarser picture.
    fn support(self) -> f64 {
        match self {
            Filter::Area => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    /// The weight at distance `x`.
    fn weight(self, x: f64) -> f64 {
        let a = x.abs();
        match self {
            // Half open, so that a sample on the border of two pixels counts once.
            Filter::Area => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - a).max(0.0),
            Filter::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Filter::Bicubic if a < 2.0 => ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0,
            Filter::Bicubic => 0.0,
        }
    }
}

impl Picture {
    /// The picture at another size.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a side is 0.
    pub fn resize(&self, width: usize, height: usize, filter: Filter) -> Result<Self> {
        let columns = Taps::new(self.width, width, filter)?;
        let rows = Taps::new(self.height, height, filter)?;
        let (shape, channels) = ([self.height, self.width], self.channels);
        if channels % 2 == 1 {
            let pixels = resample(&self.pixels, shape, channels, &rows, &columns);
            return Picture::with_channels(width, height, channels, pixels);
        }
        let mut pixels = self.pixels.clone();
        for_each_opacity(&mut pixels, channels, |value, alpha| {
            // round(value * alpha / 255) without a division
            let product = u32::from(value) * u32::from(alpha) + 128;
            (((product >> 8) + product) >> 8) as u8
        });
        let mut pixels = resample(&pixels, shape, channels, &rows, &columns);
        for_each_opacity(&mut pixels, channels, |value, alpha| match alpha {
            0 => value,
            _ => (255 * u32::from(value) / u32::from(alpha)).min(255) as u8,
        });
        Picture::with_channels(width, height, channels, pixels)
    }
}

/// Replaces each value by what `f` makes of it and its pixel's opacity, the last channel, which stays.
fn for_each_opacity(pixels: &mut [u8], channels: usize, f: impl Fn(u8, u8) -> u8) {
    for pixel in pixels.chunks_exact_mut(channels) {
        let (alpha, values) = pixel.split_last_mut().expect("a pixel has channels");
        values.iter_mut().for_each(|value| *value = f(*value, *alpha));
    }
}

impl Picture {
    /// The middle square of `side` pixels of the picture whose shorter side is resized to `side` (the longer one is cut down to
    /// whole pixels, and so is the border, as torchvision does). Only what is in the square is computed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the side is 0, or the picture has opacity, which [`Self::to_rgb`] takes away.
    pub fn middle(&self, side: usize, filter: Filter) -> Result<Self> {
        let channels = self.channels;
        if channels % 2 == 0 {
            return Err(Error::usage("the middle of a picture with opacity is not cut out; put it on a colour first"));
        }
        let short = self.width.min(self.height);
        let taps = |from: usize| {
            let whole = side * from / short;
            Taps::part(from, whole, (whole - side) / 2..(whole - side) / 2 + side, filter)
        };
        let (columns, rows) = (taps(self.width)?, taps(self.height)?);
        // What no row of the square sees is not resampled either.
        let seen =
            rows.first[0]..rows.first.iter().zip(&rows.weights).map(|(first, w)| first + w.len()).max().unwrap_or(0);
        let line = self.width * channels;
        let rows = Taps { first: rows.first.iter().map(|first| first - seen.start).collect(), weights: rows.weights };
        let pixels = &self.pixels[seen.start * line..seen.end * line];
        let pixels = along_rows(pixels, seen.len(), self.width, channels, &columns);
        let pixels = along_columns(&pixels, side, channels, &rows);
        Picture::with_channels(side, side, channels, pixels)
    }
}

impl FloatPicture {
    /// The picture at another size; a bicubic filter may leave the range of the input.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a side is 0.
    pub fn resize(&self, width: usize, height: usize, filter: Filter) -> Result<Self> {
        let columns = Taps::new(self.width, width, filter)?;
        let rows = Taps::new(self.height, height, filter)?;
        let values = resample(&self.values, [self.height, self.width], self.channels, &rows, &columns);
        FloatPicture::new(width, height, self.channels, values)
    }
}

/// For each output sample the first input sample that it sees and the weights from there on.
struct Taps {
    first: Vec<usize>,
    weights: Vec<Vec<f64>>,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Filter) -> Result<Self> {
        Self::part(from, to, 0..to, filter)
    }

    /// Taps of the samples `wanted` alone.
    fn part(from: usize, to: usize, wanted: Range<usize>, filter: Filter) -> Result<Self> {
        if to == 0 || wanted.is_empty() {
            return Err(Error::usage("a picture cannot be resized to a side of 0"));
        }
        let scale = from as f64 / to as f64;
        // Enlarging interpolates between neighbours; reducing widens the filter to cover all that is merged.
        let stretch = scale.max(1.0);
        let reach = filter.support() * stretch;
        let mut taps = Taps { first: Vec::with_capacity(wanted.len()), weights: Vec::with_capacity(wanted.len()) };
        for out in wanted {
            let centre = (out as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(from);
            let mut weights: Vec<f64> =
                (first..last).map(|i| filter.weight((i as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            taps.first.push(first);
            taps.weights.push(weights);
        }
        Ok(taps)
    }
}

/// A sample and its rounded weighted means.
trait Sample: Copy + Default {
    /// Weights as the accumulator wants them.
    type Weight: Copy;
    /// The running sum.
    type Sum: Copy;
    const ZERO: Self::Sum;
    fn weight(weight: f64) -> Self::Weight;
    fn add(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    fn mean(sum: Self::Sum) -> Self;
}

/// Fractional bits of a weight for bytes; with 8 bits of sample and 2 of overshoot they fill 32.
const FRACTION: u32 = 32 - 8 - 2;

impl Sample for u8 {
    type Weight = i32;
    type Sum = i32;
    const ZERO: i32 = 1 << (FRACTION - 1);
    fn weight(weight: f64) -> i32 {
        (weight * f64::from(1 << FRACTION)).round() as i32
    }
    fn add(sum: i32, sample: u8, weight: i32) -> i32 {
        sum + i32::from(sample) * weight
    }
    fn mean(sum: i32) -> u8 {
        (sum >> FRACTION).clamp(0, 255) as u8
    }
}

impl Sample for f32 {
    type Weight = f64;
    type Sum = f64;
    const ZERO: f64 = 0.0;
    fn weight(weight: f64) -> f64 {
        weight
    }
    fn add(sum: f64, sample: f32, weight: f64) -> f64 {
        sum + f64::from(sample) * weight
    }
    fn mean(sum: f64) -> f32 {
        sum as f32
    }
}

/// `[h, w, c]` to `[h', w', c]`: along the rows first, unless they grow while the columns shrink (as Pillow does; the order
/// shows in bytes, which are rounded in between).
fn resample<S: Sample>(
    input: &[S],
    [height, width]: [usize; 2],
    channels: usize,
    rows: &Taps,
    columns: &Taps,
) -> Vec<S> {
    let (new_height, new_width) = (rows.first.len(), columns.first.len());
    if new_width > width && new_height < height {
        let low = along_columns(input, width, channels, rows);
        along_rows(&low, new_height, width, channels, columns)
    } else {
        let wide = along_rows(input, height, width, channels, columns);
        along_columns(&wide, new_width, channels, rows)
    }
}

/// `[h, w, c]` to `[h, w', c]`.
fn along_rows<S: Sample>(input: &[S], height: usize, width: usize, channels: usize, taps: &Taps) -> Vec<S> {
    let weights: Vec<Vec<S::Weight>> = taps.weights.iter().map(|w| w.iter().map(|&w| S::weight(w)).collect()).collect();
    let mut out = Vec::with_capacity(height * weights.len() * channels);
    for row in input.chunks_exact(width * channels) {
        for (&first, weights) in taps.first.iter().zip(&weights) {
            for channel in 0..channels {
                let samples = row[first * channels + channel..].iter().step_by(channels);
                let sum = samples.zip(weights).fold(S::ZERO, |sum, (&sample, &weight)| S::add(sum, sample, weight));
                out.push(S::mean(sum));
            }
        }
    }
    out
}

/// `[h, w, c]` to `[h', w, c]`.
fn along_columns<S: Sample>(input: &[S], width: usize, channels: usize, taps: &Taps) -> Vec<S> {
    let line = width * channels;
    let mut out = Vec::with_capacity(taps.first.len() * line);
    let mut sums = vec![S::ZERO; line];
    for (&first, weights) in taps.first.iter().zip(&taps.weights) {
        sums.fill(S::ZERO);
        for (row, &weight) in input[first * line..].chunks_exact(line).zip(weights) {
            let weight = S::weight(weight);
            sums.iter_mut().zip(row).for_each(|(sum, &sample)| *sum = S::add(*sum, sample, weight));
        }
        out.extend(sums.iter().map(|&sum| S::mean(sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILTERS: [Filter; 3] = [Filter::Area, Filter::Bilinear, Filter::Bicubic];

    proptest! {
        #[test]
        fn a_constant_stays_constant(w in 1usize..40, h in 1usize..40, to_w in 1usize..40, to_h in 1usize..40, byte: u8) {
            for filter in FILTERS {
                let picture = Picture::filled(w, h, [byte, 255 - byte, 7]);
                prop_assert_eq!(picture.resize(to_w, to_h, filter).unwrap(), Picture::filled(to_w, to_h, [byte, 255 - byte, 7]));
                let float = picture.to_float().resize(to_w, to_h, filter).unwrap();
                let expected = Picture::filled(to_w, to_h, [byte, 255 - byte, 7]).to_float();
                for (a, b) in float.values().iter().zip(expected.values()) {
                    prop_assert!((a - b).abs() < 1e-6, "{} {}", a, b);
                }
            }
        }

        #[test]
        fn the_same_size_changes_nothing(w in 1usize..9, h in 1usize..9, seed: u8) {
            let pixels = (0..w * h * 3).map(|i| (i * 37) as u8 ^ seed).collect();
            let picture = Picture::new(w, h, pixels).unwrap();
            for filter in FILTERS {
                prop_assert_eq!(&picture.resize(w, h, filter).unwrap(), &picture);
            }
        }
    }

    #[test]
    fn area_by_a_whole_factor_is_the_mean_of_each_block() {
        let values: Vec<f32> = (0..32).map(|i| ((i * 7) % 11) as f32).collect();
        let picture = FloatPicture::new(8, 4, 1, values.clone()).unwrap();
        let small = picture.resize(4, 2, Filter::Area).unwrap();
        for (y, x) in (0..2).flat_map(|y| (0..4).map(move |x| (y, x))) {
            let at = |dy: usize, dx: usize| values[(2 * y + dy) * 8 + 2 * x + dx];
            let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
            assert!((small.values()[y * 4 + x] - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn the_middle_is_that_of_the_whole_resized_picture_and_costs_no_more_than_it_shows() {
        let pixels = |n: usize| (0..n).map(|i| (i * 37 + i / 7) as u8).collect();
        for (width, height, side) in [(9, 5, 4), (5, 9, 4), (40, 13, 16), (7, 7, 7), (3, 50, 20), (64, 48, 8)] {
            let picture = Picture::new(width, height, pixels(width * height * 3)).unwrap();
            let short = width.min(height);
            for filter in FILTERS {
                // The rows first, as the square is made; where the other order is Pillow's, bytes are rounded elsewhere.
                let (w, h) = (side * width / short, side * height / short);
                let whole = picture.resize(w, h, filter).unwrap();
                let expected = whole.crop((w - side) / 2, (h - side) / 2, side, side).unwrap();
                let worst = picture
                    .middle(side, filter)
                    .unwrap()
                    .pixels()
                    .iter()
                    .zip(expected.pixels())
                    .map(|(a, b)| a.abs_diff(*b))
                    .max();
                assert_eq!(worst, Some(0), "{width}x{height} to {side}");
            }
        }
        let line = Picture::filled(16384, 1, [7]);
        assert_eq!(line.middle(224, Filter::Bicubic).unwrap(), Picture::filled(224, 224, [7]));
        assert!(Picture::filled(4, 4, [0; 4]).middle(2, Filter::Area).is_err());
    }

    #[test]
    fn a_side_of_nothing_is_refused() {
        assert!(Picture::filled(4, 4, [0; 3]).resize(0, 4, Filter::Area).is_err());
    }
}
