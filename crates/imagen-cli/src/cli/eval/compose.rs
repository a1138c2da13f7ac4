//! `imagen eval compose`: does a model draw what it was asked for, in combinations that it was trained on and in ones that
//! it never saw? No network judges: for each caption the truth and pictures that differ from it in one factor are
//! composed, and the drawn picture must be nearest to the truth.
//!
//! The manifest is written before the first picture; the same command goes on where it was stopped. Questions and seeds
//! depend on the world, the factor and their number alone, so that models are asked the same, and more or fewer at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use imagen::cascade::{SamplingDefaults, StageName};
use imagen::data::World;
use imagen::data::source::compose::{Candidate, Factor, Question};
use imagen::eval::{Appearance, Interval, forced_choice, wilson};
use imagen::image::{DecodeOptions, Picture, decode};

use super::drawing::{Painter, Studio, Subject};
use super::manifest;
use crate::cli::sample::stage_names;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::ModelRecord;
use crate::progress::Progress;

const MANIFEST: &str = "compose.json";
/// Pictures that each candidate is known by.
const REFERENCES: u64 = 12;
/// Questions that are judged before anybody is told.
const PORTION: usize = 16;
/// Side of the composed pictures.
const SIDE: usize = 64;

const EXAMPLES: &str = "\
Examples:
  imagen eval compose scores/built-in --data data/world
  imagen eval compose scores/ours --data data/world --model models/ours -n 100 --factor subject --factor style

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
    /// Ask about this factor only; may be repeated
    #[arg(long = "factor", value_name = "FACTOR", value_parser = factor_names())]
    factors: Vec<Factor>,
    /// Added to every picture's own seed
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The last stage that draws
    #[arg(long, value_name = "STAGE", value_parser = stage_names(), default_value = "base")]
    until: StageName,
    /// Print one JSON object, with every answer
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    painter: Painter,
}

fn factor_names() -> impl TypedValueParser<Value = Factor> {
    PossibleValuesParser::new(Factor::ALL.map(Factor::name)).try_map(|name| name.parse::<Factor>())
}

/// All that the pictures of a folder depend on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    world: String,
    factors: Vec<String>,
    count: u64,
    seed: u64,
    model: ModelRecord,
    stages: Vec<(StageName, SamplingDefaults)>,
}

/// A question and the picture that answers it.
struct Asked {
    factor: Factor,
    held_out: bool,
    number: u64,
    question: Question,
    subject: Subject,
}

/// What became of a question.
struct Answer {
    /// The candidate that the drawn picture is nearest to; 0 is the truth.
    chosen: usize,
    /// The same of a true picture.
    of_truth: usize,
}

/// The answers about a factor, of one part.
#[derive(Default)]
struct Tally {
    asked: usize,
    right: usize,
    right_of_truth: usize,
    /// Sum of the rates of guessing.
    chance: f64,
}

impl Compose {
    pub(super) fn run(self) -> Result<()> {
        self.painter.manner.threads.apply()?;
        interrupt::watch("stopping; finished pictures are kept, and the same command goes on")?;
        let mut progress = Progress::new(self.quiet);
        let world = World::open(&self.data)?;
        let asked = self.questions(&world)?;
        let studio = self.painter.open(self.until, &progress)?;
        let manifest = Manifest {
            world: world.digest(),
            factors: self.factors().map(|factor| factor.name().to_owned()).collect(),
            count: self.count,
            seed: self.seed,
            model: studio.record.clone(),
            stages: studio.stages.clone(),
        };
        manifest::begin(&self.folder, MANIFEST, &manifest, asked.iter().map(Asked::row))?;
        self.draw(&studio, &asked, &mut progress)?;
        let answers = self.judge(&world, &asked, &mut progress)?;
        print_line(match self.json {
            true => self.to_json(&manifest, &asked, &answers).to_string(),
            false => describe(&manifest, &asked, &answers),
        })
    }

    fn factors(&self) -> impl Iterator<Item = Factor> {
        Factor::ALL.into_iter().filter(|factor| self.factors.is_empty() || self.factors.contains(factor))
    }

    fn questions(&self, world: &World) -> Result<Vec<Asked>> {
        let parts = self.factors().flat_map(|factor| [(factor, false), (factor, true)]);
        let wanted: Vec<_> = parts.flat_map(|(f, held_out)| (0..self.count).map(move |k| (f, held_out, k))).collect();
        if self.seed.checked_add(own_seed(Factor::CountMany, true, self.count)).is_none() {
            return Err(Failure::usage(format_args!("--seed {} is out of range", self.seed)));
        }
        // a part without its first question has none
        let parts: Vec<_> = self.factors().flat_map(|factor| [(factor, false), (factor, true)]).collect();
        let empty: Vec<_> =
            parts.par_iter().filter(|(f, held_out)| world.question(*f, *held_out, 0).is_none()).collect();
        let wanted: Vec<_> = wanted.into_iter().filter(|&(f, held_out, _)| !empty.contains(&&(f, held_out))).collect();
        let found: Vec<_> = wanted.par_iter().map(|&(f, held_out, k)| world.question(f, held_out, k)).collect();
        let mut asked = Vec::new();
        for ((factor, held_out, number), question) in wanted.into_iter().zip(found) {
            let Some(question) = question else { continue };
            let seed = self.seed + own_seed(factor, held_out, number);
            let subject = Subject { caption: question.caption.clone(), seed };
            asked.push(Asked { factor, held_out, number, question, subject });
        }
        if asked.is_empty() {
            let message = format_args!("{} has no question about these factors", self.data.display());
            return Err(Failure::new(Exit::Data, message)
                .hint("its grammar needs core nouns with colours, styles, scenes, pairs or numbers"));
        }
        Ok(asked)
    }

    /// Draws what is missing.
    fn draw(&self, studio: &Studio, asked: &[Asked], progress: &mut Progress) -> Result<()> {
        let missing: Vec<&Asked> = asked.iter().filter(|asked| !self.folder.join(asked.file()).exists()).collect();
        let subjects: Vec<Subject> = missing.iter().map(|asked| asked.subject.clone()).collect();
        progress.note(format_args!("{} pictures to draw", subjects.len()));
        let drawn = studio.draw(&subjects, progress, |at, picture| {
            studio.save(&self.folder.join(missing[at].file()), &picture, &subjects[at])
        })?;
        if drawn < subjects.len() {
            let failure = Failure::interrupted(format_args!("{drawn} of {} pictures were drawn", subjects.len()));
            return Err(failure.hint("the same command goes on"));
        }
        Ok(())
    }

    /// Holds every picture against its question's candidates.
    fn judge(&self, world: &World, asked: &[Asked], progress: &mut Progress) -> Result<Vec<Answer>> {
        let answer = |asked: &Asked| -> imagen::Result<Answer> {
            let Question { candidates, .. } = &asked.question;
            let composed = |candidate: &Candidate, reference: u64| {
                Appearance::of(&world.candidate(candidate, asked.number * (REFERENCES + 1) + reference, SIDE)?)
            };
            let references = |candidate: &Candidate| (0..REFERENCES).map(|r| composed(candidate, r)).collect();
            let references: Vec<Vec<Appearance>> = candidates.iter().map(references).collect::<imagen::Result<_>>()?;
            let drawn: Picture = decode::open(&self.folder.join(asked.file()), &DecodeOptions::default())?;
            Ok(Answer {
                chosen: forced_choice(&Appearance::of(&drawn)?, &references),
                of_truth: forced_choice(&composed(&candidates[0], REFERENCES)?, &references),
            })
        };
        let mut answers = Vec::with_capacity(asked.len());
        for portion in asked.chunks(PORTION) {
            answers.extend(portion.par_iter().map(answer).collect::<imagen::Result<Vec<_>>>()?);
            progress.step("compare", answers.len() as u64, asked.len() as u64, "");
            if interrupt::requested() && answers.len() < asked.len() {
                progress.finish();
                let failure = Failure::interrupted(format_args!("{} of {} were compared", answers.len(), asked.len()));
                return Err(failure.hint("every picture is drawn; the same command compares them"));
            }
        }
        progress.finish();
        Ok(answers)
    }

    fn to_json(&self, manifest: &Manifest, asked: &[Asked], answers: &[Answer]) -> Value {
        let tallies = tallies(asked, answers);
        let factors = tallies.iter().map(|((factor, held_out), tally)| {
            let (rate, interval) = tally.rate();
            json!({
                "factor": factor.name(),
                "held_out": held_out,
                "asked": tally.asked,
                "accuracy": rate,
                "interval": interval,
                "ceiling": tally.right_of_truth as f64 / tally.asked as f64,
                "by_chance": tally.chance / tally.asked as f64,
            })
        });
        let answers = asked.iter().zip(answers).map(|(asked, answer)| {
            let mut row = asked.row();
            row["nearest"] = json!(asked.question.candidates[answer.chosen].caption);
            row["right"] = json!(answer.chosen == 0);
            row
        });
        json!({
            "protocol": manifest,
            "features": Appearance::NAME,
            "references": REFERENCES,
            "factors": factors.collect::<Vec<_>>(),
            "answers": answers.collect::<Vec<_>>(),
        })
    }
}

/// The seed of a question's picture.
fn own_seed(factor: Factor, held_out: bool, number: u64) -> u64 {
    (2 * factor as u64 + u64::from(held_out)) * 1_000_000 + number
}

impl Asked {
    fn file(&self) -> String {
        format!("{}-{}-{:04}.png", self.factor, if self.held_out { "held-out" } else { "seen" }, self.number)
    }

    fn row(&self) -> Value {
        json!({
            "file_name": self.file(),
            "text": self.subject.caption,
            "seed": self.subject.seed,
            "factor": self.factor.name(),
            "held_out": self.held_out,
        })
    }
}

impl Tally {
    fn rate(&self) -> (f64, Interval) {
        (self.right as f64 / self.asked as f64, wilson(self.right, self.asked))
    }
}

fn tallies(asked: &[Asked], answers: &[Answer]) -> BTreeMap<(Factor, bool), Tally> {
    let mut tallies: BTreeMap<(Factor, bool), Tally> = BTreeMap::new();
    for (asked, answer) in asked.iter().zip(answers) {
        let tally = tallies.entry((asked.factor, asked.held_out)).or_default();
        tally.asked += 1;
        tally.right += usize::from(answer.chosen == 0);
        tally.right_of_truth += usize::from(answer.of_truth == 0);
        tally.chance += 1.0 / asked.question.candidates.len() as f64;
    }
    tallies
}

fn describe(manifest: &Manifest, asked: &[Asked], answers: &[Answer]) -> String {
    let mut lines = vec![format!(
        "composition: {} pictures, one a caption, none picked; right choices among up to ten candidates",
        asked.len()
    )];
    let [asked_of, right, interval] = ["asked", "right %", "95 % interval"];
    lines.push(format!("  {:<22} {asked_of:>5} {right:>8}  {interval:<16} {:>7} {:>7}", "", "ceiling", "chance"));
    for ((factor, held_out), tally) in tallies(asked, answers) {
        let (rate, interval) = tally.rate();
        let share = |count: f64| 100.0 * count / tally.asked as f64;
        lines.push(format!(
            "  {:<12} {:<9} {:>5} {:>8.1}  {:<16} {:>7.1} {:>7.1}",
            factor.name(),
            if held_out { "held out" } else { "seen" },
            tally.asked,
            100.0 * rate,
            format!("{:.1} to {:.1}", 100.0 * interval.low, 100.0 * interval.high),
            share(tally.right_of_truth as f64),
            share(tally.chance)
        ));
    }
    let stages: Vec<String> = manifest
        .stages
        .iter()
        .map(|(stage, s)| format!("{stage} ({} steps, {}, guidance {})", s.steps, s.sampler, s.guidance))
        .collect();
    lines.push(format!(
        "  features {}, {REFERENCES} references a candidate; world {}; model {}: {}; seeds from {} on",
        Appearance::NAME,
        manifest.world,
        manifest.model.name,
        stages.join(", "),
        manifest.seed
    ));
    lines.join("\n")
}
