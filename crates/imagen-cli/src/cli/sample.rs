//! `imagen sample`: from prompts to PNG files.
//!
//! Everything that can be refused is refused before the first step: arguments, model, output names. Then the events of the
//! cascade are pulled one by one; each finished picture is written at once, and Ctrl-C between two events loses nothing.

mod previews;
mod sheet;

use std::io::{IsTerminal, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use imagen::cascade::deepfloyd::{Embeddings, Verdict};
use imagen::cascade::{Event, Request, StageName, StartPicture};
use imagen::error::Context;
use imagen::image::{DecodeOptions, Picture, PngText, decode, png};
use imagen::nn::device::Found;
use imagen::said::{counted, duration};

use self::previews::Previews;
use self::sheet::Sheet;
use super::draw::{DrawArgs, HOW, MACHINE, MaxMemory, ModelArgs, Session, notes};
use super::shard::Sharded;
use super::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::Remembered;
use crate::output::{Outputs, Subject, Target, folder_of, shell};
use crate::progress::Progress;
use crate::trace::Trace;

const EXAMPLES: &str = "\
Examples:
  imagen sample \"a red apple\"
  imagen sample \"a red apple\" --seed 7 --steps 50,20 --guidance 2
  imagen sample \"a cat\" \"a dog\" --count 4 --output \"pets/{prompt}-{index:03}.png\"
  imagen sample \"a red apple\" --until base --output - > apple.png
  cat prompts.txt | imagen sample - --json > pictures.jsonl

A value per stage is given in the order in which the stages run: base, sr256, sr1024.
The same prompt, seed and options draw the same picture; another --batch may change a few values by 1 of 255.";

const DRAW: &str = "What to draw";
const FROM: &str = "From a picture (DeepFloyd IF)";
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
    /// Seed of the first picture; random, and printed, by default or with -1
    #[arg(short, long, allow_negative_numbers = true, help_heading = DRAW)]
    seed: Option<Seed>,
    /// The last stage that draws: an early one for a quick look, or one that runs on request only
    #[arg(long, value_name = "STAGE", help_heading = DRAW, value_parser = one_of::<StageName>())]
    until: Option<StageName>,
    /// Take prompt, seed and options from a picture that imagen drew; what you give here wins
    #[arg(long, value_name = "PNG", help_heading = DRAW)]
    params_from: Option<PathBuf>,

    #[command(flatten)]
    how: DrawArgs,
    /// DeepFloyd IF: leave the captions as they are, in small letters
    #[arg(long, hide_short_help = true, help_heading = HOW)]
    no_clean: bool,

    #[command(flatten)]
    model: ModelArgs,
    /// Pictures drawn together: more is faster and takes more memory
    #[arg(long, value_name = "N", help_heading = MACHINE)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: Option<usize>,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    machine: Machine,
    /// DeepFloyd IF: embeddings of the prompts in place of a text encoder (safetensors)
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = MACHINE)]
    embeddings: Option<PathBuf>,

    /// Start from this picture; with a second stage alone, enlarge it
    #[arg(long, value_name = "FILE", help_heading = FROM)]
    image: Option<PathBuf>,
    /// Draw only where this picture is white
    #[arg(long, value_name = "FILE", help_heading = FROM, requires = "image")]
    mask: Option<PathBuf>,
    /// How much of the picture is drawn over, above 0 to 1
    #[arg(long, value_name = "PART", help_heading = FROM, requires = "image")]
    strength: Option<f64>,

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
    #[command(flatten, next_help_heading = OUTPUT)]
    sharded: Sharded,
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
        let machine = self.machine;
        let drawn = tracing::info_span!("sample").in_scope(|| machine.compute(|found| self.draw(found)));
        // of a failed command too: it shows how far it came
        trace.map_or(Ok(()), |trace| trace.write()).and(drawn)
    }

    fn draw(self, found: &Found) -> Result<()> {
        let remembered = self.params_from.as_deref().map(read_record).transpose()?;
        let prompts = self.prompts(remembered.as_ref())?;
        interrupt::watch("stopping; finished pictures are kept")?;

        let progress = Progress::new(self.quiet);
        let model = self.model.open(&found.device, &progress)?;
        let seed = self.seed.or(remembered.as_ref().map(|r| Seed::Fixed(r.seed))).unwrap_or(Seed::Random).get();
        let until = self.until.or_else(|| remembered.as_ref().and_then(|r| r.options.keys().next_back().copied()));
        let options = remembered.as_ref().map(|r| r.options.clone()).unwrap_or_default();
        check_seeds(seed, self.count)?;
        let embeddings = self.embeddings.as_ref().map(|path| Embeddings::open(path, &found.device)).transpose()?;
        let request = Request {
            options: self.how.over(options, &model.imagen, until)?,
            until,
            batch: self.batch,
            start: self.start(remembered.as_ref())?,
            embeddings,
            raw_captions: self.no_clean,
            ..Request::new(prompts, self.count, seed)
        };
        if self.no_clean && model.imagen.deepfloyd().is_none() {
            return Err(Failure::usage("--no-clean is for folders of DeepFloyd IF, and this model is none"));
        }
        let files = model.files.clone();
        let mut session = Session::new(model, request)?;
        self.memory.check_drawing(found, &session.imagen, &session.request, &self.model.frozen)?;
        let mut subjects = subjects(&session.request);
        let outputs = match self.sharded.get() {
            None => Outputs::plan(&self.output, &subjects, self.force)?,
            Some(shard) => {
                self.check_shared(remembered.is_some())?;
                let (outputs, missing) = Outputs::share(&self.output, &subjects, self.force, |index| shard.has(index))?;
                progress.note(format_args!("share {shard}: {} to draw", counted(missing.len(), "picture")));
                if missing.is_empty() {
                    return Ok(());
                }
                let pictures = &session.request.pictures;
                session.request.pictures = missing.iter().map(|index| pictures[*index]).collect();
                subjects = missing.into_iter().map(|index| subjects[index].clone()).collect();
                outputs
            }
        };
        let sheet = self.sheet(&session.request.prompts, self.count)?;
        if !self.quiet {
            notes::unquoted(&self.prompts, &progress);
            notes::guidance(&session.imagen, &session.stages, &progress);
            notes::prompts(files.as_ref(), &session.imagen, &session.request, &progress)?;
        }
        if self.seed.is_none_or(|seed| matches!(seed, Seed::Random)) && remembered.is_none() {
            progress.note(format_args!("seed {seed}"));
        }
        Command { verb: &self, session, subjects, outputs, sheet, progress }.run()
    }

    /// Refuses what processes that each draw a share could not do together.
    fn check_shared(&self, remembered: bool) -> Result<()> {
        if self.grid.is_some() {
            return Err(Failure::usage("no process has all pictures for --grid: leave out either --grid or --shard"));
        }
        let seeded = remembered || matches!(self.seed, Some(Seed::Fixed(_)));
        if !seeded || self.output == Target::Stdout {
            let failure = Failure::usage("processes that share the work need one seed, and files to write");
            return Err(failure.hint("for example --seed 0 --output 'pictures/{index:06}.png'"));
        }
        Ok(())
    }

    /// The picture to start from.
    fn start(&self, remembered: Option<&Remembered>) -> Result<Option<StartPicture>> {
        let open = |path: &PathBuf| decode::open(path, &DecodeOptions::default());
        let Some(image) = &self.image else { return Ok(None) };
        let strength = self.strength.or(remembered.and_then(|remembered| remembered.strength));
        Ok(Some(StartPicture { picture: open(image)?, mask: self.mask.as_ref().map(open).transpose()?, strength }))
    }

    /// What `--grid` asks for.
    fn sheet(&self, prompts: &[String], count: usize) -> Result<Option<Sheet>> {
        self.grid.clone().map(|path| Sheet::plan(path, prompts, count, self.force)).transpose()
    }

    /// The prompts: arguments, lines of stdin, or the remembered one.
    fn prompts(&self, remembered: Option<&Remembered>) -> Result<Vec<String>> {
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
}

/// A command under way.
struct Command<'a> {
    verb: &'a Sample,
    session: Session,
    subjects: Vec<Subject>,
    outputs: Outputs,
    sheet: Option<Sheet>,
    progress: Progress,
}

impl Command<'_> {
    fn run(mut self) -> Result<()> {
        let count = self.subjects.len();
        let begun = Instant::now();
        let (mut finished, mut withheld, mut judged) = (0, 0, false);
        let mut previews = Previews::open(self.verb.previews.as_deref())?;
        for event in self.session.imagen.sample(&self.session.request)? {
            match event? {
                Event::Step { stage, index, of, pictures, x_hat } => {
                    self.progress.step(&step_title(stage, &pictures, count), index as u64 + 1, of as u64, "");
                    let judge = |picture| self.session.imagen.judge(picture).map(|(picture, _)| picture);
                    previews.step(stage, (index, of), &x_hat, judge)?;
                }
                Event::Image { last: true, index, picture, verdict, .. } => {
                    self.deliver(index, &picture, verdict)?;
                    if let Some(sheet) = &mut self.sheet {
                        sheet.add(index, picture);
                    }
                    finished += 1;
                    judged |= verdict.is_some();
                    withheld += usize::from(verdict.is_some_and(Verdict::withheld));
                }
                Event::Image { .. } => {}
            }
            if interrupt::requested() && finished < count {
                self.progress.finish();
                return Err(Failure::stopped(finished, count, "drawn"));
            }
        }
        self.progress.finish();
        if judged {
            let passed = counted(finished - withheld, "picture");
            self.progress.note(format_args!("the safety checker passed {passed} and withheld {withheld}"));
        }
        self.progress.note(format_args!("{}", self.summary(count, begun.elapsed())));
        self.sheet.take().map_or(Ok(()), |sheet| sheet.write(&self.progress))
    }

    /// What was done, how long it took, and what more the model can do.
    fn summary(&self, count: usize, took: Duration) -> String {
        let pictures = counted(count, "picture");
        let done = format!("{pictures} in {}", duration(took.as_secs_f64()));
        let last = self.session.stages.last().map(|(stage, _)| *stage);
        match self.session.imagen.stages().into_iter().find(|info| Some(info.stage) > last) {
            Some(info) => format!("{done}; --until {} enlarges to {1}x{1}", info.stage, info.size),
            None => done,
        }
    }

    /// Writes a picture, prints its path or JSON, and how to draw it again.
    fn deliver(&self, index: usize, picture: &Picture, verdict: Option<Verdict>) -> Result<()> {
        let _span = tracing::info_span!("write picture").entered();
        let subject = &self.subjects[index];
        let record = self.session.describe((&subject.prompt, subject.seed), picture, verdict);
        if let Some(safety) = record.safety.as_ref().filter(|_| verdict.is_some_and(Verdict::withheld)) {
            self.progress.note(format_args!("picture {} is {safety}", index + 1));
        }
        let text = if self.verb.no_metadata { PngText::default() } else { record.text() };
        let path = self.outputs.write(index, picture, &text)?;
        if let Some(path) = path {
            let line = if self.verb.json {
                let mut object = json!({ "path": path, "index": subject.index });
                let record: Value = serde_json::to_value(&record).expect("a record is plain data");
                object.as_object_mut().expect("just made").extend(record.as_object().expect("a struct").clone());
                object.to_string()
            } else {
                path.display().to_string()
            };
            self.progress.suspend(|| print_line(line))?;
        }
        self.progress.note(format_args!("again: {}", self.again(subject, path)));
        Ok(())
    }

    /// The command that draws this picture again, under the same name where somebody chose it.
    fn again(&self, subject: &Subject, path: Option<&Path>) -> String {
        let mut words = vec!["imagen".to_owned(), "sample".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        let file = |path: &PathBuf| path.display().to_string();
        if let Some(model) = &self.verb.model.model {
            flag("--model", file(model));
        }
        for (name, value) in self.verb.model.frozen.flags() {
            value.into_iter().for_each(|value| flag(name, value));
        }
        flag("--seed", subject.seed.to_string());
        if let Some(until) = self.session.request.until {
            flag("--until", until.to_string());
        }
        self.session.flags().into_iter().for_each(|(name, value)| flag(name, value));
        for (name, path) in [("--image", &self.verb.image), ("--mask", &self.verb.mask)] {
            path.iter().for_each(|path| flag(name, file(path)));
        }
        if let Some(strength) = self.session.request.start.as_ref().and_then(|start| start.strength) {
            flag("--strength", strength.to_string());
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
        for (name, given) in [("--no-clean", self.verb.no_clean), ("--no-metadata", self.verb.no_metadata)] {
            words.extend(given.then(|| name.to_owned()));
        }
        if subject.prompt.starts_with('-') {
            words.push("--".to_owned());
        }
        words.push(subject.prompt.clone());
        words.iter().map(|word| shell::quote(word)).collect::<Vec<_>>().join(" ")
    }
}

/// Every picture of a command in the order of its request.
fn subjects(request: &Request) -> Vec<Subject> {
    let one = |index: usize| {
        let (prompt, seed) = request.subject(index);
        Subject { index, prompt: prompt.to_owned(), seed }
    };
    (0..request.pictures.len()).map(one).collect()
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
fn read_record(path: &Path) -> Result<Remembered> {
    let bytes = imagen::input::read(path, DecodeOptions::default().max_bytes)?;
    let text = png::read_text(&bytes, &DecodeOptions::default()).context(|| path.display().to_string())?;
    let unusable = |why: &str| {
        Failure::new(Exit::Data, format_args!("{}: {why}", path.display()))
            .hint("--params-from reads PNG files that `imagen sample` wrote without --no-metadata")
    };
    let json = text.imagen.ok_or_else(|| unusable("it holds no settings of imagen"))?;
    Remembered::from_json(&json).map_err(|why| unusable(&why))
}
