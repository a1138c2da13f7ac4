//! A forced choice over factors: each question is a caption with what it may mean, the truth first; a drawn picture is right
//! where it is nearer to the truth than to every picture that differs from it in one factor.
//!
//! What is asked, and how candidates are composed, `compose` and `shapes` know; here pictures are drawn, held against their
//! candidates and counted. The ceiling is how often the truth itself, composed anew, is found.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use imagen::cascade::{StageName, StageSettings};
use imagen::data::Question;
use imagen::eval::{Interval, wilson};
use imagen::files::Lock;
use imagen::image::{DecodeOptions, Picture, decode};
use imagen::names::Named;

use super::drawing::DrawingArgs;
use super::manifest;
use crate::cli::draw::Subject;
use crate::cli::shared::{Machine, one_of};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::output::record::ModelRecord;
use crate::progress::Progress;

/// Questions that are judged before anybody is told.
const PORTION: usize = 16;

/// What is asked in a forced choice, and how the pictures are drawn and reported.
#[derive(Debug, clap::Args)]
pub(super) struct Asking<F: Named> {
    /// Ask about this factor only; may be repeated
    #[arg(long = "factor", value_name = "FACTOR", value_parser = one_of::<F>())]
    factors: Vec<F>,
    /// Added to every picture's own seed
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The last stage that draws
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>(), default_value = "base")]
    until: StageName,
    /// Print one JSON object, with every answer
    #[arg(long)]
    pub(super) json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    drawing: DrawingArgs,
}

impl<F: Named + PartialEq> Asking<F> {
    /// Where it is computed.
    pub(super) fn machine(&self) -> Machine {
        self.drawing.how.machine
    }

    /// What comes before anything is looked at.
    pub(super) fn begin(&self) -> Result<Progress> {
        interrupt::watch("stopping; finished pictures are kept, and the same command goes on")?;
        Ok(Progress::new(self.quiet))
    }

    /// The factors that are asked about, each with its place among all.
    pub(super) fn factors(&self) -> impl Iterator<Item = (usize, F)> {
        let all = F::CHOICES.iter().copied().enumerate();
        all.filter(|(_, factor)| self.factors.is_empty() || self.factors.contains(factor))
    }

    /// A question, whose picture has this seed beside what is added to all.
    pub(super) fn asked<P>(
        &self,
        (rank, factor): (usize, F),
        held_out: Option<bool>,
        number: u64,
        own_seed: u64,
        question: &Question<P>,
    ) -> Result<Asked> {
        let out_of_range = || Failure::usage(format_args!("--seed {} is out of range", self.seed));
        let seed = self.seed.checked_add(own_seed).ok_or_else(out_of_range)?;
        let subject = Subject { caption: question.caption.clone(), seed };
        let candidates = question.candidates.iter().map(|candidate| candidate.caption.clone()).collect();
        Ok(Asked { rank, factor: factor.name(), held_out, number, subject, candidates })
    }

    /// Draws what is missing in a folder, of which its manifest, a file of this name, says that it holds these: so many
    /// questions about each factor.
    pub(super) fn draw(
        &self,
        folder: &Path,
        name: &str,
        (world, count): (Option<String>, u64),
        asked: &[Asked],
        device: &Device,
        progress: &mut Progress,
    ) -> Result<(Manifest, Option<Lock>)> {
        let session = self.drawing.open(self.until, device, progress)?;
        let manifest = Manifest {
            world,
            factors: self.factors().map(|(_, factor)| factor.name().to_owned()).collect(),
            count,
            seed: self.seed,
            model: session.record.clone(),
            stages: session.stages.clone(),
        };
        let lock = manifest::begin(folder, name, &manifest, asked.iter().map(Asked::row), false)?;
        let files = asked.iter().map(|asked| (folder.join(asked.file()), asked.subject.clone()));
        session.draw_missing(files, progress)?;
        Ok((manifest, lock))
    }
}

/// All that the pictures of a folder depend on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The digest of the world that is asked about, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) world: Option<String>,
    factors: Vec<String>,
    count: u64,
    seed: u64,
    model: ModelRecord,
    stages: Vec<(StageName, StageSettings)>,
}

impl Manifest {
    /// What drew: `model NAME: base (25 steps, ddpm, guidance 2); seeds from 0 on`.
    pub(super) fn drawn_by(&self) -> String {
        let stages: Vec<String> = self.stages.iter().map(|(stage, settings)| format!("{stage} ({settings})")).collect();
        format!("model {}: {}; seeds from {} on", self.model.name, stages.join(", "), self.seed)
    }
}

/// A question and the picture that answers it.
pub(super) struct Asked {
    /// Which of the factors it is about, in their order.
    rank: usize,
    /// That factor's name.
    factor: &'static str,
    /// Whether it is about combinations that were held out, where some were.
    held_out: Option<bool>,
    pub(super) number: u64,
    /// What is drawn.
    subject: Subject,
    /// What the candidates are called, the truth first.
    candidates: Vec<String>,
}

/// What became of a question.
pub(super) struct Answer {
    /// The candidate that the drawn picture is nearest to; 0 is the truth.
    chosen: usize,
    /// The candidate that a true picture is nearest to.
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

/// Which candidates of a question two pictures are nearest to, by the question's place in the list.
pub(super) trait Choose: Fn(usize, [&Picture; 2]) -> imagen::Result<[usize; 2]> + Sync {}

impl<F: Fn(usize, [&Picture; 2]) -> imagen::Result<[usize; 2]> + Sync> Choose for F {}

/// Holds every picture of the folder, and a true one of its side, against its question's candidates.
pub(super) fn judge(
    folder: &Path,
    asked: &[Asked],
    truth: impl Fn(usize, usize) -> imagen::Result<Picture> + Sync,
    choose: impl Choose,
    progress: &mut Progress,
) -> Result<Vec<Answer>> {
    let answer = |(at, asked): (usize, &Asked)| -> imagen::Result<Answer> {
        let drawn = decode::open(&folder.join(asked.file()), &DecodeOptions::default())?;
        let [chosen, of_truth] = choose(at, [&drawn, &truth(at, drawn.width())?])?;
        Ok(Answer { chosen, of_truth })
    };
    let mut answers = Vec::with_capacity(asked.len());
    for portion in asked.chunks(PORTION) {
        let from = answers.len();
        let judged = portion.par_iter().enumerate().map(|(at, asked)| answer((from + at, asked)));
        let judged: Vec<Answer> = judged.collect::<imagen::Result<_>>()?;
        answers.extend(judged);
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

impl Asked {
    fn file(&self) -> String {
        let part = match self.held_out {
            Some(true) => "-held-out",
            Some(false) => "-seen",
            None => "",
        };
        format!("{}{part}-{:04}.png", self.factor, self.number)
    }

    /// Its line in the folder's list of pictures.
    fn row(&self) -> Value {
        let mut row = json!({
            "file_name": self.file(),
            "text": self.subject.caption,
            "seed": self.subject.seed,
            "factor": self.factor,
        });
        if let Some(held_out) = self.held_out {
            row["held_out"] = json!(held_out);
        }
        row
    }
}

impl Tally {
    fn rate(&self) -> (f64, Interval) {
        (self.right as f64 / self.asked as f64, wilson(self.right, self.asked))
    }
}

/// By factor and part, in their order.
fn tallies<'a>(asked: &'a [Asked], answers: &[Answer]) -> BTreeMap<(usize, Option<bool>), (&'a Asked, Tally)> {
    let mut tallies = BTreeMap::new();
    for (asked, answer) in asked.iter().zip(answers) {
        let (_, tally) = tallies.entry((asked.rank, asked.held_out)).or_insert_with(|| (asked, Tally::default()));
        tally.asked += 1;
        tally.right += usize::from(answer.chosen == 0);
        tally.right_of_truth += usize::from(answer.of_truth == 0);
        tally.chance += 1.0 / asked.candidates.len() as f64;
    }
    tallies
}

/// Factors and answers as JSON, with what they were asked and judged by.
pub(super) fn to_json(mut report: Value, asked: &[Asked], answers: &[Answer]) -> Value {
    let tallies = tallies(asked, answers);
    let factors = tallies.values().map(|(first, tally)| {
        let (rate, interval) = tally.rate();
        let mut row = json!({
            "factor": first.factor,
            "asked": tally.asked,
            "accuracy": rate,
            "interval": interval,
            "ceiling": tally.right_of_truth as f64 / tally.asked as f64,
            "by_chance": tally.chance / tally.asked as f64,
        });
        if let Some(held_out) = first.held_out {
            row["held_out"] = json!(held_out);
        }
        row
    });
    let answers = asked.iter().zip(answers).map(|(asked, answer)| {
        let mut row = asked.row();
        row["nearest"] = json!(asked.candidates[answer.chosen]);
        row["right"] = json!(answer.chosen == 0);
        row
    });
    report["factors"] = factors.collect();
    report["answers"] = answers.collect();
    report
}

/// A row for each factor.
pub(super) fn table(asked: &[Asked], answers: &[Answer]) -> Vec<String> {
    let [asked_of, right, interval] = ["asked", "right %", "95 % interval"];
    let mut lines =
        vec![format!("  {:<22} {asked_of:>5} {right:>8}  {interval:<16} {:>7} {:>7}", "", "ceiling", "chance")];
    for (first, tally) in tallies(asked, answers).values() {
        let (rate, interval) = tally.rate();
        let share = |count: f64| 100.0 * count / tally.asked as f64;
        lines.push(format!(
            "  {:<12} {:<9} {:>5} {:>8.1}  {:<16} {:>7.1} {:>7.1}",
            first.factor,
            match first.held_out {
                Some(true) => "held out",
                Some(false) => "seen",
                None => "",
            },
            tally.asked,
            100.0 * rate,
            format!("{:.1} to {:.1}", 100.0 * interval.low, 100.0 * interval.high),
            share(tally.right_of_truth as f64),
            share(tally.chance)
        ));
    }
    lines
}
