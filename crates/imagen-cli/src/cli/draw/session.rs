//! A model that is open with its settings resolved, and what every verb that draws does with it: draw a list of captions, say in
//! each picture what it is, and write it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagen::cascade::deepfloyd::{Verdict, clean_caption, plain_caption};
use imagen::cascade::{Event, Imagen, Request, StageName, StageOptions, StageSettings};
use imagen::image::{Picture, png};

use super::model::OpenModel;
use super::settings;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::output::record::{ModelRecord, Record};
use crate::output::write_file;
use crate::progress::Progress;

/// An open model, and how it draws.
pub(in crate::cli) struct Session {
    pub(in crate::cli) imagen: Imagen,
    /// What is drawn; of the evaluations everything but that.
    pub(in crate::cli) request: Request,
    /// How each stage runs.
    pub(in crate::cli) stages: Vec<(StageName, StageSettings)>,
    /// Which weights draw.
    pub(in crate::cli) record: ModelRecord,
}

/// A picture to draw.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Subject {
    pub(in crate::cli) caption: String,
    pub(in crate::cli) seed: u64,
}

/// A picture that is finished.
pub(in crate::cli) struct Drawn {
    /// Which of those that were asked for.
    pub(in crate::cli) index: usize,
    pub(in crate::cli) picture: Picture,
    /// What a safety checker found.
    pub(in crate::cli) verdict: Option<Verdict>,
}

impl Session {
    /// A model with a request whose settings are resolved.
    pub(in crate::cli) fn new(OpenModel { imagen, record, .. }: OpenModel, request: Request) -> Result<Self> {
        let stages = imagen.resolve(&request)?;
        Ok(Self { imagen, request, stages, record })
    }

    /// How the next pictures are drawn.
    pub(in crate::cli) fn choose(&mut self, options: BTreeMap<StageName, StageOptions>) -> Result<()> {
        self.request.options = options;
        self.stages = self.imagen.resolve(&self.request)?;
        Ok(())
    }

    /// Draws each subject and hands it over.
    ///
    /// # Errors
    /// `Interrupted` after Ctrl-C; those of the model and of `take`.
    pub(in crate::cli) fn draw(
        &self,
        subjects: &[Subject],
        progress: &mut Progress,
        mut take: impl FnMut(Drawn) -> Result<()>,
    ) -> Result<()> {
        if subjects.is_empty() {
            return Ok(());
        }
        let of = Request::each(subjects.iter().map(|subject| (subject.caption.clone(), subject.seed)));
        let request = Request { prompts: of.prompts, pictures: of.pictures, ..self.request.clone() };
        let (mut drawn, mut withheld, all) = (0, 0, subjects.len());
        for event in self.imagen.sample(&request)? {
            if let Event::Image { last: true, index, picture, prompt, verdict, .. } = event? {
                withheld += usize::from(verdict.is_some_and(Verdict::withheld));
                take(Drawn { index, picture, verdict })?;
                drawn += 1;
                progress.step("draw", drawn as u64, all as u64, &prompt);
            }
            if interrupt::requested() {
                break;
            }
        }
        progress.finish();
        if withheld > 0 {
            progress.note(format_args!("the safety checker withheld {withheld} of {drawn} pictures; they are black"));
        }
        if drawn < all { Err(Failure::stopped(drawn, all, "drawn")) } else { Ok(()) }
    }

    /// Draws those of these files that are not there.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub(in crate::cli) fn draw_missing(
        &self,
        files: impl Iterator<Item = (PathBuf, Subject)>,
        progress: &mut Progress,
    ) -> Result<()> {
        let (files, subjects): (Vec<PathBuf>, Vec<Subject>) = files.filter(|(file, _)| !file.exists()).unzip();
        progress.note(format_args!("{} pictures to draw", subjects.len()));
        let save = |drawn: Drawn| self.save(&files[drawn.index], &drawn, &subjects[drawn.index]);
        self.draw(&subjects, progress, save).map_err(|failure| failure.hint("run the same command to go on"))
    }

    /// What a picture says about itself.
    pub(in crate::cli) fn describe(&self, subject: (&str, u64), picture: &Picture, verdict: Option<Verdict>) -> Record {
        describe(&self.imagen, &self.record, &self.request, &self.stages, subject, picture, verdict)
    }

    /// Writes a picture with what draws it again.
    pub(in crate::cli) fn save(&self, path: &Path, drawn: &Drawn, subject: &Subject) -> Result<()> {
        let record = self.describe((&subject.caption, subject.seed), &drawn.picture, drawn.verdict);
        write_file(path, &png::encode(&drawn.picture, &record.text())?)
    }

    /// The flags that say its settings again.
    pub(in crate::cli) fn flags(&self) -> Vec<(&'static str, String)> {
        settings::flags(&self.request.options, &self.stages)
    }
}

/// What a picture of a request says about itself.
pub(in crate::cli) fn describe(
    imagen: &Imagen,
    model: &ModelRecord,
    request: &Request,
    stages: &[(StageName, StageSettings)],
    (prompt, seed): (&str, u64),
    picture: &Picture,
    verdict: Option<Verdict>,
) -> Record {
    let size = [picture.width(), picture.height()];
    let mut record = Record::new(prompt.to_owned(), seed, model.clone(), stages.iter().copied().collect(), size);
    record.strength = request.start.as_ref().and_then(|start| start.strength);
    record.weighted = request.weighted;
    (record.from, record.prompts) = (request.from, request.stage_prompts.clone());
    if imagen.deepfloyd().is_some() {
        let raw = request.raw_captions;
        record.caption = Some(if raw { plain_caption(prompt) } else { clean_caption(prompt) });
        record.safety = Some(safety(verdict).to_owned());
    }
    record
}

/// What a verdict is called in the record.
fn safety(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => "the model ships no checker",
        Some(verdict) if verdict.unsafe_content => "withheld, unsafe content",
        Some(verdict) if verdict.watermark => "withheld, a watermark",
        Some(_) => "passed",
    }
}
