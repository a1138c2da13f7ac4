//! `imagen models`: published models, fetched once and kept where Hugging Face's own tools keep them. One subverb is one file.

mod convert;
mod info;
mod list;
mod prompts;
mod pull;
mod rm;
mod verify;
mod wanted;

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

verbs! {
    /// Published models: look, fetch, check, remove, convert
    ///
    /// Only what this program reads is fetched: configurations, tokenizers and safetensors, never pickled weights.
    #[command(after_help = EXAMPLES)]
    Models {
        List(list::List),
        Prompts(prompts::Prompts),
        Info(info::Info),
        Pull(pull::Pull),
        Verify(verify::Verify),
        Rm(rm::Rm),
        Convert(convert::Convert),
    }
}
