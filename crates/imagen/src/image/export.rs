//! Pictures as JPEG and WebP, for those who want small files: the pixels alone, without what a PNG remembers.

use std::io::Cursor;

use ::image::codecs::jpeg::JpegEncoder;
use ::image::codecs::webp::WebPEncoder;
use ::image::{ExtendedColorType, ImageError};

use super::Picture;
use crate::error::{Error, Result};

/// Quality of JPEG, of 100.
const QUALITY: u8 = 95;

/// The bytes of a JPEG file of quality 95; what is transparent is on white.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if a side is longer than the format allows.
pub fn jpeg(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let picture = &picture.to_rgb([255; 3]);
    let [width, height] = sides(picture)?;
    let mut encoder = JpegEncoder::new_with_quality(Cursor::new(&mut bytes), QUALITY);
    encoder.encode(picture.pixels(), width, height, ExtendedColorType::Rgb8).map_err(|e| too_large("JPEG", e))?;
    Ok(bytes)
}

/// The bytes of a WebP file that loses nothing.
///
/// # Errors
/// As [`jpeg`].
pub fn webp(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let [width, height] = sides(picture)?;
    let colour = match picture.channels() {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let encoder = WebPEncoder::new_lossless(Cursor::new(&mut bytes));
    encoder.encode(picture.pixels(), width, height, colour).map_err(|e| too_large("WebP", e))?;
    Ok(bytes)
}

fn sides(picture: &Picture) -> Result<[u32; 2]> {
    let side =
        |side: usize| u32::try_from(side).map_err(|_| Error::usage(format!("a side of {side} pixels is too long")));
    Ok([side(picture.width())?, side(picture.height())?])
}

fn too_large(format: &str, error: ImageError) -> Error {
    Error::usage(format!("{format} does not hold a picture of this size; end the name in .png")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DecodeOptions, decode};

    #[test]
    fn webp_loses_nothing_and_jpeg_little() {
        for channels in 1..=4 {
            let pixels = (0..16 * 8 * channels).map(|i| if channels % 2 == 0 { 255 } else { (i / 3) as u8 }).collect();
            let picture = Picture::with_channels(16, 8, channels, pixels).unwrap();
            let options = DecodeOptions { channels, ..DecodeOptions::default() };
            assert!(decode::decode(&webp(&picture).unwrap(), &options).unwrap() == picture, "{channels}");
            let back = decode::decode(&jpeg(&picture).unwrap(), &DecodeOptions::default()).unwrap();
            let away = back.pixels().iter().zip(picture.to_rgb([255; 3]).pixels()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(away.unwrap() < 12, "{channels}: {away:?}");
        }
    }

    #[test]
    fn a_picture_that_is_too_large_is_refused() {
        let long = Picture::filled(70_000, 1, [0]);
        assert!(jpeg(&long).is_err() && webp(&long).is_err());
    }
}
