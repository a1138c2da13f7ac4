//! What a report says in words, on the terminal and on its page.

use imagen::eval::human::{Findings, FindingsOptions, Preference, Question, Rater, Standing};
use imagen::said::counted;

use crate::cli::eval::finding::with_interval;

/// Fewer prompts than this give wide intervals.
const FEW: usize = 10;

/// The question in a few words.
pub(super) fn asked(question: Question) -> &'static str {
    match question {
        Question::Fidelity => "higher quality (fidelity)",
        Question::Alignment => "better represents the caption (alignment)",
        Question::Photorealism => "looks more real (photorealism)",
        Question::Caption => "the caption describes the picture (alignment)",
    }
}

/// What the interval of a rate says.
pub(super) fn verdict(row: &Preference) -> String {
    match row.interval {
        None => "no interval from one prompt".to_owned(),
        Some(_) if !row.separable => "not separable".to_owned(),
        Some(_) if row.rate > 0.5 => format!("{} is preferred", row.set),
        Some(_) => format!("{} is preferred", row.against),
    }
}

/// Who counts and who does not.
pub(super) fn raters(found: &Findings, options: FindingsOptions) -> Vec<String> {
    let left_out: Vec<&Rater> = found.raters.iter().filter(|rater| rater.standing != Standing::Kept).collect();
    let kept = found.raters.len() - left_out.len();
    let answers: usize = found.raters.iter().map(|rater| rater.answers).sum();
    let mut lines = vec![format!(
        "{kept} of {} count; {} in all, without controls",
        counted(found.raters.len(), "rater"),
        counted(answers, "answer")
    )];
    if options.keep_all {
        lines.push("every rater counts, whatever the controls say".to_owned());
    } else if found.raters.iter().all(|rater| rater.controls == 0) {
        lines.push("no control page was answered, so every rater counts".to_owned());
    }
    if kept == 0 && !left_out.is_empty() {
        lines.push("so nothing is left to report; --keep-all shows what was answered all the same".to_owned());
    }
    for rater in left_out {
        let why = match rater.standing {
            Standing::FailedControls => format!(
                "{} of {} control answers right, {:.0} % are needed",
                rater.correct,
                rater.controls,
                100.0 * options.controls
            ),
            _ => "no control answered yet".to_owned(),
        };
        lines.push(format!("left out: {} ({}), {why}", rater.id, rater.mode));
    }
    lines
}

/// What a reader has to know about the intervals.
pub(super) fn notes(found: &Findings) -> Vec<String> {
    let mut notes = Vec::new();
    let parts: Vec<&Preference> = found.preferences.iter().filter(|row| row.category.is_some()).collect();
    let wholes = found.overall().count();
    if wholes > 0 {
        let among =
            if parts.is_empty() { String::new() } else { format!(" and all {} within categories", parts.len()) };
        notes.push(format!(
            "each interval shown is a 95 % interval of its own; a set is called preferred only where its interval excludes 50 % \
             even after widening for {} over all prompts{among}",
            counted(wholes, "comparison")
        ));
    }
    if let Some(fewest) = parts.iter().map(|row| row.prompts).min().filter(|fewest| *fewest < FEW) {
        notes.push(format!("a category has only {}: its interval is wide", counted(fewest, "prompt")));
    }
    notes
}

/// How far raters agree, and whether they liked a side.
pub(super) fn reliability(found: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &found.agreement {
        let alpha = row.alpha.map_or("not defined".to_owned(), |alpha| format!("{alpha:.3}"));
        let (question, answers, units) = (row.question, row.answers, row.units);
        lines.push(format!(
            "agreement on {question}: Krippendorff's alpha (nominal) {alpha}, {} on {}",
            counted(answers, "answer"),
            counted(units, "page")
        ));
    }
    for row in &found.position {
        let percent = row.interval.map(|i| imagen::eval::Interval { low: 100.0 * i.low, high: 100.0 * i.high });
        let share = match percent {
            Some(_) => with_interval(100.0 * row.left, percent, 1),
            None => format!("{:.1}", 100.0 * row.left),
        };
        let said = match (row.interval.is_some(), row.biased) {
            (false, _) => "one rater alone says nothing of a position bias",
            (true, true) => "a liking for one side",
            (true, false) => "no position bias seen",
        };
        let answers = counted(row.answers, "answer");
        lines.push(format!("{}: the left picture in {share} % of {answers}; {said}", row.question));
    }
    lines
}
