//! Names of pictures: a pattern such as `{prompt}-{seed}.png`, filled in for each.
//!
//! `{seed}`, `{index}` and `{prompt}` stand for the picture's own; `{index:04}` pads with zeros; `{{` and `}}` are the
//! braces themselves. A prompt enters as a slug of letters, digits and hyphens, so that it cannot name another folder.

use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest slug, in bytes: file names end at 255, and the pattern needs room around it.
const LONGEST_SLUG: usize = 100;

/// What tells a picture from its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Position among all pictures of the command, from 0.
    pub(crate) index: usize,
    /// What was asked for.
    pub(crate) prompt: String,
    /// The seed of this very picture.
    pub(crate) seed: u64,
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Zero-padded to at least this many digits.
    Seed(usize),
    /// Likewise.
    Index(usize),
    Prompt,
}

impl Pattern {
    /// The pattern with the position before the ending, so that names sort as pictures follow each other.
    pub(crate) fn in_order(mut self) -> Self {
        let end = self.0.len().saturating_sub(1);
        self.0.splice(end..end, [Part::Text("-".to_owned()), Part::Index(3)]);
        self
    }

    /// The name of a picture.
    pub(crate) fn name(&self, subject: &Subject) -> PathBuf {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Seed(width) => write!(name, "{:0width$}", subject.seed).expect("writing to a string"),
                Part::Index(width) => write!(name, "{:0width$}", subject.index).expect("writing to a string"),
                Part::Prompt => name.push_str(&slug(&subject.prompt)),
            }
        }
        name.into()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.next_if_eq(&c).is_some() => text.push(c),
                '{' => {
                    let inner: String = chars.by_ref().take_while(|&c| c != '}').collect();
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(placeholder(&inner)?);
                }
                '}' => return Err("a single `}`; write `}}` for the brace itself".into()),
                _ => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        if parts.is_empty() { Err("an output needs a name".into()) } else { Ok(Self(parts)) }
    }
}

fn placeholder(inner: &str) -> Result<Part, String> {
    let (name, format) = inner.split_once(':').unwrap_or((inner, ""));
    let width = match format {
        "" => Some(0),
        digits => digits.parse().ok().filter(|&width: &usize| (1..=20).contains(&width)),
    };
    match (name, width) {
        ("seed", Some(width)) => Ok(Part::Seed(width)),
        ("index", Some(width)) => Ok(Part::Index(width)),
        ("prompt", Some(0)) => Ok(Part::Prompt),
        ("seed" | "index", None) => Err(format!("`{{{inner}}}`: after the colon comes a width, as in `{{{name}:04}}`")),
        _ => Err(format!("`{{{inner}}}`: expected {{seed}}, {{index}} (or {{index:04}}) or {{prompt}}")),
    }
}

/// Letters and digits in lower case, everything between them one hyphen.
fn slug(prompt: &str) -> String {
    let mut slug = String::new();
    for c in prompt.chars().flat_map(char::to_lowercase) {
        if slug.len() + c.len_utf8() > LONGEST_SLUG {
            break;
        }
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    if slug.is_empty() { "untitled".into() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, prompt: &str) -> String {
        let subject = Subject { index: 7, prompt: prompt.into(), seed: 123 };
        pattern.parse::<Pattern>().unwrap().name(&subject).to_str().unwrap().to_owned()
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(name("out/{prompt}-{seed}.png", "A red apple!"), "out/a-red-apple-123.png");
        assert_eq!(name("{index:04}_{index}_{seed:6}.png", ""), "0007_7_000123.png");
        assert_eq!(name("{{{index}}}.png", ""), "{7}.png");
    }

    #[test]
    fn a_prompt_cannot_leave_the_folder_or_outgrow_a_file_name() {
        assert_eq!(name("{prompt}", "../../etc/passwd"), "etc-passwd");
        assert_eq!(name("{prompt}", "  Ünïcode — 猫  "), "ünïcode-猫");
        assert_eq!(name("{prompt}", " !? "), "untitled");
        assert!(name("{prompt}", &"猫 ".repeat(500)).len() <= LONGEST_SLUG);
    }

    #[test]
    fn a_bad_pattern_is_refused_with_the_reason() {
        let cases = [
            ("{sed}.png", "expected {seed}"),
            ("{prompt:3}", "expected {seed}"),
            ("{index:x}", "{index:04}"),
            ("{index:0}", "{index:04}"),
            ("a}b", "`}}`"),
            ("", "needs a name"),
        ];
        for (pattern, reason) in cases {
            let error = pattern.parse::<Pattern>().unwrap_err();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }
}
