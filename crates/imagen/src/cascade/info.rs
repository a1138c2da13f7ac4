//! What a model has of a stage, whatever family it is of.

use super::config::{StageConfig, StageName};
use super::settings::StageSettings;

/// What a model has of a stage.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// Which stage.
    pub stage: StageName,
    /// Side of its pictures, in pixels.
    pub size: usize,
    /// How it is run where nothing is said.
    pub settings: StageSettings,
    /// The largest guidance weight whose pictures were found sound, where that is known.
    pub max_guidance: Option<f64>,
    /// Whether it runs only where a request names it or a later stage.
    pub on_request: bool,
    /// Optimizer steps that it was trained for, where that is known.
    pub step: Option<u64>,
    /// Its description, where it is of this project's own format.
    pub config: Option<StageConfig>,
}
