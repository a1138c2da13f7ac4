//! `imagen eval drawbench`: the pictures of a study, uncurated, and its manifest.
//!
//! The manifest is written before the first picture, so the same command goes on where it was stopped: what is missing is
//! drawn. Each prompt has seeds of its own, the same in every set. Sets may be added later.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::Value;

use imagen::cascade::StageName;
use imagen::data::{Example, Source};
use imagen::eval::human::{Origin, PictureSet, Prompt, PromptSuite, Study, speaks_of_people};
use imagen::image::{DecodeOptions, PngText, decode, png};
use imagen::said::counted;
use imagen::train::BUILT_IN;

use super::drawing::{HowArgs, choose};
use super::imports;
use crate::cli::draw::{FrozenArgs, Subject};
use crate::cli::shard::Sharded;
use crate::cli::shared::one_of;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::output::{make_folder, make_writable, own_folder_if_there, write_file};
use crate::progress::Progress;

/// The name of the set of originals.
const ORIGINALS: &str = "originals";
/// Pictures of each prompt: the paper's number.
const PICTURES: usize = 8;

const EXAMPLES: &str = "\
Examples:
  imagen eval drawbench studies/first --import other=pictures/other
  imagen eval drawbench studies/steps --model full=built-in
  imagen eval drawbench studies/steps --model three=built-in --steps 3
  imagen eval drawbench studies/published --suite drawbench.csv --model ours=models/ours
  imagen eval drawbench studies/coco --data coco/val2014 --count 200 -n 1

An imported folder tells prompts by number, from 0 in the order of the suite: 0003/ANY-NAME.png,
or 0003-0.png, 0003-1.png (png, jpg, webp). The first pictures by number are copied. With --shard
each process draws its share of every set, on machines that share the folder.
Then: imagen eval human serve STUDY";

/// Draw the prompts of DrawBench, or a suite like it, into a study for raters
///
/// Nothing is picked: the seeds count up from 0, prompt by prompt. Without --suite, a suite of the same eleven
/// kinds is used, about things that the built-in model was taught. The same command goes on after an
/// interruption; another --model or --import adds a set.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DrawBench {
    /// The study's folder; made where it does not exist
    study: PathBuf,
    /// A CSV file with the columns prompt and category, as DrawBench is published
    #[arg(long, value_name = "FILE")]
    suite: Option<PathBuf>,
    /// Instead of a suite: captions of a set, drawn at random, with their originals (for photorealism and alignment)
    #[arg(long, value_name = "FOLDER", conflicts_with = "suite")]
    data: Option<PathBuf>,
    /// Captions of --data
    #[arg(long, value_name = "N", default_value = "200", requires = "data")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    count: usize,
    /// Pictures of each prompt [default: 8]
    #[arg(short = 'n', long, value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    pictures: Option<usize>,
    /// What raters' orders and sides, the captions of --data and the report's intervals are drawn from [default: 0]
    #[arg(short, long)]
    seed: Option<u64>,
    /// A model that draws, as NAME=FOLDER; NAME=built-in is the built-in one. Again for each further model. A new study
    /// without --model and --data begins with the built-in one
    #[arg(short, long, value_name = "NAME=FOLDER")]
    model: Vec<Named>,
    /// Pictures that another program drew, as NAME=FOLDER; again for each
    #[arg(long, value_name = "NAME=FOLDER")]
    import: Vec<Named>,
    /// Stop after this stage
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>())]
    until: Option<StageName>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    sharded: Sharded,
    #[command(flatten)]
    how: HowArgs,
}

/// `NAME=FOLDER`
#[derive(Clone, Debug)]
struct Named {
    name: String,
    folder: PathBuf,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
                Ok(Self { name: name.to_owned(), folder: folder.into() })
            }
            _ => Err("expected NAME=FOLDER, e.g. ours=models/ours".into()),
        }
    }
}

impl DrawBench {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.how.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        interrupt::watch("stopping; finished pictures are kept, and the same command goes on")?;
        let mut progress = Progress::new(self.quiet);
        // shares write other pictures of the same study, and its manifest alike
        let _lock = if self.sharded.get().is_some() { None } else { own_folder_if_there(&self.study)? };
        let (mut study, fresh) = self.open_study(&mut progress)?;
        // what cannot be imported is said before minutes of drawing
        let find = |import: &Named| imports::find(&import.folder, &study.prompts, study.pictures);
        let imports: Vec<Vec<Vec<PathBuf>>> = self.import.iter().map(find).collect::<Result<_>>()?;
        let mut models = self.model.clone();
        if models.is_empty() && self.data.is_none() && (fresh || self.left_off(&study)) {
            models.push(Named { name: BUILT_IN.into(), folder: BUILT_IN.into() });
        }
        for model in &models {
            self.draw(&mut study, model, device, &mut progress)?;
        }
        for (import, files) in self.import.iter().zip(&imports) {
            self.import(&mut study, import, files, &mut progress)?;
        }
        self.compare_sizes(&study, &progress);
        print_line(self.describe(&study))
    }

    /// Says where pictures of two sets differ in size: raters would know them apart before they look.
    fn compare_sizes(&self, study: &Study, progress: &Progress) {
        // one of each set says enough: a set is drawn by one model, or imported from one folder
        let first = |set: &PictureSet| decode::size(&self.study.join(set.files.first()?.first()?)).ok();
        let sizes: Vec<_> = study.sets.iter().filter_map(|set| Some((&set.name, first(set)?))).collect();
        if sizes.iter().any(|(_, size)| *size != sizes[0].1) {
            let said: Vec<String> = sizes.iter().map(|(name, [w, h])| format!("{name} {w}x{h}")).collect();
            progress.note(format_args!(
                "the sets differ in size ({}): they are shown equally large, and the smaller look softer; draw with the \
                 same --until to compare models",
                said.join(", ")
            ));
        }
    }

    /// The study of the folder, or a new one; and whether it is new.
    fn open_study(&self, progress: &mut Progress) -> Result<(Study, bool)> {
        if self.study.join(Study::FILE).exists() {
            let study = Study::open(&self.study)?;
            self.check_same(&study)?;
            self.copy_originals(&study, progress)?;
            let fresh = study.sets.is_empty();
            return Ok((study, fresh));
        }
        let (pictures, seed) = (self.pictures.unwrap_or(PICTURES), self.seed.unwrap_or(0));
        let study = match (&self.suite, &self.data) {
            (_, Some(data)) => {
                let source = Source::open(data)?;
                let prompts = self.captions(&source, seed)?.into_iter().map(|(prompt, _)| prompt).collect();
                let mut study = Study::new(own_name(data), prompts, pictures, seed)?;
                study.add(ORIGINALS, Origin::Originals { folder: own_name(data) }, |_, _| "png".into())?;
                study
            }
            (Some(file), None) => Study::new(own_name(file), PromptSuite::read(file)?.prompts, pictures, seed)?,
            (None, None) => Study::new(PromptSuite::BUILT_IN, PromptSuite::built_in().prompts, pictures, seed)?,
        };
        make_folder(&self.study)?;
        self.write(&study)?;
        self.copy_originals(&study, progress)?;
        Ok((study, true))
    }

    /// Whether the set that is drawn without `--model` was begun and is not finished.
    fn left_off(&self, study: &Study) -> bool {
        let begun = study.set(BUILT_IN).filter(|set| matches!(set.origin, Origin::Drawn { .. }));
        begun.is_some_and(|set| !self.missing(set).is_empty())
    }

    /// Refuses options that contradict what the study began with.
    fn check_same(&self, study: &Study) -> Result<()> {
        let suite = self.suite.as_deref().map(PromptSuite::read).transpose()?;
        let contradiction = match (suite, self.pictures, self.seed) {
            (Some(suite), ..) if suite.prompts != study.prompts => "other prompts".to_owned(),
            (_, Some(n), _) if n != study.pictures => format!("{} pictures of each prompt", study.pictures),
            (.., Some(seed)) if seed != study.seed => format!("seed {}", study.seed),
            _ => return Ok(()),
        };
        let failure = Failure::usage(format_args!("{} was begun with {contradiction}", self.study.display()));
        Err(failure.hint("leave that option out to add to the study, or name another folder"))
    }

    /// Captions of a set at random, no text twice, and the pictures that they belong to.
    fn captions<'a>(&self, source: &'a Source, seed: u64) -> Result<Vec<(Prompt, &'a Example)>> {
        let every: Vec<&Example> = source.examples().iter().collect();
        let (mut chosen, mut seen) = (Vec::new(), std::collections::HashSet::new());
        for example in choose(&every, every.len(), seed) {
            let Some(caption) = example.captions.first() else { continue };
            let text = source.captions()[*caption].trim().to_owned();
            if chosen.len() < self.count && !text.is_empty() && seen.insert(text.clone()) {
                let category = if speaks_of_people(&text) { "people" } else { "no people" }.to_owned();
                chosen.push((Prompt { text, category }, example));
            }
        }
        if chosen.is_empty() {
            return Err(Failure::usage(format_args!("{} holds no captions", source.folder().display())));
        }
        Ok(chosen)
    }

    /// Writes the originals that are not there yet.
    fn copy_originals(&self, study: &Study, progress: &mut Progress) -> Result<()> {
        let (Some(set), Some(data)) = (study.originals(), &self.data) else { return Ok(()) };
        let source = Source::open(data)?;
        let chosen = self.captions(&source, study.seed)?;
        if !chosen.iter().map(|(prompt, _)| prompt).eq(&study.prompts) {
            let failure = Failure::usage(format_args!("{} was begun with other captions", self.study.display()));
            return Err(failure.hint("leave --data out to add to the study, or name another folder"));
        }
        self.fill(set, progress, |prompt, _, path| {
            let picture = source.picture(chosen[prompt].1, &DecodeOptions::default())?;
            let bytes = png::encode(&picture, &PngText::default())?;
            write_file(path, &bytes)
        })
    }

    /// Copies another model's pictures.
    fn import(&self, study: &mut Study, import: &Named, files: &[Vec<PathBuf>], progress: &mut Progress) -> Result<()> {
        let origin = Origin::Imported { folder: own_name(&import.folder) };
        let ending = |p: usize, k: usize| {
            let ending = files[p][k].extension().and_then(|ending| ending.to_str());
            ending.expect("pictures are told by their ending").to_lowercase()
        };
        self.add(study, &import.name, origin, ending)?;
        let set = study.set(&import.name).expect("it was just added");
        self.fill(set, progress, |prompt, k, path| {
            let from = &files[prompt][k];
            // what no rater could be shown is refused here
            decode::open(from, &DecodeOptions::default())?;
            let bytes = fs::read(from).map_err(|e| Failure::io("read", from, &e))?;
            write_file(path, &bytes)
        })
    }

    /// Draws what a model's set has not yet.
    fn draw(&self, study: &mut Study, model: &Named, device: &Device, progress: &mut Progress) -> Result<()> {
        let open = FrozenArgs::default().open(Some(&model.folder), device, progress)?;
        let session = self.how.session(open, self.until, |_| None)?;
        // a study that was begun with the same seeds for every prompt goes on so
        let shared = |set: &PictureSet| matches!(set.origin, Origin::Drawn { by_prompt: false, .. });
        let origin = Origin::Drawn {
            model: json(&session.record),
            stages: json(&session.stages.iter().copied().collect::<std::collections::BTreeMap<_, _>>()),
            seeds: (0..study.pictures as u64).collect(),
            by_prompt: !study.sets.iter().any(shared),
        };
        self.add(study, &model.name, origin, |_, _| "png".into())?;
        let set = study.set(&model.name).expect("it was just added");
        let files = self.missing(set).into_iter().map(|(p, k)| {
            let seed = set.origin.seed(p, k).expect("of a set that is drawn");
            (self.study.join(&set.files[p][k]), Subject { caption: study.prompts[p].text.clone(), seed })
        });
        make_writable(&self.study.join(&set.name))?;
        progress.note(format_args!("drawing {}", set.name));
        session.draw_missing(files, progress)
    }

    /// Adds a set to the manifest, or finds it there as it was begun.
    fn add(
        &self,
        study: &mut Study,
        name: &str,
        origin: Origin,
        ending: impl FnMut(usize, usize) -> String,
    ) -> Result<()> {
        match study.set(name) {
            Some(set) if set.origin == origin => Ok(()),
            Some(_) => {
                let failure =
                    Failure::usage(format_args!("the study has a set {name} that was made with other options"));
                Err(failure.hint("give this one another name, or the options with which that one was begun"))
            }
            None => {
                study.add(name, origin, ending)?;
                self.write(study)
            }
        }
    }

    /// Makes every file of a set that is not there yet.
    fn fill(
        &self,
        set: &PictureSet,
        progress: &mut Progress,
        mut make: impl FnMut(usize, usize, &Path) -> Result<()>,
    ) -> Result<()> {
        let missing = self.missing(set);
        make_writable(&self.study.join(&set.name))?;
        for (done, (prompt, k)) in missing.iter().enumerate() {
            if interrupt::requested() {
                let failure = Failure::stopped(done, missing.len(), "copied");
                return Err(failure.hint("run the same command to go on"));
            }
            make(*prompt, *k, &self.study.join(&set.files[*prompt][*k]))?;
            progress.step("copy", done as u64 + 1, missing.len() as u64, &set.name);
        }
        progress.finish();
        Ok(())
    }

    /// Prompt and picture of each file that is not there.
    fn missing(&self, set: &PictureSet) -> Vec<(usize, usize)> {
        let shard = self.sharded.get();
        let files = set.files.iter().enumerate().flat_map(|(p, files)| (0..files.len()).map(move |k| (p, k)));
        let ours = files.enumerate().filter(|(at, _)| shard.is_none_or(|shard| shard.has(*at))).map(|(_, file)| file);
        ours.filter(|(p, k)| !self.study.join(&set.files[*p][*k]).exists()).collect()
    }

    fn write(&self, study: &Study) -> Result<()> {
        let path = self.study.join(Study::FILE);
        write_file(&path, study.to_json().as_bytes())
    }

    fn describe(&self, study: &Study) -> String {
        let (prompts, categories, n) = (study.prompts.len(), study.categories().len(), study.pictures);
        let mut lines = vec![format!(
            "{}: {} in {} ({}), {} each, uncurated",
            self.study.display(),
            counted(prompts, "prompt"),
            counted(categories, "category"),
            study.suite,
            counted(n, "picture")
        )];
        for set in &study.sets {
            let what = match &set.origin {
                Origin::Drawn { model, stages, .. } => {
                    let of = |stage: (&String, &Value)| format!("{} {} steps", stage.0, stage.1["steps"]);
                    let stages: Vec<String> = stages.as_object().into_iter().flatten().map(of).collect();
                    format!("drawn by {}: {}", model["name"].as_str().unwrap_or("a model"), stages.join(", "))
                }
                Origin::Imported { folder } => format!("imported from {folder}"),
                Origin::Originals { folder } => format!("originals of {folder}"),
            };
            lines.push(format!("  {:<16} {what}", set.name));
        }
        lines.join("\n")
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("plain data")
}

/// The last part of a path: manifests name no folders of this machine.
fn own_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "unnamed".into(), |name| name.to_string_lossy().into_owned())
}
