//! `imagen sample`: from prompts to PNG files.
//!
//! Everything that can be refused is refused before the first step: arguments, model, output names. Then the events of the
//! cascade are pulled one by one; each finished picture is written at once, and Ctrl-C between two events loses nothing.

mod deepfloyd;
mod notes;
mod previews;
mod sheet;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use serde_json::json;

use imagen::cascade::deepfloyd::DeepFloyd;
use imagen::cascade::{Event, Imagen, Request, SamplingDefaults, StageName, StageOptions};
use imagen::diffusion::{AugLevel, Sampler, Thresholding};
use imagen::error::Context;
use imagen::image::{DecodeOptions, Picture, PngText, png};

use self::deepfloyd::DeepFloydArgs;
use self::previews::Previews;
use self::sheet::Sheet;
use super::per_stage::PerStage;
use super::plan::{MaxMemory, drawing};
use super::shared::{self, Threads};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::{ModelRecord, Record};
use crate::output::{Outputs, Subject, Target, folder_of, shell};
use crate::progress::Progress;
use crate::system::counted;
use crate::trace::Trace;

const EXAMPLES: &str = "\
Examples:
  imagen sample \"a red apple\"
  imagen sample \"a red apple\" --seed 7 --steps 50,20 --guidance 5,2
  imagen sample \"a cat\" \"a dog\" --count 4 --output \"pets/{prompt}-{index:03}.png\"
  imagen sample \"a red apple\" --until base --output - > apple.png
  cat prompts.txt | imagen sample - --json > pictures.jsonl

A value per stage is given in the order in which the stages run: base, sr256, sr1024.
The same prompt, seed and options draw the same picture, whatever --count, --batch and --threads are.";

const DRAW: &str = "What to draw";
const HOW: &str = "How to draw it (one value for all stages, or one for each: 50,20)";
const MACHINE: &str = "Model and machine";
const OUTPUT: &str = "Output";

/// Draw pictures from text
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sample {
    /// What to draw; `-` reads one prompt a line from stdin
    #[arg(value_name = "PROMPT", required_unless_present = "params_from")]
    prompts: Vec<String>,

    /// Pictures per prompt; the k-th has the seed plus k
    #[arg(short = 'n', long, value_name = "N", default_value = "1", help_heading = DRAW)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    count: usize,
    /// Seed of the first picture; random and printed where absent or -1
    #[arg(short, long, allow_negative_numbers = true, help_heading = DRAW)]
    seed: Option<Seed>,
    /// The last stage that draws: an early one for a quick look, or one that runs on request only
    #[arg(long, value_name = "STAGE", help_heading = DRAW, value_parser = stage_names())]
    until: Option<StageName>,
    /// Take prompt, seed and options from a picture that imagen drew; what you give here wins
    #[arg(long, value_name = "PNG", help_heading = DRAW)]
    params_from: Option<PathBuf>,

    /// Denoising steps
    #[arg(long, value_name = "N", help_heading = HOW, aliases = ["num-inference-steps", "sampling-steps"])]
    steps: Option<PerStage<usize>>,
    /// Pull of the text: one value is for the base, 1 is none
    #[arg(long, value_name = "W", help_heading = HOW, aliases = ["cfg-scale", "guidance-scale"])]
    guidance: Option<PerStage<f64>>,
    /// Sampler, with its setting after a colon
    #[arg(long, value_name = "NAME", help_heading = HOW, alias = "sampling-method", help = samplers())]
    sampler: Option<PerStage<Sampler>>,
    /// What happens to values out of range: none, static, dynamic or dynamic:0.995
    #[arg(long, value_name = "NAME", help_heading = HOW)]
    thresholding: Option<PerStage<Thresholding>>,
    /// Noise on the small picture before it is enlarged, 0 to 1 (super-resolution stages only)
    #[arg(long, value_name = "LEVEL", help_heading = HOW)]
    aug_level: Option<PerStage<AugLevel>>,

    /// A model folder, also DeepFloyd IF's, or a pulled OWNER/NAME; the built-in model where absent
    #[arg(short, long, value_name = "FOLDER|NAME", help_heading = MACHINE)]
    model: Option<PathBuf>,
    /// Pictures drawn together: more is faster and takes more memory
    #[arg(long, value_name = "N", help_heading = MACHINE)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: Option<usize>,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    deepfloyd: DeepFloydArgs,

    /// Name of each picture, with {prompt}, {seed}, {index} or {index:04}; a folder; - is stdout
    ///
    /// The ending is .png, or .jpg or .webp, which do not hold the settings. Names that the program chooses, here and in a
    /// folder, get a number where they are taken.
    #[arg(short, long, value_name = "PATTERN", default_value = crate::output::DEFAULT_PATTERN, help_heading = OUTPUT)]
    output: Target,
    /// All pictures together in one PNG as well
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    grid: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(short, long, help_heading = OUTPUT)]
    force: bool,
    /// Write no prompt and no settings into the pictures
    #[arg(long, help_heading = OUTPUT)]
    no_metadata: bool,
    /// Print one JSON object a picture instead of its path
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Keep the picture as it is estimated now in this folder while it is drawn, a file for each stage
    #[arg(long, hide_short_help = true, value_name = "FOLDER", help_heading = OUTPUT)]
    previews: Option<PathBuf>,
    /// Write where the time goes as a Chrome trace, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    trace: Option<PathBuf>,
    /// Print nothing but results and errors
    #[arg(short, long, help_heading = OUTPUT)]
    quiet: bool,
}

/// The help of `--sampler`; the library's list is the only one.
fn samplers() -> String {
    let names: Vec<String> = Sampler::ALL.iter().map(Sampler::to_string).collect();
    format!("Sampler: {}", names.join(", "))
}

/// Stages by name, known to the help and the completions.
pub(super) fn stage_names() -> impl TypedValueParser<Value = StageName> {
    let names = PossibleValuesParser::new(StageName::ALL.map(StageName::as_str));
    names.map(|name| name.parse().expect("a name from the list"))
}

/// The value of `--seed`.
#[derive(Clone, Copy, Debug)]
enum Seed {
    Random,
    Fixed(u64),
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value {
            "-1" | "random" => Ok(Self::Random),
            _ => value.parse().map(Self::Fixed).map_err(|_| "expected a whole number from 0, or -1 for random".into()),
        }
    }
}

impl Seed {
    /// The seed; random ones have 32 bits, short enough to be typed and exact in every JSON reader.
    fn get(self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        match self {
            Self::Fixed(seed) => seed,
            Self::Random => RandomState::new().hash_one(std::process::id()) >> 32,
        }
    }
}

impl Sample {
    pub(crate) fn run(self) -> Result<()> {
        if self.json && self.output == Target::Stdout {
            return Err(Failure::usage("--json and --output - would both write to stdout"));
        }
        let trace = self.trace.as_deref().map(Trace::start).transpose()?;
        let drawn = tracing::info_span!("sample").in_scope(|| self.draw());
        // of a failed command too: it shows how far it came
        trace.map_or(Ok(()), |trace| trace.write()).and(drawn)
    }

    fn draw(mut self) -> Result<()> {
        self.model = self.model.as_deref().map(shared::model_folder).transpose()?;
        if let Some(folder) = self.model.clone().filter(|folder| DeepFloyd::is_folder(folder)) {
            return self.draw_deepfloyd(&folder);
        }
        self.deepfloyd.refuse()?;
        let remembered = self.params_from.as_deref().map(read_record).transpose()?;
        let prompts = self.prompts(remembered.as_ref())?;
        let files = shared::model_files(self.model.as_deref())?;
        self.threads.apply()?;
        interrupt::watch("stopping; finished pictures are kept")?;

        let progress = Progress::new(self.quiet);
        progress.note(format_args!("opening {}", files.label()));
        let imagen = Imagen::open(&files, &shared::device())?;
        let request = self.request(prompts, remembered.as_ref(), &imagen)?;
        let at_once = request.batch.min(request.prompts.len() * request.count);
        drawing::Drawing::open(&files, request.until)?.check(&self.memory, at_once as u64)?;
        let stages = imagen.resolve(&request)?;
        let subjects = subjects(&request.prompts, request.count, request.seed);
        let outputs = Outputs::plan(&self.output, &subjects, self.force)?;
        let sheet = self.sheet(&request.prompts, request.count)?;
        if !self.quiet {
            notes::guidance(&imagen, &stages, &progress);
            notes::prompts(&files, &imagen, &request.prompts, &progress)?;
        }
        if self.seed.is_none_or(|seed| matches!(seed, Seed::Random)) && remembered.is_none() {
            progress.note(format_args!("seed {}", request.seed));
        }
        Drawing {
            verb: &self,
            model: model_record(self.model.as_deref(), &imagen),
            request,
            stages,
            subjects,
            outputs,
            sheet,
            progress,
        }
        .run(&imagen)
    }

    /// What `--grid` asks for.
    fn sheet(&self, prompts: &[String], count: usize) -> Result<Option<Sheet>> {
        self.grid.clone().map(|path| Sheet::plan(path, prompts, count, self.force)).transpose()
    }

    /// The prompts: arguments, lines of stdin, or the remembered one.
    fn prompts(&self, remembered: Option<&Record>) -> Result<Vec<String>> {
        let mut prompts = Vec::new();
        for prompt in &self.prompts {
            if prompt == "-" {
                read_prompts(&mut prompts)?;
            } else {
                prompts.push(prompt.clone());
            }
        }
        match remembered {
            Some(record) if prompts.is_empty() => Ok(vec![record.prompt.clone()]),
            None if prompts.is_empty() => Err(Failure::usage("there is no prompt on stdin")),
            _ => Ok(prompts),
        }
    }

    /// Flags over remembered settings over the model's own.
    fn request(&self, prompts: Vec<String>, remembered: Option<&Record>, imagen: &Imagen) -> Result<Request> {
        let seed = self.seed.or(remembered.map(|r| Seed::Fixed(r.seed))).unwrap_or(Seed::Random).get();
        check_seeds(seed, self.count)?;
        let until = self.until.or_else(|| remembered.and_then(|r| r.stages.keys().next_back().copied()));
        let model: Vec<StageName> = imagen.stages().iter().map(|info| info.config.stage).collect();
        let last = until.unwrap_or_else(|| imagen.default_until());
        let running = model.iter().filter(|stage| **stage <= last).count();
        let mut options = BTreeMap::<StageName, StageOptions>::new();
        for (stage, settings) in remembered.iter().flat_map(|record| &record.stages) {
            options.insert(*stage, all_of(settings));
        }
        if self.aug_level.is_some() && model.len() == 1 {
            return Err(Failure::usage("--aug-level is for super-resolution stages, and this model has none"));
        }
        let (all, larger) = ((&model[..], running), (&model[1..], running - 1));
        set(&mut options, all, "--steps", self.steps.as_ref(), |o| &mut o.steps)?;
        set_guidance(&mut options, all, self.guidance.as_ref())?;
        set(&mut options, all, "--sampler", self.sampler.as_ref(), |o| &mut o.sampler)?;
        set(&mut options, all, "--thresholding", self.thresholding.as_ref(), |o| &mut o.thresholding)?;
        set(&mut options, larger, "--aug-level", self.aug_level.as_ref(), |o| &mut o.aug_level)?;
        // Values for stages that do not run this time are no contradiction, only unused.
        options.retain(|stage, _| *stage <= last);
        let batch = self.batch.unwrap_or(Request::default().batch);
        Ok(Request { prompts, seed, count: self.count, options, until, batch })
    }
}

/// The model's name without the path to it.
pub(super) fn model_record(model: Option<&Path>, imagen: &Imagen) -> ModelRecord {
    let name = model.map(shared::model_name);
    let steps = imagen.stages().iter().map(|info| (info.config.stage, info.step)).collect();
    ModelRecord { name: name.unwrap_or_else(|| "built-in".into()), steps }
}

/// Gives each running stage its value from a flag, if the flag was given.
pub(super) fn set<T: Copy>(
    options: &mut BTreeMap<StageName, StageOptions>,
    (model, running): (&[StageName], usize),
    flag: &str,
    values: Option<&PerStage<T>>,
    field: fn(&mut StageOptions) -> &mut Option<T>,
) -> Result<()> {
    for (stage, value) in values.map_or(Ok(Vec::new()), |values| values.spread(flag, model, running))? {
        *field(options.entry(stage).or_default()) = Some(value);
    }
    Ok(())
}

/// Gives the stages their guidance: one value is the base's alone, since that is where the text decides and super-resolution
/// was trained to need none.
pub(super) fn set_guidance(
    options: &mut BTreeMap<StageName, StageOptions>,
    (model, running): (&[StageName], usize),
    values: Option<&PerStage<f64>>,
) -> Result<()> {
    let stages = if values.is_some_and(|values| values.of_base().is_some()) { 1 } else { running };
    set(options, (model, stages), "--guidance", values, |o| &mut o.guidance)
}

/// Every setting, spelt out.
pub(super) fn all_of(settings: &SamplingDefaults) -> StageOptions {
    StageOptions {
        steps: Some(settings.steps),
        guidance: Some(settings.guidance),
        sampler: Some(settings.sampler),
        thresholding: Some(settings.thresholding),
        aug_level: Some(settings.aug_level),
    }
}

/// A command under way.
struct Drawing<'a> {
    verb: &'a Sample,
    model: ModelRecord,
    request: Request,
    stages: Vec<(StageName, SamplingDefaults)>,
    subjects: Vec<Subject>,
    outputs: Outputs,
    sheet: Option<Sheet>,
    progress: Progress,
}

impl Drawing<'_> {
    fn run(mut self, imagen: &Imagen) -> Result<()> {
        let count = self.subjects.len();
        let begun = Instant::now();
        let mut finished = 0;
        let mut previews = Previews::open(self.verb.previews.as_deref())?;
        for event in imagen.sample(&self.request)? {
            match event? {
                Event::Step { stage, index, of, pictures, x_hat } => {
                    self.progress.step(&step_title(stage, &pictures, count), index as u64 + 1, of as u64, "");
                    previews.step(stage, (index, of), &x_hat, Ok)?;
                }
                Event::Image { last: true, index, picture, .. } => {
                    self.deliver(index, &picture)?;
                    if let Some(sheet) = &mut self.sheet {
                        sheet.add(index, picture);
                    }
                    finished += 1;
                }
                Event::Image { .. } => {}
            }
            if interrupt::requested() && finished < count {
                self.progress.finish();
                return Err(Failure::interrupted(format_args!("{finished} of {count} pictures were drawn")));
            }
        }
        self.progress.finish();
        self.progress.note(format_args!("{}", self.summary(imagen, count, begun.elapsed())));
        self.sheet.take().map_or(Ok(()), |sheet| sheet.write(&self.progress))
    }

    /// What was done, how long it took, and what more the model can do.
    fn summary(&self, imagen: &Imagen, count: usize, took: Duration) -> String {
        let pictures = counted(count, "picture");
        let done = format!("{pictures} in {:.1} s", took.as_secs_f64());
        let last = self.stages.last().map(|(stage, _)| *stage);
        let larger = imagen.stages().into_iter().map(|info| info.config).find(|config| Some(config.stage) > last);
        match larger {
            Some(config) => format!("{done}; --until {} enlarges to {1}x{1}", config.stage, config.size),
            None => done,
        }
    }

    /// Writes a picture, prints its path or JSON, and how to draw it again.
    fn deliver(&self, index: usize, picture: &Picture) -> Result<()> {
        let _span = tracing::info_span!("write picture").entered();
        let subject = &self.subjects[index];
        let size = [picture.width(), picture.height()];
        let stages = self.stages.iter().copied().collect();
        let record = Record::new(subject.prompt.clone(), subject.seed, self.model.clone(), stages, size);
        let text = match self.verb.no_metadata {
            true => PngText::default(),
            false => PngText { parameters: Some(record.infotext()), imagen: Some(record.to_json()) },
        };
        let path = self.outputs.write(index, picture, &text)?;
        if let Some(path) = path {
            let line = if self.verb.json {
                let mut object = json!({ "path": path, "index": index });
                let record = serde_json::to_value(&record).expect("a record is plain data");
                object.as_object_mut().expect("just made").extend(record.as_object().expect("a struct").clone());
                object.to_string()
            } else {
                path.display().to_string()
            };
            self.progress.suspend(|| print_line(line))?;
        }
        self.progress.note(format_args!("again: {}", self.command(subject, path)));
        Ok(())
    }

    /// The command that draws this picture again, under the same name where somebody chose it.
    fn command(&self, subject: &Subject, path: Option<&Path>) -> String {
        let mut words = vec!["imagen".to_owned(), "sample".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if let Some(model) = &self.verb.model {
            flag("--model", model.display().to_string());
        }
        flag("--seed", subject.seed.to_string());
        if let Some(until) = self.request.until {
            flag("--until", until.to_string());
        }
        let mut list = |name, given: fn(&StageOptions) -> bool, value: fn(&SamplingDefaults) -> String, skip| {
            if self.request.options.values().any(given) {
                let mut values: Vec<String> = self.stages[skip..].iter().map(|(_, s)| value(s)).collect();
                // one guidance is the base's alone
                if name != "--guidance" && values.iter().all(|v| *v == values[0]) {
                    values.truncate(1);
                }
                flag(name, values.join(","));
            }
        };
        list("--steps", |o| o.steps.is_some(), |s| s.steps.to_string(), 0);
        list("--guidance", |o| o.guidance.is_some(), |s| s.guidance.to_string(), 0);
        list("--sampler", |o| o.sampler.is_some(), |s| s.sampler.to_string(), 0);
        list("--thresholding", |o| o.thresholding.is_some(), |s| s.thresholding.to_string(), 0);
        if self.stages.len() > 1 {
            list("--aug-level", |o| o.aug_level.is_some(), |s| s.aug_level.to_string(), 1);
        }
        let literal = |path: &Path| path.display().to_string().replace('{', "{{").replace('}', "}}");
        match path {
            Some(path) if self.verb.output.is_chosen() => {
                flag("--output", literal(path));
                words.push("--force".to_owned());
            }
            Some(path) if folder_of(path) != Path::new(".") => {
                flag("--output", format!("{}/", literal(folder_of(path))));
            }
            _ => {}
        }
        if self.verb.no_metadata {
            words.push("--no-metadata".to_owned());
        }
        words.extend(["--".to_owned(), subject.prompt.clone()]);
        if !subject.prompt.starts_with('-') {
            words.remove(words.len() - 2);
        }
        words.iter().map(|word| shell::quote(word)).collect::<Vec<_>>().join(" ")
    }
}

/// Every picture of a command in the order of the cascade: prompt by prompt, seeds counting up from the first.
fn subjects(prompts: &[String], count: usize, seed: u64) -> Vec<Subject> {
    let one =
        |(p, k): (usize, usize)| Subject { index: p * count + k, prompt: prompts[p].clone(), seed: seed + k as u64 };
    (0..prompts.len()).flat_map(|p| (0..count).map(move |k| (p, k))).map(one).collect()
}

/// What the progress of a step is called: the stage, and which of all pictures where there are several.
fn step_title(stage: StageName, pictures: &Range<usize>, count: usize) -> String {
    match (count, pictures.len()) {
        (1, _) => stage.to_string(),
        (_, 1) => format!("{stage} picture {} of {count}", pictures.start + 1),
        _ => format!("{stage} pictures {}-{} of {count}", pictures.start + 1, pictures.end),
    }
}

/// Fails where the last picture's seed would be none.
fn check_seeds(seed: u64, count: usize) -> Result<()> {
    match seed.checked_add(count as u64 - 1) {
        Some(_) => Ok(()),
        None => Err(Failure::usage(format_args!("--seed {seed} plus --count {count} is out of range"))),
    }
}

/// Adds stdin's prompts, one a line; empty lines are skipped.
fn read_prompts(prompts: &mut Vec<String>) -> Result<()> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        let _ = writeln!(std::io::stderr(), "type one prompt a line; Ctrl-D ends");
    }
    let mut bytes = Vec::new();
    let unreadable = |e: &dyn std::fmt::Display| Failure::new(Exit::Data, format_args!("the prompts on stdin: {e}"));
    stdin.read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    let imagen::input::Text { text, guessed } = imagen::input::text(&bytes).map_err(|e| unreadable(&e))?;
    if let Some(encoding) = guessed {
        return Err(unreadable(&format_args!("they are not UTF-8, perhaps {encoding}; convert them")));
    }
    prompts.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    Ok(())
}

/// The record that a picture carries.
fn read_record(path: &Path) -> Result<Record> {
    let bytes = imagen::input::read(path, DecodeOptions::default().max_bytes)?;
    let text = png::read_text(&bytes, &DecodeOptions::default()).context(|| path.display().to_string())?;
    let unusable = |why: &str| {
        Failure::new(Exit::Data, format_args!("{}: {why}", path.display()))
            .hint("--params-from reads PNG files that `imagen sample` wrote without --no-metadata")
    };
    let json = text.imagen.ok_or_else(|| unusable("it holds no settings of imagen"))?;
    Record::from_json(&json).map_err(|why| unusable(&why))
}
