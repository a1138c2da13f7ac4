//! `imagen export`: a run's averaged weights become a stage of a model folder, beside the stages that were not trained.

use std::path::{Path, PathBuf};

use imagen::cascade::{ModelFiles, StageFile, StageName};
use imagen::data::Source;
use imagen::text::{self, EncoderFiles, TextOptions, known};
use imagen::train::{self, Brought, Choice, Exported, Other, Recipe};

use super::shared::{self, TextEncoder};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::output;
use crate::progress::Progress;

/// Put a trained stage into a model folder, ready for sampling
///
/// Writes the run's averaged weights in half precision, and the text encoder where the folder has none. A
/// run that began with a model's weights brings the model's other stages along, where the folder has none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  imagen export runs/shapes --model models/shapes\n  imagen sample \"a red circle\" --model models/shapes"
)]
pub(crate) struct Export {
    /// The run's folder
    run: PathBuf,
    /// The model folder; made where there is none, other stages in it stay
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Export the weights with the best validation (train.validate_every) instead of the last ones
    #[arg(long, conflicts_with = "ema")]
    best: bool,
    /// Export another moving average of the last checkpoint, by its number in the recipe (ema_decay or one
    /// of ema_half_lives); the first one by default
    #[arg(long, value_name = "NUMBER")]
    ema: Option<String>,
    /// Take the stages that were not trained from this model (`built-in` is the one in this program), or
    /// `none`; from what the run began with by default
    #[arg(long, value_name = "MODEL")]
    stages_from: Option<PathBuf>,
    /// Replace a stage of another training
    #[arg(long)]
    force: bool,
    /// Print nothing but the files
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    text_encoder: TextEncoder,
}

impl Export {
    pub(crate) fn run(self) -> Result<()> {
        let choice = match (self.best, self.ema.clone()) {
            (true, _) => Choice::Best,
            (false, Some(name)) => Choice::Average(name),
            (false, None) => Choice::Last,
        };
        let progress = Progress::new(self.quiet);
        let named = match self.stages_from.as_deref() {
            Some(name) if name == Path::new("none") => None,
            name => name.map(|name| shared::named_model(Some(name))).transpose()?,
        };
        let text = self.text_encoder.files()?;
        if !self.run.join("recipe.toml").is_file() {
            let failure =
                Failure::new(Exit::Data, format_args!("{} is not a run of `imagen train`", self.run.display()));
            return Err(failure.hint("name the folder that was given by --run"));
        }
        let _lock = output::own_folder_if_there(&self.model)?;
        let _text = output::own_folder_if_there(&self.model.join("text"))?;
        if !self.force {
            self.check_replaced()?;
        }
        let exported = train::export(&self.run, &self.model, &choice, &text)?;
        print_line(exported.path.display())?;
        progress.note(describe(&exported, self.best));
        let begun_with = exported.begun_with.as_deref().and_then(|name| origin(name, &progress));
        // of a model that is gone nobody can say what it knew
        if exported.stage == StageName::Base && exported.begun_with.is_some() == begun_with.is_some() {
            self.remember(text, begun_with.as_ref(), &progress)?;
        }
        let from = match (&self.stages_from, named) {
            (Some(_), named) => named,
            (None, _) => begun_with,
        };
        let Some(from) = from else { return Ok(()) };
        for Other { stage, what } in train::bring_stages(&self.model, exported.stage, &from)? {
            match what {
                Brought::Copied(path) => {
                    print_line(path.display())?;
                    progress.note(format_args!("{stage}: as in {}", from.label()));
                }
                Brought::There => progress.note(format_args!("{stage}: stays as it is in {}", self.model.display())),
                Brought::Left(why) => {
                    progress.note(format_args!("{stage}: not brought along from {}: {why}", from.label()));
                }
            }
        }
        Ok(())
    }

    /// Refuses to replace a stage that is of another training than the run.
    fn check_replaced(&self) -> Result<()> {
        let name = Recipe::read(&self.run.join("recipe.toml"))?.stage.stage;
        let model = ModelFiles::Folder(self.model.clone());
        let (Some(old), Some(new)) = (model.stage(name)?, ModelFiles::Folder(self.run.clone()).stage(name)?) else {
            return Ok(());
        };
        let begun = |file: &StageFile| {
            let history = file.record.history.iter();
            history.map(|part| (part.recipe.clone(), part.init_from.clone())).collect::<Vec<_>>()
        };
        let (old, new) = (begun(&old), begun(&new));
        // one is the other at an earlier or a later step
        if !old.is_empty() && old.iter().zip(&new).all(|(old, new)| old == new) {
            return Ok(());
        }
        let failure = Failure::usage(format_args!("{} has a stage {name} of another training", self.model.display()));
        Err(failure.hint("choose another folder with --model, or replace the stage with --force"))
    }

    /// Writes down what the model was taught, where its set is still there, and what the one had been that it began with.
    fn remember(&self, text: EncoderFiles, before: Option<&ModelFiles>, progress: &Progress) -> Result<()> {
        let recipe = Recipe::read(&self.run.join("recipe.toml"))?;
        if recipe.stage.unet.text_dim == 0 {
            return Ok(());
        }
        let source = match Source::open(&recipe.data.folder) {
            Ok(source) => source,
            Err(error) => {
                progress.note(format_args!("what it was taught is not written down: {error:#}"));
                return Ok(());
            }
        };
        let encoder = text::load(text, &TextOptions::default(), &shared::cpu())?;
        let Some(known) = train::known_captions(&source, encoder.as_ref())? else { return Ok(()) };
        let known = match before.map(ModelFiles::known_captions).transpose()?.flatten() {
            Some(before) => known.joined(&before),
            None => known,
        };
        let path = self.model.join(known::FILE);
        known.write(&path)?;
        progress.note(format_args!("{}: captions that it was taught", path.display()));
        Ok(())
    }
}

/// Which weights these are.
fn describe(exported: &Exported, best: bool) -> String {
    let Exported { stage, step, of, average, .. } = exported;
    let best = if best { ", which validated best" } else { "" };
    format!("{stage}: step {step} of {of}{best}, average {average}")
}

/// The model that a run began with, where it is still there and is one.
fn origin(name: &str, progress: &Progress) -> Option<ModelFiles> {
    let path = Path::new(name);
    // of a stage's file it is the folder
    let path = if path.extension().is_some_and(|extension| extension == "safetensors") {
        output::folder_of(path)
    } else {
        path
    };
    match shared::named_model_or_run(Some(path)) {
        Ok(files) => Some(files),
        Err(failure) => {
            progress.note(format_args!("no other stage is brought along: {}", failure.message()));
            None
        }
    }
}
