//! Drawing for measurements: captions drawn at random from a set, one picture each, picture k from the seed plus k, nothing
//! picked.
//!
//! Each picture is a request of its own, so that its seed is its own and `imagen sample CAPTION --seed SEED` draws it
//! again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imagen::cascade::{Event, Imagen, Request, SamplingDefaults, StageName, StageOptions};
use imagen::data::{Example, Source};
use imagen::image::{Picture, PngText, png};
use imagen::rng::Rng;

use crate::cli::per_stage::PerStage;
use crate::cli::sample::{model_record, set, set_guidance};
use crate::cli::shared::{self, Threads};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::output::record::{ModelRecord, Record};
use crate::output::write_file;
use crate::progress::Progress;

/// Sets the choice of captions apart from every other use of a seed.
const CAPTIONS: u64 = 0x6361_7074;

/// Which model draws, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Painter {
    /// A model folder; the built-in model where absent
    #[arg(short, long, value_name = "FOLDER", help_heading = "Model and machine")]
    pub(super) model: Option<PathBuf>,
    #[command(flatten)]
    pub(super) manner: Manner,
}

/// How a model draws.
#[derive(Debug, clap::Args)]
pub(super) struct Manner {
    /// Denoising steps, one value for all stages or one for each
    #[arg(long, value_name = "N", help_heading = "Model and machine")]
    steps: Option<PerStage<usize>>,
    /// Pull of the text: one value is for the base, 1 is none
    #[arg(long, value_name = "W", help_heading = "Model and machine")]
    guidance: Option<PerStage<f64>>,
    #[command(flatten)]
    pub(super) threads: Threads,
}

/// A picture to draw.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) caption: String,
    pub(super) seed: u64,
}

/// A model that is open, with its options resolved.
pub(super) struct Studio {
    pub(super) imagen: Imagen,
    /// Everything but prompt and seed.
    request: Request,
    /// How each stage runs.
    pub(super) stages: Vec<(StageName, SamplingDefaults)>,
    /// Which weights draw.
    pub(super) record: ModelRecord,
}

impl Painter {
    /// Opens the model, to draw up to this stage.
    pub(super) fn open(&self, until: StageName, progress: &Progress) -> Result<Studio> {
        self.manner.open(self.model.as_deref(), Some(until), progress)
    }
}

impl Manner {
    /// Opens a model, the built-in one where none is named, to draw up to this stage, or as far as it draws by itself.
    pub(super) fn open(&self, model: Option<&Path>, until: Option<StageName>, progress: &Progress) -> Result<Studio> {
        self.open_with(model, until, |_| None, progress)
    }

    /// The same with another guidance than the stages suggest, where none is given.
    pub(super) fn open_with(
        &self,
        model: Option<&Path>,
        until: Option<StageName>,
        guidance: impl Fn(StageName) -> Option<f64>,
        progress: &Progress,
    ) -> Result<Studio> {
        let mut studio = Studio::open(model, until, progress)?;
        let model: Vec<StageName> = studio.imagen.stages().iter().map(|info| info.config.stage).collect();
        let last = until.unwrap_or_else(|| studio.imagen.default_until());
        let running = model.iter().filter(|stage| **stage <= last).count();
        let mut options = BTreeMap::<StageName, StageOptions>::new();
        set(&mut options, (&model[..], running), "--steps", self.steps.as_ref(), |o| &mut o.steps)?;
        set_guidance(&mut options, (&model[..], running), self.guidance.as_ref())?;
        for stage in model.iter().filter(|_| self.guidance.is_none()) {
            options.entry(*stage).or_default().guidance = guidance(*stage);
        }
        options.retain(|stage, _| *stage <= last);
        studio.choose(options)?;
        Ok(studio)
    }
}

impl Studio {
    /// Opens a model, to draw up to this stage, or as far as it draws by itself, as its stages suggest.
    pub(super) fn open(model: Option<&Path>, until: Option<StageName>, progress: &Progress) -> Result<Self> {
        let files = shared::model_files(model)?;
        progress.note(format_args!("opening {}", files.label()));
        let imagen = Imagen::open(&files, &shared::device())?;
        let request = Request { until, ..Request::default() };
        let stages = imagen.resolve(&request)?;
        let record = model_record(model, &imagen);
        Ok(Self { imagen, request, stages, record })
    }

    /// How the next pictures are drawn.
    pub(super) fn choose(&mut self, options: BTreeMap<StageName, StageOptions>) -> Result<()> {
        self.request.options = options;
        self.stages = self.imagen.resolve(&self.request)?;
        Ok(())
    }

    /// Draws each subject and hands it over. Returns how many were drawn: fewer than there are after Ctrl-C.
    pub(super) fn draw(
        &self,
        subjects: &[Subject],
        progress: &mut Progress,
        mut take: impl FnMut(usize, Picture) -> Result<()>,
    ) -> Result<usize> {
        let mut drawn = 0;
        while drawn < subjects.len() && !interrupt::requested() {
            let subject = &subjects[drawn];
            let prompts = vec![subject.caption.clone()];
            let request = Request { prompts, seed: subject.seed, ..self.request.clone() };
            for event in self.imagen.sample(&request)? {
                if let Event::Image { last: true, picture, .. } = event? {
                    take(drawn, picture)?;
                    drawn += 1;
                }
                if interrupt::requested() {
                    break;
                }
            }
            progress.step("draw", drawn as u64, subjects.len() as u64, &subject.caption);
        }
        progress.finish();
        Ok(drawn)
    }

    /// Writes a picture with what draws it again.
    pub(super) fn save(&self, path: &Path, picture: &Picture, subject: &Subject) -> Result<()> {
        let size = [picture.width(), picture.height()];
        let stages = self.stages.iter().copied().collect();
        let record = Record::new(subject.caption.clone(), subject.seed, self.record.clone(), stages, size);
        let text = PngText { parameters: Some(record.infotext()), imagen: Some(record.to_json()) };
        write_file(path, &png::encode(picture, &text)?).map_err(|e| Failure::io("write", path, &e))
    }
}

/// At most `count` of these, at random without putting back, in the order in which they were drawn.
pub(super) fn choose<T: Clone>(from: &[T], count: usize, seed: u64) -> Vec<T> {
    let order = Rng::new(seed).fold(CAPTIONS).permutation(from.len());
    order.into_iter().take(count).map(|at| from[at].clone()).collect()
}

/// What to draw for these pictures: their canonical captions, seeds counting up.
pub(super) fn subjects(source: &Source, examples: &[&Example], seed: u64) -> Result<Vec<Subject>> {
    if seed.checked_add(examples.len() as u64).is_none() {
        return Err(Failure::usage(format_args!("--seed {seed} plus {} pictures is out of range", examples.len())));
    }
    let subject = |(k, example): (usize, &&Example)| -> Result<Subject> {
        let caption = example.captions.first().ok_or_else(|| {
            let failure = Failure::usage(format_args!("{} holds no captions to draw", source.folder().display()));
            failure.hint("name a folder with metadata.jsonl, or with a .txt beside each picture")
        })?;
        Ok(Subject { caption: source.captions()[*caption].clone(), seed: seed + k as u64 })
    };
    examples.iter().enumerate().map(subject).collect()
}
