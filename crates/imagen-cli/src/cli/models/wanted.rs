//! Which models a verb is about: of the hub, or of the cache.

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
    let failure = Failure::usage(format_args!("{} is not in the cache, {}", model.name, settings.cache.display()));
    Err(failure.hint(format_args!("fetch it with `imagen models pull {}`", model.name)))
}
