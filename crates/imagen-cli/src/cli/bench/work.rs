//! What `imagen bench` measures, as far as measuring goes.

use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::Result;

/// Something that can be run again and again.
pub(super) trait Work {
    /// What it is, for people.
    fn title(&self) -> String;
    /// What else a reader of JSON may want to know.
    fn details(&self) -> Map<String, Value>;
    /// Multiply-adds of one run, by definition.
    fn multiply_adds(&self) -> u64;
    /// Runs it once.
    fn run(&mut self) -> Result<()>;
    /// Runs it and writes weights, inputs and results as f32 safetensors.
    fn dump(&mut self, path: &Path) -> Result<()>;
}
