//! `imagen eval human report`: what the votes come to, as a table, as JSON and as an HTML page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use imagen::eval::human::{Findings, FindingsOptions, Question, Score, Study};
use imagen::said::counted;

use super::report_page;
use super::store::Store;
use super::words::{asked, notes, raters, reliability, verdict};
use crate::cli::eval::finding::with_interval;
use crate::failure::{Result, print_line};
use crate::output::write_document;

const EXAMPLES: &str = "\
Examples:
  imagen eval human report studies/first
  imagen eval human report studies/first --json
  imagen eval human report studies/first --keep-all -o all-raters.html";

/// Report what raters said: preference rates with intervals, agreement, position bias
///
/// A rate counts an indifferent answer as half for each side, so 50 % is no preference. Intervals (95 %) come from
/// a bootstrap that draws whole prompts and whole raters: two or three raters leave them wide. A table is printed, and an HTML page with bar charts written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Report {
    /// The study's folder
    study: PathBuf,
    /// The page; report.html in the study's folder by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object, with every number
    #[arg(long)]
    json: bool,
    /// Count raters with too few right control answers too
    #[arg(long)]
    keep_all: bool,
}

impl Report {
    pub(super) fn run(self) -> Result<()> {
        let study = Study::open(&self.study)?;
        let ballots = Store::open_existing(&self.study, &study.prompts)?.ballots()?;
        let votes: Vec<_> = ballots.into_iter().map(|ballot| ballot.vote).collect();
        let options = FindingsOptions { keep_all: self.keep_all, ..FindingsOptions::default() };
        let found = Findings::of(&study, &votes, options)?;
        let name = self.study.display().to_string();
        let page = report_page::page(&study, &found, options, &name);
        let path = self.output.unwrap_or_else(|| self.study.join("report.html"));
        write_document(&path, page.as_bytes())?;
        if self.json {
            let pictures = study.pictures;
            return print_line(json!({
                "study": name, "suite": study.suite, "prompts": study.prompts.len(), "pictures": pictures,
                "seed": study.seed, "least_share_of_controls": options.controls, "keep_all": options.keep_all,
                "notes": notes(&found), "findings": found,
            }));
        }
        print_line(describe(&study, &found, options, &name))?;
        print_line(format_args!("page: {}", path.display()))
    }
}

/// The report of a study's votes as a page; its raters are judged as the report's own defaults say.
pub(super) fn page_of(folder: &Path, name: &str) -> Result<String> {
    let study = Study::open(folder)?;
    let ballots = Store::open_existing(folder, &study.prompts)?.ballots()?;
    let votes: Vec<_> = ballots.into_iter().map(|ballot| ballot.vote).collect();
    let options = FindingsOptions::default();
    Ok(report_page::page(&study, &Findings::of(&study, &votes, options)?, options, name))
}

fn describe(study: &Study, found: &Findings, options: FindingsOptions, name: &str) -> String {
    let mut lines = vec![format!(
        "{name}: {} ({}), {} each",
        counted(study.prompts.len(), "prompt"),
        study.suite,
        counted(study.pictures, "picture")
    )];
    lines.extend(raters(found, options).into_iter().map(|line| format!("  {line}")));
    let mut heads = BTreeSet::new();
    for row in &found.preferences {
        if heads.insert((row.question, &row.set, &row.against)) {
            lines.push(format!("\n{}: {} against {}", asked(row.question), row.set, row.against));
        }
        let share = |count: usize| 100.0 * count as f64 / row.answers as f64;
        let percent = row.interval.map(|i| imagen::eval::Interval { low: 100.0 * i.low, high: 100.0 * i.high });
        let rate = match percent {
            Some(_) => with_interval(100.0 * row.rate, percent, 1),
            None => format!("{:.1}", 100.0 * row.rate),
        };
        lines.push(format!(
            "  {:<20} {rate:<39} {:>3.0} / {:.0} / {:.0} %  {:>11}, {}: {}",
            row.category.as_deref().unwrap_or("all"),
            share(row.preferred),
            share(row.indifferent),
            share(row.opposed),
            counted(row.answers, "answer"),
            counted(row.prompts, "prompt"),
            verdict(row)
        ));
    }
    if !found.preferences.is_empty() {
        lines.push(
            "\n(preference in %, where indifferent counts half; then: for it / indifferent / for the other)".to_owned(),
        );
    }
    if !found.scores.is_empty() {
        lines.push(format!("\n{}: yes 100, somewhat 50, no 0", asked(Question::Caption)));
    }
    lines.extend(found.scores.iter().map(score));
    lines.push(String::new());
    lines.extend(reliability(found));
    lines.extend(notes(found).into_iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

fn score(row: &Score) -> String {
    let error = row.standard_error.map_or(String::new(), |error| format!(" ± {error:.2}"));
    let part = row.category.as_deref().unwrap_or("all");
    let (answers, prompts) = (counted(row.answers, "answer"), counted(row.prompts, "prompt"));
    format!("  {:<16} {part:<20} {:.1}{error}  ({answers}, {prompts})", row.set, row.mean)
}
