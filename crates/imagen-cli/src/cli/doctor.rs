//! `imagen doctor`: what a bug report should say about the machine and the program, with each check's outcome.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use imagen::cascade::Imagen;
use imagen::said;

use super::shared;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::{builtin, output, system};

/// Check the machine and the built-in model; put the output into bug reports
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
        let findings = [program(), processor(), memory(), temporary_folder(), built_in_model()];
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
    let imagen = match Imagen::open(&files, &shared::device()) {
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
