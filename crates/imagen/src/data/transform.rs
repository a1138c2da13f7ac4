//! From a picture of any size to an example of one size.
//!
//! The largest square in the middle is resized to the stage's size; that much is the same every time and is what the
//! loader keeps. A super-resolution stage may then see a random window of it: the 1024×1024 stage has no self-attention
//! and learns from 64×64 → 256×256 crops (Saharia et al. 2022, section 2.5). The low-resolution counterpart is the mean of each
//! block of the same window, weighted by opacity where there is one.
//!
//! No colour changes and no rotation: captions speak of colours and directions.

use crate::error::{Error, Result};
use crate::image::{Filter, FloatPicture, Picture, check_channels};
use crate::rng::Rng;

/// How pictures become examples.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    /// Side of the whole picture, in pixels; 64.
    pub size: usize,
    /// Side of the whole picture at the resolution of the stage before; given, examples are pairs.
    pub low_size: Option<usize>,
    /// Side of a random window at `size`; none is the whole picture.
    pub crop: Option<usize>,
    /// How a picture is brought to `size`; area.
    pub filter: Filter,
    /// Whether half of the examples are mirrored; no, because captions may speak of left and right.
    pub flip: bool,
    /// Channels of an example: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; 3.
    pub channels: usize,
}

impl Default for Transform {
    fn default() -> Self {
        Self { size: 64, low_size: None, crop: None, filter: Filter::Area, flip: false, channels: 3 }
    }
}

/// One example, in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The picture or window, `[side, side, channels]`.
    pub picture: FloatPicture,
    /// The window at the lower resolution, `[side / factor, side / factor, channels]`.
    pub low_res: Option<FloatPicture>,
}

impl Transform {
    /// Whether the numbers fit together.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a size is 0, `low_size` does not divide `size`, or `crop` is larger than `size` or
    /// not a multiple of the factor between the two, or there are other than 1 to 4 channels.
    pub fn check(&self) -> Result<()> {
        check_channels(self.channels)?;
        let Self { size, low_size, crop, .. } = self;
        if *size == 0 || *low_size == Some(0) || *crop == Some(0) {
            return Err(Error::usage("`size`, `low_size` and `crop` must be at least 1"));
        }
        if low_size.is_some_and(|low| low > *size || size % low != 0) {
            return Err(Error::usage(format!("`low_size` must divide `size` = {size}")));
        }
        if let Some(crop) = crop
            && (crop > size || crop % self.factor() != 0)
        {
            let factor = self.factor();
            return Err(Error::usage(format!(
                "`crop` = {crop} must be at most `size` = {size} and a multiple of the scale factor {factor}"
            )));
        }
        Ok(())
    }

    /// How many times wider the picture is than its low-resolution counterpart; 1 without one.
    pub fn factor(&self) -> usize {
        self.low_size.map_or(1, |low| self.size / low)
    }

    /// Side of an example's picture.
    pub fn side(&self) -> usize {
        self.crop.unwrap_or(self.size)
    }

    /// The part that is the same every time: the square in the middle, at `size`.
    ///
    /// # Errors
    /// As [`Picture::resize`].
    pub fn prepare(&self, picture: &Picture) -> Result<Picture> {
        picture.centre_square().resize(self.size, self.size, self.filter)
    }

    /// The part that chance decides: the window and the mirror image. `picture` comes from [`Self::prepare`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the picture has another size.
    pub fn sample(&self, picture: &Picture, rng: Rng) -> Result<Sample> {
        let (side, factor) = (self.side(), self.factor());
        // Windows start at whole low-resolution pixels, so that both halves of the pair show the same.
        let places = ((self.size - side) / factor + 1) as u64;
        let [x, y] = [0, 1].map(|axis| rng.fold(axis).below(places) as usize * factor);
        let mut window = picture.crop(x, y, side, side)?;
        if self.flip && rng.fold(2).below(2) == 1 {
            window = mirrored(&window)?;
        }
        let (low, picture) = (side / factor, window.to_float());
        let low_res = match self.low_size {
            None => None,
            // Opacity has to multiply, which bytes do, as they do where the stage before sees its pictures.
            Some(_) if self.channels % 2 == 0 => Some(window.resize(low, low, Filter::Area)?.to_float()),
            Some(_) => Some(picture.resize(low, low, Filter::Area)?),
        };
        Ok(Sample { picture, low_res })
    }
}

/// Left and right exchanged.
fn mirrored(picture: &Picture) -> Result<Picture> {
    let channels = picture.channels();
    let rows = picture.pixels().chunks_exact(picture.width() * channels);
    let pixels = rows.flat_map(|row| row.rchunks_exact(channels).flatten()).copied().collect();
    Picture::with_channels(picture.width(), picture.height(), channels, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pixel says where it is.
    fn map(width: usize, height: usize) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 0])).collect();
        Picture::new(width, height, pixels).unwrap()
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_refused() {
        let base = Transform::default;
        let good = [base(), Transform { size: 256, low_size: Some(64), crop: Some(128), ..base() }];
        let bad = [
            Transform { size: 0, ..base() },
            Transform { size: 256, low_size: Some(96), ..base() },
            Transform { size: 64, low_size: Some(128), ..base() },
            Transform { size: 64, crop: Some(65), ..base() },
            Transform { size: 256, low_size: Some(64), crop: Some(66), ..base() },
        ];
        assert!(good.iter().all(|transform| transform.check().is_ok()));
        for transform in bad {
            assert!(transform.check().is_err(), "{transform:?}");
        }
    }

    #[test]
    fn windows_are_aligned_to_the_factor_and_reach_every_border() {
        let transform = Transform { size: 32, low_size: Some(8), crop: Some(16), ..Default::default() };
        let picture = transform.prepare(&map(32, 32)).unwrap();
        let mut corners = std::collections::BTreeSet::new();
        for i in 0..300 {
            let Sample { picture, low_res } = transform.sample(&picture, Rng::new(1).fold(i)).unwrap();
            let bytes = picture.to_picture().unwrap();
            let [x, y, _] = bytes.pixel(0, 0);
            corners.insert((x, y));
            let low = low_res.unwrap();
            assert_eq!((bytes.width(), low.width(), low.height()), (16, 4, 4));
            // The mean of columns x..x + 4 is x + 1.5.
            let mean = (low.values()[0] + 1.0) * 127.5;
            assert!((mean - (f32::from(x) + 1.5)).abs() < 1e-3, "{mean} at {x}");
        }
        let aligned: std::collections::BTreeSet<_> = (0..5).flat_map(|x| (0..5).map(move |y| (x * 4, y * 4))).collect();
        assert_eq!(corners, aligned);
    }

    #[test]
    fn mirroring_is_off_unless_asked_for_and_then_happens_to_half() {
        let picture = map(8, 8);
        let count = |flip: bool| {
            let transform = Transform { size: 8, flip, ..Default::default() };
            let samples = (0..200).map(|i| transform.sample(&picture, Rng::new(3).fold(i)).unwrap());
            samples.filter(|sample| sample.picture.to_picture().unwrap().pixel(0, 0)[0] == 7).count()
        };
        assert_eq!(count(false), 0);
        assert!((60..140).contains(&count(true)));
    }

    #[test]
    fn what_is_transparent_does_not_colour_the_low_resolution() {
        let (red, clear) = ([255, 0, 0, 255], [0, 255, 0, 0]);
        let pixels = [[red, clear, clear, clear]; 2].as_flattened().as_flattened().to_vec();
        let picture = Picture::with_channels(4, 2, 4, pixels).unwrap().crop(0, 0, 2, 2).unwrap();
        let transform = Transform { size: 2, low_size: Some(1), channels: 4, ..Default::default() };
        let low = transform.sample(&picture, Rng::new(1)).unwrap().low_res.unwrap();
        assert_eq!(low.to_picture().unwrap().pixels(), [255, 0, 0, 128], "red, half of it");
    }

    #[test]
    fn an_oblong_picture_keeps_its_middle() {
        let transform = Transform { size: 2, ..Default::default() };
        let square = transform.prepare(&map(6, 2)).unwrap();
        assert_eq!(square.pixels(), [2, 0, 0, 3, 0, 0, 2, 1, 0, 3, 1, 0]);
    }
}
