//! `imagen eval`: how good pictures are, in numbers. One subverb is one file in `eval/`.
//!
//! `drawbench` draws what `human` shows to raters. `stats`, `fid`, `kid` and `precision-recall` look at pictures that are
//! there (the last three through `comparison`), `clip-score` and `retrieval` at pictures with captions (through `captioned`);
//! all but `stats` draw first with `--samples`, as `recovery`, `sweep`, `coco`, and `compose` and `shapes` (through
//! `forced_choice`) always do. What is measured is in the library's `eval`; here pictures are fetched, drawn, and the numbers
//! are put into words with everything that they depend on.

mod captioned;
mod clip_score;
mod coco;
mod comparison;
mod compose;
mod concepts;
mod distances;
mod drawbench;
mod drawing;
mod features;
mod fid;
mod finding;
mod forced_choice;
mod genders;
mod human;
mod imports;
mod kid;
mod manifest;
mod pictures;
mod precision_recall;
mod reading;
mod recovery;
mod retrieval;
mod samples;
mod shapes;
mod stats;
mod sweep;

use crate::failure::Result;

/// Measure pictures: distances between sets, whether the model draws the right thing, and what people say
///
/// Distances are FID and KID as papers report them with the weights of Inception-v3 (`--inception FILE`, which
/// tools/inception_weights.py makes). Without them the features are the built-in `layout-1` (colours and edges by
/// place), and no number is called an FID.
#[derive(Debug, clap::Args)]
pub(crate) struct Eval {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    ClipScore(Box<clip_score::ClipScore>),
    Coco(Box<coco::Coco>),
    Compose(Box<compose::Compose>),
    Drawbench(Box<drawbench::DrawBench>),
    Fid(Box<fid::Fid>),
    Human(human::Human),
    Kid(Box<kid::Kid>),
    PrecisionRecall(Box<precision_recall::PrecisionRecall>),
    Recovery(Box<recovery::Recovery>),
    Retrieval(Box<retrieval::Retrieval>),
    Shapes(Box<shapes::Shapes>),
    Stats(stats::Stats),
    Sweep(Box<sweep::Sweep>),
}

impl Eval {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::ClipScore(verb) => verb.run(),
            Verb::Coco(verb) => verb.run(),
            Verb::Compose(verb) => verb.run(),
            Verb::Drawbench(verb) => verb.run(),
            Verb::Fid(verb) => verb.run(),
            Verb::Human(verb) => verb.run(),
            Verb::Kid(verb) => verb.run(),
            Verb::PrecisionRecall(verb) => verb.run(),
            Verb::Recovery(verb) => verb.run(),
            Verb::Retrieval(verb) => verb.run(),
            Verb::Shapes(verb) => verb.run(),
            Verb::Stats(verb) => verb.run(),
            Verb::Sweep(verb) => verb.run(),
        }
    }
}
