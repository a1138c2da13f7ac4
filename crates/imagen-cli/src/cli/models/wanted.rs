//! Which models a verb is about: of the hub, or of the cache.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::hub::{Cached, RepoName, Settings, Variant};

/// A published model, as the hub is asked for it.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The model, OWNER/NAME
    pub(super) name: RepoName,
    /// A branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = "main")]
    pub(super) revision: String,
    /// Which precision, where several are published
    #[arg(long, value_enum, default_value_t)]
    pub(super) variant: Variant,
}

/// A model of the cache, which must be there.
pub(super) fn cached(settings: &Settings, name: RepoName) -> Result<Cached> {
    let model = Cached::new(settings, name);
    if model.exists() {
        return Ok(model);
    }
    let local = [Path::new(model.name.as_str()).to_owned(), Path::new("models").join(model.name.as_str())];
    if let Some(folder) = local.iter().find(|folder| folder.is_dir()) {
        let failure = Failure::usage(format_args!("{} is a folder here, and no model of the cache", folder.display()));
        return Err(failure.hint("`imagen inspect` shows what is in it; to be rid of it, delete the folder"));
    }
    let failure = Failure::usage(format_args!("{} is not in the cache, {}", model.name, settings.cache.display()));
    Err(failure
        .hint(format_args!("`imagen models list` shows what is; `imagen models pull {}` fetches it", model.name)))
}
