//! What a PNG says about itself: a text that other tools read, and a JSON chunk from which this program can draw it again.
//!
//! The text is the infotext of AUTOMATIC1111's web UI (keyword `parameters`); where a value differs between stages it has
//! the base's, and the other stages follow under their own names. The JSON (keyword `imagen`) is complete. Neither ever
//! holds a path.

use std::collections::BTreeMap;
use std::fmt::Write;

use imagen::cascade::{StageName, StageOptions, StageSettings};
use imagen::diffusion::{AugLevel, Timesteps};
use imagen::image::PngText;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The record's version; a record of another version is not read.
const VERSION: u32 = 1;

/// Everything that one picture is a function of, save the weights themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The record's version.
    version: u32,
    /// The program that drew it, with its version.
    program: String,
    /// What was asked for.
    pub(crate) prompt: String,
    /// The seed of this very picture.
    pub(crate) seed: u64,
    /// The model.
    pub(crate) model: ModelRecord,
    /// The last stage that ran, and the ones before it: how each was sampled.
    pub(crate) stages: BTreeMap<StageName, StageSettings>,
    /// Width and height in pixels.
    pub(crate) size: [usize; 2],
    /// The prompt as the text encoder read it, where it was cleaned (DeepFloyd IF).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caption: Option<String>,
    /// How much of a starting picture was drawn over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) strength: Option<f64>,
    /// What a safety checker said, where the model is of a family that ships one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) safety: Option<String>,
}

/// Which weights drew it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRecord {
    /// The folder's name, or `built-in`.
    pub(crate) name: String,
    /// Training steps of each stage that ran.
    pub(crate) steps: BTreeMap<StageName, u64>,
}

impl Record {
    /// The record of a picture drawn by this program.
    pub(crate) fn new(
        prompt: String,
        seed: u64,
        model: ModelRecord,
        stages: BTreeMap<StageName, StageSettings>,
        size: [usize; 2],
    ) -> Self {
        let (caption, strength, safety) = (None, None, None);
        Self { version: VERSION, program: program(), prompt, seed, model, stages, size, caption, strength, safety }
    }

    /// Both texts of a PNG.
    pub(crate) fn text(&self) -> PngText {
        PngText { parameters: Some(self.infotext()), imagen: Some(self.to_json()) }
    }

    /// The JSON chunk.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data")
    }

    /// The infotext.
    pub(crate) fn infotext(&self) -> String {
        let mut text = format!("{}\n", self.prompt);
        let mut stages = self.stages.iter();
        if let Some((_, base)) = stages.next() {
            let (steps, sampler, guidance) = (base.steps, base.sampler, base.guidance);
            write!(text, "Steps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, ").expect("writing to a string");
            if let Some(list) = base.timesteps {
                write!(text, "Timesteps: {}, ", quoted(&list.to_string())).expect("writing to a string");
            }
        }
        let [width, height] = self.size;
        let (seed, model) = (self.seed, quoted(&self.model.name));
        write!(text, "Seed: {seed}, Size: {width}x{height}, Model: {model}").expect("writing to a string");
        for (stage, s) in stages {
            let (steps, sampler, guidance, aug) = (s.steps, s.sampler, s.guidance, s.aug_level);
            write!(text, ", {stage} steps: {steps}, {stage} sampler: {sampler}, {stage} CFG scale: {guidance}")
                .and_then(|()| write!(text, ", {stage} aug level: {aug}"))
                .expect("writing to a string");
        }
        if let Some(safety) = &self.safety {
            write!(text, ", Safety: {}", quoted(safety)).expect("writing to a string");
        }
        write!(text, ", Version: {}", self.program).expect("writing to a string");
        text
    }
}

/// What a picture's record says of how to draw it again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) prompt: String,
    pub(crate) seed: u64,
    pub(crate) options: BTreeMap<StageName, StageOptions>,
    pub(crate) strength: Option<f64>,
}

impl Remembered {
    /// Reads the JSON chunk.
    ///
    /// # Errors
    /// A sentence that says why it is no record.
    pub(crate) fn from_json(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: Option<u32>,
            deepfloyd: Option<u32>,
        }
        match read(json)? {
            Version { version: Some(VERSION), .. } => {
                let Record { prompt, seed, stages, strength, .. } = read(json)?;
                let options = stages.into_iter().map(|(stage, settings)| (stage, settings.into())).collect();
                Ok(Self { prompt, seed, options, strength })
            }
            Version { deepfloyd: Some(1), .. } => {
                let DeepFloydRecord { prompt, seed, stages, strength } = read(json)?;
                let options = stages.into_iter().map(|(name, stage)| Ok((name, stage.options()?)));
                Ok(Self { prompt, seed, options: options.collect::<Result<_, String>>()?, strength })
            }
            Version { version: Some(version), .. } => {
                Err(format!("its record has version {version}; this program reads {VERSION}"))
            }
            _ => Err("its record says no version".into()),
        }
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|e| e.to_string())
}

/// The record of a picture of DeepFloyd IF as the program wrote it while these had a record of their own.
#[derive(Deserialize)]
struct DeepFloydRecord {
    prompt: String,
    seed: u64,
    stages: BTreeMap<StageName, DeepFloydStage>,
    strength: Option<f64>,
}

#[derive(Deserialize)]
struct DeepFloydStage {
    timesteps: Timesteps,
    guidance: f64,
    noise_level: Option<u16>,
}

impl DeepFloydStage {
    fn options(self) -> Result<StageOptions, String> {
        let level = self.noise_level.map(|level| AugLevel::new(f64::from(level) / 1000.0)).transpose();
        Ok(StageOptions {
            timesteps: Some(self.timesteps),
            guidance: Some(self.guidance),
            aug_level: level.map_err(|e| e.to_string())?,
            ..StageOptions::default()
        })
    }
}

/// This program, with its version.
pub(crate) fn program() -> String {
    concat!("imagen ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// A value as the infotext's readers split it: in JSON quotes where it holds their separators.
pub(crate) fn quoted(value: &str) -> String {
    if value.contains([',', ':', '"', '\n']) {
        serde_json::to_string(value).expect("a string is plain data")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let base = StageSettings { steps: 50, guidance: 5.0, ..Default::default() };
        let sr256 = StageSettings { steps: 20, guidance: 1.5, ..Default::default() };
        let stages = BTreeMap::from([(StageName::Base, base), (StageName::Sr256, sr256)]);
        let steps = BTreeMap::from([(StageName::Base, 1000), (StageName::Sr256, 500)]);
        let model = ModelRecord { name: "cats, dogs".into(), steps };
        Record::new("a \"red\" apple,\n猫".into(), 7, model, stages, [256, 256])
    }

    #[test]
    fn a_record_survives_its_json() {
        let found: Record = read(&record().to_json()).unwrap();
        assert_eq!(found, record());
        let Remembered { prompt, seed, options, .. } = Remembered::from_json(&record().to_json()).unwrap();
        assert_eq!((prompt, seed), (record().prompt, 7));
        for (stage, settings) in record().stages {
            assert_eq!(options[&stage].over(&StageSettings::default()).unwrap(), settings, "{stage}");
        }
    }

    #[test]
    fn a_record_that_deepfloyd_had_of_its_own_is_still_read() {
        let json = r#"{"deepfloyd":1,"program":"imagen 0.1.0","prompt":"a","caption":"a","seed":5,"model":["one","two"],
            "stages":{"base":{"timesteps":"leading:4","guidance":7.0},"sr256":{"timesteps":"smart27","guidance":4.0,
            "noise_level":250}},"safety":"passed","size":[16,16]}"#;
        let Remembered { seed, options, .. } = Remembered::from_json(json).unwrap();
        let own = StageSettings::default();
        let base = options[&StageName::Base].over(&own).unwrap();
        assert_eq!((seed, base.timesteps, base.guidance), (5, Some(Timesteps::Leading(4)), 7.0));
        let second = options[&StageName::Sr256].over(&own).unwrap();
        assert_eq!((second.timesteps, second.aug_level.get()), ("smart27".parse().ok(), 0.25));
        assert_eq!(second.sampler, own.sampler, "the record did not say which");
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let json = record().to_json().replace("\"version\":1", "\"version\":2");
        assert!(Remembered::from_json(&json).unwrap_err().contains("version 2"));
        assert!(Remembered::from_json("{}").unwrap_err().contains("version"));
    }

    #[test]
    fn the_infotext_begins_with_the_prompt_and_ends_with_one_line_of_settings() {
        let text = record().infotext();
        let (prompt, settings) = text.rsplit_once('\n').unwrap();
        assert_eq!(prompt, "a \"red\" apple,\n猫");
        let sampler = StageSettings::default().sampler;
        let start = format!(
            "Steps: 50, Sampler: {sampler}, CFG scale: 5, Seed: 7, Size: 256x256, Model: \"cats, dogs\", sr256 steps: 20, "
        );
        assert!(settings.starts_with(&start), "{settings}");
        assert!(settings.ends_with(&format!("Version: imagen {}", env!("CARGO_PKG_VERSION"))), "{settings}");
    }
}
