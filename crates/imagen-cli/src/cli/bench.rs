//! `imagen bench`: how fast this machine runs a network, a training step, whole pictures or a single operation, beside its own
//! ceiling.
//!
//! What is run is in `network`, `picture` and `operation`; this file repeats it in rounds and reports. A time alone says little about
//! a program: the ceiling is measured in the same rounds, and `--turns` lets another program take part in them.

mod network;
mod operation;
mod picture;
mod work;

use std::io::BufRead;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};

use imagen::cascade::{StageConfig, StageName};
use imagen::nn::Precision;
use imagen::nn::device::{DeviceName, Found};
use imagen::said;
use imagen_kernels::isa::Isa;

use self::operation::Operation;
use self::work::Work;
use super::ceiling::Ceiling;
use super::draw::{DrawArgs, MaxMemory, ModelArgs};
use super::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::system;
use crate::trace::Trace;

const EXAMPLES: &str = "\
Examples:
  imagen bench
  imagen bench --network recipes/fluent-emoji/sr256.toml --train --batch 8
  imagen bench --network paper-sr256 --tokens 77
  imagen bench --op conv3x3:2x64x64x128x128
  imagen bench --model DeepFloyd/IF-I-M-v1.0 --steps 2

Rates count a multiply-add as two operations and convolutions by their definition. Winograd's
algorithm multiplies less, so that a network may exceed the ceiling. A training step counts as three
forward passes.";

/// Measure a network, a training step, whole pictures or an operation on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// What to run: a stage of the built-in model, a network by name, a recipe (.toml) or a stage (.safetensors)
    #[arg(long, value_name = "NAME|RECIPE|FILE", help = network::help())]
    network: Option<String>,
    /// Run a single operation instead of a network
    #[arg(long, value_name = "OP:SHAPE", help = operation::help())]
    #[arg(conflicts_with_all = ["network", "train", "batch", "size", "tokens", "model"])]
    op: Option<Operation>,
    /// Take a training step (forward, backward, Adam, moving average) instead of a forward pass
    #[arg(long)]
    train: bool,
    /// Pictures at once
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: usize,
    /// Side of the pictures; the network's own (of a recipe's training step: its crop) by default
    #[arg(long, value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=8192))]
    size: Option<usize>,
    /// Tokens of each text
    #[arg(long, value_name = "N", default_value = "16")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    tokens: usize,

    /// Rounds to measure, after one that is not counted
    #[arg(long, value_name = "N", default_value = "7")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    rounds: usize,
    /// Least length of a round: short works are repeated, and the round counts their median
    #[arg(long, value_name = "SECONDS", default_value = "0.3", value_parser = seconds)]
    seconds: f64,
    /// Measure one round for each line on stdin, to take turns with another program; prints JSON lines
    #[arg(long, conflicts_with = "rounds")]
    turns: bool,
    /// Measure nothing: run once (three training steps) and write weights, inputs and results, for another implementation
    #[arg(long, value_name = "FILE", conflicts_with = "turns")]
    dump: Option<PathBuf>,
    /// Write where the time goes as a Chrome trace, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE", conflicts_with = "dump")]
    trace: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,

    /// The last stage that draws (with --model)
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>(), requires = "model")]
    until: Option<StageName>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    how: DrawArgs,
    #[command(flatten)]
    memory: MaxMemory,
}

/// One round: the median of its runs, and what the ceiling was.
#[derive(Clone, Copy, Debug)]
struct Round {
    seconds: f64,
    ceiling: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|s| (0.0..=3600.0).contains(s));
    number.ok_or_else(|| "expected seconds, 0 to 3600".to_owned())
}

/// Seconds of a training step of a stage with random pictures of this side: the fastest of a few, after one that is not
/// counted.
pub(super) fn training_step_seconds(config: &StageConfig, side: usize, batch: usize, device: &Device) -> Result<f64> {
    const STEPS: usize = 3;
    let options = network::Options { train: true, batch, size: Some(side), tokens: 16 };
    let mut work = network::training(config, &options, device)?;
    let mut fastest = f64::INFINITY;
    for step in 0..=STEPS {
        let begun = Instant::now();
        work.run()?;
        if step > 0 {
            fastest = fastest.min(begun.elapsed().as_secs_f64());
        }
    }
    Ok(fastest)
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let machine = self.machine;
        // pictures have it in their settings, perhaps one for each stage
        let drawn = self.model.model.is_some();
        let precision = if drawn { Precision::F32 } else { self.how.one_precision()? };
        machine.compute(|found| precision.during(|| self.run_on(found, (!drawn).then_some(precision))))
    }

    fn run_on(self, found: &Found, precision: Option<Precision>) -> Result<()> {
        let mut work = self.work(found)?;
        if let Some(path) = &self.dump {
            work.dump(path)?;
            return print_line(path.display());
        }
        self.round(work.as_mut(), &Ceiling::Cpu, 0.0)?; // weights are transformed, memory is touched, kernels are compiled
        let ceiling = Ceiling::of(found);
        let trace = self.trace.as_deref().map(Trace::start).transpose()?;
        let mut rounds = Vec::new();
        if self.turns {
            print_line(json!({ "ready": work.title() }))?;
            for line in std::io::stdin().lock().lines() {
                line.map_err(|e| Failure::new(Exit::Data, format_args!("stdin: {e}")))?;
                let round = self.round(work.as_mut(), &ceiling, self.seconds)?;
                print_line(json!({ "ms": round.seconds * 1e3, "ceiling_gflops": round.ceiling / 1e9 }))?;
                rounds.push(round);
            }
        } else {
            for _ in 0..self.rounds {
                rounds.push(self.round(work.as_mut(), &ceiling, self.seconds)?);
            }
        }
        trace.map_or(Ok(()), |trace| trace.write())?;
        let Some(report) = Report::of(work.as_ref(), precision, &rounds, &ceiling, found) else { return Ok(()) };
        print_line(if self.json || self.turns { report.to_json().to_string() } else { report.describe() })
    }

    fn work(&self, found: &Found) -> Result<Box<dyn Work>> {
        if let Some(operation) = self.op {
            if !found.is_cpu() {
                return Err(Failure::usage(
                    "--op measures this program's kernels, which are the CPU's; leave --device out",
                ));
            }
            return Ok(Box::new(operation::Running::new(operation)));
        }
        if self.model.model.is_some() {
            if let Some((flag, _)) =
                [("--network", self.network.is_some()), ("--train", self.train), ("--size", self.size.is_some())]
                    .into_iter()
                    .find(|(_, given)| *given)
            {
                return Err(Failure::usage(format_args!("{flag} is for a network; --model draws whole pictures")));
            }
            return picture::work(&self.model, &self.how, self.until, self.batch, &self.memory, found);
        }
        let options = network::Options { train: self.train, batch: self.batch, size: self.size, tokens: self.tokens };
        network::work(self.network.as_deref(), &options, &found.device)
    }

    /// Runs the work until a round's time is over, at least once.
    fn round(&self, work: &mut dyn Work, ceiling: &Ceiling, length: f64) -> Result<Round> {
        let mut most = ceiling.measure();
        let mut times = Vec::new();
        let start = Instant::now();
        while times.is_empty() || start.elapsed().as_secs_f64() < length {
            let begun = Instant::now();
            tracing::info_span!("run").in_scope(|| work.run())?;
            times.push(begun.elapsed().as_secs_f64());
        }
        most = ceiling.measure().max(most);
        Ok(Round { seconds: median(&mut times), ceiling: most })
    }
}

/// The middle of at least one number.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}

/// What was measured.
struct Report {
    title: String,
    /// Of what is not a model, which has several stages.
    precision: Option<Precision>,
    details: Map<String, Value>,
    multiply_adds: u64,
    /// Milliseconds of each round in turn.
    rounds: Vec<f64>,
    median: f64,
    least: f64,
    /// Operations a second.
    rate: f64,
    ceiling: f64,
    ceiling_name: String,
    device: DeviceName,
    model: Option<String>,
    /// The most that the process held, or what a device's tensors have reserved.
    memory: Option<u64>,
}

impl Report {
    /// The report of these rounds, if there are any.
    fn of(
        work: &dyn Work,
        precision: Option<Precision>,
        rounds: &[Round],
        ceiling: &Ceiling,
        found: &Found,
    ) -> Option<Self> {
        let mut times: Vec<f64> = rounds.iter().map(|round| round.seconds).collect();
        let milliseconds = times.iter().map(|seconds| seconds * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let (least, middle) = (*times.first()?, median(&mut times));
        Some(Self {
            title: work.title(),
            precision,
            details: work.details(),
            multiply_adds: work.multiply_adds(),
            rounds: milliseconds,
            median: middle * 1e3,
            least: least * 1e3,
            rate: 2.0 * work.multiply_adds() as f64 / middle,
            ceiling: rounds.iter().map(|round| round.ceiling).fold(0.0, f64::max),
            ceiling_name: ceiling.name(),
            device: found.name,
            model: found.model.clone(),
            memory: if found.is_cpu() { system::peak_memory() } else { found.memory().map(|(_, reserved)| reserved) },
        })
    }

    fn describe(&self) -> String {
        let mut on = match &self.model {
            Some(model) => format!("{}, {model}", self.device),
            None => format!("{} threads, {}", imagen_kernels::threads(), instruction_set()),
        };
        if let Some(precision) = self.precision.filter(|precision| *precision != Precision::F32) {
            on = format!("{on}, {precision}");
        }
        let mut lines = vec![format!("{}; {on}", self.title)];
        let mut line = |name: &str, text: String| lines.push(format!("  {name:<12} {text}"));
        if let Some(parameters) = self.details.get("parameters").and_then(Value::as_u64) {
            line("parameters", said::count(parameters));
        }
        line("work", format!("{} multiply-adds", said::count(self.multiply_adds)));
        let (median, least, rounds) = (self.median, self.least, self.rounds.len());
        line("time", format!("{median:.2} ms, the median of {rounds} rounds; least {least:.2} ms"));
        let (rate, ceiling, share) = (self.rate / 1e9, self.ceiling / 1e9, self.rate / self.ceiling);
        line("rate", format!("{rate:.1} GFLOP/s, {share:.2} of {} of {ceiling:.1} GFLOP/s", self.ceiling_name));
        if let Some(memory) = self.memory {
            line("memory", format!("{} at most", said::bytes(memory)));
        }
        lines.join("\n")
    }

    fn to_json(&self) -> Value {
        let mut object = self.details.clone();
        let measured = json!({
            "title": self.title,
            "device": self.device,
            "device_model": self.model,
            "threads": imagen_kernels::threads(),
            "instruction_set": instruction_set(),
            "precision": self.precision,
            "multiply_adds": self.multiply_adds,
            "rounds_ms": self.rounds,
            "median_ms": self.median,
            "least_ms": self.least,
            "gflops": self.rate / 1e9,
            "ceiling_gflops": self.ceiling / 1e9,
            "share_of_ceiling": self.rate / self.ceiling,
            "peak_memory_bytes": self.memory,
        });
        object.extend(measured.as_object().expect("just made").clone());
        Value::Object(object)
    }
}

fn instruction_set() -> String {
    format!("{:?}", Isa::current()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both() {
        assert_eq!(median(&mut [3.0]), 3.0);
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [8.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn a_round_lasts_as_long_as_it_is_asked_to() {
        assert_eq!(
            ["0", "0.5", "-1", "nan", "x", "1e9"].map(|text| seconds(text).is_ok()),
            [true, true, false, false, false, false]
        );
    }
}
