//! `imagen models pull`: fetches what is needed of a model and is not there, goes on with what was begun, and checks it.

use std::path::Path;

use imagen::said;

use super::wanted::Wanted;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::hub::{Cached, Damage, Remote, Settings, Shown, choose};
use crate::interrupt;
use crate::progress::Progress;

/// Fetch a published model into the cache
///
/// Prints the folder, which `--model` and `--text-encoder` take. What is there already is not fetched again; a download that
/// was stopped goes on where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imagen models pull google/t5-v1_1-small")]
pub(super) struct Pull {
    #[command(flatten)]
    wanted: Wanted,
    /// Only say what would be fetched
    #[arg(long)]
    dry_run: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    pub(super) fn run(self) -> Result<()> {
        let settings = &Settings::from_env()?;
        let model = Cached::new(settings, self.wanted.name.clone());
        if settings.offline {
            let Some(folder) = model.snapshot(&self.wanted.revision) else {
                let failure =
                    Failure::usage(format_args!("{} is not in the cache, and HF_HUB_OFFLINE is set", self.wanted.name));
                return Err(failure.hint("unset HF_HUB_OFFLINE to fetch it"));
            };
            return print_line(folder.display());
        }
        let mut progress = Progress::new(self.quiet);
        let remote = Remote::open(settings)?;
        let listing = remote.listing(&self.wanted.name, &self.wanted.revision)?;
        let choice = choose(&listing.files, self.wanted.variant);
        if !choice.files.iter().any(|file| file.name.ends_with(".safetensors")) && !choice.pickled.is_empty() {
            let message =
                format_args!("{} has no safetensors, only pickled weights ({})", self.wanted.name, choice.pickled[0]);
            let failure = Failure::new(Exit::Model, message);
            return Err(failure
                .hint("pickled files can run code and are never read; look for a safetensors revision or conversion"));
        }
        let snapshot = model.snapshot(&listing.commit);
        let here = |file: &str| snapshot.as_ref().is_some_and(|folder| folder.join(file).exists());
        let (there, missing): (Vec<_>, Vec<_>) = choice.files.iter().partition(|file| here(&file.name));
        let left: u64 = missing.iter().map(|file| file.size).sum();
        let licence = listing.licence.as_deref().unwrap_or("not stated");
        progress.note(format_args!(
            "{} at {}: {} in {} files, {} of them to fetch; licence: {licence}",
            self.wanted.name,
            &listing.commit[..listing.commit.len().min(12)],
            said::bytes(choice.bytes()),
            choice.files.len(),
            said::bytes(left),
        ));
        if self.dry_run {
            return missing
                .iter()
                .try_for_each(|file| print_line(format_args!("{:>9}  {}", said::bytes(file.size), file.name)));
        }
        interrupt::watch("stopping after this file; what is fetched is kept")?;
        let mut shown = Shown::new(&mut progress, choice.bytes());
        for file in there {
            shown.finished(file.size);
        }
        for (number, file) in missing.iter().enumerate() {
            if interrupt::requested() {
                let failure = Failure::interrupted(format_args!("{number} of {} files were fetched", missing.len()));
                return Err(failure.hint("give the same command again to go on"));
            }
            let path = remote.fetch(&self.wanted.name, &listing.commit, file, &mut shown)?;
            check(&path, &file.name)?;
            shown.finished(file.size);
        }
        progress.finish();
        model.point(&self.wanted.revision, &listing.commit)?;
        match model.snapshot(&listing.commit) {
            Some(folder) => print_line(folder.display()),
            None => {
                Err(Failure::new(Exit::Model, format_args!("{} has no file that this program reads", self.wanted.name)))
            }
        }
    }
}

/// Whether what arrived is what was published; otherwise it is removed.
fn check(path: &Path, name: &str) -> Result<()> {
    match Cached::check(path)? {
        None => Ok(()),
        Some(Damage::Checksum | Damage::Missing) => {
            Cached::forget(path)?;
            let failure = Failure::new(
                Exit::Runtime,
                format_args!("{name} arrived damaged: its checksum is another; it was removed"),
            );
            Err(failure.hint("give the same command again"))
        }
    }
}
