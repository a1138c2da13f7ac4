//! JSON as it is written in the field: with a byte-order mark, in UTF-16, with Python's `NaN` and `Infinity` where a number is
//! missing, and with halves of characters that Python escapes out of names which are no UTF-8.
//!
//! A number that is none is null; half a character is the replacement character. Everything else is JSON or an error, whose
//! place is that in the text.

use serde::de::DeserializeOwned;

use super::text;
use crate::error::{Error, Result};

/// What Python writes for numbers that are none.
const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Reads JSON.
///
/// # Errors
/// [`crate::ErrorKind::Data`], with line and column, if it is none or does not say what is expected.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // what is JSON needs no second look
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = text(bytes)?.text;
    let (mended, nulls) = mend(&text);
    serde_json::from_str(&mended).map_err(|e| {
        let said = e.to_string();
        let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
        // each null stands for something of another length
        let before = |&&(line, column, _): &&(usize, usize, isize)| line == e.line() && column <= e.column();
        let longer: isize = nulls.iter().filter(before).map(|(_, _, longer)| longer).sum();
        Error::data(format!("{said} at line {} column {}", e.line(), e.column().saturating_add_signed(-longer)))
    })
}

/// The text with null for numbers that are none, and whole characters; where the nulls are (line, column, how much longer).
fn mend(text: &str) -> (String, Vec<(usize, usize, isize)>) {
    let mut out = String::with_capacity(text.len());
    let mut nulls = Vec::new();
    let (mut rest, mut quoted, mut line, mut from) = (text, false, 1, 0);
    while let Some(c) = rest.chars().next() {
        if !quoted && let Some(none) = NO_NUMBERS.iter().find(|none| rest.starts_with(**none)) {
            out.push_str("null");
            nulls.push((line, out.len() - from, 4 - none.len() as isize));
            rest = &rest[none.len()..];
            continue;
        }
        let mut length = c.len_utf8();
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                length += rest[1..].chars().next().map_or(0, char::len_utf8);
                if let Some(unit) = escaped(rest) {
                    let paired = matches!(unit, 0xD800..=0xDBFF)
                        && escaped(&rest[6..]).is_some_and(|low| matches!(low, 0xDC00..=0xDFFF));
                    length = if paired { 12 } else { 6 };
                    if !paired && matches!(unit, 0xD800..=0xDFFF) {
                        out.push_str(r"\uFFFD");
                        rest = &rest[length..];
                        continue;
                    }
                }
            }
            '\n' => (line, from) = (line + 1, out.len() + 1),
            _ => {}
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    (out, nulls)
}

/// The unit of an escape such as `\u00e9` at the start.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(r"\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn json_of_the_field_is_read() {
        let cases: [(&[u8], Value); 6] = [
            (br#"{"a":NaN,"b":[Infinity,-Infinity],"c":"NaN"}"#, json!({ "a": null, "b": [null, null], "c": "NaN" })),
            (b"\xEF\xBB\xBF{\"a\":1}", json!({ "a": 1 })),
            (b"\xFF\xFE[\x001\0]\0", json!([1])),
            (br#"["\udcff.png","\ud83c\udf4e \ud83c \\u"]"#, json!(["\u{FFFD}.png", "🍎 \u{FFFD} \\u"])),
            (b"[\"caf\xE9\"]", json!(["café"])),
            (br#"{"say \" NaN":NaN}"#, json!({ "say \" NaN": null })),
        ];
        for (bytes, expected) in cases {
            assert_eq!(json::<Value>(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn an_error_has_the_place_of_the_text_that_was_given() {
        for (bytes, place) in [
            (&b"{\"a\":NaN,\"b\":NaN,\"c\":x}"[..], "line 1 column 22"),
            (b"[NaN,\n-Infinity,\n  ?]", "line 3 column 3"),
            (b"", "line 1 column 0"),
        ] {
            let message = format!("{:#}", json::<Value>(bytes).unwrap_err());
            assert!(message.ends_with(place), "{message}");
        }
    }
}
