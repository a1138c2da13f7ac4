//! Pictures: RGB bytes for files and people, floating-point values in [-1, 1] for networks, and the ways between.
//!
//! [`Picture`] is 8-bit RGB, [`FloatPicture`] is `[h, w, c]` in [-1, 1] (Imagen, section 2: the networks see pixels, no
//! latents). [`decode`] reads PNG, JPEG and WebP under limits that hold before a pixel is allocated, [`resize`] is
//! separable and antialiased, [`png`] writes and reads PNG with its text.
//!
//! Colour profiles are not applied (bytes are taken as sRGB) and nothing here knows a tensor or a data set.

pub mod decode;
pub mod png;
pub mod resize;

pub use decode::DecodeOptions;
pub use png::PngText;
pub use resize::Filter;

use crate::error::{Error, ErrorKind, Result};

/// Channels of a [`Picture`].
pub const CHANNELS: usize = 3;

/// An 8-bit RGB picture of at least one pixel; row-major `[height, width, 3]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// A picture of floating-point numbers, by custom in [-1, 1]; row-major `[height, width, channels]`.
#[derive(Clone, PartialEq, Debug)]
pub struct FloatPicture {
    width: usize,
    height: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Picture {
    /// A picture from its pixels, `height * width * 3` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a side is 0 or the number of bytes is another.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_shape(width, height, CHANNELS, pixels.len())?;
        Ok(Self { width, height, pixels })
    }

    /// A picture of one colour; sides of 0 become 1.
    pub fn filled(width: usize, height: usize, colour: [u8; CHANNELS]) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        Self { width, height, pixels: colour.repeat(width * height) }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, `[height, width, 3]`, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The colour at column `x` of row `y`.
    ///
    /// # Panics
    /// If the pixel lies outside.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; CHANNELS] {
        assert!(x < self.width && y < self.height, "pixel ({x}, {y}) lies outside {}x{}", self.width, self.height);
        let at = (y * self.width + x) * CHANNELS;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// The same picture in [-1, 1]: `byte / 127.5 - 1`, `[height, width, 3]`.
    pub fn to_float(&self) -> FloatPicture {
        let values = self.pixels.iter().copied().map(to_unit_range).collect();
        FloatPicture { width: self.width, height: self.height, channels: CHANNELS, values }
    }

    /// The `width`×`height` window whose upper left corner is column `x` of row `y`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the window is empty or reaches outside.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |at: usize, side: usize, whole: usize| side > 0 && at <= whole && side <= whole - at;
        if !inside(x, width, self.width) || !inside(y, height, self.height) {
            return Err(Error::usage(format!(
                "a window of {width}x{height} at ({x}, {y}) does not lie in a picture of {}x{}",
                self.width, self.height
            )));
        }
        let row = |y: usize| &self.pixels[(y * self.width + x) * CHANNELS..][..width * CHANNELS];
        Ok(Self { width, height, pixels: (y..y + height).flat_map(row).copied().collect() })
    }

    /// The largest square window in the middle.
    pub fn centre_square(&self) -> Self {
        let side = self.width.min(self.height);
        let crop = self.crop((self.width - side) / 2, (self.height - side) / 2, side, side);
        crop.expect("a square of the shorter side lies inside")
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture {}x{}", self.width, self.height)
    }
}

impl FloatPicture {
    /// A picture from its values, `height * width * channels` numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a side is 0 or the number of values is another.
    pub fn new(width: usize, height: usize, channels: usize, values: Vec<f32>) -> Result<Self> {
        check_shape(width, height, channels, values.len())?;
        Ok(Self { width, height, channels, values })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Numbers in a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The numbers, `[height, width, channels]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The numbers, `[height, width, channels]`, without a copy.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The same picture in bytes: [-1, 1] to 0..=255, rounded to the nearest, what lies outside is clipped. One channel
    /// becomes grey.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if a value is infinite or not a number: a broken picture is never written as a black
    /// one. [`ErrorKind::Usage`] if there are neither 1 nor 3 channels.
    pub fn to_picture(&self) -> Result<Picture> {
        if let Some(at) = self.values.iter().position(|value| !value.is_finite()) {
            let (pixel, channel) = (at / self.channels, at % self.channels);
            return Err(Error::new(
                ErrorKind::NonFinite,
                format!(
                    "the picture holds {} at column {}, row {}, channel {channel}",
                    self.values[at],
                    pixel % self.width,
                    pixel / self.width
                ),
            ));
        }
        let bytes = self.values.iter().copied().map(to_byte);
        let pixels = match self.channels {
            1 => bytes.flat_map(|grey| [grey; CHANNELS]).collect(),
            CHANNELS => bytes.collect(),
            n => return Err(Error::usage(format!("a picture of {n} channels cannot be shown; expected 1 or 3"))),
        };
        Ok(Picture { width: self.width, height: self.height, pixels })
    }
}

/// A byte as the networks see it: 0 is -1, 255 is 1.
pub fn to_unit_range(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// The byte nearest to a value of [-1, 1], clipped.
fn to_byte(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

/// Pictures side by side in rows of `columns`, with `gap` pixels of `background` around each; cells are as large as the
/// largest picture, smaller ones sit in the middle of theirs.
///
/// # Errors
/// [`ErrorKind::Usage`] without pictures or columns.
pub fn grid(pictures: &[Picture], columns: usize, gap: usize, background: [u8; CHANNELS]) -> Result<Picture> {
    let cell_width = pictures.iter().map(Picture::width).max();
    let cell_height = pictures.iter().map(Picture::height).max();
    let (Some(cell_width), Some(cell_height), true) = (cell_width, cell_height, columns > 0) else {
        return Err(Error::usage("a grid needs at least one picture and one column"));
    };
    let columns = columns.min(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (columns * (cell_width + gap) + gap, rows * (cell_height + gap) + gap);
    let mut sheet = Picture::filled(width, height, background);
    for (index, picture) in pictures.iter().enumerate() {
        let x = gap + index % columns * (cell_width + gap) + (cell_width - picture.width) / 2;
        let y = gap + index / columns * (cell_height + gap) + (cell_height - picture.height) / 2;
        for (row, line) in picture.pixels.chunks_exact(picture.width * CHANNELS).enumerate() {
            sheet.pixels[((y + row) * width + x) * CHANNELS..][..line.len()].copy_from_slice(line);
        }
    }
    Ok(sheet)
}

fn check_shape(width: usize, height: usize, channels: usize, len: usize) -> Result<()> {
    let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    if expected != Some(len) || len == 0 {
        return Err(Error::usage(format!(
            "a picture of {width}x{height} with {channels} channels cannot hold {len} values; \
             expected width * height * channels, and none of them 0"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_way_to_the_network_and_back() {
        let picture =
            Picture::new(16, 16, (0..=255).flat_map(|byte| [byte, 255 - byte, byte ^ 0x55]).collect()).unwrap();
        let float = picture.to_float();
        assert_eq!((float.values()[0], float.values()[1]), (-1.0, 1.0));
        assert_eq!(float.to_picture().unwrap(), picture);
    }

    #[test]
    fn a_value_outside_the_range_is_clipped_and_a_value_that_is_no_number_is_an_error() {
        let float = FloatPicture::new(1, 1, 3, vec![-3.0, 0.0, 1.5]).unwrap();
        assert_eq!(float.to_picture().unwrap().pixels(), [0, 128, 255]);
        let broken = FloatPicture::new(2, 2, 1, vec![0.0, 0.0, 0.0, f32::NAN]).unwrap();
        let error = broken.to_picture().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        assert!(format!("{error:#}").contains("column 1, row 1, channel 0"), "{error:#}");
    }

    #[test]
    fn a_crop_takes_the_window_and_refuses_one_that_reaches_outside() {
        let picture = Picture::new(3, 2, (0..18).collect()).unwrap();
        assert_eq!(picture.crop(1, 1, 2, 1).unwrap().pixels(), [12, 13, 14, 15, 16, 17]);
        assert_eq!(picture.centre_square().pixels(), [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]);
        for (x, y, width, height) in [(2, 0, 2, 1), (0, 2, 1, 1), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
            assert!(picture.crop(x, y, width, height).is_err(), "{x} {y} {width} {height}");
        }
    }

    #[test]
    fn a_grid_keeps_the_order_and_centres_small_pictures() {
        let colours = [[10, 0, 0], [20, 0, 0], [30, 0, 0]];
        let mut pictures: Vec<_> = colours.iter().map(|&colour| Picture::filled(3, 3, colour)).collect();
        pictures[2] = Picture::filled(1, 1, colours[2]);
        let sheet = grid(&pictures, 2, 1, [255; 3]).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (9, 9));
        assert_eq!((sheet.pixel(1, 1), sheet.pixel(5, 3)), (colours[0], colours[1]));
        assert_eq!((sheet.pixel(2, 6), sheet.pixel(1, 5), sheet.pixel(4, 1)), (colours[2], [255; 3], [255; 3]));
        assert!(grid(&[], 2, 1, [0; 3]).is_err());
    }

    #[test]
    fn a_picture_refuses_pixels_that_do_not_fill_it() {
        for (width, height, len) in [(2, 2, 11), (0, 4, 0), (usize::MAX, 2, 6)] {
            assert!(Picture::new(width, height, vec![0; len]).is_err(), "{width}x{height} from {len}");
        }
    }
}
