//! What the weights of a new run begin with: a stage of a model or of a run, or a stage's file.

use std::path::{Path, PathBuf};

use crate::cascade::{ModelFiles, StageFile, StageName};
use crate::error::{Error, Result};
use crate::models::weights;

/// How arguments and files name the model that is compiled into a program.
pub const BUILT_IN: &str = "built-in";

/// Where a new run's first weights are.
#[derive(Clone, Debug)]
pub enum InitFrom {
    /// A model's or run's files, of which the stage that is trained is taken.
    Model(ModelFiles),
    /// A stage's file.
    File(PathBuf),
}

impl InitFrom {
    /// The stage's file.
    ///
    /// # Errors
    /// `Io`; `Model` where it is damaged, or the model has no such stage.
    pub(super) fn open(&self, stage: StageName) -> Result<StageFile> {
        let files = match self {
            Self::File(path) => return StageFile::open(path),
            Self::Model(files) => files,
        };
        if let Some(file) = files.stage(stage)? {
            return Ok(file);
        }
        let others = files.stages()?.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let others = if others.is_empty() { "no stage at all".to_owned() } else { others };
        Err(Error::model(format!("{} has no stage {stage} to begin with; it has {others}", files.label())))
    }

    /// Writes the stage's file as it is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn copy(&self, stage: StageName, to: &Path) -> Result<()> {
        match self {
            Self::Model(files) => files.copy_stage(stage, to),
            Self::File(path) => weights::copy(path, to),
        }
    }

    /// As the person named it who began the run; kept in its state.
    pub(super) fn given(&self) -> String {
        match self {
            Self::Model(ModelFiles::BuiltIn(_)) => BUILT_IN.to_owned(),
            Self::Model(ModelFiles::Folder(path)) | Self::File(path) => path.display().to_string(),
        }
    }

    /// What messages call the stage's file.
    pub(super) fn label(&self, stage: StageName) -> String {
        match self {
            Self::Model(ModelFiles::Folder(path)) => path.join(format!("{stage}.safetensors")).display().to_string(),
            Self::Model(files) => files.label(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// What a weights file's history calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Model(ModelFiles::BuiltIn(_)) => BUILT_IN.to_owned(),
            Self::Model(ModelFiles::Folder(path)) | Self::File(path) => name_of(path),
        }
    }
}

/// Weights are passed on: of a path through the whole machine its last two parts say enough.
fn name_of(path: &Path) -> String {
    if path.is_relative() {
        return path.display().to_string();
    }
    let parts: Vec<_> = path.iter().collect();
    parts[parts.len().saturating_sub(2)..].iter().collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_name_no_folders_of_the_machine() {
        assert_eq!(name_of(Path::new("a/b/base.safetensors")), "a/b/base.safetensors");
        assert_eq!(name_of(Path::new("/home/x/models/mine/base.safetensors")), "mine/base.safetensors");
    }
}
