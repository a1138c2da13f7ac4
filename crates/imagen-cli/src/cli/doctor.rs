//! `imagen doctor`: what a bug report should say about the machine and the program, with each check's outcome. Devices draw, and
//! what they draw is held against what the processor does.

use std::time::Instant;

use burn::tensor::Device;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use imagen::cascade::{Event, Imagen, ModelFiles, Request, StageName, StageOptions};
use imagen::input::guarded;
use imagen::nn::device::{self, DeviceKind, Found};
use imagen::said;

use super::shared;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::{builtin, output, system};

/// Check the machine, its devices and the built-in model; put the output into bug reports
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One line of the report: what was looked at, what was found, and whether that is a problem.
struct Finding {
    name: &'static str,
    text: String,
    value: Value,
    problem: Option<Exit>,
}

impl Finding {
    fn fact(name: &'static str, text: String, value: Value) -> Self {
        Self { name, text, value, problem: None }
    }

    fn problem(name: &'static str, exit: Exit, text: String) -> Self {
        Self { name, value: json!({ "problem": text }), text, problem: Some(exit) }
    }
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<()> {
        let findings = [program(), processor(), memory(), temporary_folder(), built_in_model(), devices()];
        if self.json {
            let object: serde_json::Map<_, _> =
                findings.iter().map(|f| (f.name.replace(' ', "_"), f.value.clone())).collect();
            print_line(Value::Object(object))?;
        } else {
            for finding in &findings {
                let mark = if finding.problem.is_some() { "✗" } else { "✓" };
                let indented = finding.text.replace('\n', "\n                    ");
                print_line(format_args!("{mark} {:<17} {indented}", finding.name))?;
            }
        }
        match findings.iter().find_map(|f| f.problem.map(|exit| (exit, f.name))) {
            Some((exit, name)) => Err(Failure::new(exit, format_args!("there is a problem with the {name}"))),
            None => Ok(()),
        }
    }
}

fn program() -> Finding {
    let version = env!("CARGO_PKG_VERSION");
    let system = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let build = if cfg!(debug_assertions) { "debug (slow)" } else { "release" };
    let text = format!("imagen {version}, {system}, {build} build");
    Finding::fact("program", text, json!({ "version": version, "system": system, "build": build }))
}

fn processor() -> Finding {
    let name = system::processor();
    let (sets, threads) = (system::instruction_sets(), system::threads());
    let shown = name.as_deref().unwrap_or("unknown");
    let text = format!("{shown}\n{threads} threads; {}", sets.join(" "));
    Finding::fact("processor", text, json!({ "name": name, "threads": threads, "instruction_sets": sets }))
}

fn memory() -> Finding {
    let Some(memory) = system::memory() else {
        return Finding::fact("memory", "unknown".into(), Value::Null);
    };
    let text = format!("{}, {} of it available", said::bytes(memory.total), said::bytes(memory.available));
    Finding::fact("memory", text, json!({ "total_bytes": memory.total, "available_bytes": memory.available }))
}

fn temporary_folder() -> Finding {
    const NAME: &str = "temporary folder";
    let folder = std::env::temp_dir();
    match output::check_writable(&folder) {
        Ok(()) => Finding::fact(NAME, format!("{} can be written to", folder.display()), json!({ "writable": true })),
        Err(failure) => Finding::problem(NAME, Exit::Runtime, failure.message().to_owned()),
    }
}

/// Opens the built-in model, which checks every header and that the stages belong to the text encoder.
fn built_in_model() -> Finding {
    const NAME: &str = "built-in model";
    let Some(files) = builtin::model() else {
        let text = "none: this program was built without the feature builtin-model".to_owned();
        return Finding::fact(NAME, text, Value::Null);
    };
    let imagen = match Imagen::open(&files, &shared::cpu()) {
        Ok(imagen) => imagen,
        Err(error) => return Finding::problem(NAME, Exit::Model, format!("{error:#}")),
    };
    let mut lines = Vec::new();
    let mut stages = Vec::new();
    for info in imagen.stages() {
        let (stage, size, step) = (info.stage, info.size, info.step.unwrap_or(0));
        lines.push(format!("{stage}: {size}×{size}, trained for {step} steps"));
        stages.push(json!({ "stage": stage, "size": size, "step": step }));
    }
    let mut sums = serde_json::Map::new();
    for (name, bytes) in builtin::FILES {
        let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(format!("sha256 {sum}  {name}"));
        sums.insert((*name).to_owned(), json!({ "bytes": bytes.len(), "sha256": sum }));
    }
    Finding::fact(NAME, lines.join("\n"), json!({ "stages": stages, "files": sums }))
}

/// Steps of the pictures that devices draw: enough for every operation to have run, on devices that need seconds for one.
const STEPS: usize = 4;
/// How far a byte of a picture may be from the processor's.
const TOLERANCE: u8 = 2;

/// Every device beside the processor, each with a picture of the built-in model's base.
fn devices() -> Finding {
    const NAME: &str = "devices";
    let kinds = DeviceKind::ALL.into_iter().filter(|kind| kind.feature().is_some());
    let (built, missing): (Vec<_>, Vec<_>) = kinds.partition(|kind| kind.is_built_in());
    let names = |kinds: &[DeviceKind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    let mut lines = vec![match built.as_slice() {
        [] => format!("cpu alone: this program was built without {}", names(&missing)),
        built => format!("cpu; built for {} too, not for {}", names(built), names(&missing)),
    }];
    let mut values = Vec::new();
    let mut exit = None;
    for found in device::found() {
        let memory = system::memory_of(&found);
        let drawn = compared(&found);
        let model = found.model.clone().unwrap_or_else(|| "of an unknown make".into());
        let kind = if found.software { ", a program on the processor" } else { "" };
        let size = memory.map_or_else(|| "memory unknown".into(), said::bytes);
        lines.push(format!("{}: {model}{kind}, {size}", found.name));
        let outcome = match &drawn {
            None => Value::Null,
            Some(Ok(drawn)) => {
                lines.push(format!("  {}", drawn.describe()));
                exit = exit.or((drawn.largest > TOLERANCE).then_some(Exit::Runtime));
                drawn.to_json()
            }
            Some(Err(why)) => {
                lines.push(format!("  ✗ it does not draw: {why}"));
                exit = exit.or(Some(Exit::Runtime));
                json!({ "problem": why })
            }
        };
        let (name, pci, software) = (found.name, &found.pci, found.software);
        values.push(json!({
            "name": name, "model": found.model, "pci": pci, "software": software, "memory_bytes": memory, "drawn": outcome,
        }));
    }
    Finding { name: NAME, text: lines.join("\n"), value: Value::Array(values), problem: exit }
}

/// A picture beside that of the processor.
struct Compared {
    /// Of the second picture: the first one compiles.
    seconds: f64,
    seconds_cpu: f64,
    bytes: usize,
    different: usize,
    largest: u8,
}

impl Compared {
    fn describe(&self) -> String {
        let Self { seconds, seconds_cpu, bytes, different, largest } = self;
        let verdict = if *largest > TOLERANCE { "✗ " } else { "" };
        format!(
            "{verdict}64×64 in {STEPS} steps: {seconds:.2} s, on the CPU {seconds_cpu:.2} s; {different} of {bytes} bytes \
             differ, by {largest} at most"
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "steps": STEPS,
            "seconds": self.seconds,
            "seconds_cpu": self.seconds_cpu,
            "bytes": self.bytes,
            "different_bytes": self.different,
            "largest_difference": self.largest,
        })
    }
}

/// What a device draws beside what the processor does; nothing without a built-in model. An error is what the device said.
fn compared(found: &Found) -> Option<Result<Compared, String>> {
    let files = builtin::model()?;
    let compare = || -> imagen::Result<Compared> {
        draw(&files, &found.device)?;
        let (there, seconds) = draw(&files, &found.device)?;
        let (here, seconds_cpu) = draw(&files, &shared::cpu())?;
        let distances = there.iter().zip(&here).map(|(a, b)| a.abs_diff(*b));
        let different = distances.clone().filter(|distance| *distance > 0).count();
        Ok(Compared { seconds, seconds_cpu, bytes: here.len(), different, largest: distances.max().unwrap_or(0) })
    };
    // a driver that gives up does so by a panic of the tensor library
    Some(guarded(compare).and_then(|result| result.map_err(|error| format!("{error:#}"))))
}

/// The bytes of a picture of the base, and the seconds that it took.
fn draw(files: &ModelFiles, device: &Device) -> imagen::Result<(Vec<u8>, f64)> {
    let model = Imagen::open(files, device)?;
    let options = [(StageName::Base, StageOptions { steps: Some(STEPS), ..StageOptions::default() })].into();
    let request = Request { until: Some(StageName::Base), options, ..Request::new(vec!["a red apple".into()], 1, 1) };
    let begun = Instant::now();
    let mut bytes = Vec::new();
    for event in model.sample(&request)? {
        if let Event::Image { last: true, picture, .. } = event? {
            bytes = picture.into_pixels();
        }
    }
    Ok((bytes, begun.elapsed().as_secs_f64()))
}
