//! `imagen plan`: what a training run takes, or drawing with a model, in memory and time, before anything of it is allocated.
//!
//! Memory is counted from descriptions; time is multiply-adds over what this machine was just seen to do, times the share
//! of it that networks reach ([`TRAINING_SHARE`], [`DRAWING_SHARE`]). `bench` measures, this estimates.

pub(super) mod deepfloyd;
pub(super) mod drawing;

use std::path::PathBuf;

use serde_json::{Value, json};

use imagen::cascade::StageName;
use imagen::cascade::deepfloyd::DeepFloyd;
use imagen::train::{Plan, Recipe};
use imagen_kernels::peak::multiply_add_rate;

use self::deepfloyd::DeepFloydPlan;
use self::drawing::Drawing;
use super::sample::stage_names;
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
    /// The last stage that draws, as for `imagen sample`
    #[arg(long, value_name = "STAGE", value_parser = stage_names())]
    until: Option<StageName>,
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
    warnings: Vec<String>,
}

impl PlanVerb {
    pub(crate) fn run(self) -> Result<()> {
        self.threads.apply()?;
        // on a shared machine the largest of several calls is the ceiling
        let rate = (0..5).map(|_| multiply_add_rate() / 2.0).fold(0.0, f64::max);
        let model = self.what.as_deref().filter(|path| path.extension().is_none_or(|e| e != "toml"));
        if let Some(folder) = model.map(shared::model_folder).transpose()?.filter(|folder| DeepFloyd::is_folder(folder))
        {
            let (model, mut request) = self.deepfloyd.open(&folder, self.batch)?;
            request.until = self.until;
            let estimates = self.deepfloyd.estimates(&model, &request, rate)?;
            self.print(&estimates, rate)?;
            return deepfloyd::check(&self.memory, &model, &request, self.deepfloyd.storage());
        }
        if self.deepfloyd.given() {
            return Err(Failure::usage("--model-2, --storage and --text-storage are for folders of DeepFloyd IF"));
        }
        let recipe = self.what.as_deref().filter(|path| path.extension().is_some_and(|e| e == "toml"));
        if let Some(path) = recipe {
            if self.until.is_some() {
                return Err(Failure::usage("--until belongs to a model, and this is a recipe"));
            }
            let estimate = training(&Recipe::read_with(path, &self.set)?, rate)?;
            self.print(std::slice::from_ref(&estimate), rate)?;
            return self.memory.check_training(estimate.bytes);
        }
        if !self.set.is_empty() {
            return Err(Failure::usage("--set belongs to a recipe (.toml)"));
        }
        let folder = self.what.as_deref().map(shared::model_folder).transpose()?;
        let drawing = Drawing::open(&shared::model_files(folder.as_deref())?, self.until)?;
        self.print(&drawing.estimates(self.batch, rate), rate)?;
        drawing.check(&self.memory, self.batch)
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

fn training(recipe: &Recipe, rate: f64) -> Result<Estimate> {
    let plan = Plan::of(recipe)?;
    let seconds = plan.step_multiply_adds as f64 / (rate * TRAINING_SHARE);
    let rows = plan.held.iter().chain(&plan.step).map(|(what, bytes)| ((*what).to_owned(), *bytes));
    Ok(Estimate {
        title: format!("training {}, {} parameters", recipe.stage.stage, count(plan.parameters)),
        memory: rows.chain([("saving".to_owned(), plan.saving)]).collect(),
        bytes: plan.bytes(),
        work: ("steps", plan.steps, plan.step_multiply_adds, seconds),
        warnings: plan.warnings,
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
            "warnings": self.warnings,
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
