//! `imagen eval compose`: does a model draw what it was asked for, in combinations that it was trained on and in ones that
//! it never saw? No network judges: for each caption the truth and pictures that differ from it in one factor are
//! composed, and the drawn picture must be nearest to the truth.
//!
//! The manifest is written before the first picture; the same command goes on where it was stopped. Questions and seeds
//! depend on the world, the factor and their number alone, so that models are asked the same, and more or fewer at a time.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde_json::json;

use imagen::data::source::compose::{Composed, Factor};
use imagen::data::{Question, World};
use imagen::eval::{Appearance, forced_choice};
use imagen::image::Picture;

use super::forced_choice::{self as judged, Answer, Asked, Asking, Manifest, table};
use crate::failure::{Exit, Failure, Result, print_line};

const MANIFEST: &str = "compose.json";
/// Pictures that each candidate is known by.
const REFERENCES: u64 = 12;
/// Seeds of a factor's pictures, of seen or of held-out combinations, begin so far from those of the next.
const SEEDS: u64 = 1_000_000;
/// Side of the composed pictures.
const SIDE: usize = 64;

const EXAMPLES: &str = "\
Examples:
  imagen eval compose scores/built-in --data data/world
  imagen eval compose scores/ours --data data/world --model models/ours -n 100 \\
    --factor subject --factor style

The ceiling is how often a composed picture of the truth wins, drawn anew in another place. Stopped
with Ctrl-C or killed, the same command goes on. The folder keeps every picture.";

/// How often a model draws what is asked for, factor by factor, in seen and in held-out combinations
///
/// For each caption the truth and up to nine pictures that differ from it in one factor are composed, twelve times each; the
/// drawn picture must be nearest to the truth by colours and edges (`appearance-1`).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Compose {
    /// The folder of the drawn pictures; made where it does not exist
    folder: PathBuf,
    /// The world that is asked about: a folder with grammar.toml and bank.json
    #[arg(long, value_name = "WORLD")]
    data: PathBuf,
    /// Questions about each factor, of seen combinations and of held-out ones
    #[arg(short = 'n', long, value_name = "N", default_value = "40")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    count: u64,
    #[command(flatten)]
    asking: Asking<Factor>,
}

impl Compose {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.asking.machine();
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        let mut progress = self.asking.begin()?;
        let world = World::open(&self.data)?;
        let (asked, questions): (Vec<Asked>, Vec<_>) = self.questions(&world)?.into_iter().unzip();
        let held = (Some(world.digest()), self.count);
        let (manifest, _lock) = self.asking.draw(&self.folder, MANIFEST, held, &asked, device, &mut progress)?;
        let composed = |at: usize, candidate: usize, reference: u64| {
            let reference = asked[at].number * (REFERENCES + 1) + reference;
            world.candidate(&questions[at].candidates[candidate], reference, SIDE)
        };
        let choose = |at: usize, pictures: [&Picture; 2]| {
            let appearance = |candidate, reference| Appearance::of(&composed(at, candidate, reference)?);
            let of_candidate = |candidate| (0..REFERENCES).map(|r| appearance(candidate, r)).collect();
            let candidates = 0..questions[at].candidates.len();
            let references: Vec<Vec<Appearance>> = candidates.map(of_candidate).collect::<imagen::Result<_>>()?;
            let [drawn, truth] = pictures.map(Appearance::of);
            Ok([forced_choice(&drawn?, &references), forced_choice(&truth?, &references)])
        };
        let truth = |at: usize, _: usize| composed(at, 0, REFERENCES);
        let answers = judged::judge(&self.folder, &asked, truth, choose, &mut progress)?;
        print_line(if self.asking.json {
            let judged_by = json!({
                "protocol": manifest,
                "features": Appearance::NAME,
                "references": REFERENCES,
            });
            judged::to_json(judged_by, &asked, &answers).to_string()
        } else {
            describe(&manifest, &asked, &answers)
        })
    }

    fn questions(&self, world: &World) -> Result<Vec<(Asked, Question<Composed>)>> {
        // a part without its first question has none
        let parts: Vec<_> = self.asking.factors().flat_map(|factor| [(factor, false), (factor, true)]).collect();
        let parts: Vec<_> =
            parts.into_par_iter().filter(|((_, f), held_out)| world.question(*f, *held_out, 0).is_some()).collect();
        let wanted = parts.into_iter().flat_map(|(f, held_out)| (0..self.count).map(move |k| (f, held_out, k)));
        let wanted: Vec<_> = wanted.collect();
        let found: Vec<_> = wanted.par_iter().map(|&((_, f), held_out, k)| world.question(f, held_out, k)).collect();
        let mut asked = Vec::new();
        for ((factor, held_out, number), question) in wanted.into_iter().zip(found) {
            let Some(question) = question else { continue };
            let own_seed = (2 * factor.0 as u64 + u64::from(held_out)) * SEEDS + number;
            asked.push((self.asking.asked(factor, Some(held_out), number, own_seed, &question)?, question));
        }
        if asked.is_empty() {
            let message = format_args!("{} has no question about these factors", self.data.display());
            return Err(Failure::new(Exit::Data, message)
                .hint("its grammar needs core nouns with colours, styles, scenes, pairs or numbers"));
        }
        Ok(asked)
    }
}

fn describe(manifest: &Manifest, asked: &[Asked], answers: &[Answer]) -> String {
    let mut lines = vec![format!(
        "composition: {} pictures, one a caption, uncurated; right choices among up to ten candidates",
        asked.len()
    )];
    lines.extend(table(asked, answers));
    lines.push(format!(
        "  features {}, {REFERENCES} references a candidate; world {}; {}",
        Appearance::NAME,
        manifest.world.as_deref().unwrap_or_default(),
        manifest.drawn_by()
    ));
    lines.join("\n")
}
