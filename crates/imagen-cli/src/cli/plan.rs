//! `imagen plan`: what a training run takes, or drawing with a model, in memory and time, before anything of it is allocated.
//!
//! Memory is counted from descriptions; time is multiply-adds over what this machine was just seen to do, times the share
//! of it that networks reach ([`TRAINING_SHARE`], [`DRAWING_SHARE`]). `bench` measures, this estimates.

use std::path::PathBuf;

use serde_json::{Value, json};

use imagen::cascade::{Imagen, Need, Request, StageName, StartPicture};
use imagen::image::{Picture, decode};
use imagen::nn::device::Found;
use imagen::said::{bytes, count, counted, duration};
use imagen::train::{Plan, Recipe};
use imagen_kernels::peak::multiply_add_rate;

use super::ceiling::convolution_rate;
use super::draw::{DrawArgs, FrozenArgs, MaxMemory};
use super::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::system;

const EXAMPLES: &str = "\
Examples:
  imagen plan recipes/shapes/base.toml
  imagen plan recipes/fluent-emoji/base.toml --set train.batch=64 --max-memory 8G
  imagen plan models/my-model --json
  imagen plan DeepFloyd/IF-I-M-v1.0 --model-2 DeepFloyd/IF-II-M-v1.0 --text-storage int8 \\
    --max-memory 8G";

/// Share of the machine's multiply-adds that a training step reaches, all its work together: 0.72 to 1.15 were measured.
/// It may exceed 1, since Winograd's convolutions do with fewer than are counted.
pub(super) const TRAINING_SHARE: f64 = 0.9;
/// Share that drawing reaches: 0.76 to 1.26 were measured.
const DRAWING_SHARE: f64 = 1.1;

/// Estimate memory and time of training a recipe, or of drawing with a model, and refuse what cannot fit
///
/// Nothing is allocated or trained. Exit code 5 where the memory does not suffice.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanVerb {
    /// A recipe (.toml), a model folder, or OWNER/NAME that was pulled; the built-in model by default
    #[arg(value_name = "RECIPE|MODEL")]
    what: Option<PathBuf>,
    #[command(flatten)]
    frozen: FrozenArgs,
    /// Replace a value of the recipe, as for `imagen train`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pictures that are drawn at once
    #[arg(long, value_name = "N", default_value = "1")]
    batch: usize,
    /// The first stage that draws, as for `imagen sample`
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>())]
    from: Option<StageName>,
    /// A picture to start from or to enlarge, of which only the size is looked at
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The last stage that draws, as for `imagen sample`
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>())]
    until: Option<StageName>,
    #[command(flatten)]
    how: DrawArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    machine: Machine,
}

/// A plan as rows: what, bytes.
struct Estimate {
    title: String,
    memory: Vec<(String, u64)>,
    bytes: u64,
    /// What is repeated, how often, multiply-adds of each, seconds of each.
    work: (&'static str, u64, u64, f64),
    /// Noise of the first and the last evaluation.
    noise: Option<[f64; 2]>,
    warnings: Vec<String>,
}

impl PlanVerb {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.what.as_deref().filter(|path| path.extension().is_some_and(|e| e == "toml"));
        if let Some(path) = recipe {
            if self.how != DrawArgs::default() {
                return Err(Failure::usage("how to draw belongs to a model, and this is a recipe"));
            }
            let given =
                [("--until", self.until.is_some()), ("--from", self.from.is_some()), ("--image", self.image.is_some())];
            if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(Failure::usage(format_args!("{flag} belongs to a model, and this is a recipe")));
            }
            if !path.exists() {
                return Err(Failure::new(Exit::Data, format_args!("there is no recipe {}", path.display())));
            }
            let recipe = Recipe::read_with(path, &self.set)?;
            return self.machine.compute_on(recipe.train.device.unwrap_or_default(), |found| {
                let pace = Pace::of(found);
                let estimate = training(&recipe, pace)?;
                self.print(std::slice::from_ref(&estimate), found, pace)?;
                self.memory.check_training(found, &recipe, (1, estimate.bytes))
            });
        }
        if !self.set.is_empty() {
            return Err(Failure::usage("--set belongs to a recipe (.toml)"));
        }
        self.machine.compute(|found| self.drawing(found))
    }

    /// What drawing with a model takes.
    fn drawing(&self, found: &Found) -> Result<()> {
        let pace = Pace::of(found);
        let model = self.frozen.planned(self.what.as_deref())?;
        let options = self.how.over(Default::default(), &model, (self.from, self.until))?;
        let mut request = Request { options, from: self.from, until: self.until, ..one_batch(&model, self.batch) };
        if let Some(image) = &self.image {
            request.start = Some(blank(decode::size(image)?));
        } else if self.from.is_some_and(|from| from > StageName::Base) {
            request.start = Some(blank([64, 64]));
        }
        let estimates: Vec<Estimate> =
            model.needs(&request)?.iter().map(|need| drawing(need, self.batch, pace)).collect();
        self.print(&estimates, found, pace)?;
        self.memory.check_drawing(found, &model, &request, &self.frozen)
    }

    fn print(&self, estimates: &[Estimate], found: &Found, pace: Pace) -> Result<()> {
        let memory = system::memory_of(found);
        if self.json {
            let stages: Vec<Value> = estimates.iter().map(Estimate::to_json).collect();
            return print_line(json!({
                "device": found.name,
                "device_memory_bytes": memory,
                "multiply_adds_per_second": pace.rate,
                "stages": stages,
            }));
        }
        let mut text: Vec<String> = estimates.iter().map(Estimate::describe).collect();
        if !found.is_cpu() {
            let model = found.model.as_deref().unwrap_or("of an unknown make");
            let memory =
                memory.map_or_else(|| "memory unknown".into(), |memory| format!("{} of memory", bytes(memory)));
            text.push(format!("on {}, {model}, {memory}; times are those of a convolution there", found.name));
        }
        print_line(text.join("\n\n"))
    }
}

/// How fast a device does a network's multiply-adds.
#[derive(Clone, Copy)]
struct Pace {
    /// Multiply-adds a second.
    rate: f64,
    /// Shares of them that training and drawing reach.
    shares: [f64; 2],
}

impl Pace {
    fn of(found: &Found) -> Self {
        if !found.is_cpu() {
            return Self { rate: convolution_rate(&found.device), shares: [1.0; 2] };
        }
        // on a shared machine the largest of several calls is the ceiling
        let rate = (0..5).map(|_| multiply_add_rate() / 2.0).fold(0.0, f64::max);
        Self { rate, shares: [TRAINING_SHARE, DRAWING_SHARE] }
    }
}

/// Multiply-adds a second that a training reaches on a device.
pub(super) fn training_rate(found: &Found) -> f64 {
    let pace = Pace::of(found);
    pace.rate * pace.shares[0]
}

/// A batch of pictures of an empty prompt.
pub(super) fn one_batch(model: &Imagen, batch: usize) -> Request {
    // super-resolution alone enlarges a picture, whatever it shows
    let alone = model.stages()[0].stage != StageName::Base;
    let start = alone.then(|| blank([64, 64]));
    Request { batch: Some(batch), start, ..Request::new(vec![String::new()], batch, 0) }
}

/// A picture that has only a size.
fn blank([width, height]: [usize; 2]) -> StartPicture {
    StartPicture::new(Picture::filled(width, height, [0; 3]))
}

fn drawing(need: &Need, batch: usize, pace: Pace) -> Estimate {
    let parameters =
        if need.parameters > 0 { format!(", {} parameters", count(need.parameters)) } else { String::new() };
    let what = if need.stage.is_some() {
        format!("drawing {} with {}", counted(batch, "picture"), need.what)
    } else {
        need.what.clone()
    };
    Estimate {
        title: format!("{what}{parameters}"),
        memory: need.memory.iter().map(|(row, bytes)| ((*row).to_owned(), *bytes)).collect(),
        bytes: need.bytes(),
        work: (
            "evaluations",
            need.evaluations,
            need.multiply_adds,
            need.multiply_adds as f64 / (pace.rate * pace.shares[1]),
        ),
        noise: need.noise,
        warnings: Vec::new(),
    }
}

fn training(recipe: &Recipe, pace: Pace) -> Result<Estimate> {
    let plan = Plan::of(recipe)?;
    let seconds = plan.step_multiply_adds as f64 / (pace.rate * pace.shares[0]);
    let mut warnings = plan.warnings.clone();
    if !recipe.data.folder.exists() {
        let folder = recipe.data.folder.display();
        warnings.push(format!("{folder} is not here: neither its pictures nor their captions are counted"));
    }
    let rows = plan.held.iter().chain(&plan.step).map(|(what, bytes)| ((*what).to_owned(), *bytes));
    Ok(Estimate {
        title: format!("training {}, {} parameters", recipe.stage.stage, count(plan.parameters)),
        memory: rows.chain([("saving".to_owned(), plan.saving)]).collect(),
        bytes: plan.bytes(),
        work: ("steps", plan.steps, plan.step_multiply_adds, seconds),
        noise: None,
        warnings,
    })
}

impl Estimate {
    fn describe(&self) -> String {
        let (what, times, multiply_adds, seconds) = &self.work;
        let mut text = self.title.clone();
        for (row, size) in &self.memory {
            text.push_str(&format!("\n  {row:<22} {:>12}", bytes(*size)));
        }
        text.push_str(&format!("\n  {:<22} {:>12}", "most at a time", bytes(self.bytes)));
        if let Some([first, last]) = self.noise {
            text.push_str(&format!("\n  noise sigma/alpha from {first:.4} to {last:.4}"));
        }
        let all = duration(*seconds * *times as f64);
        let (multiply_adds, each) = (count(*multiply_adds), duration(*seconds));
        text.push_str(&format!("\n  {times} {what} of {multiply_adds} multiply-adds: about {each} each, {all} in all"));
        for warning in &self.warnings {
            text.push_str(&format!("\n  warning: {warning}"));
        }
        text
    }

    fn to_json(&self) -> Value {
        let (what, times, multiply_adds, seconds) = &self.work;
        let memory: serde_json::Map<String, Value> =
            self.memory.iter().map(|(row, bytes)| (row.clone(), json!(bytes))).collect();
        json!({
            "title": self.title,
            "memory": memory,
            "bytes": self.bytes,
            "repeated": what,
            "times": times,
            "multiply_adds": multiply_adds,
            "seconds": seconds,
            "noise": self.noise,
            "warnings": self.warnings,
        })
    }
}
