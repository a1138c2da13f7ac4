//! Which model is meant, whatever its family: the built-in one, a folder, or OWNER/NAME of a published one that was pulled.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use imagen::cascade::deepfloyd::{DeepFloyd, TextCache};
use imagen::cascade::{Imagen, ModelFiles};
use imagen::models::weights::Storage;
use imagen::train::BUILT_IN;

use super::MACHINE;
use super::lora::{self, LoraArg};
use crate::builtin;
use crate::cli::shared;
use crate::failure::{Failure, Result};
use crate::output::record::ModelRecord;
use crate::progress::Progress;

/// Bytes of the cache of embeddings; those of a prompt take 1.3 MB with T5-XXL.
const TEXT_CACHE: u64 = 512 << 20;

/// `--model` and how its weights are kept.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct ModelArgs {
    /// A model folder, also DeepFloyd IF's, or a pulled OWNER/NAME; `built-in` by default
    #[arg(short, long, value_name = "FOLDER|NAME", help_heading = MACHINE)]
    pub(in crate::cli) model: Option<PathBuf>,
    /// LoRA adapters, a file or a run; FILE:0.8 weakens them
    #[arg(long, value_name = "FILE", help_heading = MACHINE)]
    pub(in crate::cli) lora: Vec<LoraArg>,
    #[command(flatten)]
    pub(in crate::cli) frozen: FrozenArgs,
}

/// What only folders of DeepFloyd IF have.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct FrozenArgs {
    /// DeepFloyd IF: the second stage; a subfolder of the model by default
    #[arg(long, hide_short_help = true, value_name = "FOLDER|NAME", help_heading = MACHINE)]
    pub(in crate::cli) model_2: Option<PathBuf>,
    /// DeepFloyd IF: how the networks' weights are kept in memory; as the files have them by default
    #[arg(long, hide_short_help = true, value_name = "FORM", value_parser = shared::one_of::<Storage>(), help_heading = MACHINE)]
    storage: Option<Storage>,
    /// DeepFloyd IF: how the text encoder's weights are kept in memory
    #[arg(long, hide_short_help = true, value_name = "FORM", value_parser = shared::one_of::<Storage>(), help_heading = MACHINE)]
    text_storage: Option<Storage>,
    /// DeepFloyd IF: neither read nor write the cache of the prompts' embeddings
    #[arg(long, hide_short_help = true, help_heading = MACHINE)]
    no_text_cache: bool,
}

/// A model that is open.
pub(in crate::cli) struct OpenModel {
    pub(in crate::cli) imagen: Imagen,
    /// Its files, where it is of this project's own format.
    pub(in crate::cli) files: Option<ModelFiles>,
    /// Which weights draw.
    pub(in crate::cli) record: ModelRecord,
}

impl ModelArgs {
    /// Opens the model on a device and says so.
    pub(in crate::cli) fn open(&self, device: &Device, progress: &Progress) -> Result<OpenModel> {
        let mut open = self.frozen.open(self.model.as_deref(), device, progress)?;
        (open.imagen, open.record.loras) = lora::adapted(open.imagen, &self.lora, progress)?;
        Ok(open)
    }
}

impl FrozenArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<&'static str> {
        self.flags()
            .into_iter()
            .find_map(|(flag, value)| value.map(|_| flag))
            .or(self.no_text_cache.then_some("--no-text-cache"))
    }

    /// The flags with their values as they were given.
    pub(in crate::cli) fn flags(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("--model-2", self.model_2.as_ref().map(|path| path.display().to_string())),
            ("--storage", self.storage.map(|storage| storage.name().to_owned())),
            ("--text-storage", self.text_storage.map(|storage| storage.name().to_owned())),
        ]
    }

    /// How networks and text encoder are kept.
    pub(in crate::cli) fn stored(&self) -> (Storage, Storage) {
        (self.storage.unwrap_or_default(), self.text_storage.unwrap_or_default())
    }

    /// Opens a model to look at it: where it would draw and whether texts are in the cache does not matter then.
    pub(in crate::cli) fn planned(&self, name: Option<&Path>) -> Result<Imagen> {
        Ok(self.open_with(name, None, &shared::cpu(), &Progress::new(true))?.imagen)
    }

    /// Opens a model by its name, the built-in one where there is none, and says so.
    pub(in crate::cli) fn open(&self, name: Option<&Path>, device: &Device, progress: &Progress) -> Result<OpenModel> {
        self.open_with(name, text_cache().filter(|_| !self.no_text_cache), device, progress)
    }

    fn open_with(
        &self,
        name: Option<&Path>,
        cache: Option<PathBuf>,
        device: &Device,
        progress: &Progress,
    ) -> Result<OpenModel> {
        let name = name.filter(|name| *name != Path::new(BUILT_IN));
        let folder = name.map(shared::model_folder).transpose()?;
        if let Some(folder) = folder.as_deref().filter(|folder| DeepFloyd::is_folder(folder)) {
            progress.note(format_args!("opening {}", folder.display()));
            let second = self.model_2.as_deref().map(shared::model_folder).transpose()?;
            let (networks, text) = self.stored();
            let mut model = DeepFloyd::open(folder, second.as_deref(), device)?.with_storage(networks, text);
            if let Some(cache) = cache {
                model = model.with_text_cache(TextCache::new(cache, TEXT_CACHE));
            }
            let names: Vec<String> = model
                .stages()
                .into_iter()
                .filter_map(|stage| model.folder(stage))
                .map(|folder| shared::model_name(&folder.path))
                .collect();
            let record = ModelRecord { name: names.join(" + "), steps: Default::default(), loras: Vec::new() };
            return Ok(OpenModel { imagen: model.into(), files: None, record });
        }
        if let Some(flag) = self.given() {
            return Err(only_deepfloyd(flag));
        }
        let files = shared::named_model(folder.as_deref())?;
        progress.note(format_args!("opening {}", files.label()));
        let imagen = Imagen::open_with(&files, builtin::model().as_ref(), device)?;
        let steps = imagen.stages().iter().filter_map(|info| Some((info.stage, info.step?))).collect();
        let name = folder.as_deref().map_or_else(|| BUILT_IN.into(), shared::model_name);
        Ok(OpenModel { imagen, files: Some(files), record: ModelRecord { name, steps, loras: Vec::new() } })
    }
}

/// Refuses a flag for a model of this program's own format.
pub(super) fn only_deepfloyd(flag: &str) -> Failure {
    let failure = Failure::usage(format_args!("{flag} is for folders of DeepFloyd IF, and this model is none"));
    failure.hint("name one with --model: a folder with model_index.json")
}

/// The folder of the cache of embeddings, below the usual one.
fn text_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("imagen/texts"))
}
