//! `imagen models`: published models, fetched once and kept where Hugging Face's own tools keep them. One subverb is one file.

mod convert;
mod info;
mod list;
mod prompts;
mod pull;
mod rm;
mod verify;
mod wanted;

use crate::failure::Result;
use crate::hub::Settings;

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
