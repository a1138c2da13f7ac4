//! `--samples` of distances: what the base of a model draws, measured against held-out pictures, between two marks: other
//! real pictures (nothing that draws this set can be expected to be nearer) and the same network with random weights.
//!
//! All three sets have the same number of pictures where the set has enough, because the distances depend on it.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use imagen::cascade::{Stage, StageName, StageSettings, random_stage, to_pictures, trajectory};
use imagen::data::{Example, Source, Split};
use imagen::eval::{Extractor, Protocol, Summary};
use imagen::image::Picture;
use imagen::models::unet::Text;
use imagen::text::TextEncoder;

use super::drawing::{DrawingArgs, choose, subjects};
use super::finding::{Finding, Measure, notes, protocol_json};
use super::pictures::summarise;
use crate::cli::draw::{Session, Subject};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// The distances of one set.
struct Row {
    what: &'static str,
    pictures: u64,
    findings: Vec<Finding>,
}

/// What is drawn, and who looks at it.
pub(super) struct Drawing<'a> {
    pub(super) data: &'a Path,
    /// Captions.
    pub(super) count: usize,
    pub(super) seed: u64,
    pub(super) drawing: &'a DrawingArgs,
    pub(super) device: &'a Device,
    pub(super) extractor: &'a Extractor,
}

/// The distances of all sets to the validation pictures.
pub(super) struct Table {
    data: PathBuf,
    references: u64,
    protocol: Protocol,
    rows: Vec<Row>,
    seed: u64,
    model: String,
    settings: String,
}

impl Table {
    /// Draws captions of the set with both networks, and measures.
    pub(super) fn draw(drawing: &Drawing<'_>, measure: &Measure<'_>, progress: &mut Progress) -> Result<Self> {
        let Drawing { data, count, seed, drawing, device, extractor } = *drawing;
        let source = Source::open(data)?;
        let every: Vec<&Example> = source.examples().iter().collect();
        let chosen = choose(&every, count, seed);
        let subjects = subjects(&source, &chosen, seed)?;
        let of_split = |split| every.iter().copied().filter(move |e| e.split == split).collect::<Vec<_>>();
        source.split(Split::Validation)?;
        let session = drawing.open(StageName::Base, device, progress)?;

        let references = summarise(&source, &of_split(Split::Validation), extractor, true, progress)?;
        let training = choose(&of_split(Split::Train), subjects.len(), seed);
        let training = summarise(&source, &training, extractor, true, progress)?;
        let drawn = draw(&session, &subjects, extractor, progress)?;
        let untrained = draw_untrained(&session, &subjects, seed, extractor, progress)?;

        let untrained = untrained.as_ref().map(|summary| ("untrained network", summary));
        let sets = [("training pictures", &training), ("drawn by the model", &drawn)].into_iter().chain(untrained);
        let row = |(what, summary): (&'static str, &Summary)| -> Result<Row> {
            Ok(Row { what, pictures: summary.statistics().count(), findings: measure(summary, &references)? })
        };
        let settings = session.stages[0].1;
        Ok(Self {
            data: data.to_owned(),
            references: references.statistics().count(),
            protocol: extractor.protocol().clone(),
            rows: sets.map(row).collect::<Result<_>>()?,
            seed,
            model: session.record.name.clone(),
            settings: settings.to_string(),
        })
    }

    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!(
            "against the {} validation pictures of {}, features {}",
            self.references,
            self.data.display(),
            self.protocol
        )];
        for Row { what, pictures, findings } in &self.rows {
            let numbers = findings.iter().map(|finding| format!("  {} {}", finding.name, finding.describe()));
            lines.push(format!("  {what:<19} {pictures:>5}{}", numbers.collect::<String>()));
        }
        lines.push(format!(
            "  captions of both splits, one picture each, uncurated; model {}, base: {}; seed {}, plus k for picture k",
            self.model, self.settings, self.seed
        ));
        lines.extend(self.note().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }

    pub(super) fn to_json(&self) -> Value {
        let row = |row: &Row| {
            let mut fields =
                Map::from_iter([("what".into(), json!(row.what)), ("pictures".into(), json!(row.pictures))]);
            for finding in &row.findings {
                fields.insert(finding.key.into(), json!(finding.value));
                fields.insert(format!("{}_interval", finding.key), json!(finding.interval));
            }
            Value::Object(fields)
        };
        let mut fields = Map::from_iter([
            ("references".into(), json!(self.references)),
            ("rows".into(), self.rows.iter().map(row).collect()),
        ]);
        fields.extend(protocol_json(&self.protocol));
        fields.extend([
            ("model".into(), json!(self.model)),
            ("settings".into(), json!(self.settings)),
            ("seed".into(), json!(self.seed)),
            ("note".into(), json!(self.note())),
        ]);
        Value::Object(fields)
    }

    /// What to say about small sets: that of the smallest.
    fn note(&self) -> Option<String> {
        self.rows.iter().min_by_key(|row| row.pictures).and_then(|row| notes(&row.findings))
    }
}

fn draw(session: &Session, subjects: &[Subject], extractor: &Extractor, progress: &mut Progress) -> Result<Summary> {
    let mut summary = Summary::new(extractor.protocol(), true);
    session.draw(subjects, progress, |drawn| add(&mut summary, extractor, &drawn.picture))?;
    Ok(summary)
}

/// Draws these captions and seeds with random weights in the model's base; nothing of a network that cannot be made anew.
fn draw_untrained(
    session: &Session,
    subjects: &[Subject],
    seed: u64,
    extractor: &Extractor,
    progress: &mut Progress,
) -> Result<Option<Summary>> {
    let config = session.imagen.stages().swap_remove(0).config;
    let (Some(config), Some(encoder)) = (config, session.imagen.encoder()) else { return Ok(None) };
    let stage = random_stage(&config, seed, session.imagen.device())?;
    let mut summary = Summary::new(extractor.protocol(), true);
    for (index, subject) in subjects.iter().enumerate() {
        for picture in draw_with(&stage, encoder, &session.stages[0].1, subject)? {
            add(&mut summary, extractor, &picture)?;
        }
        if interrupt::requested() {
            progress.finish();
            return Err(Failure::stopped(index, subjects.len(), "drawn"));
        }
        progress.step("untrained", index as u64 + 1, subjects.len() as u64, "");
    }
    progress.finish();
    Ok(Some(summary))
}

/// Adds the features of a picture.
fn add(summary: &mut Summary, extractor: &Extractor, picture: &Picture) -> Result<()> {
    Ok(summary.add_rows(&extractor.features(&[extractor.prepare(picture)?])?)?)
}

/// One picture of a network that is not the model's.
fn draw_with(
    stage: &Stage,
    encoder: &dyn TextEncoder,
    settings: &StageSettings,
    subject: &Subject,
) -> Result<Vec<Picture>> {
    let text: Text = encoder.encode(&[&subject.caption])?.into();
    let mut last = None;
    for step in trajectory(stage, settings, &[subject.seed], Some(text), None)? {
        last = Some(step?.x_hat);
        if interrupt::requested() {
            break;
        }
    }
    Ok(last.as_ref().map_or(Ok(Vec::new()), to_pictures)?)
}
