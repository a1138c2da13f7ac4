//! `imagen models`: published models, fetched once and kept where Hugging Face's own tools keep them. One subverb is one file.

mod convert;
mod info;
mod list;
mod prompts;
mod pull;
mod rm;
mod verify;

use crate::failure::{Failure, Result};
use crate::hub::{Cached, RepoName, Settings, Variant};

const EXAMPLES: &str = "\
Examples:
  imagen models info google/t5-v1_1-small
  imagen models pull DeepFloyd/IF-I-M-v1.0
  imagen models list

Environment:
  HF_HOME         where everything is kept (~/.cache/huggingface)
  HF_HUB_CACHE    where models are kept (HF_HOME/hub)
  HF_TOKEN        who you are, for gated and private models
  HF_ENDPOINT     another hub
  HF_HUB_OFFLINE  1: never open a connection";

/// Published models: look, fetch, check, remove, convert
///
/// Only what this program reads is fetched: configurations, tokenizers and safetensors, never pickled weights.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Models {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::List),
    Prompts(prompts::Prompts),
    Info(info::Info),
    Pull(pull::Pull),
    Verify(verify::Verify),
    Rm(rm::Rm),
    Convert(convert::Convert),
}

/// A published model, as the hub is asked for it.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// The model, OWNER/NAME
    name: RepoName,
    /// A branch, tag or commit
    #[arg(long, value_name = "REVISION", default_value = "main")]
    revision: String,
    /// Which precision, where several are published
    #[arg(long, value_enum, default_value_t)]
    variant: Variant,
}

impl Models {
    pub(crate) fn run(self) -> Result<()> {
        let settings = Settings::from_env;
        match self.verb {
            Verb::List(verb) => verb.run(&settings()?),
            Verb::Prompts(verb) => verb.run(),
            Verb::Info(verb) => verb.run(&settings()?),
            Verb::Pull(verb) => verb.run(&settings()?),
            Verb::Verify(verb) => verb.run(&settings()?),
            Verb::Rm(verb) => verb.run(&settings()?),
            Verb::Convert(verb) => verb.run(),
        }
    }
}

/// A model of the cache, which must be there.
fn cached(settings: &Settings, name: RepoName) -> Result<Cached> {
    let model = Cached::new(settings, name);
    if model.exists() {
        return Ok(model);
    }
    let failure = Failure::usage(format_args!("{} is not in the cache, {}", model.name, settings.cache.display()));
    Err(failure.hint(format_args!("fetch it with `imagen models pull {}`", model.name)))
}
