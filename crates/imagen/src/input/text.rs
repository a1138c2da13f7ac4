//! Bytes as text, whoever wrote them: UTF-8 with or without a byte-order mark, UTF-16 as Windows calls "Unicode", and
//! Windows-1252, which holds Latin-1.
//!
//! Line ends become `\n`. A guess is said ([`Text::guessed`]), and bytes that are in none of these are refused with their
//! place; nothing is replaced in silence.

use crate::error::{Error, Result};

/// A text and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text, with `\n` between its lines and without a byte-order mark.
    pub text: String,
    /// What it was taken for, where nothing in it says so.
    pub guessed: Option<&'static str>,
}

const UTF16: &str = "UTF-16";

/// The characters of 0x80 to 0x9F in Windows-1252; NUL where there is none.
const WINDOWS: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“', '”', '•',
    '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// The text of these bytes.
///
/// # Errors
/// [`crate::ErrorKind::Data`], with the place of what is in no encoding that is known here.
pub fn text(bytes: &[u8]) -> Result<Text> {
    let (text, guessed) = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => match std::str::from_utf8(rest) {
            Ok(text) => (text.to_owned(), None),
            Err(e) => return Err(in_none(bytes, e.valid_up_to() + 3)),
        },
        // this mark begins with that of UTF-16
        [0xFF, 0xFE, 0, 0, rest @ ..] => (utf32(rest, u32::from_le_bytes)?, None),
        [0, 0, 0xFE, 0xFF, rest @ ..] => (utf32(rest, u32::from_be_bytes)?, None),
        [0xFF, 0xFE, rest @ ..] => (utf16(rest, u16::from_le_bytes)?, None),
        [0xFE, 0xFF, rest @ ..] => (utf16(rest, u16::from_be_bytes)?, None),
        _ => match (std::str::from_utf8(bytes), without_mark(bytes)) {
            (_, Some((from, name))) => (utf16(bytes, from)?, Some(name)),
            (Ok(text), None) => (text.to_owned(), None),
            (Err(e), None) => (windows(bytes, e.valid_up_to())?, Some("Windows-1252")),
        },
    };
    let text = if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text };
    Ok(Text { text, guessed })
}

/// A text of which every line is somebody's own.
#[derive(Debug, Default)]
pub struct Lines {
    /// The text; a line that is in no encoding is empty.
    pub text: String,
    /// Lines, from 1, that were guessed, and what they were taken for; line 0 is the whole text.
    pub guessed: Vec<(usize, &'static str)>,
    /// Lines, from 1, that are in no encoding; line 0 is the whole text.
    pub broken: Vec<(usize, Error)>,
}

/// The text of these bytes, line by line where the whole is neither UTF-8 nor UTF-16: one line in another encoding then spoils
/// no other.
pub fn lines(bytes: &[u8]) -> Lines {
    match text(bytes) {
        Ok(Text { text, guessed: None }) => return Lines { text, ..Lines::default() },
        Ok(Text { text, guessed: Some(UTF16) }) => {
            return Lines { text, guessed: vec![(0, UTF16)], broken: Vec::new() };
        }
        Err(e) if matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 0, 0xFE, 0xFF, ..]) => {
            return Lines { broken: vec![(0, e)], ..Lines::default() };
        }
        _ => {}
    }
    let mut lines = Lines::default();
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        match text(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(Text { text, guessed }) => {
                lines.text += &text;
                lines.guessed.extend(guessed.map(|guessed| (number, guessed)));
            }
            Err(e) => lines.broken.push((number, e)),
        }
        lines.text.push('\n');
    }
    lines
}

type FromBytes = fn([u8; 2]) -> u16;

/// UTF-16 that does not say so: every second byte of mostly Latin text is 0.
fn without_mark(bytes: &[u8]) -> Option<(FromBytes, &'static str)> {
    let pairs = bytes.len() / 2;
    if pairs == 0 || bytes.len() % 2 != 0 {
        return None;
    }
    let zeros = |from: usize| bytes[from..].iter().step_by(2).filter(|&&byte| byte == 0).count();
    match (zeros(0), zeros(1)) {
        (0, odd) if odd * 2 > pairs => Some((u16::from_le_bytes, UTF16)),
        (even, 0) if even * 2 > pairs => Some((u16::from_be_bytes, UTF16)),
        _ => None,
    }
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> Result<String> {
    let (units, rest) = bytes.as_chunks::<4>();
    let characters: Option<String> = units.iter().map(|bytes| char::from_u32(unit(*bytes))).collect();
    match characters {
        Some(text) if rest.is_empty() => Ok(text),
        _ => Err(Error::data("the text begins as UTF-32 and holds what is no character; save it anew as UTF-8")),
    }
}

fn utf16(bytes: &[u8], unit: FromBytes) -> Result<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::data("the text begins as UTF-16 and ends in half a character; save it anew as UTF-8"));
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    let mut at = 0;
    let characters = char::decode_utf16(units).map(|c| {
        let place = at;
        at += c.as_ref().map_or(2, |c| 2 * c.len_utf16());
        c.map_err(|_| Error::data(format!("the text is no UTF-16 at byte {place} behind its mark; save it as UTF-8")))
    });
    characters.collect()
}

fn windows(bytes: &[u8], first: usize) -> Result<String> {
    let character = |(place, &byte): (usize, &u8)| match byte {
        0x80..=0x9F => {
            let c = WINDOWS[usize::from(byte - 0x80)];
            if c == '\0' { Err(in_none(bytes, place)) } else { Ok(c) }
        }
        // a text has none, and a picture or an archive under a text's name has many
        0 => Err(in_none(bytes, first)),
        byte => Ok(char::from(byte)),
    };
    bytes.iter().enumerate().map(character).collect()
}

fn in_none(bytes: &[u8], place: usize) -> Error {
    Error::data(format!(
        "byte {:#04x} at position {place} is in no encoding that is read (UTF-8, UTF-16, Windows-1252); save the text as \
         UTF-8",
        bytes[place]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_a_caption_gives_the_caption() {
        let utf16 = |text: &str, swap: bool| -> Vec<u8> {
            text.encode_utf16().flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        let said = "the cook’s café\nüber 🍎";
        let utf32 = |text: &str, swap: bool| -> Vec<u8> {
            let unit = |c: char| if swap { u32::from(c).to_be_bytes() } else { u32::from(c).to_le_bytes() };
            text.chars().flat_map(unit).collect()
        };
        let cases: [(Vec<u8>, &str, Option<&str>); 10] = [
            (said.as_bytes().to_vec(), said, None),
            ([b"\xEF\xBB\xBF", said.replace('\n', "\r\n").as_bytes()].concat(), said, None),
            ([b"\xFF\xFE".to_vec(), utf16(said, false)].concat(), said, None),
            ([b"\xFE\xFF".to_vec(), utf16(said, true)].concat(), said, None),
            ([b"\xFF\xFE\0\0".to_vec(), utf32(said, false)].concat(), said, None),
            ([b"\0\0\xFE\xFF".to_vec(), utf32(said, true)].concat(), said, None),
            (utf16("a red apple", false), "a red apple", Some("UTF-16")),
            (utf16("a red apple", true), "a red apple", Some("UTF-16")),
            (b"the cook\x92s caf\xE9\rtwo".to_vec(), "the cook’s café\ntwo", Some("Windows-1252")),
            (Vec::new(), "", None),
        ];
        for (bytes, expected, guessed) in cases {
            let found = text(&bytes).unwrap();
            assert_eq!((found.text.as_str(), found.guessed), (expected, guessed), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_in_another_encoding_spoils_no_other() {
        let found = lines("naïve\r\n".bytes().chain(*b"caf\xE9\nab\x81\nlast").collect::<Vec<_>>().as_slice());
        assert_eq!(found.text, "naïve\ncafé\n\nlast\n");
        assert_eq!(found.guessed, [(2, "Windows-1252")]);
        assert!(matches!(&found.broken[..], [(3, e)] if format!("{e:#}").contains("0x81 at position 2")));
        assert_eq!(lines(b"a\nb").text, "a\nb");
        assert_eq!(lines(b"\xFF\xFEa").broken[0].0, 0);
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let cases: [(&[u8], &str); 6] = [
            (b"ab\x81c", "0x81 at position 2"),
            (b"\xEF\xBB\xBFab\xFF", "0xff at position 5"),
            (b"\xFF\xFEa\0b", "half a character"),
            (b"\xFF\xFE\0\0\0\xD8\0\0", "no character"),
            (b"\xFF\xFEa\0\x00\xD8b\0", "no UTF-16 at byte 2"),
            (b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR", "0x89 at position 0"),
        ];
        for (bytes, expected) in cases {
            let message = format!("{:#}", text(bytes).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
    }
}
