//! A square or oblong piece of a picture with opacity, in floating point.
//!
//! Colours are sRGB values from 0 to 1, multiplied by opacity, so that layers are added, blurred and resampled without
//! the colour of what is transparent showing through.

use crate::error::Result;
use crate::image::Picture;

/// Red, green, blue and opacity, from 0 to 1; the colours are multiplied by opacity.
pub(super) type Pixel = [f32; 4];

/// Pixels in rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    width: usize,
    pixels: Vec<Pixel>,
}

/// A colour as it is written in files, from 0 to 1.
pub(super) fn colour([r, g, b]: [u8; 3]) -> [f32; 3] {
    [r, g, b].map(|byte| f32::from(byte) / 255.0)
}

/// `top` over `under`.
pub(super) fn over(top: Pixel, under: Pixel) -> Pixel {
    let clear = 1.0 - top[3];
    std::array::from_fn(|i| top[i] + clear * under[i])
}

/// Of values in rows of an even width, an even number of rows, the means of each four.
pub(super) fn halved<const N: usize>(width: usize, values: &[[f32; N]]) -> Vec<[f32; N]> {
    let mut means = Vec::with_capacity(values.len() / 4);
    for rows in values.chunks_exact(2 * width) {
        let (above, below) = rows.split_at(width);
        let pairs = above.as_chunks::<2>().0.iter().zip(below.as_chunks::<2>().0);
        means.extend(pairs.map(|([a, b], [c, d])| std::array::from_fn(|i| (a[i] + b[i] + c[i] + d[i]) / 4.0)));
    }
    means
}

impl Layer {
    /// Nothing at all.
    pub(super) fn clear(width: usize, height: usize) -> Self {
        Self { width, pixels: vec![[0.0; 4]; width * height] }
    }

    /// One opaque colour.
    pub(super) fn filled(width: usize, height: usize, [r, g, b]: [f32; 3]) -> Self {
        Self { width, pixels: vec![[r, g, b, 1.0]; width * height] }
    }

    /// The RGB bytes of an opaque layer.
    pub(super) fn to_picture(&self) -> Result<Picture> {
        let byte = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        let bytes = self.pixels.iter().flat_map(|[r, g, b, _]| [byte(*r), byte(*g), byte(*b)]).collect();
        Picture::new(self.width, self.height(), bytes)
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    pub(super) fn pixels(&self) -> &[Pixel] {
        &self.pixels
    }

    pub(super) fn pixels_mut(&mut self) -> &mut [Pixel] {
        &mut self.pixels
    }

    pub(super) fn at(&self, x: usize, y: usize) -> Pixel {
        self.pixels[y * self.width + x]
    }

    pub(super) fn at_mut(&mut self, x: usize, y: usize) -> &mut Pixel {
        &mut self.pixels[y * self.width + x]
    }

    /// Each pixel the mean of four; the sides are even.
    pub(super) fn halved(&self) -> Self {
        Self { width: self.width / 2, pixels: halved(self.width, &self.pixels) }
    }
}
