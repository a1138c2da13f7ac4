//! Choices by name: `cosine`, `sr256`, `dynamic`, `ddpm:0.3`.
//!
//! A closed list of choices is an enum whose names `named!` lists once: `Display`, `FromStr` and serde write and read
//! them, so that files, flags, pages and messages say the same. Choices with a setting (a number behind a colon) have a list
//! `ALL` with default settings, in which `find` looks a name up, and go through serde by `by_text!`.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// From this likeness on, of 1 for equal, a name may have been meant.
const ALIKE: f64 = 0.6;

/// A choice from a closed list, each of which has a name.
pub trait Named: Copy + Send + Sync + 'static {
    /// What it is a choice of, in messages: `stage`.
    const WHAT: &'static str;
    /// Every choice, in the order in which it is offered.
    const CHOICES: &'static [Self];

    /// The name in files, flags, pages and messages.
    fn name(self) -> &'static str;
}

/// The value of `all` that is written as `name`; `what` names the list in the error.
pub(crate) fn find<T: Copy + Display>(what: &str, all: &[T], name: &str) -> Result<T> {
    all.iter().copied().find(|value| value.to_string() == name).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        let plain = name.to_lowercase().replace(['_', ' '], "-");
        let likeness = |name: &String| strsim::normalized_damerau_levenshtein(&plain, name);
        let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let meant = nearest.filter(|name| likeness(name) >= ALIKE).map(|name| format!("; did you mean {name}?"));
        Error::usage(format!(
            "unknown {what} '{name}', expected one of: {}{}",
            names.join(", "),
            meant.unwrap_or_default()
        ))
    })
}

/// `name` or `name:setting`.
pub(crate) fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(name, setting)| (name, Some(setting)))
}

/// A number within a range; `what` names it in the error.
pub(crate) fn number(what: &str, text: &str, range: RangeInclusive<f64>) -> Result<f64> {
    text.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| {
        Error::usage(format!("{what} is '{text}', expected a number from {} to {}", range.start(), range.end()))
    })
}

/// The error for a setting behind a name that takes none.
pub(crate) fn no_setting(name: impl Display, setting: &str) -> Error {
    Error::usage(format!("'{name}' takes no setting, but ':{setting}' follows it; remove that"))
}

/// Writes `name`, or `name:setting` when the setting is not the default.
pub(crate) fn write(f: &mut std::fmt::Formatter<'_>, name: &str, setting: f64, default: f64) -> std::fmt::Result {
    if setting == default { f.pad(name) } else { f.pad(&format!("{name}:{setting}")) }
}

/// serde's way into a type and out of it by its text.
macro_rules! by_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: String = serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use by_text;

/// The names of an enum without fields, of which `what` says what they are a choice of: `ALL`, `name`, [`Named`], `Display`,
/// `FromStr` and serde.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+ $(,)?) => {
        #[allow(unreachable_pub, reason = "some of them are known to their module alone")]
        impl $type {
            /// Every choice, in the order in which it is offered.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in files, flags, pages and messages.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl $crate::names::Named for $type {
            const WHAT: &'static str = $what;
            const CHOICES: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                Self::name(self)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(Self::name(*self))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> $crate::error::Result<Self> {
                $crate::names::find($what, &Self::ALL, name)
            }
        }

        $crate::names::by_text!($type);
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fruit {
        Apple,
        Pear,
    }
    named!(Fruit, "fruit", Apple = "red apple", Pear = "pear");

    #[test]
    fn a_choice_is_written_and_read_by_its_name_everywhere() {
        assert_eq!(Fruit::ALL, [Fruit::Apple, Fruit::Pear]);
        for fruit in Fruit::ALL {
            assert_eq!(fruit.to_string(), fruit.name());
            assert_eq!(fruit.name().parse::<Fruit>().unwrap(), fruit);
            let json = serde_json::to_value(fruit).unwrap();
            assert_eq!(json, fruit.name());
            assert_eq!(serde_json::from_value::<Fruit>(json).unwrap(), fruit);
        }
        let message = "unknown fruit 'plum', expected one of: red apple, pear";
        assert_eq!("plum".parse::<Fruit>().unwrap_err().to_string(), message);
        assert_eq!(serde_json::from_str::<Fruit>("\"plum\"").unwrap_err().to_string(), message);
        let meant = "Red_Appel".parse::<Fruit>().unwrap_err().to_string();
        assert!(meant.ends_with("red apple, pear; did you mean red apple?"), "{meant}");
    }

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
