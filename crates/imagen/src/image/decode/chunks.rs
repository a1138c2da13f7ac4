//! A PNG file down to what its picture is made of.
//!
//! Texts, profiles, dates and animations are left out before a decoder sees them, so that none of them, damaged or grown out of
//! a few bytes, costs the picture or memory; so are chunks that nobody knows, a second palette and a missing end mark. What is
//! kept is bounded here: the decoder takes a palette as it comes.

use crate::error::{Error, Result};

/// What every PNG file begins with.
pub(in crate::image) const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// The most bytes of a photograph's notes that are looked at for its orientation.
const EXIF_LIMIT: usize = 1 << 20;
const PALETTE: u8 = 3;

/// A chunk of a file.
pub(in crate::image) struct Chunk<'a> {
    pub(in crate::image) kind: [u8; 4],
    pub(in crate::image) data: &'a [u8],
    /// Whether all of it is there and has its checksum.
    pub(in crate::image) intact: bool,
}

/// The chunks of a file in their order, up to its end or the end mark.
pub(in crate::image) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.strip_prefix(SIGNATURE).unwrap_or_default();
    std::iter::from_fn(move || {
        let length: [u8; 4] = *rest.first_chunk()?;
        let kind: [u8; 4] = rest.get(4..8)?.try_into().ok()?;
        let whole = &rest[8..];
        let length = u32::from_be_bytes(length) as usize;
        let data = &whole[..length.min(whole.len())];
        let crc = whole.get(length..).and_then(<[u8]>::first_chunk::<4>);
        let intact = crc.is_some_and(|crc| {
            let mut hash = crc32fast::Hasher::new();
            hash.update(&kind);
            hash.update(data);
            hash.finalize() == u32::from_be_bytes(*crc)
        });
        rest = whole.get(length.saturating_add(4)..).filter(|_| &kind != b"IEND").unwrap_or_default();
        Some(Chunk { kind, data, intact })
    })
}

/// Appends a chunk.
pub(in crate::image) fn push(to: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let mut hash = crc32fast::Hasher::new();
    hash.update(kind);
    hash.update(data);
    to.extend((data.len() as u32).to_be_bytes());
    to.extend(kind);
    to.extend(data);
    to.extend(hash.finalize().to_be_bytes());
}

/// A file of the picture alone, and whether the checksums of its pixels are right.
///
/// # Errors
/// [`crate::ErrorKind::Data`] if a part that the picture is made of is missing or damaged.
pub(super) fn essential(bytes: &[u8]) -> Result<(Vec<u8>, bool)> {
    let damaged = |what: &str| Error::data(format!("the PNG file is damaged or incomplete: {what}"));
    let (mut header, mut palette, mut clear, mut exif) = (None, None, None, None);
    let mut pixels: Vec<&[u8]> = Vec::new();
    let mut sound = true;
    for Chunk { kind, data, intact } in chunks(bytes) {
        let first = match &kind {
            b"IHDR" => &mut header,
            b"PLTE" => &mut palette,
            b"tRNS" => &mut clear,
            b"eXIf" if intact && data.len() <= EXIF_LIMIT => &mut exif,
            b"IDAT" => {
                pixels.push(data);
                sound &= intact;
                continue;
            }
            _ => continue,
        };
        if first.is_none() {
            if !intact {
                return Err(damaged(&format!("its {} has another checksum", String::from_utf8_lossy(&kind))));
            }
            *first = Some(data);
        }
    }
    let header: &[u8; 13] = header.and_then(|h| h.try_into().ok()).ok_or_else(|| damaged("it has no header"))?;
    if pixels.is_empty() {
        return Err(damaged("it has no pixels"));
    }
    let mut out = SIGNATURE.to_vec();
    let length: usize = pixels.iter().map(|part| part.len()).sum();
    out.reserve(length + 4096);
    push(&mut out, b"IHDR", header);
    let kind = header[9];
    if kind == PALETTE {
        let palette = palette.ok_or_else(|| damaged("it has no palette"))?;
        // what is left of a colour is none
        let palette = &palette[..palette.len().min(3 * 256) / 3 * 3];
        if palette.is_empty() {
            return Err(damaged("its palette is empty"));
        }
        push(&mut out, b"PLTE", palette);
        clear = clear.map(|clear| &clear[..clear.len().min(palette.len() / 3)]);
    }
    let fits = |clear: &&[u8]| matches!((kind, clear.len()), (0, 2) | (2, 6) | (PALETTE, 1..));
    if let Some(clear) = clear.filter(fits) {
        push(&mut out, b"tRNS", clear);
    }
    if let Some(exif) = exif {
        push(&mut out, b"eXIf", exif);
    }
    // A chunk is at most 2^31 - 1 bytes long.
    let pixels = pixels.concat();
    for part in pixels.chunks(1 << 30) {
        push(&mut out, b"IDAT", part);
    }
    push(&mut out, b"IEND", &[]);
    Ok((out, sound))
}
