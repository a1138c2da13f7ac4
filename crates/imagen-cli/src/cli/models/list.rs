//! `imagen models list`: what is in the cache.

use serde_json::json;

use crate::failure::{Result, print_line};
use crate::hub::{Settings, list, size};

/// List the models in the cache
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self, settings: &Settings) -> Result<()> {
        let models = list(settings)?;
        if models.is_empty() && !self.json {
            eprintln!("nothing is in {}; `imagen models pull OWNER/NAME` fetches a model", settings.cache.display());
        }
        for model in models {
            let (bytes, snapshots) = (model.bytes()?, model.snapshots()?);
            if self.json {
                print_line(json!({ "name": model.name.as_str(), "bytes": bytes, "snapshots": snapshots }))?;
            } else {
                let folder = snapshots.last().map(|path| path.display().to_string()).unwrap_or_default();
                print_line(format_args!("{:<40} {:>9}  {folder}", model.name.as_str(), size(bytes)))?;
            }
        }
        Ok(())
    }
}
