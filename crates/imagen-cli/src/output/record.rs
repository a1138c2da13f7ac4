//! What a PNG says about itself: a text that other tools read, and a JSON chunk from which this program can draw it again.
//!
//! The text is the infotext of AUTOMATIC1111's web UI (keyword `parameters`); where a value differs between stages it has
//! the base's, and the other stages follow under their own names. The JSON (keyword `imagen`) is complete. Neither ever
//! holds a path.

use std::collections::BTreeMap;
use std::fmt::Write;

use imagen::cascade::{SamplingDefaults, StageName};
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
    pub(crate) stages: BTreeMap<StageName, SamplingDefaults>,
    /// Width and height in pixels.
    pub(crate) size: [usize; 2],
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
        stages: BTreeMap<StageName, SamplingDefaults>,
        size: [usize; 2],
    ) -> Self {
        Self { version: VERSION, program: program(), prompt, seed, model, stages, size }
    }

    /// The JSON chunk.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data")
    }

    /// Reads the JSON chunk.
    ///
    /// # Errors
    /// A sentence that says why it is no record.
    pub(crate) fn from_json(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_str(json) {
            Ok(Version { version: VERSION }) => serde_json::from_str(json).map_err(|e| e.to_string()),
            Ok(Version { version }) => Err(format!("its record has version {version}; this program reads {VERSION}")),
            Err(e) => Err(e.to_string()),
        }
    }

    /// The infotext.
    pub(crate) fn infotext(&self) -> String {
        let mut text = format!("{}\n", self.prompt);
        let mut stages = self.stages.iter();
        if let Some((_, base)) = stages.next() {
            let (steps, sampler, guidance) = (base.steps, base.sampler, base.guidance);
            write!(text, "Steps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, ").expect("writing to a string");
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
        write!(text, ", Version: {}", self.program).expect("writing to a string");
        text
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
        let base = SamplingDefaults { steps: 50, guidance: 5.0, ..Default::default() };
        let sr256 = SamplingDefaults { steps: 20, guidance: 1.5, ..Default::default() };
        let stages = BTreeMap::from([(StageName::Base, base), (StageName::Sr256, sr256)]);
        let steps = BTreeMap::from([(StageName::Base, 1000), (StageName::Sr256, 500)]);
        let model = ModelRecord { name: "cats, dogs".into(), steps };
        Record::new("a \"red\" apple,\n猫".into(), 7, model, stages, [256, 256])
    }

    #[test]
    fn a_record_survives_its_json() {
        assert_eq!(Record::from_json(&record().to_json()), Ok(record()));
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let json = record().to_json().replace("\"version\":1", "\"version\":2");
        assert!(Record::from_json(&json).unwrap_err().contains("version 2"));
        assert!(Record::from_json("{}").unwrap_err().contains("version"));
    }

    #[test]
    fn the_infotext_begins_with_the_prompt_and_ends_with_one_line_of_settings() {
        let text = record().infotext();
        let (prompt, settings) = text.rsplit_once('\n').unwrap();
        assert_eq!(prompt, "a \"red\" apple,\n猫");
        let sampler = SamplingDefaults::default().sampler;
        let start = format!(
            "Steps: 50, Sampler: {sampler}, CFG scale: 5, Seed: 7, Size: 256x256, Model: \"cats, dogs\", sr256 steps: 20, "
        );
        assert!(settings.starts_with(&start), "{settings}");
        assert!(settings.ends_with(&format!("Version: imagen {}", env!("CARGO_PKG_VERSION"))), "{settings}");
    }
}
