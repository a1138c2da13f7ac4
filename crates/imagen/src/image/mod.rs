//! Pictures: bytes for files and people, floating-point values in [-1, 1] for networks, and the ways between.
//!
//! [`Picture`] is 8-bit, of 1 to 4 channels (grey, grey and alpha, RGB, RGBA; RGB where nothing is said), [`FloatPicture`]
//! is `[h, w, c]` in [-1, 1] (Imagen, section 2: the networks see pixels, no latents). [`decode`] reads PNG, JPEG,
//! WebP, GIF and BMP under limits that hold before a pixel is allocated, [`resize`] is
//! separable and antialiased, [`png`] writes and reads PNG with its text, [`export`] writes JPEG and WebP.
//!
//! Colour profiles are not applied (bytes are taken as sRGB) and nothing here knows a tensor or a data set.

pub mod decode;
pub mod export;
pub mod png;
mod preparation;
mod psnr;
pub mod resize;

pub use decode::DecodeOptions;
pub use png::PngText;
pub use preparation::Preparation;
pub use psnr::{MAX_PSNR, psnr};
pub use resize::Filter;

use crate::error::{Error, ErrorKind, Result};

/// Channels of a colour.
pub const CHANNELS: usize = 3;
/// The most channels of a [`Picture`].
pub const MAX_CHANNELS: usize = 4;

/// An 8-bit picture of at least one pixel; row-major `[height, width, channels]`. The last of 2 or 4 channels is opacity,
/// by which the others are not multiplied.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
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
    /// An RGB picture from its pixels, `height * width * 3` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a side is 0 or the number of bytes is another.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        Self::with_channels(width, height, CHANNELS, pixels)
    }

    /// A picture of 1 to 4 channels from its pixels, `height * width * channels` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a side is 0, there are other channels, or the number of bytes is another.
    pub fn with_channels(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        check_channels(channels)?;
        check_shape(width, height, channels, pixels.len())?;
        Ok(Self { width, height, channels, pixels })
    }

    /// A picture of one colour, which has 1 to 4 channels; sides of 0 become 1.
    pub fn filled<const N: usize>(width: usize, height: usize, colour: [u8; N]) -> Self {
        const { assert!(N >= 1 && N <= MAX_CHANNELS, "a colour has 1 to 4 channels") };
        let (width, height) = (width.max(1), height.max(1));
        Self { width, height, channels: N, pixels: colour.repeat(width * height) }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes in a pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The bytes, `[height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, `[height, width, channels]`, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Red, green and blue at column `x` of row `y`; of a grey picture thrice its grey. Opacity is not looked at.
    ///
    /// # Panics
    /// If the pixel lies outside.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; CHANNELS] {
        assert!(x < self.width && y < self.height, "pixel ({x}, {y}) lies outside {}x{}", self.width, self.height);
        colour(&self.pixels[(y * self.width + x) * self.channels..][..self.channels])
    }

    /// The picture as RGB; what is transparent shows `background`.
    pub fn to_rgb(&self, background: [u8; CHANNELS]) -> Self {
        if self.channels == CHANNELS {
            return self.clone();
        }
        let pixel = |pixel: &[u8]| match pixel.len() {
            2 | 4 => over(colour(pixel), pixel[pixel.len() - 1], background),
            _ => colour(pixel),
        };
        let pixels = self.pixels.chunks_exact(self.channels).flat_map(pixel).collect();
        Self { width: self.width, height: self.height, channels: CHANNELS, pixels }
    }

    /// The picture of numbers `[height, width, channels]`, as [`FloatPicture::to_picture`] makes it.
    ///
    /// # Errors
    /// As there; [`ErrorKind::Usage`] where their count is another.
    pub fn from_floats(width: usize, height: usize, channels: usize, values: &[f32]) -> Result<Self> {
        // all at once first: a search that may end anywhere is slower than the rounding
        let all_finite = values.iter().fold(true, |finite, value| finite & value.is_finite());
        let broken = || values.iter().position(|value| !value.is_finite());
        if let Some(at) = (!all_finite).then(broken).flatten() {
            let (pixel, channel) = (at / channels, at % channels);
            return Err(Error::new(
                ErrorKind::NonFinite,
                format!(
                    "the picture holds {} at column {}, row {}, channel {channel}",
                    values[at],
                    pixel % width,
                    pixel / width
                ),
            ));
        }
        let bytes = values.iter().copied().map(to_byte).collect();
        Self::with_channels(width, height, channels, bytes)
    }

    /// The picture with so many channels, 1 to 4: transparency is laid on white where there is none among them, opacity that is
    /// not there is full, and grey is luma.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for other channels.
    pub fn to_channels(&self, channels: usize) -> Result<Self> {
        check_channels(channels)?;
        if channels == self.channels {
            return Ok(self.clone());
        }
        let (opaque, wanted) = (self.channels % 2 == 1, channels % 2 == 0);
        let laid = |pixel: &[u8]| {
            if wanted || opaque { colour(pixel) } else { over(colour(pixel), pixel[pixel.len() - 1], [255; CHANNELS]) }
        };
        let mut pixels = Vec::with_capacity(self.width * self.height * channels);
        for pixel in self.pixels.chunks_exact(self.channels) {
            let colour = laid(pixel);
            match channels {
                1 | 2 => pixels.push(if self.channels < CHANNELS { colour[0] } else { grey(colour) }),
                _ => pixels.extend(colour),
            }
            if wanted {
                pixels.push(if opaque { 255 } else { pixel[pixel.len() - 1] });
            }
        }
        Self::with_channels(self.width, self.height, channels, pixels)
    }

    /// The picture in [-1, 1]: `byte / 127.5 - 1`, `[height, width, channels]`.
    pub fn to_float(&self) -> FloatPicture {
        let values = self.pixels.iter().copied().map(to_unit_range).collect();
        FloatPicture { width: self.width, height: self.height, channels: self.channels, values }
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
        let c = self.channels;
        let row = |y: usize| &self.pixels[(y * self.width + x) * c..][..width * c];
        Ok(Self { width, height, channels: c, pixels: (y..y + height).flat_map(row).copied().collect() })
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
        write!(f, "Picture {}x{}x{}", self.width, self.height, self.channels)
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

    /// The picture in bytes: [-1, 1] to 0..=255, rounded to the nearest, what lies outside is clipped.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if a value is infinite or not a number: a broken picture is never written as a black
    /// one. [`ErrorKind::Usage`] if there are more than 4 channels.
    pub fn to_picture(&self) -> Result<Picture> {
        Picture::from_floats(self.width, self.height, self.channels, &self.values)
    }
}

/// Red, green and blue of a pixel of any channels.
fn colour(pixel: &[u8]) -> [u8; CHANNELS] {
    if let [r, g, b, ..] = *pixel { [r, g, b] } else { [pixel[0]; CHANNELS] }
}

/// A colour of this opacity over another: `round(alpha * top + (1 - alpha) * under)`, in bytes.
fn over(top: [u8; CHANNELS], alpha: u8, under: [u8; CHANNELS]) -> [u8; CHANNELS] {
    let alpha = u32::from(alpha);
    std::array::from_fn(|i| ((alpha * u32::from(top[i]) + (255 - alpha) * u32::from(under[i]) + 127) / 255) as u8)
}

/// Grey of a colour: the luma of Rec. 709, rounded.
fn grey([r, g, b]: [u8; CHANNELS]) -> u8 {
    ((2126 * u32::from(r) + 7152 * u32::from(g) + 722 * u32::from(b) + 5000) / 10_000) as u8
}

/// A byte as the networks see it: 0 is -1, 255 is 1.
pub fn to_unit_range(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// The byte nearest to a value of [-1, 1], clipped; the value is a number.
fn to_byte(value: f32) -> u8 {
    // by sums alone, of which a processor makes many at once: f32 has whole numbers only from 2^23 on, so that a sum with it is
    // rounded, half to even, and the last bits of that sum are the whole number
    const WHOLE: f32 = 8_388_608.0;
    let scaled = ((value + 1.0) * 127.5).clamp(0.0, 255.0);
    let sum = scaled + WHOLE;
    let was_rounded_down = scaled - (sum - WHOLE) == 0.5;
    (sum.to_bits() + u32::from(was_rounded_down)) as u8
}

/// Pictures side by side in rows of `columns`, with `gap` pixels of opaque `background` around each; cells are as large as
/// the largest picture, smaller ones sit in the middle of theirs. The sheet has the pictures' channels.
///
/// # Errors
/// [`ErrorKind::Usage`] without pictures or columns, or where the pictures differ in their channels.
pub fn grid(pictures: &[Picture], columns: usize, gap: usize, background: [u8; CHANNELS]) -> Result<Picture> {
    let cell_width = pictures.iter().map(Picture::width).max();
    let cell_height = pictures.iter().map(Picture::height).max();
    let (Some(cell_width), Some(cell_height), true) = (cell_width, cell_height, columns > 0) else {
        return Err(Error::usage("a grid needs at least one picture and one column"));
    };
    let channels = pictures[0].channels;
    if let Some(other) = pictures.iter().find(|picture| picture.channels != channels) {
        return Err(Error::usage(format!(
            "a grid needs pictures of like channels; some have {channels}, others {}",
            other.channels
        )));
    }
    let columns = columns.min(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (columns * (cell_width + gap) + gap, rows * (cell_height + gap) + gap);
    let ([r, g, b], l) = (background, grey(background));
    let mut sheet = match channels {
        1 => Picture::filled(width, height, [l]),
        2 => Picture::filled(width, height, [l, 255]),
        CHANNELS => Picture::filled(width, height, background),
        _ => Picture::filled(width, height, [r, g, b, 255]),
    };
    for (index, picture) in pictures.iter().enumerate() {
        let x = gap + index % columns * (cell_width + gap) + (cell_width - picture.width) / 2;
        let y = gap + index / columns * (cell_height + gap) + (cell_height - picture.height) / 2;
        for (row, line) in picture.pixels.chunks_exact(picture.width * channels).enumerate() {
            sheet.pixels[((y + row) * width + x) * channels..][..line.len()].copy_from_slice(line);
        }
    }
    Ok(sheet)
}

pub(crate) fn check_channels(channels: usize) -> Result<()> {
    if (1..=MAX_CHANNELS).contains(&channels) {
        return Ok(());
    }
    Err(Error::usage(format!("a picture has 1 (grey) to {MAX_CHANNELS} (RGBA) channels, not {channels}")))
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
    fn the_nearest_byte_is_what_rounding_says() {
        let rounded = |value: f32| ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
        let ties = (0..256).flat_map(|byte| {
            let tie = (byte as f32 + 0.5) / 127.5 - 1.0;
            (-40..40).map(move |ulps| f32::from_bits(tie.to_bits().wrapping_add_signed(ulps)))
        });
        let beyond = [-1.1, -1.0, -0.0, 0.0, 1.0, 1.1, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY];
        for value in ties.chain(beyond).filter(|value| !value.is_nan()) {
            assert_eq!(to_byte(value), rounded(value), "{value:e}");
        }
    }

    #[test]
    fn every_byte_survives_the_way_to_the_network_and_back() {
        for channels in 1..=MAX_CHANNELS {
            let pixel = |byte: u8| [byte, 255 - byte, byte ^ 0x55, byte / 2].into_iter().take(channels);
            let pixels = (0..=255).flat_map(pixel).collect();
            let picture = Picture::with_channels(16, 16, channels, pixels).unwrap();
            let float = picture.to_float();
            assert_eq!((float.values()[0], float.values()[255 * channels]), (-1.0, 1.0));
            assert_eq!(float.to_picture().unwrap(), picture);
        }
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
    fn a_sheet_has_the_channels_of_its_pictures() {
        fn sheet<const N: usize>(colour: [u8; N], expected: &[u8]) {
            let sheet = grid(&[Picture::filled(1, 1, colour)], 1, 1, [255, 0, 0]).unwrap();
            assert_eq!((sheet.width(), sheet.channels(), &sheet.pixels()[3 * N..4 * N]), (3, N, expected));
            assert_eq!(sheet.pixels()[4 * N..5 * N], colour);
        }
        sheet([7], &[54]);
        sheet([7, 9], &[54, 255]);
        sheet([7, 8, 9], &[255, 0, 0]);
        sheet([7, 8, 9, 10], &[255, 0, 0, 255]);
        let mixed = [Picture::filled(1, 1, [7]), Picture::filled(1, 1, [7; 4])];
        assert_eq!(grid(&mixed, 2, 1, [0; 3]).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn half_transparent_black_on_white_is_grey() {
        let rgba = Picture::with_channels(3, 1, 4, vec![0, 0, 0, 128, 9, 8, 7, 0, 9, 8, 7, 255]).unwrap();
        assert_eq!(rgba.to_rgb([255; 3]).pixels(), [127, 127, 127, 255, 255, 255, 9, 8, 7]);
        let grey = Picture::with_channels(2, 1, 2, vec![0, 128, 9, 0]).unwrap();
        assert_eq!(grey.to_rgb([0, 100, 255]).pixels(), [0, 50, 127, 0, 100, 255]);
        assert_eq!(Picture::filled(1, 1, [6]).to_rgb([0; 3]).pixels(), [6, 6, 6]);
        assert_eq!((rgba.pixel(1, 0), grey.pixel(1, 0)), ([9, 8, 7], [9, 9, 9]));
    }

    #[test]
    fn channels_are_one_to_four() {
        for channels in [0, 5] {
            assert!(Picture::with_channels(1, 1, channels, vec![0; channels]).is_err(), "{channels}");
        }
        let float = FloatPicture::new(1, 1, 5, vec![0.0; 5]).unwrap();
        assert_eq!(float.to_picture().unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn channels_come_and_go() {
        let rgba = Picture::with_channels(2, 1, 4, vec![200, 100, 0, 255, 0, 0, 0, 0]).unwrap();
        assert_eq!(rgba.to_channels(3).unwrap().pixels(), [200, 100, 0, 255, 255, 255]);
        assert_eq!(rgba.to_channels(1).unwrap().pixels(), [114, 255]);
        assert_eq!(rgba.to_channels(2).unwrap().pixels(), [114, 255, 0, 0]);
        let grey = Picture::filled(1, 1, [7]);
        assert_eq!(grey.to_channels(3).unwrap().pixels(), [7; 3]);
        assert_eq!(grey.to_channels(4).unwrap().pixels(), [7, 7, 7, 255]);
        assert!(grey.to_channels(5).is_err());
    }

    #[test]
    fn a_picture_refuses_pixels_that_do_not_fill_it() {
        for (width, height, len) in [(2, 2, 11), (0, 4, 0), (usize::MAX, 2, 6)] {
            assert!(Picture::new(width, height, vec![0; len]).is_err(), "{width}x{height} from {len}");
        }
    }
}
