//! `imagen recipe`: recipes without writing one. `new` proposes one for a set, `keys` explains what one may say.

mod keys;
mod new;

use crate::failure::Result;

/// Write a recipe for a set of pictures, or explain what a recipe may say
#[derive(Debug, clap::Args)]
pub(crate) struct RecipeVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    New(new::New),
    Keys(keys::Keys),
}

impl RecipeVerb {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::New(verb) => verb.run(),
            Verb::Keys(verb) => verb.run(),
        }
    }
}
