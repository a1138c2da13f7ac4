//! `imagen models verify`: every file of the cache against its checksum.

use imagen::said::counted;

use super::wanted::cached;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::hub::{Cached, Damage, RepoName, Settings, list};
use crate::interrupt;
use crate::progress::Progress;

/// Check the models in the cache against their checksums
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The models; all of the cache by default
    names: Vec<RepoName>,
    /// Remove damaged files, so that the next pull fetches them again
    #[arg(long)]
    remove: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<()> {
        let settings = &Settings::from_env()?;
        let models = if self.names.is_empty() {
            list(settings)?
        } else {
            self.names.into_iter().map(|name| cached(settings, name)).collect::<Result<_>>()?
        };
        interrupt::watch("stopping")?;
        let mut progress = Progress::new(self.quiet);
        let (mut files, mut damaged) = (0, 0);
        for model in models {
            let every = model.files()?;
            for (number, (name, path)) in every.iter().enumerate() {
                if interrupt::requested() {
                    return Err(Failure::interrupted(format_args!("{files} files were checked")));
                }
                files += 1;
                progress.step("check", number as u64 + 1, every.len() as u64, format_args!("{} {name}", model.name));
                let Some(damage) = Cached::check(path)? else { continue };
                damaged += 1;
                let what = match damage {
                    Damage::Checksum => "is damaged: its checksum is another",
                    Damage::Missing => "points at nothing",
                };
                progress.suspend(|| print_line(format_args!("{} {name} {what}", model.name)))?;
                if self.remove {
                    Cached::forget(path)?;
                }
            }
            progress.finish();
        }
        if files == 0 {
            return print_line("no published model is in the cache");
        }
        if damaged == 0 {
            return print_line(format_args!("{} as published", counted(files, "file")));
        }
        let failure = Failure::new(Exit::Model, format_args!("{damaged} of {files} files are damaged"));
        Err(failure.hint(if self.remove {
            "they are removed; `imagen models pull` fetches them again"
        } else {
            "`imagen models verify --remove` removes them, then `imagen models pull` fetches them again"
        }))
    }
}
