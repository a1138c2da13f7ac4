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

impl Layer {
    /// Every pixel from its column and row.
    pub(super) fn from_fn(width: usize, height: usize, mut pixel: impl FnMut(usize, usize) -> Pixel) -> Self {
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            pixels.extend((0..width).map(|x| pixel(x, y)));
        }
        Self { width, pixels }
    }

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
        Self::from_fn(self.width / 2, self.height() / 2, |x, y| {
            let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.at(2 * x + dx, 2 * y + dy));
            std::array::from_fn(|i| corners.iter().map(|corner| corner[i]).sum::<f32>() / 4.0)
        })
    }
}
