//! `imagen recipe new`: a recipe for a set of pictures, with the reasons beside the numbers.
//!
//! The library proposes ([`Proposal`]); this looks at the pictures, measures how fast a step is here, and says which commands
//! come next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use imagen::cascade::{NetworkKind, StageConfig, StageName};
use imagen::data::{Look, Source};
use imagen::image::DecodeOptions;
use imagen::nn::device::DeviceName;
use imagen::said::counted;
use imagen::text::{self, TextOptions};
use imagen::train::{BUILT_IN, Plan, Proposal, Recipe, Wanted};
use imagen_kernels::peak::multiply_add_rate;

use crate::cli::bench;
use crate::cli::draw::MaxMemory;
use crate::cli::plan::TRAINING_SHARE;
use crate::cli::shared::{self, TextEncoder, Threads};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::output::{self, shell};
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  imagen recipe new --data pictures --from built-in -o mine.toml
  imagen recipe new --data pictures --stage sr256 --minutes 120 -o mine-sr256.toml
  imagen train mine.toml --run runs/mine --init-from built-in
  imagen recipe new --data pictures --from built-in --lora -o style.toml";

/// Names of pictures that cannot be read, and how many were looked at.
type Unreadable = (BTreeSet<String>, usize);

/// Pictures that are looked at for their sizes.
const LOOKED: usize = 2048;
/// A step that is estimated to take longer than this is not measured.
const MEASURED: f64 = 20.0;

/// Write a recipe for a set of pictures: size, network, batch, steps and prompts that suit it and this machine
///
/// The recipe says why each number is as it is. A few training steps are measured for it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct New {
    /// The set: a folder of pictures with captions, tar shards, COCO captions or a world
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Teach a model that is there: its network, so that training begins with its weights; `built-in` is the one in this
    /// program
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// The stage that is trained
    #[arg(long, value_name = "STAGE", default_value = "base")]
    #[arg(value_parser = shared::one_of::<StageName>())]
    stage: StageName,
    /// Learn LoRA adapters of this rank (8 by default) in place of all weights: a file of a few MB for `sample --lora`
    #[arg(long, value_name = "RANK", requires = "from", num_args = 0..=1, default_missing_value = "8")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    lora: Option<usize>,
    /// Side of the pictures that are drawn; what suits the set by default
    #[arg(long, value_name = "PIXELS", conflicts_with = "from")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(8..=4096))]
    size: Option<usize>,
    /// How long training may take; fewer where the set has been seen often enough before
    #[arg(long, value_name = "N", default_value = "30")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    minutes: u64,
    /// A stage that draws without a text
    #[arg(long, conflicts_with = "from")]
    unconditional: bool,
    /// The recipe's file; printed by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    text_encoder: TextEncoder,
    #[command(flatten)]
    threads: Threads,
}

impl New {
    pub(super) fn run(self) -> Result<()> {
        if let Some(path) = self.output.as_deref().filter(|path| path.exists() && !self.force) {
            let failure = Failure::usage(format_args!("{} is already there", path.display()));
            return Err(failure.hint("choose another name, or write over it with --force"));
        }
        self.threads.apply()?;
        let progress = Progress::new(self.quiet);
        let source = Source::open(&self.data)?;
        progress.note(&source);
        shared::check_captioned(&source, &self.data)?;
        let from = self.from.as_deref().map(|model| self.stage_of(model)).transpose()?;
        let text_dim = match (&from, self.unconditional) {
            (Some(from), _) => from.unet.text_dim,
            (None, true) => 0,
            (None, false) => text::load(self.text_encoder.files()?, &TextOptions::default(), &shared::cpu())?.dim(),
        };
        let (sides, unreadable) = self.look(&source)?;
        if !unreadable.0.is_empty() {
            progress.note(format_args!(
                "{} of the {} that were looked at cannot be read: `imagen data check {}` names them",
                counted(unreadable.0.len(), "picture"),
                unreadable.1,
                self.data.display()
            ));
        }
        let (stage, size, memory) = (self.stage, self.size, self.memory.limit(&DeviceName::default().find()?));
        let wanted = Wanted { stage, from, lora: self.lora, size, text_dim, sides, unreadable, memory };
        let mut proposal = Proposal::new(&self.data, &source, &wanted)?;
        progress.note("measuring a training step");
        let (seconds, how) = step_seconds(&proposal.recipe)?;
        proposal.pace(seconds, self.minutes as f64, how);
        let text = format!("{}{}", self.head(&proposal.recipe, &source), proposal.to_toml());
        let Some(path) = &self.output else { return print_line(text.trim_end()) };
        output::write_document(path, text.as_bytes())?;
        print_line(path.display())?;
        progress.note(format_args!("next: {}", self.train_command()));
        Ok(())
    }

    /// The description of the stage that is trained further.
    fn stage_of(&self, model: &Path) -> Result<StageConfig> {
        let files = shared::named_model(Some(model))?;
        let Some(file) = files.stage(self.stage)? else {
            let others = files.stages()?.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = format_args!("{} has no stage {}", files.label(), self.stage);
            return Err(Failure::new(Exit::Model, message).hint(format_args!("it has: {others}")));
        };
        if file.config.network == NetworkKind::ImagenPytorch {
            let message = format_args!("{} is a converted network, which is drawn with and not trained", files.label());
            return Err(Failure::new(Exit::Model, message).hint("leave out --from for a network of its own"));
        }
        Ok(file.config)
    }

    /// The shorter sides of pictures, evenly from all over the set; the names of those that cannot be read, of how many.
    fn look(&self, source: &Source) -> Result<(Vec<usize>, Unreadable)> {
        if source.world().is_some() {
            return Ok(Default::default());
        }
        let (examples, options) = (source.examples(), DecodeOptions::default());
        let count = LOOKED.min(examples.len());
        let look = |k: usize| {
            let example = &examples[k * examples.len() / count];
            Look::at(source, example, &options).map(|look| look.side()).map_err(|_| example.name.clone())
        };
        let looked: Vec<Result<usize, String>> = (0..count).into_par_iter().map(look).collect();
        let sides: Vec<usize> = looked.iter().filter_map(|look| look.as_ref().ok().copied()).collect();
        if sides.is_empty() {
            let message = format_args!("no picture of {} can be read", self.data.display());
            return Err(Failure::new(Exit::Data, message).hint("`imagen data check` says why"));
        }
        Ok((sides, (looked.into_iter().filter_map(Result::err).collect(), count)))
    }

    /// What stands above the recipe: where it is from, and what to do with it.
    fn head(&self, recipe: &Recipe, source: &Source) -> String {
        let name = self.name();
        let quoted = shell::quote;
        let (run, model) = (quoted(&format!("runs/{name}")), quoted(&format!("models/{name}")));
        let prompt =
            recipe.train.sample_prompts.first().map(|prompt| format!(" {}", quoted(prompt))).unwrap_or_default();
        let prompt = if recipe.stage.unet.text_dim == 0 { " ''".to_owned() } else { prompt };
        let after = match recipe.train.lora {
            Some(_) => format!("#   imagen sample --lora {run}{prompt}\n"),
            None => format!(
                "#   imagen export {run} --model {model}{encoder}\n#   imagen sample --model {model}{prompt}\n",
                encoder = self.encoder()
            ),
        };
        format!(
            "# {stage} for {folder}: {source}.\n# `imagen recipe keys` lists what else a recipe may say.\n#\n#   {train}\n{after}",
            stage = recipe.stage.stage,
            folder = self.data.display(),
            train = self.train_command(),
        )
    }

    fn train_command(&self) -> String {
        let path = self.output.as_deref().unwrap_or(Path::new("recipe.toml"));
        let quoted = |text: &Path| shell::quote(&text.display().to_string());
        let run = shell::quote(&format!("runs/{}", self.name()));
        let from = self.from.as_deref().map(|from| format!(" --init-from {}", quoted(from))).unwrap_or_default();
        format!("imagen train {} --run {run}{from}{}", quoted(path), self.encoder())
    }

    /// The text encoder that the other commands have to be given.
    fn encoder(&self) -> String {
        let own = || {
            let folder = self.from.as_deref().filter(|from| *from != Path::new(BUILT_IN))?;
            Some(shared::model_folder(folder).ok()?.join("text")).filter(|text| text.exists())
        };
        let folder = self.text_encoder.folder().map(Path::to_owned).or_else(own);
        folder
            .map(|folder| format!(" --text-encoder {}", shell::quote(&folder.display().to_string())))
            .unwrap_or_default()
    }

    /// What run and model are called: as the recipe, or as the set.
    fn name(&self) -> String {
        let stem = self.output.as_deref().unwrap_or(&self.data).file_stem();
        let name = stem.map_or_else(|| "mine".to_owned(), |stem| stem.to_string_lossy().into_owned());
        // the commands that are suggested must not end at what is there already
        let taken = |name: &String| ["runs", "models"].iter().any(|folder| Path::new(folder).join(name).exists());
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).expect("numbers do not end")
    }
}

/// Seconds of a training step, and how that is known.
fn step_seconds(recipe: &Recipe) -> Result<(f64, &'static str)> {
    let rate = (0..3).map(|_| multiply_add_rate() / 2.0).fold(0.0, f64::max);
    let estimate = Plan::of(recipe)?.step_multiply_adds as f64 / (rate * TRAINING_SHARE);
    let config = &recipe.train;
    let part = config.micro_batch.unwrap_or(config.batch);
    let parts = (config.batch / part) as f64;
    if estimate > MEASURED {
        return Ok((estimate, "estimated"));
    }
    let side = recipe.data.crop.unwrap_or(recipe.stage.size);
    Ok((parts * bench::training_step_seconds(&recipe.stage, side, part, &shared::cpu())?, "measured"))
}
