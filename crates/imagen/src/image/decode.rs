//! Reading pictures that somebody else made: PNG, JPEG, WebP, GIF and BMP, told apart by content, under limits.
//!
//! The size in the header is checked before anything of that size is allocated, and with it all that decoding and converting
//! will hold at once, so that a file of fifty bytes cannot ask for gigabytes. EXIF orientation is applied; grey, palettes, CMYK
//! and 16-bit samples become 8-bit pixels of the channels that are asked for; without opacity among them, transparency is
//! composited on a colour. Of an animation the first picture is taken, and what is appended to a picture is not looked at. A
//! file that ends before its picture does is an error, never half a picture, whether or not it has an end mark; damage that
//! leaves the pixels alone (texts, profiles, a checksum of several) costs nothing.
//!
//! Colour profiles are ignored; there are no other formats, and no picture is fetched from anywhere. A decoder that panics does
//! so behind a wall: the file is then at fault.

mod chunks;
mod exif;
mod jpeg;

use std::borrow::Cow;
use std::io::{BufReader, Cursor};
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{
    ColorType, DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

pub(super) use self::chunks::{Chunk, SIGNATURE, chunks, push};
use super::{CHANNELS, Picture, check_channels, grey};
use crate::error::{Context, Error, Result};
use crate::input;

/// The formats that are read, for people.
pub const FORMATS: &str = "PNG, JPEG, WebP, GIF or BMP";

/// How pictures are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Channels of the picture: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; 3.
    pub channels: usize,
    /// The colour behind transparent pixels, where opacity is not asked for; white.
    pub background: [u8; CHANNELS],
    /// The largest width and height; 16384.
    pub max_side: u32,
    /// The most memory that decoding one picture may hold at once, beside the file, and the most bytes of a file; 512 MiB.
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
    /// `PNG`, `JPEG`, `WebP`, `GIF` or `BMP`.
    pub format: &'static str,
    /// Channels: 1 grey, 2 grey and alpha, 3 colour (a palette and CMYK too), 4 colour and alpha.
    pub channels: usize,
    /// Bits of a sample: 8 (fewer count as 8) or 16.
    pub bits: usize,
}

/// Reads a picture file.
///
/// # Errors
/// As [`decode`] and [`input::read`], with the path as context.
pub fn open(path: &Path, options: &DecodeOptions) -> Result<Picture> {
    let bytes = input::read(path, options.max_bytes).context(|| format!("picture {}", path.display()))?;
    decode(&bytes, options).context(|| format!("picture {}", path.display()))
}

/// The width and height that a picture file says in its header; nothing is decoded, and no orientation is heeded.
///
/// # Errors
/// [`crate::ErrorKind::Io`] if the file cannot be read; [`crate::ErrorKind::Data`] if it is no regular file or no picture.
pub fn size(path: &Path) -> Result<[usize; 2]> {
    let broken =
        || Error::data(format!("picture {}: the content is not a picture; expected {FORMATS}", path.display()));
    let reader = BufReader::new(input::open(path)?);
    let size = input::guarded(|| ImageReader::new(reader).with_guessed_format().map(ImageReader::into_dimensions));
    match size {
        Ok(Ok(Ok((width, height)))) => Ok([width as usize, height as usize]),
        Ok(Ok(Err(e))) => Err(broken().with_source(e)),
        Ok(Err(e)) => Err(Error::io("read", path, e)),
        Err(said) => Err(broken().with_source(said)),
    }
}

/// Decodes the bytes of a picture file.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if the format is another, the picture is larger than `options` allow (found out before it
/// is allocated), or the file is damaged or ends early; [`crate::ErrorKind::Usage`] for other than 1 to 4 channels.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
    decode_stored(bytes, options).map(|(picture, _)| picture)
}

/// As [`decode`], with how the picture was stored.
///
/// # Errors
/// As [`decode`].
pub fn decode_stored(bytes: &[u8], options: &DecodeOptions) -> Result<(Picture, Stored)> {
    check_channels(options.channels)?;
    match input::guarded(|| unguarded(bytes, options)) {
        Ok(decoded) => decoded,
        Err(said) => Err(Error::data("the picture is damaged: its decoder gave up").with_source(said)),
    }
}

fn unguarded(bytes: &[u8], options: &DecodeOptions) -> Result<(Picture, Stored)> {
    let format = match ::image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp),
        ) => format,
        Ok(other) => return Err(Error::data(format!("a {} file is not read; expected {FORMATS}", name(other)))),
        Err(_) => return Err(Error::data(format!("the content is not a picture; expected {FORMATS}"))),
    };
    let damaged = |e: ImageError| match e {
        ImageError::Limits(_) => too_large(None, options),
        e => Error::data(format!("the {} file is damaged or incomplete", name(format))).with_source(e),
    };
    let (mut image, orientation) = match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, options)?,
        _ => {
            let bytes = picture_alone(bytes, format, options)?;
            let mut limits = Limits::no_limits();
            limits.max_image_width = Some(options.max_side);
            limits.max_image_height = Some(options.max_side);
            limits.max_alloc = Some(options.max_bytes);
            let mut reader = ImageReader::with_format(Cursor::new(&bytes[..]), format);
            reader.limits(limits);
            let mut decoder = reader.into_decoder().map_err(damaged)?;
            let (width, height) = decoder.dimensions();
            if width == 0 || height == 0 {
                return Err(Error::data(format!("the {} file has no pixels", name(format))));
            }
            // A damaged EXIF block says nothing about the pixels: the picture is then upright.
            let notes = decoder.exif_metadata().ok().flatten();
            let orientation = match webp_notes(&bytes) {
                Some(notes) if format == ImageFormat::WebP => exif::orientation(notes),
                _ => notes.as_deref().and_then(exif::orientation),
            };
            let planes = match format {
                // of these the decoders keep a canvas beside the pixels
                ImageFormat::WebP | ImageFormat::Gif => 4 * u64::from(width) * u64::from(height),
                _ => 0,
            };
            allow([width as usize, height as usize], decoder.color_type(), planes, orientation, options)?;
            (DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation)
        }
    };
    let color = image.color();
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let stored = Stored {
        format: name(format),
        channels: usize::from(color.channel_count()),
        bits: usize::from(color.bits_per_pixel() / u16::from(color.channel_count())),
    };
    Ok((converted(image, options)?, stored))
}

fn decode_jpeg(bytes: &[u8], options: &DecodeOptions) -> Result<(DynamicImage, Option<Orientation>)> {
    let mut orientation = None;
    let ([width, height], channels, pixels) = jpeg::decode(bytes, |ahead| {
        orientation = ahead.exif.and_then(exif::orientation);
        let color = if ahead.channels == 1 { ColorType::L8 } else { ColorType::Rgb8 };
        allow(ahead.size, color, ahead.kept, orientation, options)
    })?;
    let (width, height) = (width as u32, height as u32);
    let image = match channels {
        1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    Ok((image.ok_or_else(|| Error::data("the JPEG file has too few pixels"))?, orientation))
}

/// The photograph's notes of a WebP file, which the decoder does not look for behind the pictures of an animation.
fn webp_notes(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(8..)?;
    loop {
        let (kind, length) = (rest.get(..4)?, u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize);
        let data = rest.get(8..8 + length)?;
        if kind == b"EXIF" {
            // some programs keep the mark of JPEG
            return Some(data.strip_prefix(b"Exif\0\0").unwrap_or(data));
        }
        rest = rest.get(8 + length + length % 2..)?;
    }
}

/// The part of a file that its picture is made of.
fn picture_alone<'a>(bytes: &'a [u8], format: ImageFormat, options: &DecodeOptions) -> Result<Cow<'a, [u8]>> {
    if format != ImageFormat::Png {
        return Ok(Cow::Borrowed(bytes));
    }
    let (alone, sound) = chunks::essential(bytes)?;
    if !sound {
        check_pixels(&alone, options)?;
    }
    Ok(Cow::Owned(alone))
}

/// Holds the pixels of a PNG file against the checksum that they have of their own, where that of the file is wrong.
fn check_pixels(png: &[u8], options: &DecodeOptions) -> Result<()> {
    let damaged = |e: ::png::DecodingError| {
        Error::data("the PNG file is damaged or incomplete: neither checksum of its pixels is right").with_source(e)
    };
    let mut how = ::png::DecodeOptions::default();
    how.set_ignore_adler32(false);
    let mut decoder = ::png::Decoder::new_with_options(Cursor::new(png), how);
    decoder.set_limits(::png::Limits { bytes: usize::try_from(options.max_bytes).unwrap_or(usize::MAX) });
    let mut reader = decoder.read_info().map_err(damaged)?;
    while reader.next_row().map_err(damaged)?.is_some() {}
    reader.finish().map_err(damaged)
}

/// Refuses a picture whose sides or memory are beyond the options, before either is taken. `planes` is what a decoder keeps
/// beside the pixels.
fn allow(
    size: [usize; 2],
    color: ColorType,
    planes: u64,
    orientation: Option<Orientation>,
    options: &DecodeOptions,
) -> Result<()> {
    let [width, height] = size.map(|side| side as u64);
    let turned = orientation.is_some_and(|orientation| orientation != Orientation::NoTransforms);
    let held = held(width.saturating_mul(height), color, planes, turned, options.channels);
    if width.max(height) > u64::from(options.max_side) || held > options.max_bytes {
        return Err(too_large(Some(size), options));
    }
    Ok(())
}

/// The most bytes that decoding and converting hold at once: what the decoder keeps and fills, what turning it copies, and
/// each step to the channels that are asked for.
fn held(pixels: u64, color: ColorType, planes: u64, turned: bool, channels: usize) -> u64 {
    let decoded = pixels.saturating_mul(u64::from(color.bytes_per_pixel()));
    let of = |channels: usize| pixels.saturating_mul(channels as u64);
    let eight_bits = color.bytes_per_pixel() == color.channel_count();
    let is = |channels: usize| eight_bits && usize::from(color.channel_count()) == channels;
    // what is turned or converted is held beside what it was
    let step = |from: u64, to: usize| if is(to) { from } else { from.saturating_add(of(to)) };
    let converting = if color.has_alpha() && channels % 2 == 1 {
        step(decoded, 4).max(of(4) + of(CHANNELS))
    } else {
        step(decoded, channels)
    };
    let turning = if turned { decoded.saturating_mul(2) } else { decoded };
    decoded.saturating_add(planes).max(turning).max(converting)
}

/// The picture in the channels that are asked for.
fn converted(image: DynamicImage, options: &DecodeOptions) -> Result<Picture> {
    let (color, channels) = (image.color(), options.channels);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = match (channels, color.has_alpha()) {
        (2, _) => image.into_luma_alpha8().into_raw(),
        (4, _) => image.into_rgba8().into_raw(),
        (CHANNELS, false) => image.into_rgb8().into_raw(),
        (_, false) => image.into_luma8().into_raw(),
        (_, true) => {
            let rgba = Picture::with_channels(width, height, 4, image.into_rgba8().into_raw())?;
            let rgb = rgba.to_rgb(options.background);
            drop(rgba);
            if channels == CHANNELS {
                return Ok(rgb);
            }
            rgb.pixels().as_chunks().0.iter().copied().map(grey).collect()
        }
    };
    Picture::with_channels(width, height, channels, pixels)
}

fn too_large(size: Option<[usize; 2]>, options: &DecodeOptions) -> Error {
    let size = size.map_or("is".to_string(), |[width, height]| format!("of {width}x{height} is"));
    Error::data(format!(
        "the picture {size} too large; at most {} pixels a side are read, and {} bytes held at \
         once",
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
