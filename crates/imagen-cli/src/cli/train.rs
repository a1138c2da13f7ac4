//! `imagen train`: one stage from a recipe, with progress, checkpoints and a Ctrl-C that loses nothing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use imagen::cascade::PartialLoad;
use imagen::nn::device::Found;
use imagen::said;
use imagen::train::{self, InitFrom, Outcome, Plan, ProbeReport, Recipe, Run, StepReport, StopFile, TrainEvent};

use super::draw::MaxMemory;
use super::shared::{self, Machine, TextEncoder};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::shell;
use crate::progress::Progress;
use crate::ranks::{self, Job};

/// Tensors of a list that are named; how many there are beyond says enough.
const NAMED: usize = 6;

const EXAMPLES: &str = "\
Examples:
  imagen data shapes data/shapes --count 2000
  imagen train recipes/shapes/base.toml --run runs/shapes
  imagen train recipes/shapes/base.toml --run runs/shapes --resume
  imagen export runs/shapes --model models/shapes
  mpirun -n 4 imagen train recipes/shapes/base.toml --run runs/shapes --set train.micro_batch=4

Ctrl-C finishes the step, saves and leaves with exit code 130; a second one leaves at once, and the
last checkpoint stays. A resumed run equals one that was never stopped. Many processes train one run
over MPI (a program built with the feature `mpi`); their number changes no bit of it.";

/// Train one stage of a cascade from a recipe
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Train {
    /// The recipe: a TOML file that says what is trained, on what, and how
    recipe: PathBuf,
    /// Where the run's state, sample pictures and weights are kept
    #[arg(long, value_name = "FOLDER")]
    run: PathBuf,
    /// Go on from the state in the run's folder
    #[arg(long)]
    resume: bool,
    /// Begin with the weights of a model (`built-in` is the one in this program), a run or a stage's file,
    /// where their names and shapes fit; what does not fit is listed and begins at random. A resumed run has
    /// weights already, and takes no notice
    #[arg(long, value_name = "MODEL|FILE")]
    init_from: Option<PathBuf>,
    /// Replace a value of the recipe, e.g. --set train.lr=1e-4 --set data.folder=pictures; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Train for this many steps in all, instead of the recipe's number
    #[arg(long, value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    steps: Option<u64>,
    /// Print nothing but the result and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    text_encoder: TextEncoder,
    #[command(flatten)]
    machine: Machine,
}

impl Train {
    pub(crate) fn run(self) -> Result<()> {
        let job = ranks::connect()?;
        let recipe = ranks::agree(job.ranks.as_ref(), self.recipe_of_run())?;
        let mut reached = false;
        let trained =
            self.machine.compute_on_rank(recipe.train.device.unwrap_or_default(), job.at, job.neighbours, |found| {
                reached = true;
                self.train(recipe, found, &job)
            });
        // a rank without its device tells those that have theirs
        if reached { trained } else { ranks::agree(job.ranks.as_ref(), trained) }
    }

    fn recipe_of_run(&self) -> Result<Recipe> {
        let mut recipe = self.read_recipe()?;
        if let Some(steps) = self.steps {
            recipe.train.steps = steps;
        }
        Ok(recipe)
    }

    fn train(&self, recipe: Recipe, found: &Found, job: &Job) -> Result<()> {
        let (stage, steps) = (recipe.stage.stage, recipe.train.steps);
        let ranks = job.ranks.as_ref();
        let training = ranks::agree(ranks, self.prepare(recipe, found, job.neighbours))?;
        let mut watcher = Watcher::new(Progress::new(self.quiet || ranks.rank() > 0));
        if ranks.size() > 1 {
            watcher.progress.note(format_args!("{} ranks, {} on this machine", ranks.size(), job.neighbours));
        }
        watcher.progress.note("reading pictures and captions");
        let (mut stop, mut heard) = (StopFile::new(&self.run)?, false);
        let outcome = train::train_among(&training, ranks, &mut |event| {
            watcher.show(event);
            if stop.asked() {
                if !std::mem::replace(&mut heard, true) {
                    watcher.progress.note("asked to stop: finishing this step and saving");
                }
                return ControlFlow::Break(());
            }
            interrupt::flow()
        });
        drop(stop);
        watcher.progress.finish();
        match outcome.map_err(|error| ranks::said(ranks, error.into()))? {
            Outcome::Finished if ranks.rank() > 0 => Ok(()),
            Outcome::Finished => {
                print_line(self.run.join(format!("{stage}.safetensors")).display())?;
                let run = shell::quote(&self.run.display().to_string());
                if watcher.step.is_none() {
                    let command = self.resuming(Some(2 * steps));
                    watcher
                        .progress
                        .note(format_args!("already finished after {steps} steps; this goes on: {command}"));
                }
                let name = self.run.file_name().map_or("mine".into(), |name| name.to_string_lossy());
                let model = shell::quote(&format!("models/{name}"));
                watcher.progress.note(match training.recipe.train.lora {
                    Some(_) => format!("next: imagen sample … --lora {run}"),
                    None => format!("next: imagen export {run} --model {model}"),
                });
                Ok(())
            }
            Outcome::StoppedEncoding => {
                let failure =
                    Failure::interrupted("stopped while captions were encoded; the embeddings so far are kept");
                Err(ranks::said(ranks, failure.hint("run the same command to continue")))
            }
            Outcome::Stopped { step } => {
                let failure = Failure::interrupted(format_args!("stopped and saved after step {step}"));
                Err(ranks::said(ranks, failure.hint(format_args!("go on with: {}", self.resume_command()))))
            }
        }
    }

    /// The run, once it is known that this machine, on which `neighbours` ranks of it run, can take it.
    fn prepare(&self, recipe: Recipe, found: &Found, neighbours: usize) -> Result<Run> {
        // ranks share a machine's memory, and have devices of their own
        let sharing = if found.is_cpu() { neighbours as u64 } else { 1 };
        self.memory.check_training(found, &recipe, (sharing, Plan::of(&recipe)?.bytes()))?;
        let text = self.text_encoder.files()?;
        let named = self.init_from.as_deref().filter(|_| !self.resume);
        let init_from = named.map(init_from).transpose()?;
        if !self.resume {
            self.check_data(&recipe.data.folder)?;
            self.check_run(&recipe.data.folder)?;
        }
        interrupt::watch("finishing this step and saving")?;
        let (folder, resume) = (self.run.clone(), self.resume);
        Ok(Run { recipe, folder, resume, init_from, text, device: found.device.clone() })
    }

    /// Refuses a set that is not there, with the recipe's own words on how it is made.
    fn check_data(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            return Ok(());
        }
        let missing = Failure::new(Exit::Data, format_args!("there are no pictures at {}", folder.display()));
        let text = std::fs::read_to_string(&self.recipe).unwrap_or_default();
        Err(match making(&text, folder) {
            Some(command) => missing.hint(format_args!("the recipe says how to make them: {command}")),
            None => missing.hint("name a folder of pictures: --set data.folder=FOLDER"),
        })
    }

    /// Refuses to keep a run among the pictures that it is trained on.
    fn check_run(&self, pictures: &Path) -> Result<()> {
        let whole = |path: &Path| path.canonicalize().ok();
        match (whole(&self.run), whole(pictures)) {
            (Some(run), Some(pictures)) if run.starts_with(&pictures) && pictures.is_dir() => {
                let failure = Failure::usage(format_args!("{} holds the pictures of the training", self.run.display()));
                Err(failure.hint("keep the run elsewhere, e.g. --run runs/mine"))
            }
            _ => Ok(()),
        }
    }

    fn read_recipe(&self) -> Result<Recipe> {
        if !self.recipe.exists() {
            let failure = Failure::new(Exit::Data, format_args!("there is no recipe {}", self.recipe.display()));
            return Err(failure.hint("`imagen recipe new --data FOLDER` writes one for a set of pictures"));
        }
        Ok(Recipe::read_with(&self.recipe, &self.set)?)
    }

    fn resume_command(&self) -> String {
        self.resuming(self.steps)
    }

    fn resuming(&self, steps: Option<u64>) -> String {
        let path = |path: &PathBuf| shell::quote(&path.display().to_string());
        let steps = steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
        let set: String = self.set.iter().map(|set| format!(" --set {}", shell::quote(set))).collect();
        let text = self.text_encoder.folder().map(|folder| shell::quote(&folder.display().to_string()));
        let text = text.map(|folder| format!(" --text-encoder {folder}")).unwrap_or_default();
        let device = self.machine.device().map(|device| format!(" --device {device}")).unwrap_or_default();
        format!("imagen train {} --run {} --resume{set}{steps}{text}{device}", path(&self.recipe), path(&self.run))
    }
}

/// The command in the comment at a recipe's head that makes its set.
fn making(recipe: &str, folder: &Path) -> Option<String> {
    let head = recipe.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let folder = folder.to_str()?;
    let makes = |line: &&str| {
        let command = line.starts_with("node ") || line.starts_with("imagen data ");
        command && line.split_whitespace().any(|word| word == folder)
    };
    head.filter(makes).map(str::to_owned).next()
}

/// What a run begins with, as it is named: a stage's file, or a model.
fn init_from(name: &Path) -> Result<InitFrom> {
    if name.is_file() || name.extension().is_some_and(|extension| extension == "safetensors") {
        Ok(InitFrom::File(name.to_owned()))
    } else {
        shared::named_model_or_run(Some(name)).map(InitFrom::Model)
    }
}

/// Turns the events of a run into what a person reads.
struct Watcher {
    progress: Progress,
    loss: RunningMean,
    step: Option<u64>,
    saved: Option<u64>,
}

impl Watcher {
    fn new(progress: Progress) -> Self {
        Self { progress, loss: RunningMean::default(), step: None, saved: None }
    }

    fn show(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Started { parameters, pictures, from_step, steps } => {
                let parameters = said::count(*parameters as u64);
                let pictures = pictures.map_or("endless".to_owned(), |count| count.to_string());
                let line = format!("{parameters} parameters, {pictures} pictures, steps {from_step} to {steps}");
                self.progress.note(line);
                self.progress.step("train", *from_step, *steps, "");
            }
            TrainEvent::Found { set } => self.progress.note(set),
            TrainEvent::Encoded { done, of } => self.progress.step("captions", *done as u64, *of as u64, ""),
            TrainEvent::Initialized { from, report } => self.initialized(from, report),
            TrainEvent::Step(report) => self.step_taken(report),
            // Every few minutes for days: a word in the progress line, not a line of its own.
            TrainEvent::Checkpoint { .. } => self.saved = self.step,
            TrainEvent::Enlarging { done, of } => self.progress.step("enlarge", *done, *of, ""),
            TrainEvent::Probe(probe) => self.progress.note(describe_probe(probe)),
            TrainEvent::Validated { step, loss, best } => {
                let best = if *best { ", the best so far" } else { "" };
                self.progress.note(format_args!("validation after step {step}: loss {loss:.4}{best}"));
            }
            TrainEvent::Samples { path } => self.progress.note(format_args!("drew {}", path.display())),
            TrainEvent::Warning(text) => self.progress.note(format_args!("warning: {text}")),
        }
    }

    fn initialized(&mut self, from: &str, report: &PartialLoad) {
        let PartialLoad { taken, missing, misshapen, unexpected } = report;
        self.progress.note(format_args!("{taken} tensors begin as in {from}"));
        let random = missing.len() + misshapen.len();
        if *taken < random {
            self.progress.note(format_args!(
                "warning: most of the network ({random} of {} tensors) begins at random: the recipe is for another network \
                 than {from}; `imagen recipe new --from MODEL` writes one for it",
                taken + random
            ));
        }
        let lists = [
            ("not there, begin at random", missing),
            ("of another shape, begin at random", misshapen),
            ("of the file not used", unexpected),
        ];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            self.progress.note(format_args!("{} {what}: {named}{more}", names.len()));
        }
    }

    fn step_taken(&mut self, report: &StepReport) {
        let loss = self.loss.add(report.loss);
        let speed = report.pictures as f64 / report.seconds.max(1e-9);
        self.step = Some(report.step);
        let saved = self.saved.map(|step| format!(", saved at {step}")).unwrap_or_default();
        let speed = if speed < 10.0 { format!("{speed:.2}") } else { format!("{speed:.0}") };
        // what matters most comes first: a narrow terminal cuts off the end
        let detail = format_args!("loss {loss:.4}, {speed} pictures/s, gradient {:.2}{saved}", report.gradient_norm);
        self.progress.step("train", report.step, report.of, detail);
    }
}

/// What the captions are worth, as a line.
fn describe_probe(probe: &ProbeReport) -> String {
    let ProbeReport { step, right_caption, shuffled_captions, no_caption, .. } = probe;
    format!(
        "step {step}: loss {right_caption:.4} with the right captions, {shuffled_captions:.4} with others', \
         {no_caption:.4} without"
    )
}

/// An exponential mean over about a hundred steps, unbiased from the first on.
#[derive(Debug, Default)]
struct RunningMean {
    sum: f64,
    weight: f64,
}

impl RunningMean {
    const DECAY: f64 = 0.99;

    fn add(&mut self, value: f64) -> f64 {
        self.sum = Self::DECAY * self.sum + value;
        self.weight = Self::DECAY * self.weight + 1.0;
        self.sum / self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_of_this_repository_say_how_their_sets_are_made() {
        for (recipe, folder, command) in [
            (include_str!("../../../../recipes/fluent-emoji/base.toml"), "data/fluent-emoji", "node recipes/"),
            (include_str!("../../../../recipes/shapes/base.toml"), "data/shapes", "imagen data shapes"),
            (include_str!("../../../../recipes/world/base.toml"), "data/world", "node recipes/world/prepare.mjs"),
        ] {
            let found = making(recipe, Path::new(folder)).unwrap();
            assert!(found.starts_with(command), "{found}");
            assert_eq!(making(recipe, Path::new("data/another")), None);
        }
    }

    #[test]
    fn the_running_mean_of_a_constant_is_that_constant_from_the_first_step_on() {
        let mut mean = RunningMean::default();
        for _ in 0..1000 {
            assert!((mean.add(0.25) - 0.25).abs() < 1e-12);
        }
        (0..1000).for_each(|_| _ = mean.add(1.0));
        assert!((mean.add(1.0) - 1.0).abs() < 1e-4);
    }
}
