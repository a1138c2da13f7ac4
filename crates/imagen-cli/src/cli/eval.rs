//! `imagen eval`: how good pictures are, in numbers. One subverb is one file in `eval/`.
//!
//! `drawbench` draws what `human` shows to raters. `stats`, `frechet` and `kid` look at pictures that are there; `recovery`, `sweep` and
//! `kid --samples` draw first. What is
//! measured is in the library's `eval`; here pictures are fetched, drawn, and the numbers are put into words with
//! everything that they depend on.

mod drawbench;
mod drawing;
mod frechet;
mod genders;
mod human;
mod imports;
mod kid;
mod pictures;
mod recovery;
mod samples;
mod stats;
mod sweep;
mod things;

use imagen::eval::Interval;

use crate::failure::Result;

/// Measure pictures: distances between sets, whether the model draws the right thing, and what people say
///
/// The features are the built-in `layout-1` (colours and edges by place), which need no weights. They are
/// not Inception's, so no number here is an FID or a KID as papers report them.
#[derive(Debug, clap::Args)]
pub(crate) struct Eval {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Drawbench(Box<drawbench::DrawBench>),
    Frechet(frechet::Frechet),
    Human(human::Human),
    Kid(Box<kid::Kid>),
    Recovery(Box<recovery::Recovery>),
    Stats(stats::Stats),
    Sweep(Box<sweep::Sweep>),
}

impl Eval {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Drawbench(verb) => verb.run(),
            Verb::Frechet(verb) => verb.run(),
            Verb::Human(verb) => verb.run(),
            Verb::Kid(verb) => verb.run(),
            Verb::Recovery(verb) => verb.run(),
            Verb::Stats(verb) => verb.run(),
            Verb::Sweep(verb) => verb.run(),
        }
    }
}

/// `12.3 (95 % interval 11.0 to 13.6)`
fn with_interval(value: f64, interval: Option<Interval>, digits: usize) -> String {
    match interval {
        Some(Interval { low, high }) => format!("{value:.digits$} (95 % interval {low:.digits$} to {high:.digits$})"),
        None => format!("{value:.digits$} (no interval: it needs the features of at least four pictures a set)"),
    }
}
