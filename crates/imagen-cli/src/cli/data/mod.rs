//! `imagen data`: a set of pictures and captions before hours are spent on it. `shapes` makes a small one to begin with,
//! `compose` writes pictures of a world, `check` looks for trouble, `stats` describes, `encode` computes the embeddings of the captions.

mod check;
mod compose;
mod encode;
mod looked;
mod shapes;
mod spread;
mod stats;

use crate::failure::Result;

/// Make, check, describe or encode a set of pictures and captions
#[derive(Debug, clap::Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Shapes(shapes::Shapes),
    Compose(compose::Compose),
    Check(check::Check),
    Stats(stats::Stats),
    Encode(encode::Encode),
}

impl Data {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Shapes(verb) => verb.run(),
            Verb::Compose(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
            Verb::Stats(verb) => verb.run(),
            Verb::Encode(verb) => verb.run(),
        }
    }
}
