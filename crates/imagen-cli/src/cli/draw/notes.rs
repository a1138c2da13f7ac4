//! What is said of prompts before they are drawn: text that the encoder does not read, and prompts far from all that the
//! model was taught. Nothing here changes a picture.

use std::collections::BTreeSet;

use imagen::cascade::deepfloyd::TOKENS;
use imagen::cascade::{Imagen, ModelFiles, Request, StageName, StageSettings};
use imagen::text::TextEncoder;

use crate::failure::Result;
use crate::progress::Progress;

/// Prompts that are looked at, and near captions that are named.
const PROMPTS: usize = 64;
const NEAREST: usize = 3;
/// Characters of a prompt that are said again.
const QUOTED: usize = 60;
/// A stage that does not say up to what it was tried is taken to bear so many times its own guidance.
const FAR_ABOVE: f64 = 3.0;

/// Says what the model will not understand, and what it does besides drawing.
pub(in crate::cli) fn prompts(
    files: Option<&ModelFiles>,
    imagen: &Imagen,
    request: &Request,
    progress: &Progress,
) -> Result<()> {
    if let Some(model) = imagen.deepfloyd() {
        if request.embeddings.is_none() {
            let cached = model.texts_are_cached(request)?;
            progress.note(if cached { "the prompts' embeddings are in the cache" } else { "encoding the prompts" });
        }
        for end in model.cut_texts(request)? {
            unread(&end, TOKENS, progress);
        }
        if model.has_checker() {
            progress.note("the model ships a safety checker, and it judges every picture");
        }
        return Ok(());
    }
    let (Some(encoder), Some(files)) = (imagen.encoder(), files) else { return Ok(()) };
    let mut seen = BTreeSet::new();
    let new = request.texts().into_iter().filter(|text| seen.insert(text.clone()));
    let distinct: Vec<String> = new.take(PROMPTS).collect();
    let mut read = BTreeSet::new();
    for prompt in distinct {
        if prompt.trim().is_empty() {
            // to enlarge or vary a picture without a text is no oversight
            if request.start.is_none() && request.prompts.contains(&prompt) {
                progress.note("a prompt is empty: what is drawn is the model's choice");
            }
            continue;
        }
        if reading(encoder, &prompt, progress)? && request.prompts.contains(&prompt) {
            read.insert(prompt);
        }
    }
    // a file of another encoder says nothing of this one
    let Some(known) = files.known_captions()?.filter(|known| known.encoder() == encoder.identity()) else {
        return Ok(());
    };
    // together as they are drawn: what is encoded here is not encoded again
    let drawn =
        request.pictures.chunks(imagen.batch(request)).map(|batch| batch.iter().map(|one| one.prompt).collect());
    for places in drawn.chain((0..request.prompts.len()).map(|other| vec![other])) {
        let prompts: Vec<&str> = places.into_iter().map(|place| request.prompts[place].as_str()).collect();
        if !prompts.iter().any(|prompt| read.contains(*prompt)) {
            continue;
        }
        for (prompt, near) in prompts.iter().zip(known.near(encoder, &prompts, NEAREST)?) {
            if !read.remove(*prompt) || !near.loose {
                continue;
            }
            let what = if near.far { "is far from everything that" } else { "may go beyond what" };
            let names: Vec<String> = near.nearest.iter().map(|(caption, _)| format!("{caption:?}")).collect();
            let names = names.join(", ");
            progress.note(format_args!(
                "{} {what} this model was taught; nearest are {names} (`imagen models prompts{}` lists more)",
                quoted(prompt),
                files.folder().map(|folder| format!(" --model {}", folder.display())).unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// Says where several prompts of one word each were probably meant as one.
pub(in crate::cli) fn unquoted(prompts: &[String], progress: &Progress) {
    if prompts.len() > 1 && prompts.iter().all(|prompt| !prompt.trim().contains(char::is_whitespace)) {
        progress.note(format_args!(
            "{} prompts of one word each; to draw them as one, put quotes around it: \"{}\"",
            prompts.len(),
            prompts.join(" ")
        ));
    }
}

/// Says where the negative prompt has no effect.
pub(in crate::cli) fn negative(request: &Request, stages: &[(StageName, StageSettings)], progress: &Progress) {
    if !request.negative.is_empty() && stages.iter().all(|(_, settings)| settings.guidance == 1.0) {
        progress.note("--negative has no effect, because every stage has guidance 1: add --guidance 2");
    }
}

/// Says where a stage is guided beyond what it was tried with: the pictures may be burnt, and nothing else tells.
pub(in crate::cli) fn guidance(imagen: &Imagen, stages: &[(StageName, StageSettings)], progress: &Progress) {
    for info in imagen.stages() {
        let Some((_, settings)) = stages.iter().find(|(stage, _)| *stage == info.stage) else { continue };
        let (stage, asked, own) = (info.stage, settings.guidance, info.settings.guidance);
        match info.max_guidance {
            Some(most) if asked > most => progress.note(format_args!(
                "guidance {asked} of {stage} is beyond {most}, up to which it was tried: colours may burn out; its own is {own}"
            )),
            None if asked > FAR_ABOVE * own.max(1.0) => progress
                .note(format_args!("guidance {asked} of {stage} is far above its own, {own}: colours may burn out")),
            _ => {}
        }
    }
}

/// A text in quotes, of a long one its beginning.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown = format!("{} …", shown.trim_end());
    }
    format!("\"{shown}\"")
}

/// Says where parentheses look like weights and are text.
pub(in crate::cli) fn weights(request: &Request, progress: &Progress) {
    if let Some(part) = request.prompts.iter().find_map(|prompt| weight_in(prompt)).filter(|_| !request.weighted) {
        progress.note(format_args!("{part} is read as text; --weights makes it a weight"));
    }
}

/// The first part of a text that is written as weights are: `(red:1.5)`.
fn weight_in(text: &str) -> Option<&str> {
    text.match_indices('(').find_map(|(start, _)| {
        let inner = text[start + 1..].split_once(')')?.0;
        let (words, number) = inner.rsplit_once(':')?;
        let is_weight = !words.trim().is_empty() && number.trim().parse::<f64>().is_ok();
        is_weight.then(|| &text[start..start + inner.len() + 2])
    })
}

/// Says which end of a prompt an encoder of so many tokens does not read.
fn unread(end: &str, tokens: usize, progress: &Progress) {
    progress.note(format_args!("the text encoder reads {tokens} tokens of a prompt; not read: {}", quoted(end.trim())));
}

/// Says which parts of a prompt the encoder does not read; returns whether it reads any.
fn reading(encoder: &dyn TextEncoder, prompt: &str, progress: &Progress) -> Result<bool> {
    if let Some(rest) = encoder.cut_text(prompt)? {
        unread(rest, encoder.max_length(), progress);
    }
    let unknown: BTreeSet<&str> = encoder.unknown_text(prompt)?.into_iter().collect();
    let rest = unknown.iter().fold(prompt.to_owned(), |rest, part| rest.replace(part, ""));
    if !unknown.is_empty() && rest.trim().is_empty() {
        progress.note(format_args!(
            "the text encoder knows nothing of {}, and the picture will have nothing to do with it: say it in English",
            quoted(prompt)
        ));
        return Ok(false);
    }
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.into_iter().collect();
        progress.note(format_args!("the text encoder does not know {}: say it in English", quoted(&unknown.join(" "))));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_a_weight_is_found() {
        for (text, expected) in [
            ("a (red:1.5) apple", Some("(red:1.5)")),
            ("(a) ((b: 2)) c", Some("((b: 2)")),
            ("a (smile :) face", None),
            ("a clock (9:30)", Some("(9:30)")),
            ("a (red) apple: 2", None),
            ("(", None),
        ] {
            assert_eq!(weight_in(text), expected, "{text}");
        }
    }

    #[test]
    fn long_texts_are_said_by_their_beginnings() {
        assert_eq!(quoted("a red apple"), "\"a red apple\"");
        let long = quoted(&"wort ".repeat(100));
        assert!(long.ends_with("wort …\"") && long.chars().count() < 70, "{long}");
    }
}
