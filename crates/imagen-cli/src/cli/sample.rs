//! `imagen sample`: from prompts to PNG files.
//!
//! Everything that can be refused is refused before the first step: arguments, model, output names. Then the events of the
//! cascade are pulled one by one; each finished picture is written at once, and Ctrl-C between two events loses nothing.

mod again;
mod animation;
mod begin;
pub(super) mod between;
mod previews;
mod sheet;
mod words;

use std::io::{IsTerminal, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use imagen::cascade::deepfloyd::{Embeddings, Verdict};
use imagen::cascade::{Event, Request, StageName};
use imagen::error::Context;
use imagen::image::{DecodeOptions, Picture, PngText, png};
use imagen::nn::device::Found;
use imagen::said::{counted, duration};

use self::animation::Animation;
use self::begin::{Begin, BeginArgs};
use self::between::BetweenArgs;
use self::previews::Previews;
use self::sheet::Sheet;
use self::words::WordArgs;
use super::draw::{DRAW, DrawArgs, HOW, MACHINE, MaxMemory, ModelArgs, Session, notes};
use super::shard::Sharded;
use super::shared::{Machine, one_of};
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::{Remembered, StartRecord};
use crate::output::{Outputs, Subject, Target};
use crate::progress::Progress;
use crate::trace::Trace;

const EXAMPLES: &str = "\
Examples:
  imagen sample \"a red apple\"
  imagen sample \"a red apple\" --seed 7 --steps 50,20 --guidance 2
  imagen sample \"a cat\" \"a dog\" --count 4 --output \"pets/{prompt}-{index:03}.png\"
  imagen sample \"a red apple\" --until base --output - > apple.png
  imagen sample \"a green apple\" --image apple.png --strength 0.7
  cat prompts.txt | imagen sample - --json > pictures.jsonl

Settings that are not given are the model's own, which `imagen inspect` shows. A value per stage is
given in the order in which the stages run: base, sr256, sr1024. The same prompt, seed and options
draw the same picture; another --batch may change a few values by 1 of 255.";

const OUTPUT: &str = "Output";

/// Draw pictures from text
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sample {
    /// What to draw; `-` reads one prompt a line from stdin
    #[arg(value_name = "PROMPT", required_unless_present_any = ["params_from", "image", "from"])]
    prompts: Vec<String>,

    /// Pictures per prompt; the k-th has the seed plus k
    #[arg(short = 'n', long, value_name = "N", default_value = "1", help_heading = DRAW)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    count: usize,
    /// Seed of the first picture; random, and printed, by default or with -1
    #[arg(short, long, allow_negative_numbers = true, help_heading = DRAW)]
    seed: Option<Seed>,
    /// Another seed for the stages that enlarge: the small picture stays, what is added to it is another
    ///
    /// It counts up as --seed does.
    #[arg(long, hide_short_help = true, value_name = "SEED", help_heading = DRAW)]
    sr_seed: Option<u64>,
    /// First stage that draws: one after base enlarges --image
    #[arg(long, value_name = "STAGE", help_heading = DRAW, value_parser = one_of::<StageName>())]
    #[arg(hide_possible_values = true)]
    from: Option<StageName>,
    /// Last stage that draws, base for a quick look: base, sr256 or sr1024
    #[arg(long, value_name = "STAGE", help_heading = DRAW, value_parser = one_of::<StageName>())]
    #[arg(hide_possible_values = true)]
    until: Option<StageName>,
    /// Take prompt, seed and options from a drawn picture
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
    #[arg(long, value_name = "N", help_heading = MACHINE, alias = "batch-size")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: Option<usize>,
    #[command(flatten)]
    memory: MaxMemory,
    #[command(flatten)]
    machine: Machine,
    /// DeepFloyd IF: embeddings of the prompts in place of a text encoder (safetensors)
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = MACHINE)]
    embeddings: Option<PathBuf>,

    #[command(flatten)]
    begin: BeginArgs,
    #[command(flatten)]
    between: BetweenArgs,
    #[command(flatten)]
    words: WordArgs,

    /// Name of each picture, with {prompt}, {seed}, {index} or {index:04}; a folder; - is stdout
    ///
    /// The ending is .png, or .jpg or .webp, which do not hold the settings. Names that the program chooses, here and in a
    /// folder, get a number where they are taken.
    #[arg(short, long, value_name = "PATTERN", default_value = crate::output::DEFAULT_PATTERN, help_heading = OUTPUT)]
    output: Target,
    /// All pictures together in one PNG as well
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    grid: Option<PathBuf>,
    /// All pictures one after the other in an animated PNG as well
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = OUTPUT)]
    animation: Option<PathBuf>,
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
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = OUTPUT)]
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
        self.check_loras(remembered.as_ref())?;
        interrupt::watch("stopping; finished pictures are kept")?;

        let progress = Progress::new(self.quiet);
        let model = self.model.open(&found.device, &progress)?;
        let seed = self.seed.or(remembered.as_ref().map(|r| Seed::Fixed(r.seed))).unwrap_or(Seed::Random).get();
        let until = self.until.or_else(|| remembered.as_ref().and_then(|r| r.options.keys().next_back().copied()));
        let from = self.from.or_else(|| remembered.as_ref().and_then(|r| r.from));
        let options = remembered.as_ref().map(|r| r.options.clone()).unwrap_or_default();
        check_seeds("--seed", seed, self.count)?;
        let enlarging = self.sr_seed.or(remembered.as_ref().and_then(|r| r.sr_seed));
        enlarging.map_or(Ok(()), |seed| check_seeds("--sr-seed", seed, self.count))?;
        let embeddings = self.embeddings.as_ref().map(|path| Embeddings::open(path, &found.device)).transpose()?;
        let (start, start_record) = match self.begin.open(remembered.as_ref())? {
            Some(Begin { start, record }) => (Some(start), Some(record)),
            None => (None, None),
        };
        let last = until.unwrap_or_else(|| model.imagen.default_until());
        let runs = |stage| stage <= last && from.is_none_or(|from| stage >= from);
        let mut request = Request {
            options: self.how.over(options, &model.imagen, (from, until))?,
            from,
            until,
            batch: self.batch,
            start,
            embeddings,
            raw_captions: self.no_clean,
            negative: self.words.negative(remembered.as_ref()),
            weighted: self.words.weights || remembered.as_ref().is_some_and(|remembered| remembered.weighted),
            stage_prompts: self.words.of_stages(remembered.as_ref(), runs),
            ..self.between.request(prompts, (self.count, seed), remembered.as_ref())?
        };
        for (k, picture) in request.pictures.iter_mut().enumerate() {
            picture.enlarging = enlarging.map(|seed| seed + (k % self.count) as u64);
        }
        if self.no_clean && model.imagen.deepfloyd().is_none() {
            return Err(Failure::usage("--no-clean is for folders of DeepFloyd IF, and this model is none"));
        }
        let files = model.files.clone();
        let mut session = Session::new(model, request)?;
        self.memory.check_drawing(found, &session.imagen, &session.request, &self.model.frozen)?;
        let mut subjects = subjects(&session.request);
        let outputs = match self.sharded.get() {
            None => {
                let follow = session.request.pictures.iter().any(|picture| picture.toward.is_some());
                let target = if follow { self.output.in_order() } else { self.output.clone() };
                Outputs::plan(&target, &subjects, self.force)?
            }
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
        let sheet = self.sheet(&subjects)?;
        let animation = self.animation.clone().map(|path| Animation::plan(path, self.force)).transpose()?;
        if !self.quiet {
            notes::unquoted(&self.prompts, &progress);
            notes::guidance(&session.imagen, &session.stages, &progress);
            notes::negative(&session.request, &session.stages, &progress);
            notes::weights(&session.request, &progress);
            if let Some(note) = begin::note(&session.imagen, &session.request) {
                progress.note(note);
            }
            notes::prompts(files.as_ref(), &session.imagen, &session.request, &progress)?;
        }
        if self.seed.is_none_or(|seed| matches!(seed, Seed::Random)) && remembered.is_none() {
            progress.note(format_args!("seed {seed}"));
        }
        Command { verb: &self, session, subjects, outputs, start: start_record, sheet, animation, progress }.run()
    }

    /// Refuses to draw a picture again without the adapters that it was drawn with.
    fn check_loras(&self, remembered: Option<&Remembered>) -> Result<()> {
        let before = remembered.map(|remembered| &remembered.loras[..]).unwrap_or_default();
        if before.is_empty() || !self.model.lora.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = before.iter().map(|lora| format!("{}:{}", lora.name, lora.strength)).collect();
        let failure = Failure::usage(format_args!(
            "the picture of --params-from was drawn with the LoRA adapters {}",
            names.join(", ")
        ));
        Err(failure.hint("name their files with --lora FILE:STRENGTH, or give the prompt without --params-from"))
    }

    /// Refuses what processes that each draw a share could not do together.
    fn check_shared(&self, remembered: bool) -> Result<()> {
        let all = [("--grid", self.grid.is_some()), ("--animation", self.animation.is_some())];
        if let Some((flag, _)) = all.into_iter().find(|(_, given)| *given) {
            let message = format!("no process has all pictures for {flag}: leave out either {flag} or --shard");
            return Err(Failure::usage(message));
        }
        let seeded = remembered || matches!(self.seed, Some(Seed::Fixed(_)));
        if !seeded || self.output == Target::Stdout {
            let failure = Failure::usage("processes that share the work need one seed, and files to write");
            return Err(failure.hint("for example --seed 0 --output 'pictures/{index:06}.png'"));
        }
        Ok(())
    }

    /// What `--grid` asks for.
    fn sheet(&self, subjects: &[Subject]) -> Result<Option<Sheet>> {
        let captions = || subjects.iter().map(|subject| subject.prompt.clone()).collect();
        self.grid.clone().map(|path| Sheet::plan(path, captions(), self.count, self.force)).transpose()
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
            None if self.prompts.is_empty() => Ok(vec![String::new()]),
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
    /// The picture that all began with.
    start: Option<StartRecord>,
    sheet: Option<Sheet>,
    animation: Option<Animation>,
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
                    if let Some(animation) = &mut self.animation {
                        animation.add(index, picture.clone());
                    }
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
        self.animation.take().map_or(Ok(()), |animation| animation.write(&self.progress))?;
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
        let mut record = self.session.describe((&subject.prompt, subject.seed), picture, verdict);
        record.start = self.start.clone();
        record.negative = self.session.request.negative_of(index).map(str::to_owned);
        record.toward = between::record(&self.session.request, index);
        record.sr_seed = self.session.request.pictures[index].enlarging;
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
        self.progress.note(format_args!("again: {}", self.again(index, path)));
        Ok(())
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
fn check_seeds(flag: &str, seed: u64, count: usize) -> Result<()> {
    match seed.checked_add(count as u64 - 1) {
        Some(_) => Ok(()),
        None => Err(Failure::usage(format_args!("{flag} {seed} plus --count {count} is out of range"))),
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
    let json = text.imagen.ok_or_else(|| unusable("it has no settings of imagen"))?;
    Remembered::from_json(&json).map_err(|why| unusable(&why))
}
