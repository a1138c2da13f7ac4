//! PNG files that remember how they were made.
//!
//! Two text chunks: keyword `parameters` holds the line format of the Stable Diffusion web UIs (what galleries and other
//! programs read), keyword `imagen` holds a JSON document that is complete. A text within Latin-1 becomes a `tEXt`
//! chunk, any other an `iTXt` chunk, as the PNG specification (section 11.3.3) wants it. Neither is interpreted here.
//!
//! Files appear whole or not at all: they are written under another name, synced and renamed.

use std::io::{Cursor, Write};
use std::path::Path;

use super::decode::{Chunk, SIGNATURE, chunks, push};
use super::{DecodeOptions, Picture};
use crate::error::{Context, Error, Result};
use crate::{files, input};

/// Keyword of the text that web UIs and galleries read.
const PARAMETERS: &str = "parameters";
/// Keyword of our JSON document.
const IMAGEN: &str = "imagen";
/// The most bytes of a text, unpacked: a thousand times what a record takes.
const TEXT_LIMIT: usize = 4 << 20;

/// What a PNG file says about its picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PngText {
    /// The prompt and settings in the web UIs' line format ("infotext").
    pub parameters: Option<String>,
    /// A JSON document with the complete request.
    pub imagen: Option<String>,
}

/// The bytes of a PNG file with the picture and its text.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if a text holds a NUL character, which PNG cannot say.
pub fn encode(picture: &Picture, text: &PngText) -> Result<Vec<u8>> {
    encode_with(picture, text, ::png::Compression::Balanced)
}

/// The bytes of a PNG file that is not kept: encoded in a fraction of the time, and somewhat larger.
///
/// # Errors
/// None but those of a picture that is wider than PNG can say.
pub fn encode_quickly(picture: &Picture) -> Result<Vec<u8>> {
    encode_with(picture, &PngText::default(), ::png::Compression::Fastest)
}

fn encode_with(picture: &Picture, text: &PngText, compression: ::png::Compression) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let width = u32::try_from(picture.width()).map_err(|_| too_wide(picture))?;
    let height = u32::try_from(picture.height()).map_err(|_| too_wide(picture))?;
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color_of(picture));
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_compression(compression);
    for (keyword, text) in [(PARAMETERS, &text.parameters), (IMAGEN, &text.imagen)] {
        let Some(text) = text else { continue };
        if text.contains('\0') {
            return Err(Error::usage(format!(
                "the {keyword} text of a PNG file cannot hold a NUL character; remove it"
            )));
        }
        let latin1 = text.chars().all(|c| u32::from(c) < 256);
        let add = if latin1 { ::png::Encoder::add_text_chunk } else { ::png::Encoder::add_itxt_chunk };
        add(&mut encoder, keyword.to_string(), text.clone()).map_err(cannot_encode)?;
    }
    let mut writer = encoder.write_header().map_err(cannot_encode)?;
    writer.write_image_data(picture.pixels()).map_err(cannot_encode)?;
    writer.finish().map_err(cannot_encode)?;
    Ok(bytes)
}

/// The bytes of an animated PNG file (APNG) that shows pictures of one shape over and over, each for so many milliseconds.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] without pictures, or where they differ in size or channels.
pub fn encode_animation(pictures: &[Picture], milliseconds: u16) -> Result<Vec<u8>> {
    let shape = |picture: &Picture| (picture.width(), picture.height(), picture.channels());
    let Some(first) = pictures.first() else { return Err(Error::usage("an animation needs at least one picture")) };
    if let Some(other) = pictures.iter().find(|picture| shape(picture) != shape(first)) {
        return Err(Error::usage(format!(
            "an animation needs pictures of one shape; there are {first:?} and {other:?}"
        )));
    }
    let mut bytes = Vec::new();
    let width = u32::try_from(first.width()).map_err(|_| too_wide(first))?;
    let height = u32::try_from(first.height()).map_err(|_| too_wide(first))?;
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color_of(first));
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_animated(pictures.len() as u32, 0).map_err(cannot_encode)?;
    encoder.set_frame_delay(milliseconds, 1000).map_err(cannot_encode)?;
    let mut writer = encoder.write_header().map_err(cannot_encode)?;
    for picture in pictures {
        writer.write_image_data(picture.pixels()).map_err(cannot_encode)?;
    }
    writer.finish().map_err(cannot_encode)?;
    Ok(bytes)
}

fn color_of(picture: &Picture) -> ::png::ColorType {
    match picture.channels() {
        1 => ::png::ColorType::Grayscale,
        2 => ::png::ColorType::GrayscaleAlpha,
        3 => ::png::ColorType::Rgb,
        _ => ::png::ColorType::Rgba,
    }
}

/// Writes a PNG file, whole or not at all.
///
/// # Errors
/// As [`encode`]; [`crate::ErrorKind::Io`] if the file cannot be written.
pub fn write(path: &Path, picture: &Picture, text: &PngText) -> Result<()> {
    let bytes = encode(picture, text).context(|| format!("picture {}", path.display()))?;
    write_whole(path, &bytes)
}

/// The text of a PNG file; a keyword that occurs twice counts once, the first time.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if the bytes are no PNG file, are more than `options` allow or end early, or a text is
/// damaged or longer than 4 MiB.
pub fn read_text(bytes: &[u8], options: &DecodeOptions) -> Result<PngText> {
    let damaged = |what: &str| Error::data(format!("the PNG file is damaged or incomplete: {what}"));
    if !bytes.starts_with(SIGNATURE) {
        return Err(Error::data("the content is not a PNG file"));
    }
    if bytes.len() as u64 > options.max_bytes {
        return Err(Error::data(format!(
            "the PNG file has {} bytes; at most {} are read",
            bytes.len(),
            options.max_bytes
        )));
    }
    let mut texts = PngText::default();
    let mut ended = false;
    for Chunk { kind, data, intact } in chunks(bytes) {
        ended |= &kind == b"IEND";
        if !matches!(&kind, b"tEXt" | b"zTXt" | b"iTXt") {
            continue;
        }
        let keyword = data.split(|&byte| byte == 0).next().unwrap_or_default();
        let place = match keyword {
            b"parameters" => &mut texts.parameters,
            b"imagen" => &mut texts.imagen,
            _ => continue,
        };
        if place.is_none() {
            if !intact {
                return Err(damaged("its text has another checksum"));
            }
            *place = Some(text_of(&kind, data)?);
        }
    }
    if ended { Ok(texts) } else { Err(damaged("it ends early")) }
}

/// The text of a chunk.
fn text_of(kind: &[u8; 4], data: &[u8]) -> Result<String> {
    // A file of this chunk alone: the pixel is never read.
    let mut alone = SIGNATURE.to_vec();
    push(&mut alone, b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    push(&mut alone, kind, data);
    push(&mut alone, b"IDAT", &[]);
    let read = || -> Result<String, ::png::DecodingError> {
        let decoder = ::png::Decoder::new(Cursor::new(&alone));
        let reader = decoder.read_info()?;
        let info = reader.info();
        if let Some(chunk) = info.uncompressed_latin1_text.first() {
            return Ok(chunk.text.clone());
        }
        if let Some(chunk) = info.compressed_latin1_text.first() {
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(TEXT_LIMIT)?;
            return chunk.get_text();
        }
        let mut chunk = info.utf8_text.first().cloned().ok_or(::png::DecodingError::LimitsExceeded)?;
        chunk.decompress_text_with_limit(TEXT_LIMIT)?;
        chunk.get_text()
    };
    let refused = || Error::data(format!("the text of the PNG file is damaged or longer than {TEXT_LIMIT} bytes"));
    match input::guarded(read) {
        Ok(text) => text.map_err(|e| refused().with_source(e)),
        Err(said) => Err(refused().with_source(said)),
    }
}

fn too_wide(picture: &Picture) -> Error {
    Error::usage(format!("{picture:?} is too large for a PNG file"))
}

fn cannot_encode(e: ::png::EncodingError) -> Error {
    Error::usage("the picture cannot be written as PNG").with_source(e)
}

/// Writes a whole file, or none; folders are made.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
    }
    files::write_whole(path, |file| file.write_all(bytes)).map_err(|e| Error::io("write", path, e))
}
