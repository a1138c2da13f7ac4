//! `imagen eval kid --samples`: what the base of a model draws, measured against held-out pictures, between two marks: other
//! real pictures (nothing that draws this set can be expected to be nearer) and the same network with random weights.
//!
//! All three sets have the same number of pictures where the set has enough, because the Fréchet distance depends on it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use imagen::cascade::{Stage, StageName, random_stage, to_pictures, trajectory};
use imagen::data::{Example, Source, Split};
use imagen::eval::{self, Layout, Summary};
use imagen::models::unet::Text;

use super::drawing::{Painter, Studio, Subject, choose, subjects};
use super::{kid, pictures, with_interval};
use crate::cli::shared;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// The distances of one set.
struct Row {
    what: &'static str,
    pictures: u64,
    kid: eval::Kid,
    frechet: eval::Frechet,
}

/// The distances of all sets to the validation pictures.
pub(super) struct Table {
    data: PathBuf,
    references: u64,
    rows: Vec<Row>,
    seed: u64,
    model: String,
    settings: String,
}

impl Table {
    /// Draws `count` captions of the set with both networks, and compares.
    pub(super) fn draw(
        data: &Path,
        count: usize,
        seed: u64,
        painter: &Painter,
        progress: &mut Progress,
    ) -> Result<Self> {
        let source = Source::open(data)?;
        let every: Vec<&Example> = source.examples().iter().collect();
        let chosen = choose(&every, count, seed);
        let subjects = subjects(&source, &chosen, seed)?;
        let of_split = |split| every.iter().copied().filter(move |e| e.split == split).collect::<Vec<_>>();
        source.split(Split::Validation)?;
        let studio = painter.open(StageName::Base, progress)?;

        let references = pictures::summarise(&source, &of_split(Split::Validation), true, progress)?;
        let training = choose(&of_split(Split::Train), subjects.len(), seed);
        let training = pictures::summarise(&source, &training, true, progress)?;
        let drawn = draw(&studio, &subjects, progress)?;
        let untrained = draw_untrained(&studio, &subjects, seed, progress)?;

        let sets =
            [("training pictures", &training), ("drawn by the model", &drawn), ("untrained network", &untrained)];
        let row = |(what, summary): (&'static str, &Summary)| -> Result<Row> {
            let (kid, frechet) = (kid::kid(summary, &references, seed)?, eval::frechet(summary, &references)?);
            Ok(Row { what, pictures: summary.statistics().count(), kid, frechet })
        };
        let settings = studio.stages[0].1;
        Ok(Self {
            data: data.to_owned(),
            references: references.statistics().count(),
            rows: sets.into_iter().map(row).collect::<Result<_>>()?,
            seed,
            model: studio.record.name.clone(),
            settings: format!("{} steps, {}, guidance {}", settings.steps, settings.sampler, settings.guidance),
        })
    }

    /// What to say about small sets.
    fn note(&self) -> Option<String> {
        let least = self.rows.iter().map(|row| row.pictures).min()?.min(self.references);
        let notes = [kid::too_few(least).map(|note| format!("KID: {note}")), super::frechet::too_few(least)];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!(
            "distance to the {} validation pictures of {}, features {}",
            self.references,
            self.data.display(),
            Layout::NAME
        )];
        for Row { what, pictures, kid, frechet } in &self.rows {
            lines.push(format!(
                "  {what:<19} {pictures:>5}  KID {}  Frechet distance {}",
                with_interval(kid.value, Some(kid.interval), 3),
                with_interval(frechet.distance, frechet.interval, 1)
            ));
        }
        lines.push(format!(
            "  captions of both splits, one picture each, none picked; {}; model {}, base: {}; seed {}, plus k for \
             picture k",
            Layout::RESIZE,
            self.model,
            self.settings,
            self.seed
        ));
        lines.extend(self.note().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }

    pub(super) fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "what": row.what,
                "pictures": row.pictures,
                "kid": row.kid.value,
                "kid_interval": row.kid.interval,
                "frechet_distance": row.frechet.distance,
                "frechet_interval": row.frechet.interval,
            })
        };
        json!({
            "references": self.references,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "extractor": Layout::NAME,
            "extractor_digest": Layout::digest(),
            "resize": Layout::RESIZE,
            "model": self.model,
            "settings": self.settings,
            "seed": self.seed,
            "note": self.note(),
        })
    }
}

fn draw(studio: &Studio, subjects: &[Subject], progress: &mut Progress) -> Result<Summary> {
    let mut summary = Summary::new(true);
    let finished = studio.draw(subjects, progress, |_, picture| Ok(summary.add(&Layout::of(&picture)?)?))?;
    if finished < subjects.len() { Err(stopped(finished, subjects.len())) } else { Ok(summary) }
}

/// The same captions and seeds through the model's base with random weights.
fn draw_untrained(studio: &Studio, subjects: &[Subject], seed: u64, progress: &mut Progress) -> Result<Summary> {
    let config = studio.imagen.stages().swap_remove(0).config;
    let stage = random_stage(&config, seed, &shared::device())?;
    let mut summary = Summary::new(true);
    for (index, subject) in subjects.iter().enumerate() {
        for picture in draw_with(&stage, studio, subject)? {
            summary.add(&Layout::of(&picture)?)?;
        }
        if interrupt::requested() {
            progress.finish();
            return Err(stopped(index, subjects.len()));
        }
        progress.step("untrained", index as u64 + 1, subjects.len() as u64, "");
    }
    progress.finish();
    Ok(summary)
}

/// One picture of a network that is not the model's.
fn draw_with(stage: &Stage, studio: &Studio, subject: &Subject) -> Result<Vec<imagen::image::Picture>> {
    let text: Text = studio.imagen.encoder().encode(&[&subject.caption])?.into();
    let mut last = None;
    for step in trajectory(stage, &studio.stages[0].1, &[subject.seed], Some(text), None)? {
        last = Some(step?.x_hat);
        if interrupt::requested() {
            break;
        }
    }
    Ok(last.as_ref().map_or(Ok(Vec::new()), to_pictures)?)
}

fn stopped(done: usize, of: usize) -> Failure {
    Failure::interrupted(format_args!("{done} of {of} pictures were drawn"))
}
