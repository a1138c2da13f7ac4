//! `imagen plan`: what a training run takes, or drawing with a model, in memory and time, before anything of it is allocated.
//!
//! Memory is counted from descriptions; time is multiply-adds over what this machine was just seen to do, times the share
//! of it that networks reach ([`TRAINING_SHARE`], [`DRAWING_SHARE`]). `bench` measures, this estimates.

pub(super) mod deepfloyd;

use std::path::PathBuf;

use serde_json::{Value, json};

use imagen::cascade::deepfloyd::DeepFloyd;
use imagen::cascade::{ModelFiles, StageFile, StageName};
use imagen::models::unet::{Layout, LevelCost};
use imagen::train::{Plan, Recipe};
use imagen_kernels::peak::multiply_add_rate;

use self::deepfloyd::DeepFloydPlan;
use super::shared::{self, Threads};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::system::{self, bytes, count};

const EXAMPLES: &str = "\
Examples:
  imagen plan recipes/shapes/base.toml
  imagen plan recipes/fluent-emoji/base.toml --set train.batch=64 --max-memory 8G
  imagen plan models/my-model --json
  imagen plan DeepFloyd/IF-I-M-v1.0 --model-2 DeepFloyd/IF-II-M-v1.0 --text-storage int8 --max-memory 8G";

/// Share of the machine's multiply-adds that a training step reaches, all its work together: 0.72 to 1.15 were measured.
/// It may exceed 1, since Winograd's convolutions do with fewer than are counted.
pub(super) const TRAINING_SHARE: f64 = 0.9;
/// The same of drawing: 0.76 to 1.26.
const DRAWING_SHARE: f64 = 1.1;

/// Estimate memory and time of training a recipe, or of drawing with a model, and refuse what cannot fit
///
/// Nothing is allocated or trained. Exit code 5 where the memory does not suffice.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanVerb {
    /// A recipe (.toml), a model folder, or OWNER/NAME that was pulled; the built-in model where absent
    #[arg(value_name = "RECIPE|MODEL")]
    what: Option<PathBuf>,
    #[command(flatten)]
    deepfloyd: DeepFloydPlan,
    /// Replace a value of the recipe, as for `imagen train`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pictures that are drawn at once
    #[arg(long, value_name = "N", default_value = "1")]
    batch: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    threads: Threads,
}

/// `--max-memory`
#[derive(Debug, clap::Args)]
pub(super) struct MaxMemory {
    /// Refuse what takes more memory than this, e.g. 8G or 500M; what the machine has where absent
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
}

impl MaxMemory {
    /// Refuses training that does not fit, before the system kills the program without a word.
    pub(super) fn check_training(&self, needed: u64) -> Result<()> {
        self.check("training this", needed).map_err(|failure| {
            failure.hint(
                "lower train.micro_batch, set train.checkpoint_blocks = true, or make the network or data.crop smaller; \
                 `imagen plan` shows where it goes",
            )
        })
    }

    /// Refuses drawing that does not fit.
    pub(super) fn check_drawing(&self, needed: u64) -> Result<()> {
        self.check("drawing this", needed).map_err(|failure| failure.hint("draw fewer pictures at once (--batch)"))
    }

    /// What there may be, where that is known.
    pub(super) fn limit(&self) -> Option<u64> {
        self.max_memory.or_else(|| system::memory().map(|memory| memory.total))
    }

    pub(super) fn check(&self, what: &str, needed: u64) -> Result<()> {
        let Some(limit) = self.limit() else {
            return Ok(());
        };
        if needed <= limit {
            return Ok(());
        }
        let (needed, limit) = (bytes(needed), bytes(limit));
        Err(Failure::new(Exit::Memory, format_args!("{what} takes about {needed}, and there are {limit}")))
    }
}

/// A number of bytes: `500M`, `8G`, `1.5g`, `1024`.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?}: expected a size such as 500M or 8G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if number.is_finite() && number > 0.0 { Ok((number * (1u64 << unit) as f64) as u64) } else { Err(wrong()) }
}

/// A plan as rows: what, bytes.
struct Estimate {
    title: String,
    memory: Vec<(String, u64)>,
    bytes: u64,
    /// What is repeated, how often, multiply-adds of each, seconds of each.
    work: (&'static str, u64, u64, f64),
}

impl PlanVerb {
    pub(crate) fn run(self) -> Result<()> {
        self.threads.apply()?;
        // on a shared machine the largest of several calls is the ceiling
        let rate = (0..5).map(|_| multiply_add_rate() / 2.0).fold(0.0, f64::max);
        let model = self.what.as_deref().filter(|path| path.extension().is_none_or(|e| e != "toml"));
        if let Some(folder) = model.map(shared::model_folder).transpose()?.filter(|folder| DeepFloyd::is_folder(folder))
        {
            let (model, request) = self.deepfloyd.open(&folder, self.batch)?;
            let estimates = self.deepfloyd.estimates(&model, &request, rate)?;
            self.print(&estimates, rate)?;
            return deepfloyd::check(&self.memory, &model, &request, self.deepfloyd.storage());
        }
        if self.deepfloyd.given() {
            return Err(Failure::usage("--model-2, --storage and --text-storage are for folders of DeepFloyd IF"));
        }
        let recipe = self.what.as_deref().filter(|path| path.extension().is_some_and(|e| e == "toml"));
        let estimates = match self.what.as_deref() {
            Some(path) if recipe.is_some() => vec![training(&Recipe::read_with(path, &self.set)?, rate)?],
            _ if !self.set.is_empty() => return Err(Failure::usage("--set belongs to a recipe (.toml)")),
            Some(path) => drawing(&ModelFiles::Folder(shared::model_folder(path)?), self.batch, rate)?,
            None => drawing(&shared::model_files(None)?, self.batch, rate)?,
        };
        self.print(&estimates, rate)?;
        let most = estimates.iter().map(|estimate| estimate.bytes).max().unwrap_or(0);
        match recipe {
            Some(_) => self.memory.check_training(most),
            None => self.memory.check_drawing(most),
        }
    }

    fn print(&self, estimates: &[Estimate], rate: f64) -> Result<()> {
        if self.json {
            let stages: Vec<Value> = estimates.iter().map(Estimate::to_json).collect();
            return print_line(json!({ "multiply_adds_per_second": rate, "stages": stages }));
        }
        let text: Vec<String> = estimates.iter().map(Estimate::describe).collect();
        print_line(text.join("\n\n"))
    }
}

/// The most bytes that drawing with these files takes at a time, up to a stage.
pub(super) fn drawing_bytes(files: &ModelFiles, batch: u64, until: Option<StageName>) -> Result<u64> {
    let (mut most, mut built) = (0, 0);
    for name in StageName::ALL.into_iter().filter(|name| until.is_none_or(|until| *name <= until)) {
        if let Some(file) = files.stage(name)? {
            most = most.max(drawing_stage(&file, batch, built, 1.0).bytes);
            built += network_bytes(&file).iter().sum::<u64>();
        }
    }
    Ok(most)
}

fn training(recipe: &Recipe, rate: f64) -> Result<Estimate> {
    let plan = Plan::of(recipe)?;
    let seconds = plan.step_multiply_adds as f64 / (rate * TRAINING_SHARE);
    let rows = plan.held.iter().chain(&plan.step).map(|(what, bytes)| ((*what).to_owned(), *bytes));
    Ok(Estimate {
        title: format!("training {}, {} parameters", recipe.stage.stage, count(plan.parameters)),
        memory: rows.chain([("saving".to_owned(), plan.saving)]).collect(),
        bytes: plan.bytes(),
        work: ("steps", plan.steps, plan.step_multiply_adds, seconds),
    })
}

fn drawing(files: &ModelFiles, batch: u64, rate: f64) -> Result<Vec<Estimate>> {
    let (mut estimates, mut built) = (Vec::new(), 0);
    for name in StageName::ALL {
        if let Some(file) = files.stage(name)? {
            estimates.push(drawing_stage(&file, batch, built, rate));
            built += network_bytes(&file).iter().sum::<u64>();
        }
    }
    if estimates.is_empty() {
        return Err(Failure::new(Exit::Model, format_args!("{} holds no stage of an Imagen", files.label())));
    }
    Ok(estimates)
}

/// Weights of a stage, and those of its convolutions once more as they are transformed (36 numbers for 9, of most). A
/// converted stage keeps its own as the file has them.
fn network_bytes(file: &StageFile) -> [u64; 2] {
    if file.config.unet.layout == Layout::ImagenPytorch {
        return [file.bytes() as u64, 0];
    }
    let weights = 4 * file.cost().iter().map(|level| level.parameters).sum::<u64>();
    [weights, weights * 5 / 2]
}

/// Drawing with one stage: its weights, the maps of one evaluation, and `built` bytes of the stages before it, which stay.
fn drawing_stage(file: &StageFile, batch: u64, built: u64, rate: f64) -> Estimate {
    /// With its text encoder and the mapped files.
    const PROGRAM: u64 = 220 << 20;
    const WORKING_MAPS: u64 = 6;
    let (config, levels) = (&file.config, file.cost());
    let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
    let guided = config.unet.text_dim > 0 && config.sampling.guidance != 1.0;
    let at_once = batch * if guided { 2 } else { 1 };
    let largest = levels.iter().map(|level| level.largest_map_bytes).max().unwrap_or(0);
    // a skip waits for each level on its way down, of at most the largest size
    let skips = config.unet.levels.len() as u64;
    let [weights, transformed] = network_bytes(file);
    let memory = vec![
        ("weights".to_owned(), weights),
        ("weights, transformed".to_owned(), transformed),
        ("stages before".to_owned(), built),
        ("maps".to_owned(), at_once * (WORKING_MAPS + skips) * largest),
        ("program".to_owned(), PROGRAM),
    ];
    let multiply_adds = at_once * sum(|level| level.multiply_adds);
    Estimate {
        title: format!("drawing {batch} with {}, {} parameters", config.stage, count(sum(|level| level.parameters))),
        bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
        memory,
        work: (
            "evaluations",
            config.sampling.steps as u64,
            multiply_adds,
            multiply_adds as f64 / (rate * DRAWING_SHARE),
        ),
    }
}

impl Estimate {
    fn describe(&self) -> String {
        let (what, times, multiply_adds, seconds) = &self.work;
        let mut text = self.title.clone();
        for (row, size) in &self.memory {
            text.push_str(&format!("\n  {row:<22} {:>12}", bytes(*size)));
        }
        text.push_str(&format!("\n  {:<22} {:>12}", "most at a time", bytes(self.bytes)));
        let all = duration(*seconds * *times as f64);
        let (multiply_adds, each) = (count(*multiply_adds), duration(*seconds));
        text.push_str(&format!("\n  {times} {what} of {multiply_adds} multiply-adds: about {each} each, {all} in all"));
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
        })
    }
}

/// A duration as a person says it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let cases = [("1024", 1024), ("8G", 8 << 30), ("1.5g", 3 << 29), ("500MiB", 500 << 20), ("2kb", 2048)];
        for (text, expected) in cases {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1G", "8X", "eight", "nan"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_said_in_one_unit() {
        let cases =
            [(0.25, "250 ms"), (90.0, "90.0 s"), (600.0, "10 min"), (18_000.0, "5.0 h"), (259_200.0, "3.0 days")];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
    }
}
