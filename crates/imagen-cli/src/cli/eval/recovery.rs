//! `imagen eval recovery`: the model draws captions of a set, and each picture is looked for among all real pictures by
//! pixels. How often is the nearest one of the right thing?
//!
//! Of training captions it says how much was learned (also by heart); of held-out ones, how much carries over. Skin tones
//! do not count where the set says by `concept` which pictures are versions of one thing.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use imagen::cascade::StageName;
use imagen::data::{Example, Source, Split};
use imagen::eval::retrieval::{self, Found, Thumbnail, by_chance};
use imagen::eval::wilson;
use imagen::said::counted;

use super::concepts::Concepts;
use super::drawing::{DrawingArgs, choose, subjects};
use super::genders::unseen_combinations;
use crate::cli::draw::{self, Session, Subject};
use crate::cli::shared::one_of;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::output::{make_writable, write_file};
use crate::progress::Progress;

/// Ranks that count as found.
const TOP: [usize; 2] = [1, 5];
/// The list of saved pictures, which makes their folder a set.
const MANIFEST: &str = "metadata.jsonl";

const EXAMPLES: &str = "\
Examples:
  imagen eval recovery --data data/fluent-emoji --count 32
  imagen eval recovery --data data/fluent-emoji --split validation --save drawn --json
  imagen eval recovery --data data/fluent-emoji --held-out-combinations

Picture k has the seed plus k: `imagen sample CAPTION --seed SEED --until base` draws it again.";

/// How often the nearest real picture is of the thing that was asked for
///
/// Captions are drawn at random, one picture of each, none is picked. A picture counts as right where its
/// `concept` in metadata.jsonl is the caption's (skin tones do not count); without concepts, where its canonical caption is.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Recovery {
    /// The set: captions are drawn from a part of it, all its pictures are looked among
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Captions, at most
    #[arg(short = 'n', long, value_name = "N", default_value = "256")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    count: usize,
    /// Seed of the first picture, and of the choice of captions
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The part of the set that captions are drawn from
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>(), default_value = "train")]
    split: Split,
    /// Only validation captions of a known role with a gender that was not seen with it, by the concept's first word
    /// (man, woman, person, ...)
    #[arg(long, conflicts_with = "split")]
    held_out_combinations: bool,
    /// Stop after this stage
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>(), default_value = "base")]
    until: StageName,
    /// Keep the pictures here, with a metadata.jsonl that says what became of each
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Print one JSON object, with every picture
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    drawing: DrawingArgs,
}

impl Recovery {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.drawing.how.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        if let Some(folder) = &self.save {
            prepare(folder)?;
        }
        interrupt::watch("stopping; finished pictures are counted")?;
        let mut progress = Progress::new(self.quiet);
        let source = Source::open(&self.data)?;
        let things = Concepts::of(&source);
        let chosen = self.choose(&source, &things)?;
        let subjects = subjects(&source, &chosen, self.seed)?;
        let session = self.drawing.open(self.until, device, &progress)?;
        let references = things.references(&source, &mut progress)?;

        let mut drawn = Vec::new();
        let outcome = session.draw(&subjects, &mut progress, |picture: draw::Drawn| {
            let index = picture.index;
            let thing = things.number(chosen[index]);
            let found = references.find(&Thumbnail::of(&picture.picture)?, thing)?;
            let file = format!("{index:04}.png");
            if let Some(folder) = &self.save {
                session.save(&folder.join(&file), &picture, &subjects[index])?;
            }
            drawn.push(Drawn {
                file,
                subject: subjects[index].clone(),
                concept: things.name(chosen[index]),
                thing,
                found,
            });
            Ok(())
        });
        let report = Report { verb: &self, source: &source, things: &things, session: &session, drawn };
        if let Some(folder) = &self.save {
            report.write_manifest(&folder.join(MANIFEST))?;
        }
        if !report.drawn.is_empty() {
            print_line(if self.json { report.to_json().to_string() } else { report.describe() })?;
        }
        outcome
    }

    /// The pictures whose captions are drawn.
    fn choose<'a>(&self, source: &'a Source, things: &Concepts) -> Result<Vec<&'a Example>> {
        let split = if self.held_out_combinations { Split::Validation } else { self.split };
        let part = source.examples().iter().filter(|example| example.split == split);
        let mut candidates: Vec<&Example> = part.collect();
        if candidates.is_empty() {
            source.split(split)?;
        }
        if self.held_out_combinations {
            let held_out: Vec<&str> = candidates.iter().map(|example| things.name(example)).collect();
            let others = source.examples().iter().filter(|example| example.split == Split::Train);
            let seen: Vec<&str> = others.map(|example| things.name(example)).collect();
            let combinations = unseen_combinations(&held_out, &seen);
            candidates.retain(|example| combinations.contains(things.name(example)));
            if candidates.is_empty() {
                let failure = Failure::usage(format_args!(
                    "{} holds out no concept of a known role with another gender",
                    self.data.display()
                ));
                return Err(failure.hint("it is told by `concept` in metadata.jsonl, e.g. \"woman pilot\""));
            }
        }
        Ok(choose(&candidates, self.count, self.seed))
    }
}

/// A picture and what became of it.
struct Drawn<'a> {
    file: String,
    subject: Subject,
    concept: &'a str,
    thing: usize,
    found: Found,
}

/// What was found.
struct Report<'a> {
    verb: &'a Recovery,
    source: &'a Source,
    things: &'a Concepts,
    session: &'a Session,
    drawn: Vec<Drawn<'a>>,
}

impl Report<'_> {
    fn hits(&self, top: usize) -> usize {
        self.drawn.iter().filter(|drawn| drawn.found.rank <= top).count()
    }

    /// The rate of a random order.
    fn chance(&self, top: usize) -> f64 {
        let of = self.source.examples().len();
        let rates = self.drawn.iter().map(|drawn| by_chance(self.things.pictures_of(drawn.thing), of, top));
        rates.sum::<f64>() / self.drawn.len() as f64
    }

    fn concepts(&self) -> usize {
        self.drawn.iter().map(|drawn| drawn.thing).collect::<HashSet<_>>().len()
    }

    /// What the captions are.
    fn captions(&self) -> String {
        if self.verb.held_out_combinations {
            "held-out combinations".to_owned()
        } else {
            self.verb.split.name().to_owned()
        }
    }

    /// What to say where the pictures are not independent.
    fn note(&self) -> Option<String> {
        let (pictures, concepts) = (self.drawn.len(), self.concepts());
        (2 * concepts <= pictures).then(|| {
            let concepts = counted(concepts, "concept");
            format!(
                "{pictures} captions speak of {concepts} only: the pictures are not independent, and the \
                 intervals too narrow"
            )
        })
    }

    fn describe(&self) -> String {
        let n = self.drawn.len();
        let mut lines = vec![format!(
            "recovery: {n} pictures of {} captions ({} concepts), one each, uncurated",
            self.captions(),
            self.concepts()
        )];
        for (top, what) in TOP.into_iter().zip(["nearest is right", "right among nearest 5"]) {
            let (hits, interval) = (self.hits(top), wilson(self.hits(top), n));
            lines.push(format!(
                "  {what:<22} {:5.1} %  ({hits} of {n}; 95 % interval {:.1} to {:.1}; by chance {:.2})",
                100.0 * hits as f64 / n as f64,
                100.0 * interval.low,
                100.0 * interval.high,
                100.0 * self.chance(top),
            ));
        }
        let (side, references) = (retrieval::SIDE, self.source.examples().len());
        lines.push(format!(
            "  looked for among all {references} pictures of {} concepts: {side}x{side}, area, mean squared difference",
            self.things.len()
        ));
        let stages = self.session.stages.iter().map(|(stage, settings)| format!("{stage} ({settings})"));
        let stages = stages.collect::<Vec<_>>().join(", ");
        let (model, seed) = (&self.session.record.name, self.verb.seed);
        lines.push(format!("  model {model}: {stages}; seed {seed}, plus k for picture k"));
        lines.extend(self.note().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }

    fn row(&self, drawn: &Drawn<'_>) -> Value {
        let nearest = &self.source.examples()[drawn.found.nearest];
        json!({
            "file_name": drawn.file,
            "text": drawn.subject.caption,
            "concept": drawn.concept,
            "seed": drawn.subject.seed,
            "rank": drawn.found.rank,
            "nearest": nearest.name,
            "nearest_concept": self.things.name(nearest),
            "nearest_distance": drawn.found.distance,
        })
    }

    fn to_json(&self) -> Value {
        let n = self.drawn.len();
        let rate = |top: usize| {
            let hits = self.hits(top);
            let (rate, interval) = (hits as f64 / n as f64, wilson(hits, n));
            json!({ "hits": hits, "rate": rate, "interval": interval, "by_chance": self.chance(top) })
        };
        let stages: BTreeMap<_, _> = self.session.stages.iter().copied().collect();
        json!({
            "captions": self.captions(),
            "pictures": n,
            "concepts": self.concepts(),
            "top_1": rate(TOP[0]),
            "top_5": rate(TOP[1]),
            "references": self.source.examples().len(),
            "reference_concepts": self.things.len(),
            "resize": format!("middle square, {0}x{0}, area", retrieval::SIDE),
            "model": self.session.record,
            "stages": stages,
            "seed": self.verb.seed,
            "note": self.note(),
            "drawn": self.drawn.iter().map(|drawn| self.row(drawn)).collect::<Vec<_>>(),
        })
    }

    fn write_manifest(&self, path: &Path) -> Result<()> {
        let lines: String = self.drawn.iter().map(|drawn| format!("{}\n", self.row(drawn))).collect();
        write_file(path, lines.as_bytes())
    }
}

/// Makes the folder for the pictures, and refuses one that holds a set.
fn prepare(folder: &Path) -> Result<()> {
    if folder.join(MANIFEST).exists() {
        let failure = Failure::usage(format_args!("{} already holds a set", folder.display()));
        return Err(failure.hint("choose another folder for --save, or remove that one first"));
    }
    make_writable(folder)
}
