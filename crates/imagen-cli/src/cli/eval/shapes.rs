//! `imagen eval shapes`: does a model that was trained on `imagen data shapes` draw what it is asked for? No network judges:
//! for each caption the truth and pictures that differ from it in one factor are drawn as the set is, and the model's picture
//! must be nearest to the truth.
//!
//! The manifest is written before the first picture; the same command goes on where it was stopped. Questions and seeds
//! depend on the factor and their number alone, so that models are asked the same, and more or fewer at a time.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::json;

use imagen::data::shapes::{self, Factor, Placed};
use imagen::data::{Candidate, Question};
use imagen::eval::nearest_by_pixels;
use imagen::image::Picture;

use super::forced_choice::{self, Answer, Asked, Asking, Manifest, table};
use crate::failure::{Result, print_line};

const MANIFEST: &str = "shapes.json";
/// Drawings that each candidate is known by.
const DRAWINGS: u64 = 240;
/// Seeds of a factor's pictures begin so far from those of the next.
const SEEDS: u64 = 1_000_000;

const EXAMPLES: &str = "\
Examples:
  imagen eval shapes scores/shapes --model models/shapes
  imagen eval shapes scores/few-steps --model models/shapes -n 50 --factor count --steps 8

The ceiling is how often the truth itself wins, drawn anew in another place. Stopped with Ctrl-C or
killed, the same command goes on. The folder keeps every picture.";

/// How often a model of coloured shapes draws what is asked for, factor by factor
///
/// For each caption the truth and pictures that differ from it in one factor (the other nine colours, the other sides,
/// ...) are drawn as `imagen data shapes` draws, 240 times each in other places, sizes and backgrounds; the model's picture must be
/// nearest, pixel by pixel, to one of the truth.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Shapes {
    /// The folder of the drawn pictures; made where it does not exist
    folder: PathBuf,
    /// Questions about each factor
    #[arg(short = 'n', long, value_name = "N", default_value = "100")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    count: u64,
    #[command(flatten)]
    asking: Asking<Factor>,
}

impl Shapes {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.asking.machine();
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        let mut progress = self.asking.begin()?;
        let (asked, questions): (Vec<Asked>, Vec<_>) = self.questions()?.into_iter().unzip();
        let held = (None, self.count);
        let (manifest, _lock) = self.asking.draw(&self.folder, MANIFEST, held, &asked, device, &mut progress)?;
        let choose = |at: usize, pictures: [&Picture; 2]| {
            let side = pictures[0].width();
            let drawings =
                |candidate: &Candidate<Placed>| (0..DRAWINGS).map(|number| candidate.draw(number, side)).collect();
            let candidates: Vec<Vec<Picture>> = questions[at].candidates.iter().map(drawings).collect();
            Ok(pictures.map(|picture| nearest_by_pixels(picture, &candidates)))
        };
        let truth = |at: usize, side| Ok(questions[at].candidates[0].draw(DRAWINGS + asked[at].number, side));
        let answers = forced_choice::judge(&self.folder, &asked, truth, choose, &mut progress)?;
        print_line(if self.asking.json {
            let judged_by = json!({ "protocol": manifest, "drawings": DRAWINGS });
            forced_choice::to_json(judged_by, &asked, &answers).to_string()
        } else {
            describe(&manifest, &asked, &answers)
        })
    }

    fn questions(&self) -> Result<Vec<(Asked, Question<Placed>)>> {
        let all = self.asking.factors().flat_map(|factor| (0..self.count).map(move |number| (factor, number)));
        let asked = all.map(|(factor, number)| {
            let question = shapes::question(factor.1, number);
            let own_seed = factor.0 as u64 * SEEDS + number;
            Ok((self.asking.asked(factor, None, number, own_seed, &question)?, question))
        });
        asked.collect()
    }
}

fn describe(manifest: &Manifest, asked: &[Asked], answers: &[Answer]) -> String {
    let mut lines = vec![format!("shapes: {} pictures, one a caption, uncurated", asked.len())];
    lines.extend(table(asked, answers));
    lines.push(format!("  by pixels, {DRAWINGS} drawings a candidate; {}", manifest.drawn_by()));
    lines.join("\n")
}
