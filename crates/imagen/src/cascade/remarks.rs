//! What a model will not follow in a prompt, found before it is drawn: text that its encoder does not read or does not know,
//! and prompts far from all that it was taught. Nothing here changes a picture.

use std::collections::BTreeSet;
use std::fmt;

use super::checkpoint::ModelFiles;
use super::deepfloyd::TOKENS;
use super::model::Imagen;
use super::request::Request;
use crate::error::Result;
use crate::text::{KnownCaptions, TextEncoder};

/// Distinct texts that are looked at.
const TEXTS: usize = 64;
/// Near captions that are named.
const NEAREST: usize = 3;
/// Characters of a text that are said again.
const QUOTED: usize = 60;

/// Something in a prompt that the picture will not follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// The text that is meant.
    pub text: String,
    /// What is wrong with it.
    pub kind: RemarkKind,
}

/// What a picture will not follow.
#[derive(Clone, Debug, PartialEq)]
pub enum RemarkKind {
    /// There are no words.
    Empty,
    /// The text encoder reads so many tokens; `rest` lies beyond them.
    Cut {
        /// Tokens that are read.
        tokens: usize,
        /// The end that is not read.
        rest: String,
    },
    /// The text encoder has no tokens for these parts.
    Unknown(String),
    /// The text encoder has no token for any part of it.
    Nothing,
    /// It may go beyond what the model was taught.
    Loose {
        /// The nearest captions, nearest first.
        nearest: Vec<String>,
    },
    /// It is far from everything that the model was taught.
    Far {
        /// The nearest captions, nearest first.
        nearest: Vec<String>,
    },
}

impl RemarkKind {
    /// A name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Cut { .. } => "cut",
            Self::Unknown(_) => "unknown",
            Self::Nothing => "nothing",
            Self::Loose { .. } => "loose",
            Self::Far { .. } => "far",
        }
    }

    /// The words that it is about: what is cut or unknown.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Cut { rest: words, .. } | Self::Unknown(words) => Some(words),
            _ => None,
        }
    }

    /// The captions that the text lies nearest to, where it is far from them.
    pub fn nearest(&self) -> &[String] {
        match self {
            Self::Loose { nearest } | Self::Far { nearest } => nearest,
            _ => &[],
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quoted(&self.text);
        match &self.kind {
            RemarkKind::Empty => f.write_str("a prompt is empty: what is drawn is the model's choice"),
            RemarkKind::Cut { tokens, rest } => {
                write!(f, "the text encoder reads {tokens} tokens of a prompt; not read: {}", quoted(rest.trim()))
            }
            RemarkKind::Unknown(words) => {
                write!(f, "the text encoder does not know {}: say it in English", quoted(words))
            }
            RemarkKind::Nothing => write!(
                f,
                "the text encoder knows nothing of {text}, and the picture will have nothing to do with it: say it in English"
            ),
            RemarkKind::Loose { nearest } => {
                write!(f, "{text} may go beyond what this model was taught; nearest are {}", listed(nearest))
            }
            RemarkKind::Far { nearest } => {
                write!(f, "{text} is far from everything that this model was taught; nearest are {}", listed(nearest))
            }
        }
    }
}

/// Looks at the prompts of a model.
#[derive(Clone, Debug, Default)]
pub struct Remarks {
    known: Option<KnownCaptions>,
}

impl Remarks {
    /// Reads what the model remembers of its captions, where its files hold that and it is of the model's own text encoder.
    ///
    /// # Errors
    /// As [`ModelFiles::known_captions`].
    pub fn open(imagen: &Imagen, files: Option<&ModelFiles>) -> Result<Self> {
        let (Some(encoder), Some(files)) = (imagen.encoder(), files) else { return Ok(Self::default()) };
        // a file of another encoder says nothing of this one
        Ok(Self { known: files.known_captions()?.filter(|known| known.encoder() == encoder.identity()) })
    }

    /// What the model was taught, where it remembers that.
    pub fn captions(&self) -> &[String] {
        self.known.as_ref().map_or(&[], KnownCaptions::captions)
    }

    /// What of a request's texts the pictures will not follow: each text once, prompts first.
    ///
    /// # Errors
    /// The text encoder's.
    pub fn of(&self, imagen: &Imagen, request: &Request) -> Result<Vec<Remark>> {
        if let Some(model) = imagen.deepfloyd() {
            let cut = |rest: String| Remark { text: String::new(), kind: RemarkKind::Cut { tokens: TOKENS, rest } };
            return Ok(model.cut_texts(request)?.into_iter().map(cut).collect());
        }
        let Some(encoder) = imagen.encoder() else { return Ok(Vec::new()) };
        let mut remarks = Vec::new();
        let mut seen = BTreeSet::new();
        let new = request.texts().into_iter().filter(|text| seen.insert(text.clone()));
        let distinct: Vec<String> = new.take(TEXTS).collect();
        let mut read = BTreeSet::new();
        for text in distinct {
            if text.trim().is_empty() {
                // to enlarge or vary a picture without a text is no oversight
                if request.start.is_none() && request.prompts.contains(&text) {
                    remarks.push(Remark { text, kind: RemarkKind::Empty });
                }
                continue;
            }
            if reading(encoder, &text, &mut remarks)? && request.prompts.contains(&text) {
                read.insert(text);
            }
        }
        self.distant(encoder, imagen.batch(request), request, read, &mut remarks)?;
        Ok(remarks)
    }

    /// Finds which prompts of `left` lie beyond what was taught.
    fn distant(
        &self,
        encoder: &dyn TextEncoder,
        batch: usize,
        request: &Request,
        mut left: BTreeSet<String>,
        remarks: &mut Vec<Remark>,
    ) -> Result<()> {
        let Some(known) = &self.known else { return Ok(()) };
        // together as they are drawn: what is encoded here is not encoded again
        let drawn = request.pictures.chunks(batch).map(|batch| batch.iter().map(|one| one.prompt).collect());
        for places in drawn.chain((0..request.prompts.len()).map(|other| vec![other])) {
            let prompts: Vec<&str> = places.into_iter().map(|place| request.prompts[place].as_str()).collect();
            if !prompts.iter().any(|prompt| left.contains(*prompt)) {
                continue;
            }
            for (prompt, near) in prompts.iter().zip(known.near(encoder, &prompts, NEAREST)?) {
                if !left.remove(*prompt) || !near.loose {
                    continue;
                }
                let nearest = near.nearest.iter().map(|(caption, _)| (*caption).to_owned()).collect();
                let kind = if near.far { RemarkKind::Far { nearest } } else { RemarkKind::Loose { nearest } };
                remarks.push(Remark { text: (*prompt).to_owned(), kind });
            }
        }
        Ok(())
    }
}

/// Finds which parts of a text the encoder does not read; returns whether it reads any.
fn reading(encoder: &dyn TextEncoder, text: &str, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut remark = |kind| remarks.push(Remark { text: text.to_owned(), kind });
    if let Some(rest) = encoder.cut_text(text)? {
        remark(RemarkKind::Cut { tokens: encoder.max_length(), rest: rest.trim().to_owned() });
    }
    let unknown: BTreeSet<&str> = encoder.unknown_text(text)?.into_iter().collect();
    if unknown.is_empty() {
        return Ok(true);
    }
    let rest = unknown.iter().fold(text.to_owned(), |rest, part| rest.replace(part, ""));
    let is_read = !rest.trim().is_empty();
    let words = || RemarkKind::Unknown(unknown.iter().copied().collect::<Vec<_>>().join(" "));
    remark(if is_read { words() } else { RemarkKind::Nothing });
    Ok(is_read)
}

fn listed(captions: &[String]) -> String {
    captions.iter().map(|caption| format!("{caption:?}")).collect::<Vec<_>>().join(", ")
}

/// A text in quotes, of a long one its beginning.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown = format!("{} …", shown.trim_end());
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_said_by_their_beginnings() {
        assert_eq!(quoted("a red apple"), "\"a red apple\"");
        let long = quoted(&"wort ".repeat(100));
        assert!(long.ends_with("wort …\"") && long.chars().count() < 70, "{long}");
    }
}
