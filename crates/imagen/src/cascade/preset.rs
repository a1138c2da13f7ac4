//! The stages of the paper by name, as appendix F describes them: network, schedule, what is predicted, how it is sampled.
//!
//! How they were trained is not a stage's business; `recipes/paper` has it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::config::{StageConfig, StageName};
use super::settings::StageSettings;
use crate::diffusion::{NoiseSchedule, written_as_text};
use crate::error::{Error, Result};
use crate::models::unet::UnetConfig;

/// A stage of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Preset {
    /// F.1: text → 64×64, 2 billion parameters.
    Base64,
    /// F.2: 64×64 → 256×256, 600 million parameters.
    Sr256,
    /// F.3: 256×256 → 1024×1024.
    Sr1024,
}

impl Preset {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Base64, Self::Sr256, Self::Sr1024];
    /// Width of the vectors of T5-XXL, which the paper's stages read.
    pub const TEXT_DIM: usize = 4096;

    /// The name in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Sr256 => "sr256",
            Self::Sr1024 => "sr1024",
        }
    }

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

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == s).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::usage(format!("unknown preset {s:?}, expected one of: {names}"))
        })
    }
}

written_as_text!(Preset);
