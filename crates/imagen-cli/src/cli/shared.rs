//! What several verbs have in common: the number of threads, the device, and which model or text encoder is meant.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

use imagen::cascade::ModelFiles;
use imagen::data::Source;
use imagen::names::Named;
use imagen::nn::device::{DeviceName, Found};
use imagen::said::counted;
use imagen::text::EncoderFiles;
use imagen::train::BUILT_IN;

use crate::builtin;
use crate::device::on_device;
use crate::failure::{Exit, Failure, Result};
use crate::hub::{Cached, RepoName, Settings};
use crate::system;

/// `--threads`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Threads {
    /// Threads to compute with; all cores by default
    #[arg(short, long, value_name = "N", help_heading = "Model and machine")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

impl Threads {
    /// Sizes both thread pools, the kernels' and the tensor library's; must come before any computation.
    pub(super) fn apply(&self) -> Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        imagen_kernels::set_threads(threads);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot start {threads} threads: {e}")))
    }

    /// The number for one of so many ranks that share the machine: a part of the cores, unless a number was given.
    fn among(self, ranks: usize) -> Self {
        if self.threads.is_some() || ranks < 2 {
            return self;
        }
        // what this process may use is less than the machine has where the ranks were bound to cores
        let may = system::threads();
        Self { threads: Some(may.min(system::cores().unwrap_or(may).div_ceil(ranks))) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.threads.unwrap_or_else(rayon::current_num_threads)
    }
}

/// Whether this build has a device to choose.
const GPU: bool = cfg!(any(feature = "wgpu", feature = "cuda", feature = "rocm"));

/// `--device` and `--threads`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Machine {
    /// Where to compute: cpu, cuda[:N], rocm, metal, vulkan, webgpu, or auto; `imagen doctor` lists what is here
    #[arg(long, value_name = "DEVICE", help_heading = "Model and machine", hide_short_help = !GPU)]
    #[arg(value_parser = |name: &str| name.parse::<DeviceName>().map_err(|error| error.to_string()))]
    device: Option<DeviceName>,
    #[command(flatten)]
    threads: Threads,
}

impl Machine {
    /// Sizes the thread pools, opens the device and does what is computed there; must come before any computation.
    pub(super) fn compute<T>(self, work: impl FnOnce(&Found) -> Result<T>) -> Result<T> {
        self.compute_on(DeviceName::default(), work)
    }

    /// As [`Self::compute`], with another default than the CPU.
    pub(super) fn compute_on<T>(self, default: DeviceName, work: impl FnOnce(&Found) -> Result<T>) -> Result<T> {
        self.threads.apply()?;
        let found = self.device.unwrap_or(default).find()?;
        if found.is_cpu() { work(&found) } else { on_device(&found, work) }
    }

    /// As [`Self::compute_on`], of the `at`-th of so many ranks on this machine: each has its part of the cores and, of devices that
    /// are named by their kind alone, the one of its number. Where there are fewer, or a cluster shows each rank its own alone, it
    /// is the first.
    pub(super) fn compute_on_rank<T>(
        self,
        default: DeviceName,
        at: usize,
        ranks: usize,
        work: impl FnOnce(&Found) -> Result<T>,
    ) -> Result<T> {
        let threads = self.threads.among(ranks);
        let name = self.device.unwrap_or(default);
        let own = DeviceName { index: Some(at), ..name };
        let has_own = ranks > 1 && name.index.is_none() && name.kind.feature().is_some() && own.find().is_ok();
        Self { threads, device: Some(if has_own { own } else { name }) }.compute(work)
    }

    /// The device that was named.
    pub(super) fn device(&self) -> Option<DeviceName> {
        self.device
    }
}

/// `--text-encoder`
#[derive(Debug, clap::Args)]
pub(super) struct TextEncoder {
    /// A folder with config.json, tokenizer.json and model.safetensors; the built-in text encoder by default
    #[arg(long, value_name = "FOLDER", help_heading = "Model and machine")]
    text_encoder: Option<PathBuf>,
}

impl TextEncoder {
    /// Its files.
    pub(super) fn files(&self) -> Result<EncoderFiles> {
        match &self.text_encoder {
            Some(folder) => Ok(EncoderFiles::open(folder)?),
            None => Ok(built_in("text encoder", "--text-encoder")?.text_encoder()?),
        }
    }

    /// The folder that was named.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.text_encoder.as_deref()
    }

    /// The files of the text encoder; none where none is named and none is built in.
    pub(super) fn files_at_hand(&self) -> Result<Option<EncoderFiles>> {
        if self.text_encoder.is_none() && builtin::model().is_none() {
            return Ok(None);
        }
        self.files().map(Some)
    }
}

/// A model as it is named: a folder, or OWNER/NAME of a published model that is in the cache.
///
/// # Errors
/// `Model` where it is neither, with the command that fetches it.
pub(super) fn model_folder(name: &Path) -> Result<PathBuf> {
    let published = name.to_str().filter(|text| text.contains('/') && !name.exists());
    let Some(Ok(published)) = published.map(str::parse::<RepoName>) else { return Ok(name.to_owned()) };
    let settings = Settings::from_env()?;
    let cached = Cached::new(&settings, published.clone());
    let snapshot = match cached.snapshot("main") {
        Some(snapshot) => Some(snapshot),
        None => cached.snapshots()?.pop(),
    };
    // a path into a folder that is here is no name of somebody's model
    let local = name.parent().is_some_and(Path::is_dir);
    if snapshot.is_none() && local {
        return Err(no_model(name));
    }
    snapshot.ok_or_else(|| {
        let cache = settings.cache.display();
        let message = format_args!("there is no folder {published}, and {cache} holds no model of that name");
        Failure::new(Exit::Model, message).hint(format_args!("fetch it with `imagen models pull {published}`"))
    })
}

/// The name of a model's folder without the path to it; OWNER/NAME where it lies in the cache of published models.
pub(super) fn model_name(folder: &Path) -> String {
    let published = |folder: &Path| {
        let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"))?;
        RepoName::from_folder(snapshots.parent()?.file_name()?.to_str()?)
    };
    if let Some(published) = published(folder) {
        return published.to_string();
    }
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// Refuses a set of which most pictures would be left out, because they have no caption and others have.
///
/// # Errors
/// `Data`.
pub(super) fn check_captioned(source: &Source, folder: &Path) -> Result<()> {
    let (left_out, there) = (source.odd().uncaptioned.len(), source.examples().len());
    if left_out <= there {
        return Ok(());
    }
    let (all, folder) = (counted(left_out + there, "picture"), folder.display());
    let message = format_args!("{left_out} of the {all} of {folder} have no caption and would be left out");
    Err(Failure::new(Exit::Data, message).hint("caption them, or move the captions away to train without any"))
}

/// Choices by name, known to the help and the completions.
pub(super) fn one_of<T: Named>() -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(T::CHOICES.iter().map(|choice| choice.name()));
    names.map(|name| *T::CHOICES.iter().find(|choice| choice.name() == name).expect("a name from the list"))
}

/// A model as it is named: `built-in` or nothing, a folder, or OWNER/NAME of a published one that is in the cache.
///
/// # Errors
/// `Model` where none is built in, there is no such folder, or it is a run; those of [`model_folder`].
pub(super) fn named_model(name: Option<&Path>) -> Result<ModelFiles> {
    let files = named_model_or_run(name)?;
    files.folder().map_or(Ok(()), check_model)?;
    Ok(files)
}

/// A model or a run, as it is named; otherwise as [`named_model`].
pub(super) fn named_model_or_run(name: Option<&Path>) -> Result<ModelFiles> {
    let Some(name) = name.filter(|name| *name != Path::new(BUILT_IN)) else { return built_in("model", "--model") };
    let folder = model_folder(name)?;
    if !folder.is_dir() { Err(no_model(name)) } else { Ok(ModelFiles::Folder(folder)) }
}

/// What to say of a model that is not there.
fn no_model(name: &Path) -> Failure {
    if name.is_file() {
        let failure = Failure::new(Exit::Model, format_args!("{} is a file, and a model is a folder", name.display()));
        return failure.hint(match name.parent().filter(|folder| *folder != Path::new("")) {
            Some(folder) => format!("name its folder: {}", folder.display()),
            None => "name its folder: .".to_owned(),
        });
    }
    let failure = Failure::new(Exit::Model, format_args!("there is no model {}", name.display()));
    let below = Path::new("models").join(name);
    if holds_model(&below) {
        return failure.hint(format_args!("did you mean {}?", below.display()));
    }
    failure.hint("name a model's folder, or `built-in`; `imagen models list` shows what is there")
}

/// Whether a folder has a model's base.
fn holds_model(folder: &Path) -> bool {
    folder.join("base.safetensors").is_file()
}

/// Refuses a folder that is no model, and says what it is.
fn check_model(folder: &Path) -> Result<()> {
    if folder.join("state.safetensors").is_file() && !holds_model(folder) {
        let failure = Failure::new(Exit::Model, format_args!("{} is a run and no model yet", folder.display()));
        return Err(failure.hint(format_args!("imagen export {} --model FOLDER", folder.display())));
    }
    // a folder that shares its name with a model below `models` is not what was meant
    if !holds_model(folder) && holds_model(&Path::new("models").join(folder)) { Err(no_model(folder)) } else { Ok(()) }
}

fn built_in(what: &str, flag: &str) -> Result<ModelFiles> {
    builtin::model().ok_or_else(|| {
        let failure = Failure::new(Exit::Model, format_args!("this program was built without a built-in {what}"));
        failure.hint(format_args!("name a folder with {flag}, or build with the feature builtin-model"))
    })
}

/// Where what takes no `--device` is computed.
pub(super) fn cpu() -> burn::tensor::Device {
    burn::tensor::Device::flex()
}
