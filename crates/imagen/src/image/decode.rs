//! Reading pictures that somebody else made: PNG, JPEG and WebP, told apart by content, under limits.
//!
//! The size in the header is checked before anything of that size is allocated, so that a file of fifty bytes cannot ask
//! for gigabytes. EXIF orientation is applied; grey, palettes, CMYK and 16-bit samples become 8-bit pixels of the channels
//! that are asked for; without opacity among them, transparency is composited on a colour. Of an animation the first
//! picture is taken. A file that ends early is an error, never half a picture.
//!
//! Colour profiles are ignored; there are no other formats, and no picture is fetched from anywhere.

use std::io::Cursor;
use std::path::Path;

use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::{CHANNELS, Picture, check_channels, grey};
use crate::error::{Context, Error, Result};

/// How pictures are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Channels of the picture: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; 3.
    pub channels: usize,
    /// The colour behind transparent pixels, where opacity is not asked for; white.
    pub background: [u8; CHANNELS],
    /// The largest width and height; 16384.
    pub max_side: u32,
    /// The most memory that one picture may take decoded, and the most bytes of a file; 512 MiB.
    pub max_bytes: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { channels: CHANNELS, background: [255; CHANNELS], max_side: 16384, max_bytes: 512 << 20 }
    }
}

/// How a picture is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// `PNG`, `JPEG` or `WebP`.
    pub format: &'static str,
    /// Channels: 1 grey, 2 grey and alpha, 3 colour (a palette and CMYK too), 4 colour and alpha.
    pub channels: usize,
    /// Bits of a sample: 8 (fewer count as 8) or 16.
    pub bits: usize,
}

/// Reads a picture file.
///
/// # Errors
/// As [`decode`], with the path as context; [`crate::ErrorKind::Io`] if the file cannot be read.
pub fn open(path: &Path, options: &DecodeOptions) -> Result<Picture> {
    let size = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if size > options.max_bytes {
        return Err(Error::data(format!(
            "picture {} has {size} bytes; at most {} are read",
            path.display(),
            options.max_bytes
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    decode(&bytes, options).context(|| format!("picture {}", path.display()))
}

/// The width and height that a picture file says in its header; nothing is decoded, and no orientation is heeded.
///
/// # Errors
/// [`crate::ErrorKind::Io`] if the file cannot be read; [`crate::ErrorKind::Data`] if it is no picture.
pub fn size(path: &Path) -> Result<[usize; 2]> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::io("read", path, e))?;
    let broken = |e: ImageError| {
        Error::data(format!("picture {}: the content is no picture; expected PNG, JPEG or WebP", path.display()))
            .with_source(e)
    };
    let (width, height) = reader.into_dimensions().map_err(broken)?;
    Ok([width as usize, height as usize])
}

/// Decodes the bytes of a PNG, JPEG or WebP file.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if the format is another, the picture is larger than `options` allow (found out before it
/// is allocated), or the file is damaged or ends early; [`crate::ErrorKind::Usage`] for other than 1 to 4 channels.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    decode_stored(bytes, options).map(|(picture, _)| picture)
}

/// The same, and how the picture was stored.
///
/// # Errors
/// As [`decode`].
pub fn decode_stored(bytes: &[u8], options: &DecodeOptions) -> Result<(Picture, Stored)> {
    check_channels(options.channels)?;
    let format = match ::image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Ok(other) => {
            return Err(Error::data(format!("a {} file is not read; expected PNG, JPEG or WebP", name(other))));
        }
        Err(_) => return Err(Error::data("the content is no picture; expected PNG, JPEG or WebP")),
    };
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(options.max_side);
    limits.max_image_height = Some(options.max_side);
    limits.max_alloc = Some(options.max_bytes);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let damaged = |e: ImageError| match e {
        ImageError::Limits(_) => too_large(None, options),
        e => Error::data(format!("the {} file is damaged or incomplete", name(format))).with_source(e),
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > options.max_side || decoder.total_bytes() > options.max_bytes {
        return Err(too_large(Some((width, height)), options));
    }
    if width == 0 || height == 0 {
        return Err(Error::data(format!("the {} file has no pixels", name(format))));
    }
    if format == ImageFormat::Jpeg && !jpeg_has_its_end(bytes) {
        return Err(Error::data("the JPEG file ends in the middle of the picture; fetch it again"));
    }
    // A damaged EXIF block says nothing about the pixels: the picture is then upright.
    let orientation = decoder.orientation().ok();
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let (color, channels) = (image.color(), options.channels);
    let stored = Stored {
        format: name(format),
        channels: usize::from(color.channel_count()),
        bits: usize::from(color.bits_per_pixel() / u16::from(color.channel_count())),
    };
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = match (channels, color.has_alpha()) {
        (2, _) => image.into_luma_alpha8().into_raw(),
        (4, _) => image.into_rgba8().into_raw(),
        (CHANNELS, false) => image.into_rgb8().into_raw(),
        (_, false) => image.into_luma8().into_raw(),
        (_, true) => {
            let rgba = Picture::with_channels(width, height, 4, image.into_rgba8().into_raw())?;
            let rgb = rgba.to_rgb(options.background);
            if channels == CHANNELS {
                return Ok((rgb, stored));
            }
            rgb.pixels().as_chunks().0.iter().copied().map(grey).collect()
        }
    };
    Ok((Picture::with_channels(width, height, channels, pixels)?, stored))
}

fn too_large(size: Option<(u32, u32)>, options: &DecodeOptions) -> Error {
    let size = size.map_or("is".to_string(), |(width, height)| format!("of {width}x{height} is"));
    Error::data(format!(
        "the picture {size} too large; at most {} pixels a side and {} bytes decoded are read",
        options.max_side, options.max_bytes
    ))
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Avif => "AVIF",
        other => other.to_mime_type(),
    }
}

/// The decoder fills what is missing of a JPEG with grey and says nothing; so the end of the last scan is looked for.
/// Inside a scan neither marker can occur, because a data byte of FF is followed by 00.
fn jpeg_has_its_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last(0xD9) > last(0xDA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_inside_a_jpeg_does_not_count_as_its_end() {
        let thumbnail_then_scan = [0xFF, 0xDA, 1, 0xFF, 0xD9, 0xFF, 0xDA, 1, 2];
        assert!(!jpeg_has_its_end(&thumbnail_then_scan));
        assert!(jpeg_has_its_end(&[&thumbnail_then_scan[..], &[0xFF, 0xD9]].concat()));
    }
}
