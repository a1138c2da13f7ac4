//! What a PNG says about itself: a text that other tools read, and a JSON chunk from which this program can draw it again.
//!
//! The text is the infotext of AUTOMATIC1111's web UI (keyword `parameters`); where a value differs between stages it has
//! the base's, and the other stages follow under their own names. The JSON (keyword `imagen`) is complete. Neither ever
//! holds a path.

use std::collections::BTreeMap;
use std::fmt::Write;

use imagen::cascade::{Edges, StageName, StageOptions, StageSettings};
use imagen::diffusion::{AugLevel, Outside, Timesteps};
use imagen::image::{Picture, PngText};
use imagen::nn::Precision;
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
    /// The picture that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<StartRecord>,
    /// The first stage that ran, where it was not the model's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<StageName>,
    /// What it is kept away from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) negative: Option<String>,
    /// Whether `(red:1.3)` in its prompts was a weight.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) weighted: bool,
    /// Other prompts of single stages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prompts: BTreeMap<StageName, String>,
    /// The picture that it is on the way to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) toward: Option<TowardRecord>,
    /// The seed of the stages that enlarge, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sr_seed: Option<u64>,
    /// What a safety checker said, where the model is of a family that ships one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) safety: Option<String>,
}

/// The picture that a drawing began with. Files are known by what they hold, never by their paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StartRecord {
    /// Its checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) picture: Option<String>,
    /// The mask's checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mask: Option<String>,
    /// Pixels beyond its edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extend: Option<Edges>,
    /// Pixels over which the mask's edges are soft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) feather: Option<usize>,
    /// How often each step was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resample: Option<usize>,
    /// What was seen outside the mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outside: Option<Outside>,
}

impl StartRecord {
    /// The flags that say its numbers again.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("--extend", self.extend.map(|edges| edges.to_string())),
            ("--feather", self.feather.map(|pixels| pixels.to_string())),
            ("--resample", self.resample.map(|times| times.to_string())),
            ("--outside", self.outside.map(|way| way.to_string())),
        ];
        all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }
}

/// The picture that another is on the way to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TowardRecord {
    /// Its prompt, where it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<String>,
    /// Its seed, where it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// How far, from 0 to 1.
    pub(crate) part: f64,
}

/// A checksum of a picture's size and pixels.
pub(crate) fn digest(picture: &Picture) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for number in [picture.width(), picture.height(), picture.channels()] {
        hasher.update(&(number as u64).to_le_bytes());
    }
    hasher.update(picture.pixels());
    format!("crc32:{:08x}", hasher.finalize())
}

/// A checksum of a file.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("crc32:{:08x}", crc32fast::hash(bytes))
}

/// Which weights drew it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRecord {
    /// The folder's name, or `built-in`.
    pub(crate) name: String,
    /// Training steps of each stage that ran.
    pub(crate) steps: BTreeMap<StageName, u64>,
    /// The adapters over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) loras: Vec<LoraRecord>,
}

/// Low-rank adapters. Files are known by what they hold, never by their paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoraRecord {
    /// The file's name, or its run's.
    pub(crate) name: String,
    /// Its checksum.
    pub(crate) digest: String,
    /// How strongly they count.
    pub(crate) strength: f64,
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
        let (version, program) = (VERSION, program());
        let (caption, strength, start, from, negative, weighted, toward, sr_seed, safety) = Default::default();
        let (prompts, stages) = (BTreeMap::new(), stages);
        Self {
            version,
            program,
            prompt,
            seed,
            model,
            stages,
            size,
            caption,
            strength,
            start,
            from,
            negative,
            weighted,
            prompts,
            toward,
            sr_seed,
            safety,
        }
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
        if let Some(negative) = &self.negative {
            writeln!(text, "Negative prompt: {negative}").expect("writing to a string");
        }
        let mut stages = self.stages.iter();
        if let Some((_, base)) = stages.next() {
            let (steps, sampler, guidance) = (base.steps, base.sampler, base.guidance);
            write!(text, "Steps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, ").expect("writing to a string");
            if base.precision != Precision::F32 {
                write!(text, "Precision: {}, ", base.precision).expect("writing to a string");
            }
            if let Some(list) = base.timesteps {
                write!(text, "Timesteps: {}, ", quoted(&list.to_string())).expect("writing to a string");
            }
        }
        let [width, height] = self.size;
        let (seed, model) = (self.seed, quoted(&self.model.name));
        write!(text, "Seed: {seed}, Size: {width}x{height}, Model: {model}").expect("writing to a string");
        if !self.model.loras.is_empty() {
            let loras: Vec<String> =
                self.model.loras.iter().map(|lora| format!("{}:{}", lora.name, lora.strength)).collect();
            write!(text, ", Lora: {}", quoted(&loras.join(", "))).expect("writing to a string");
        }
        for (stage, s) in stages {
            let (steps, sampler, guidance, aug) = (s.steps, s.sampler, s.guidance, s.aug_level);
            write!(text, ", {stage} steps: {steps}, {stage} sampler: {sampler}, {stage} CFG scale: {guidance}")
                .and_then(|()| write!(text, ", {stage} aug level: {aug}"))
                .expect("writing to a string");
        }
        for (stage, prompt) in &self.prompts {
            write!(text, ", {stage} prompt: {}", quoted(prompt)).expect("writing to a string");
        }
        if let Some(strength) = self.strength {
            write!(text, ", Denoising strength: {strength}").expect("writing to a string");
        }
        if let Some(TowardRecord { prompt, seed, part }) = &self.toward {
            let prompt = prompt.as_ref().map_or_else(String::new, |prompt| format!(", Toward: {}", quoted(prompt)));
            let seed = seed.map_or_else(String::new, |seed| format!(", Variation seed: {seed}"));
            write!(text, "{prompt}{seed}, Variation seed strength: {part}").expect("writing to a string");
        }
        if let Some(seed) = self.sr_seed {
            write!(text, ", Enlarging seed: {seed}").expect("writing to a string");
        }
        if let Some(safety) = &self.safety {
            write!(text, ", Safety: {}", quoted(safety)).expect("writing to a string");
        }
        write!(text, ", Version: {}", self.program).expect("writing to a string");
        text
    }
}

/// What a picture's record says of how to draw it again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) prompt: String,
    pub(crate) seed: u64,
    pub(crate) options: BTreeMap<StageName, StageOptions>,
    pub(crate) strength: Option<f64>,
    pub(crate) start: Option<StartRecord>,
    pub(crate) from: Option<StageName>,
    pub(crate) negative: Option<String>,
    pub(crate) weighted: bool,
    pub(crate) prompts: BTreeMap<StageName, String>,
    pub(crate) toward: Option<TowardRecord>,
    pub(crate) loras: Vec<LoraRecord>,
    pub(crate) sr_seed: Option<u64>,
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
                let record: Record = read(json)?;
                let options = record.stages.into_iter().map(|(stage, settings)| (stage, settings.into())).collect();
                Ok(Self {
                    prompt: record.prompt,
                    seed: record.seed,
                    options,
                    strength: record.strength,
                    start: record.start,
                    from: record.from,
                    negative: record.negative,
                    weighted: record.weighted,
                    prompts: record.prompts,
                    toward: record.toward,
                    loras: record.model.loras,
                    sr_seed: record.sr_seed,
                })
            }
            Version { deepfloyd: Some(1), .. } => {
                let DeepFloydRecord { prompt, seed, stages, strength } = read(json)?;
                let options = stages.into_iter().map(|(name, stage)| Ok((name, stage.options()?)));
                let options = options.collect::<Result<_, String>>()?;
                Ok(Self { prompt, seed, options, strength, ..Self::default() })
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
        let model = ModelRecord { name: "cats, dogs".into(), steps, loras: Vec::new() };
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
