//! `imagen models rm`: takes models out of the cache.

use imagen::said;

use super::wanted::cached;
use crate::failure::{Result, print_line};
use crate::hub::{RepoName, Settings};

/// Remove models from the cache
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// The models
    #[arg(required = true)]
    names: Vec<RepoName>,
}

impl Rm {
    pub(super) fn run(self) -> Result<()> {
        let settings = &Settings::from_env()?;
        let models: Vec<_> = self.names.into_iter().map(|name| cached(settings, name)).collect::<Result<_>>()?;
        for model in models {
            let bytes = model.bytes()?;
            model.remove()?;
            print_line(format_args!("{}: {} freed", model.name, said::bytes(bytes)))?;
        }
        Ok(())
    }
}
