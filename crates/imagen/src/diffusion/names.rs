//! Reading a choice by name: `cosine`, `dynamic`, `ddpm:0.3`.
//!
//! Each enum of this folder has one list of its values, `ALL`, with default settings. A name is looked up in that list
//! by what `Display` writes, so that a new variant is read, written and offered in messages without another list. A
//! number behind a colon replaces the default setting.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// The value of `all` that is written as `name`; `what` names the list in the error.
pub(super) fn find<T: Copy + Display>(what: &str, all: &[T], name: &str) -> Result<T> {
    all.iter().copied().find(|value| value.to_string() == name).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        Error::usage(format!("unknown {what} '{name}', expected one of: {}", names.join(", ")))
    })
}

/// `name` or `name:setting`.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(name, setting)| (name, Some(setting)))
}

/// A number within a range; `what` names it in the error.
pub(super) fn number(what: &str, text: &str, range: RangeInclusive<f64>) -> Result<f64> {
    text.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| {
        Error::usage(format!("{what} is '{text}', expected a number from {} to {}", range.start(), range.end()))
    })
}

/// The error for a setting behind a name that takes none.
pub(super) fn no_setting(name: impl Display, setting: &str) -> Error {
    Error::usage(format!("'{name}' takes no setting, but ':{setting}' follows it; remove that"))
}

/// Writes `name`, or `name:setting` when the setting is not the default.
pub(super) fn write(f: &mut std::fmt::Formatter<'_>, name: &str, setting: f64, default: f64) -> std::fmt::Result {
    if setting == default { f.pad(name) } else { f.pad(&format!("{name}:{setting}")) }
}

/// serde's way into a type and out of it by its text: what `#[serde(try_from = "String", into = "String")]` asks for.
macro_rules! written_as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = $crate::error::Error;

            fn try_from(text: String) -> $crate::error::Result<Self> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use written_as_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = find("colour", &["red", "green"], "blue").unwrap_err();
        assert_eq!(error.to_string(), "unknown colour 'blue', expected one of: red, green");
    }

    #[test]
    fn a_number_out_of_range_or_not_a_number_is_refused() {
        assert_eq!(number("η", "0.5", 0.0..=1.0).unwrap(), 0.5);
        for text in ["-0.1", "1.1", "NaN", "inf", "", "half"] {
            let message = number("η", text, 0.0..=1.0).unwrap_err().to_string();
            assert_eq!(message, format!("η is '{text}', expected a number from 0 to 1"));
        }
    }
}
