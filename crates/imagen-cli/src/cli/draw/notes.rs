//! What is said of prompts and settings before they are drawn. Nothing here changes a picture.

use imagen::cascade::{Imagen, ModelFiles, Remarks, Request, StageName, StageSettings};

use crate::failure::Result;
use crate::progress::Progress;

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
        if model.has_checker() {
            progress.note("the model ships a safety checker, and it judges every picture");
        }
    }
    for remark in Remarks::open(imagen, files)?.of(imagen, request)? {
        let more = match (remark.kind.nearest(), files.and_then(ModelFiles::folder)) {
            ([], _) => String::new(),
            (_, None) => " (`imagen models prompts` lists more)".to_owned(),
            (_, Some(folder)) => format!(" (`imagen models prompts --model {}` lists more)", folder.display()),
        };
        progress.note(format_args!("{remark}{more}"));
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
}
