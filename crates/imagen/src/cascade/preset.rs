//! The stages of the paper by name, as appendix F describes them: network, schedule, what is predicted, how it is sampled.
//!
//! How they were trained is not a stage's business; `recipes/paper` has it.

use super::config::{StageConfig, StageName};
use super::settings::StageSettings;
use crate::diffusion::NoiseSchedule;
use crate::models::unet::UnetConfig;
use crate::names::named;

/// A stage of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// F.1: text → 64×64, 2 billion parameters.
    Base64,
    /// F.2: 64×64 → 256×256, 600 million parameters.
    Sr256,
    /// F.3: 256×256 → 1024×1024.
    Sr1024,
}

named!(Preset, "preset", Base64 = "base64", Sr256 = "sr256", Sr1024 = "sr1024");

impl Preset {
    /// Width of the vectors of T5-XXL, which the paper's stages read.
    pub const TEXT_DIM: usize = 4096;

    /// The stage under the vectors of T5-XXL. The paper gives guidance weights (table 1) and the percentile (figure A.10), but
    /// no numbers of steps.
    pub fn stage(self) -> StageConfig {
        let (stage, size, low_size, unet, schedule) = match self {
            Self::Base64 => (StageName::Base, 64, None, UnetConfig::base64(Self::TEXT_DIM), NoiseSchedule::Cosine),
            Self::Sr256 => (StageName::Sr256, 256, Some(64), UnetConfig::sr256(Self::TEXT_DIM), NoiseSchedule::Cosine),
            Self::Sr1024 => {
                (StageName::Sr1024, 1024, Some(256), UnetConfig::sr1024(Self::TEXT_DIM), NoiseSchedule::Linear)
            }
        };
        let (steps, guidance) = match self {
            Self::Base64 => (256, 1.35),
            Self::Sr256 => (128, 8.0),
            Self::Sr1024 => (64, 8.0),
        };
        let sampling = StageSettings { steps, guidance, ..StageSettings::default() };
        StageConfig { schedule, sampling, ..StageConfig::new(stage, size, low_size, unet) }
    }
}
