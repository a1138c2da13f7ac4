//! `imagen eval sweep`: the same captions and seeds drawn at every point of a grid of settings and models, each point
//! measured for agreement (a CLIP's score, or: is the nearest real picture of the right thing?) and fidelity (FID, or kernel
//! and Fréchet distance over the built-in features), so that the two can be drawn against each other (figures 4 and A.8 to
//! A.11 of the paper).
//!
//! `grid` says which points there are, `points` keeps what was measured so that a sweep that was stopped goes on, `tables`,
//! `plot` and `page` put it before the eye. All points share captions and seeds: what differs is the setting.

mod grid;
mod page;
mod plot;
mod points;
mod studio;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;

use imagen::cascade::{Request, StageName};
use imagen::data::{Example, Source, Split};
use imagen::eval::retrieval::{References, Thumbnail};
use imagen::eval::{self, Clip, Extractor, Protocol as FeatureProtocol, Summary, wilson};
use imagen::image::{Picture, PngText, grid, png};
use imagen::said::counted;

use super::captioned::{self, Embedded};
use super::clip_score;
use super::concepts::Concepts;
use super::distances;
use super::drawing::{choose, subjects};
use super::features::Features;
use super::pictures::summarise;
use crate::cli::draw::{Drawn, FrozenArgs, Session, Subject};
use crate::cli::shard::Sharded;
use crate::cli::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::{make_writable, own_folder, write_file};
use crate::progress::Progress;
use grid::{Axes, Model, Point, Resolved};
use points::{Measured, Points, Protocol, Rate, Score};

pub(in crate::cli) use studio::{report, sweep};

/// Pictures of each point that are shown, at most.
const SHOWN: usize = 8;
/// A kernel distance is of so many pictures at least.
const REFERENCES: usize = 3;
const BACKGROUND: [u8; 3] = [255; 3];

const EXAMPLES: &str = "\
Examples:
  imagen eval sweep --data data/fluent-emoji --guidance 1,2,4,8 -n 64 -o sweep
  imagen eval sweep --data data/fluent-emoji --preset thresholding -o sweep
  imagen eval sweep --data data/fluent-emoji --preset unet-size \\
    -m small=models/s -m large=models/l -o sweep
  imagen eval sweep --data coco --preset thresholding -m models/ours -n 10000 -o figure-a8 \\
    --inception inception.safetensors --clip models/clip-vit-large-patch14

With --inception and --clip the axes are FID and CLIP score, as in the paper's figures. Stopped
with Ctrl-C, the same command goes on with the point that was not finished. With --shard each
process draws its points; the one that finds all of them writes the result, and so does the command
without --shard. The folder then holds report.html, curves.svg, table.csv, table.md, points.jsonl
and pictures of each point.";

/// Draw the same captions at every point of a grid of settings, and plot agreement against fidelity
///
/// Without --clip agreement is how often the nearest real picture (32x32 pixels) is of the thing that was asked for, without
/// --inception fidelity is the kernel distance over the built-in features (layout-1): no CLIP score and no FID.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sweep {
    /// The set: captions come from it, and its pictures are what drawn ones are compared with
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// The folder that the result is written into
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Captions, at most; each is drawn once at every point
    #[arg(short = 'n', long, value_name = "N", default_value = "256")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(4..=100_000))]
    samples: usize,
    /// Seed of the first picture, and of the choice of captions
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The part of the set that captions are drawn from
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>(), default_value = "train")]
    split: Split,
    /// The part of the set that drawn pictures are compared with
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>(), default_value = "validation")]
    references: Split,
    /// The stage whose settings vary, and the last that draws; those before it keep their own
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>())]
    stage: Option<StageName>,
    /// A folder with a CLIP: agreement is its score
    #[arg(long, value_name = "FOLDER")]
    clip: Option<PathBuf>,
    #[command(flatten)]
    features: Features,
    #[command(flatten)]
    axes: Axes,
    /// A model, as NAME=FOLDER or FOLDER; several are compared; the built-in model by default
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<Model>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sharded: Sharded,
    #[command(flatten)]
    machine: Machine,
}

/// What every point has in common.
struct Common<'a> {
    things: &'a Concepts,
    chosen: Vec<&'a Example>,
    subjects: Vec<Subject>,
    small: References,
    real: Summary,
    extractor: Extractor,
    clip: Option<Clip>,
}

impl Sweep {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        let models = if self.model.is_empty() { vec![Model::default()] } else { self.model.clone() };
        if let Some(twice) =
            models.iter().enumerate().find(|(at, model)| models[..*at].iter().any(|m| m.name == model.name))
        {
            let failure = Failure::usage(format_args!("two models have the same name, {}", twice.1.name));
            return Err(failure.hint("name them: -m first=FOLDER -m second=FOLDER"));
        }
        let axes = self.axes.resolve(models.len(), self.stage)?;
        interrupt::watch("stopping; run the same command to go on with this point")?;
        let mut progress = Progress::new(self.quiet);
        let source = Source::open(&self.data)?;
        let things = Concepts::of(&source);
        let chosen = choose(&part(&source, self.split)?, self.samples, self.seed);
        let subjects = subjects(&source, &chosen, self.seed)?;
        let references = part(&source, self.references)
            .map_err(|failure| failure.hint("--references train compares with those of the training"))?;
        if references.len() < REFERENCES {
            let failure = Failure::new(
                Exit::Data,
                format_args!(
                    "{} holds {} to compare with, and a distance needs at least {REFERENCES}",
                    self.data.display(),
                    counted(references.len(), "such picture")
                ),
            );
            return Err(failure.hint("--references train compares with those of the training"));
        }
        let mut sessions = Vec::new();
        for model in &models {
            let open = FrozenArgs::default().open(model.folder.as_deref(), device, &progress)?;
            sessions.push(Session::new(open, Request { until: Some(axes.stage), ..Request::default() })?);
        }
        let extractor = self.features.open(device)?;
        let clip = self.clip.as_deref().map(|folder| captioned::open(folder, device, &progress)).transpose()?;
        let looks = (extractor.protocol(), clip.as_ref().map(|clip| clip.identity().to_owned()));
        let protocol = self.protocol(&axes, looks, &subjects, references.len(), &models, &sessions);
        let shard = self.sharded.get();
        let pictures = self.output.join("pictures");
        let _locks = match shard {
            None => Some([own_folder(&self.output)?, own_folder(&pictures)?]),
            // shares write other points of the same sweep, each into a file of its own
            Some(_) => {
                make_writable(&pictures)?;
                None
            }
        };
        let mut points = Points::open(&self.output, protocol, shard)?;

        let every = axes.points(&models, &sessions)?;
        let ours = |number: usize| shard.is_none_or(|shard| shard.has(number));
        let missing: Vec<(usize, &Point)> =
            every.iter().enumerate().filter(|(number, point)| ours(*number) && points.get(point).is_none()).collect();
        if !missing.is_empty() {
            let small = things.references(&source, &mut progress)?;
            let real = summarise(&source, &references, &extractor, true, &mut progress)?;
            let common = Common { things: &things, chosen, subjects, small, real, extractor, clip };
            for (number, point) in missing {
                progress.note(format_args!("point {} of {}: {}", number + 1, every.len(), point.describe()));
                let at = models.iter().position(|model| model.name == point.model).expect("points come from models");
                let session = &mut sessions[at];
                session.choose(BTreeMap::from([(axes.stage, point.settings.into())]))?;
                let measured = self.measure(point, session, &common, &mut progress)?;
                points.add(measured)?;
            }
        }
        points.look_again()?;
        let measured: Vec<&Measured> = every.iter().filter_map(|point| points.get(point)).collect();
        if measured.len() < every.len() {
            return print_line(format_args!(
                "{} of {} points are there; the others are other shares'",
                measured.len(),
                every.len()
            ));
        }
        let chart = plot::chart(&measured, &axes, points.protocol());
        for (name, content) in [
            ("table.csv", tables::csv(&measured)?),
            ("table.md", tables::markdown(&measured, points.protocol()).into_bytes()),
            ("curves.svg", chart.file().into_bytes()),
            ("report.html", page::page(&self.output, &measured, &axes, points.protocol(), &chart)?.into_bytes()),
        ] {
            let path = self.output.join(name);
            write_file(&path, &content)?;
        }
        print_line(self.output.join("report.html").display())
    }

    /// What the numbers depend on beside the points.
    fn protocol(
        &self,
        axes: &Resolved,
        (features, clip): (&FeatureProtocol, Option<String>),
        subjects: &[Subject],
        references: usize,
        models: &[Model],
        sessions: &[Session],
    ) -> Protocol {
        let part = |split: Split| split.name().to_owned();
        Protocol {
            data: self.data.display().to_string(),
            captions_from: part(self.split),
            compared_with: part(self.references),
            captions: subjects.len(),
            references,
            seed: self.seed,
            stage: axes.stage,
            extractor: features.extractor.clone(),
            extractor_digest: features.digest.clone(),
            resize: features.resize.clone(),
            clip,
            models: models
                .iter()
                .zip(sessions)
                .map(|(model, session)| (model.name.clone(), session.record.clone()))
                .collect(),
        }
    }

    /// Draws and measures one point.
    fn measure(
        &self,
        point: &Point,
        session: &Session,
        common: &Common<'_>,
        progress: &mut Progress,
    ) -> Result<Measured> {
        let (mut ranks, mut shown, mut embedded) = (Vec::new(), Vec::new(), Vec::new());
        let extractor = &common.extractor;
        let mut summary = Summary::new(extractor.protocol(), true);
        let drawn = session.draw(&common.subjects, progress, |Drawn { index, picture, .. }| {
            let thing = common.things.number(common.chosen[index]);
            ranks.push(common.small.find(&Thumbnail::of(&picture)?, thing)?.rank);
            summary.add_rows(&extractor.features(&[extractor.prepare(&picture)?])?)?;
            if let Some(clip) = &common.clip {
                embedded.extend(captioned::numbers(clip.embed_pictures(std::slice::from_ref(&picture))?));
            }
            if shown.len() < SHOWN {
                shown.push(picture);
            }
            Ok(())
        });
        drawn.map_err(|failure| failure.hint("run the same command to go on with this point"))?;
        let file = format!("pictures/{}.png", point.file_name());
        write_strip(&self.output.join(&file), &shown)?;
        let rate = |top: usize| {
            let hits = ranks.iter().filter(|rank| **rank <= top).count();
            Rate { hits, rate: hits as f64 / ranks.len() as f64, interval: wilson(hits, ranks.len()) }
        };
        let clip = common.clip.as_ref().map(|clip| -> Result<Score> {
            let captions = common.subjects.iter().map(|subject| subject.caption.clone()).collect();
            let (value, interval) = clip_score::score(&Embedded::of(clip, embedded, captions, String::new())?);
            Ok(Score { value, interval })
        });
        let kid = distances::kid(&summary, &common.real, self.seed)?;
        let frechet = eval::frechet(&summary, &common.real)?;
        Ok(Measured {
            point: point.clone(),
            pictures: common.subjects.len(),
            top_1: rate(1),
            top_5: rate(5),
            kid: kid.value,
            kid_interval: kid.interval,
            frechet_distance: frechet.distance,
            clip_score: clip.transpose()?,
            shown: file,
        })
    }
}

/// The pictures of a part of the set.
fn part(source: &Source, split: Split) -> Result<Vec<&Example>> {
    let part: Vec<&Example> = source.examples().iter().filter(|example| example.split == split).collect();
    if part.is_empty() {
        source.split(split)?;
    }
    Ok(part)
}

/// Some pictures of a point side by side, so that points can be compared by eye.
fn write_strip(path: &Path, pictures: &[Picture]) -> Result<()> {
    let strip = png::encode(&grid(pictures, pictures.len().max(1), 2, BACKGROUND)?, &PngText::default())?;
    write_file(path, &strip)
}
