//! `imagen models info`: what the hub has of a model, what of it would be fetched, and what is there already.

use std::path::Path;

use imagen::said;
use imagen::train::BUILT_IN;
use serde_json::json;

use super::wanted::Wanted;
use crate::failure::{Failure, Result, print_line};
use crate::hub::{Cached, Remote, Settings, choose};

/// Say what a published model consists of and what pulling it would fetch
#[derive(Debug, clap::Args)]
pub(super) struct Info {
    #[command(flatten)]
    wanted: Wanted,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(self) -> Result<()> {
        let settings = &Settings::from_env()?;
        if self.wanted.name.as_str() == BUILT_IN || Path::new(self.wanted.name.as_str()).is_dir() {
            let name = self.wanted.name.as_str();
            let failure = Failure::usage(format_args!(
                "{name} is on this machine, and `models info` asks about published models"
            ));
            let command = if name == BUILT_IN { "imagen inspect".to_owned() } else { format!("imagen inspect {name}") };
            return Err(failure.hint(format_args!("{command} shows what it is")));
        }
        let listing = Remote::open(settings)?.listing(&self.wanted.name, &self.wanted.revision)?;
        let choice = choose(&listing.files, self.wanted.variant);
        let here = Cached::new(settings, self.wanted.name.clone()).snapshot(&listing.commit);
        let there = |file: &str| here.as_ref().is_some_and(|folder| folder.join(file).exists());
        let licence = listing.licence.as_deref().unwrap_or("not stated");
        if self.json {
            let file =
                |file: &crate::hub::File| json!({ "name": file.name, "bytes": file.size, "cached": there(&file.name) });
            return print_line(json!({
                "name": self.wanted.name.as_str(),
                "commit": listing.commit,
                "licence": licence,
                "gated": listing.gated,
                "bytes": choice.bytes(),
                "files": choice.files.iter().map(file).collect::<Vec<_>>(),
                "pickled": choice.pickled,
            }));
        }
        let gated = if listing.gated { ", gated: it has to be agreed to on its page" } else { "" };
        let mut lines = vec![format!(
            "{} at {}; licence: {licence}{gated}",
            self.wanted.name,
            &listing.commit[..listing.commit.len().min(12)]
        )];
        for file in &choice.files {
            let mark = if there(&file.name) { "  here" } else { "" };
            lines.push(format!("  {:>9}  {}{mark}", said::bytes(file.size), file.name));
        }
        let others: u64 = listing.files.iter().map(|file| file.size).sum::<u64>() - choice.bytes();
        lines.push(format!(
            "  {:>9}  in {} files; {} in others are not needed",
            said::bytes(choice.bytes()),
            choice.files.len(),
            said::bytes(others)
        ));
        if !choice.pickled.is_empty() {
            lines.push(format!("  note: {} and the like are pickled and never read", choice.pickled[0]));
        }
        print_line(lines.join("\n"))
    }
}
