//! What several verbs have in common: the number of threads, the device, and which model or text encoder is meant.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use imagen::cascade::ModelFiles;
use imagen::text::EncoderFiles;

use crate::builtin;
use crate::failure::{Exit, Failure, Result};

/// `--threads`
#[derive(Debug, clap::Args)]
pub(super) struct Threads {
    /// Threads to compute with; all cores where absent
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

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.threads.unwrap_or_else(rayon::current_num_threads)
    }
}

/// `--text-encoder`
#[derive(Debug, clap::Args)]
pub(super) struct TextEncoder {
    /// A folder with config.json, tokenizer.json and model.safetensors; the built-in text encoder where absent
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

    /// The same, or none where none is named and none is built in.
    pub(super) fn files_at_hand(&self) -> Result<Option<EncoderFiles>> {
        if self.text_encoder.is_none() && builtin::model().is_none() {
            return Ok(None);
        }
        self.files().map(Some)
    }
}

/// The model in this folder, or the built-in one.
pub(super) fn model_files(folder: Option<&Path>) -> Result<ModelFiles> {
    folder.map_or_else(|| built_in("model", "--model"), |folder| Ok(ModelFiles::Folder(folder.to_owned())))
}

fn built_in(what: &str, flag: &str) -> Result<ModelFiles> {
    builtin::model().ok_or_else(|| {
        let failure = Failure::new(Exit::Model, format_args!("this program was built without a built-in {what}"));
        failure.hint(format_args!("name a folder with {flag}, or build with the feature builtin-model"))
    })
}

/// Where everything is computed.
pub(super) fn device() -> burn::tensor::Device {
    burn::tensor::Device::flex()
}
