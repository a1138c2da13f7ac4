//! `imagen eval human export`: every vote as it was given, for other tools.
//!
//! Corrected answers are there too; `latest` tells the one that counts.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use imagen::eval::human::Study;

use super::store::{Ballot, Store};
use crate::failure::{Result, print_line};
use crate::output::table::{self, cell};
use crate::output::write_document;

/// The columns, and the keys of the JSON objects.
const COLUMNS: [&str; 14] = [
    "rater",
    "mode",
    "question",
    "answer",
    "prompt",
    "text",
    "category",
    "left",
    "right",
    "preferred",
    "control",
    "at_ms",
    "spent_ms",
    "latest",
];

const EXAMPLES: &str = "\
Examples:
  imagen eval human export studies/first
  imagen eval human export studies/first -o elsewhere/votes";

/// Write a study's votes as CSV and JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// The study's folder
    study: PathBuf,
    /// The files' name without ending; votes in the study's folder by default
    #[arg(short, long, value_name = "NAME")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) fn run(self) -> Result<()> {
        let study = Study::open(&self.study)?;
        let ballots = Store::open_existing(&self.study, &study.prompts)?.ballots()?;
        let rows = rows(&study, &ballots);
        let name = self.output.unwrap_or_else(|| self.study.join("votes"));
        let with = |ending: &str| {
            let mut name = name.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        for (path, contents) in [(with(".csv"), csv(&rows)?), (with(".jsonl"), lines.into_bytes())] {
            write_document(&path, &contents)?;
            print_line(path.display())?;
        }
        Ok(())
    }
}

/// One object a vote, with the keys of [`COLUMNS`].
fn rows(study: &Study, ballots: &[Ballot]) -> Vec<Value> {
    let key = |ballot: &Ballot| (ballot.vote.rater.clone(), ballot.vote.trial.id(), ballot.vote.question);
    let latest: HashMap<_, usize> = ballots.iter().enumerate().map(|(at, ballot)| (key(ballot), at)).collect();
    let row = |(at, ballot): (usize, &Ballot)| {
        let Ballot { vote, at_ms, spent_ms } = ballot;
        let prompt = study.prompts.get(vote.trial.prompt);
        let side = |side: usize| vote.trial.panels.get(side).map(|panel| &panel.set);
        let values = [
            json!(vote.rater),
            json!(vote.trial.mode),
            json!(vote.question),
            json!(vote.answer),
            json!(vote.trial.prompt),
            json!(prompt.map(|prompt| &prompt.text)),
            json!(prompt.map(|prompt| &prompt.category)),
            json!(side(0)),
            json!(side(1)),
            // of a control no set is preferred
            json!(vote.preferred().filter(|_| vote.trial.control.is_none())),
            json!(vote.trial.control),
            json!(at_ms),
            json!(spent_ms),
            json!(latest[&key(ballot)] == at),
        ];
        COLUMNS.into_iter().map(str::to_owned).zip(values).collect::<serde_json::Map<_, _>>().into()
    };
    ballots.iter().enumerate().map(row).collect()
}

/// The rows as RFC 4180 has them.
fn csv(rows: &[Value]) -> Result<Vec<u8>> {
    let field = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        other => other.to_string(),
    };
    let lines = rows.iter().map(|row| COLUMNS.map(|column| field(&row[column])));
    table::csv(std::iter::once(COLUMNS.map(str::to_owned)).chain(lines))
}
