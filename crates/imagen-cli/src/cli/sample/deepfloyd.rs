//! `imagen sample` with a folder of DeepFloyd IF: the same command, with the settings of that format.
//!
//! The folder says what it is (`model_index.json`). Its process has a table of steps and one sampler, so `--timesteps` and
//! `--noise-level` stand where `--sampler` and `--aug-level` stand for this program's own models; each is refused where the
//! other belongs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use imagen::cascade::StageName;
use imagen::cascade::deepfloyd::{
    DeepFloyd, Embeddings, IfEvent, IfOptions, IfRequest, TOKENS, TextCache, Timesteps, Verdict, clean_caption,
};
use imagen::image::{DecodeOptions, Picture, PngText, decode};

use super::{HOW, MACHINE, PerStage, Previews, Sample, Seed, Sheet, check_seeds, notes, step_title, subjects};
use crate::cli::plan::{self, deepfloyd::Storages};
use crate::cli::shared;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::{program, quoted};
use crate::output::{Outputs, Subject};
use crate::progress::Progress;
use crate::system::counted;

const FROM: &str = "From a picture (DeepFloyd IF)";

/// What only DeepFloyd IF's folders have.
#[derive(Debug, Default, clap::Args)]
pub(super) struct DeepFloydArgs {
    /// DeepFloyd IF: which steps, a list's name or counts, for both stages or one each: smart100/smart50
    #[arg(long, hide_short_help = true, value_name = "LIST", help_heading = HOW)]
    timesteps: Option<String>,
    /// DeepFloyd IF: step to which the enlarged picture is noised, 0 to 999
    #[arg(long, hide_short_help = true, value_name = "STEP", help_heading = HOW)]
    noise_level: Option<usize>,
    /// DeepFloyd IF: leave the captions as they are, in small letters
    #[arg(long, hide_short_help = true, help_heading = HOW)]
    no_clean: bool,
    /// DeepFloyd IF: the second stage; a subfolder of the model where absent
    #[arg(long, value_name = "FOLDER|NAME", help_heading = MACHINE)]
    model_2: Option<PathBuf>,
    #[command(flatten)]
    storage: Storages,
    /// DeepFloyd IF: neither read nor write the cache of the prompts' embeddings
    #[arg(long, hide_short_help = true, help_heading = MACHINE)]
    no_text_cache: bool,
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
}

impl DeepFloydArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<&'static str> {
        [
            ("--timesteps", self.timesteps.is_some()),
            ("--noise-level", self.noise_level.is_some()),
            ("--no-clean", self.no_clean),
            ("--model-2", self.model_2.is_some()),
            ("--storage", self.storage.given()),
            ("--no-text-cache", self.no_text_cache),
            ("--embeddings", self.embeddings.is_some()),
            ("--image", self.image.is_some()),
            ("--mask", self.mask.is_some()),
            ("--strength", self.strength.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// Refuses these flags for a model of this program's own format.
    pub(super) fn refuse(&self) -> Result<()> {
        match self.given() {
            None => Ok(()),
            Some(flag) => {
                let failure =
                    Failure::usage(format_args!("{flag} is for folders of DeepFloyd IF, and this model is none"));
                Err(failure.hint("name one with --model: a folder with model_index.json"))
            }
        }
    }
}

/// How a stage was run, as the record has it.
#[derive(Clone, Debug, Serialize)]
struct StageRecord {
    timesteps: Timesteps,
    guidance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise_level: Option<usize>,
}

/// What a picture says about itself.
#[derive(Debug, Serialize)]
struct Record<'a> {
    /// The version of this record.
    deepfloyd: u32,
    program: String,
    prompt: &'a str,
    caption: String,
    seed: u64,
    model: &'a [String],
    stages: &'a BTreeMap<StageName, StageRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f64>,
    safety: &'static str,
    size: [usize; 2],
}

impl Record<'_> {
    fn infotext(&self) -> String {
        let first = self.stages.values().next().expect("a stage ran");
        let [width, height] = self.size;
        let (steps, guidance, seed) = (&first.timesteps, first.guidance, self.seed);
        let model = quoted(&self.model.join(" + "));
        let steps = quoted(&steps.to_string());
        format!(
            "{}\nTimesteps: {steps}, Sampler: DDPM, CFG scale: {guidance}, Seed: {seed}, Size: {width}x{height}, Model: {model}, \
             Safety: {}, Version: {}",
            self.prompt, self.safety, self.program
        )
    }
}

/// What a verdict is called in the record.
fn safety(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => "the model ships no checker",
        Some(verdict) if verdict.unsafe_content => "withheld, unsafe content",
        Some(verdict) if verdict.watermark => "withheld, a watermark",
        Some(_) => "passed",
    }
}

fn picture(path: Option<&PathBuf>) -> Result<Option<Picture>> {
    Ok(path.map(|path| decode::open(path, &DecodeOptions::default())).transpose()?)
}

/// Bytes of the cache of embeddings; those of a prompt take 1.3 MB with T5-XXL.
const TEXT_CACHE: u64 = 512 << 20;

/// The folder of that cache, below the usual one.
fn text_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("imagen/texts"))
}

impl Sample {
    /// Draws with the folder of DeepFloyd IF that `--model` names.
    pub(super) fn draw_deepfloyd(self, folder: &Path) -> Result<()> {
        for (flag, given) in [
            ("--sampler", self.sampler.is_some()),
            ("--thresholding", self.thresholding.is_some()),
            ("--aug-level", self.aug_level.is_some()),
            ("--params-from", self.params_from.is_some()),
        ] {
            if given {
                let failure = Failure::usage(format_args!("{flag} does not apply to DeepFloyd IF, whose files fix it"));
                return Err(failure.hint("its own settings are --timesteps, --guidance and --noise-level"));
            }
        }
        let prompts = self.prompts(None)?;
        self.threads.apply()?;
        interrupt::watch("stopping; finished pictures are kept")?;
        let progress = Progress::new(self.quiet);
        progress.note(format_args!("opening {}", folder.display()));
        let device = shared::device();
        let second = self.deepfloyd.model_2.as_deref().map(shared::model_folder).transpose()?;
        let storage = self.deepfloyd.storage.pair();
        let mut model = DeepFloyd::open(folder, second.as_deref(), &device)?.with_storage(storage.0, storage.1);
        if let Some(folder) = text_cache().filter(|_| !self.deepfloyd.no_text_cache) {
            model = model.with_text_cache(TextCache::new(folder, TEXT_CACHE));
        }
        let request = self.deepfloyd_request(prompts, &model)?;
        plan::deepfloyd::check(&self.memory, &model, &request, storage)?;
        let subjects = subjects(&request.prompts, request.count, request.seed);
        let outputs = Outputs::plan(&self.output, &subjects, self.force)?;
        let sheet = self.sheet(&request.prompts, request.count)?;
        if self.seed.is_none_or(|seed| matches!(seed, Seed::Random)) {
            progress.note(format_args!("seed {}", request.seed));
        }
        self.deliver_deepfloyd(&model, request, &subjects, (&outputs, sheet), progress)
    }

    fn deepfloyd_request(&self, prompts: Vec<String>, model: &DeepFloyd) -> Result<IfRequest> {
        let args = &self.deepfloyd;
        let seed = self.seed.unwrap_or(Seed::Random).get();
        check_seeds(seed, self.count)?;
        if self.steps.is_some() && args.timesteps.is_some() {
            return Err(Failure::usage("--steps and --timesteps both say which steps are run"));
        }
        let embeddings = args.embeddings.as_ref().map(|path| Embeddings::open(path, &shared::device())).transpose()?;
        let mut request = IfRequest {
            prompts,
            embeddings,
            clean: !args.no_clean,
            seed,
            count: self.count,
            batch: self.batch.unwrap_or(1),
            until: self.until,
            start: picture(args.image.as_ref())?,
            mask: picture(args.mask.as_ref())?,
            strength: args.strength,
            ..IfRequest::default()
        };
        // what is suggested, then what was asked for
        let resolved = model.resolve(&request)?;
        let running: Vec<StageName> = resolved.iter().map(|(stage, _)| *stage).collect();
        let all = model.stages();
        let mut options: BTreeMap<StageName, IfOptions> = resolved.into_iter().collect();
        for (stage, steps) in spread("--steps", self.steps.as_ref(), &all, running.len())? {
            options.entry(stage).and_modify(|options| options.timesteps = Timesteps::Leading(steps));
        }
        // one value is the first stage's alone
        let guided =
            if self.guidance.as_ref().is_some_and(|values| values.of_base().is_some()) { 1 } else { running.len() };
        for (stage, guidance) in spread("--guidance", self.guidance.as_ref(), &all, guided)? {
            options.entry(stage).and_modify(|options| options.guidance = guidance);
        }
        if let Some(list) = &args.timesteps {
            let each: Vec<Timesteps> = list.split('/').map(str::parse).collect::<Result<_, imagen::Error>>()?;
            if each.len() != 1 && each.len() != all.len() {
                let message = format!("--timesteps has {} lists, but this model has {} stages", each.len(), all.len());
                return Err(
                    Failure::usage(message).hint("give one list for all stages, or one for each: smart100/smart50")
                );
            }
            for (i, stage) in all.iter().enumerate() {
                let timesteps = each[i.min(each.len() - 1)].clone();
                options.entry(*stage).and_modify(|options| options.timesteps = timesteps);
            }
        }
        if let Some(level) = args.noise_level {
            if !running.contains(&StageName::Sr256) {
                return Err(Failure::usage("--noise-level is for the second stage, and it does not run"));
            }
            options.entry(StageName::Sr256).and_modify(|options| options.noise_level = level);
        }
        request.options = options;
        model.resolve(&request)?;
        Ok(request)
    }

    fn deliver_deepfloyd(
        &self,
        model: &DeepFloyd,
        request: IfRequest,
        subjects: &[Subject],
        (outputs, mut sheet): (&Outputs, Option<Sheet>),
        mut progress: Progress,
    ) -> Result<()> {
        let (clean, strength) = (request.clean, request.start.as_ref().and(request.strength));
        let stages: BTreeMap<StageName, StageRecord> = request
            .options
            .iter()
            .map(|(stage, options)| {
                let noise_level = (*stage == StageName::Sr256).then_some(options.noise_level);
                let record =
                    StageRecord { timesteps: options.timesteps.clone(), guidance: options.guidance, noise_level };
                (*stage, record)
            })
            .collect();
        let names: Vec<String> = stages
            .keys()
            .filter_map(|stage| model.folder(*stage))
            .map(|folder| shared::model_name(&folder.path))
            .collect();
        let (count, mut finished, mut passed) = (subjects.len(), 0, 0);
        if request.embeddings.is_none() {
            let cached = model.texts_are_cached(&request)?;
            progress.note(if cached { "the prompts' embeddings are in the cache" } else { "encoding the prompts" });
        }
        for end in model.cut_texts(&request)? {
            notes::unread(&end, TOKENS, &progress);
        }
        if model.has_checker() {
            progress.note("the model ships a safety checker, and it judges every picture");
        }
        let mut previews = Previews::open(self.previews.as_deref())?;
        for event in model.sample(request)? {
            match event? {
                IfEvent::Step { stage, index, of, pictures, x_hat } => {
                    progress.step(&step_title(stage, &pictures, count), index as u64 + 1, of as u64, "");
                    let check = |picture| model.check(picture).map(|(picture, _)| picture);
                    previews.step(stage, (index, of), &x_hat, check)?;
                }
                IfEvent::Image { last: true, index, picture, verdict, .. } => {
                    let subject = &subjects[index];
                    let caption = match clean {
                        true => clean_caption(&subject.prompt),
                        false => imagen::cascade::deepfloyd::plain_caption(&subject.prompt),
                    };
                    let record = Record {
                        deepfloyd: 1,
                        program: program(),
                        prompt: &subject.prompt,
                        caption,
                        seed: subject.seed,
                        model: &names,
                        stages: &stages,
                        strength,
                        safety: safety(verdict),
                        size: [picture.width(), picture.height()],
                    };
                    if verdict.is_some_and(Verdict::withheld) {
                        progress.note(format_args!("picture {} is {}", index + 1, record.safety));
                    }
                    self.write_deepfloyd(&record, index, &picture, outputs, &progress)?;
                    if let Some(sheet) = &mut sheet {
                        sheet.add(index, picture);
                    }
                    finished += 1;
                    passed += usize::from(verdict.is_some_and(|verdict| !verdict.withheld()));
                }
                IfEvent::Image { .. } => {}
            }
            if interrupt::requested() && finished < count {
                progress.finish();
                return Err(Failure::interrupted(format_args!("{finished} of {count} pictures were drawn")));
            }
        }
        if model.has_checker() {
            let (passed, withheld) = (counted(passed, "picture"), finished - passed);
            progress.note(format_args!("the safety checker passed {passed} and withheld {withheld}"));
        }
        sheet.map_or(Ok(()), |sheet| sheet.write(&progress))
    }

    fn write_deepfloyd(
        &self,
        record: &Record<'_>,
        index: usize,
        picture: &Picture,
        outputs: &Outputs,
        progress: &Progress,
    ) -> Result<()> {
        let value = serde_json::to_value(record).expect("a record is plain data");
        let text = match self.no_metadata {
            true => PngText::default(),
            false => PngText { parameters: Some(record.infotext()), imagen: Some(value.to_string()) },
        };
        let path = outputs.write(index, picture, &text)?;
        let Some(path) = path else { return Ok(()) };
        let line = if self.json {
            let mut object = json!({ "path": path, "index": index });
            object.as_object_mut().expect("just made").extend(value.as_object().expect("a struct").clone());
            object.to_string()
        } else {
            path.display().to_string()
        };
        progress.suspend(|| print_line(line))
    }
}

/// Each running stage's value of a flag, if the flag was given.
fn spread<T: Copy>(
    flag: &str,
    values: Option<&PerStage<T>>,
    all: &[StageName],
    running: usize,
) -> Result<Vec<(StageName, T)>> {
    values.map_or(Ok(Vec::new()), |values| values.spread(flag, all, running))
}
