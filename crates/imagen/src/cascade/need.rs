//! What one part of drawing takes, whatever family its model is of.

use super::config::StageName;

/// What one part of drawing takes while it works.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// The part: a stage, the text encoder, a safety checker.
    pub what: String,
    /// The stage, where it is one.
    pub stage: Option<StageName>,
    /// Numbers of its weights; 0 where they are not known.
    pub parameters: u64,
    /// Bytes by what they are for.
    pub memory: Vec<(&'static str, u64)>,
    /// How often its network is evaluated for one batch.
    pub evaluations: u64,
    /// Noise σ/α of the first and the last evaluation, where it is a stage.
    pub noise: Option<[f64; 2]>,
    /// Multiply-adds of one evaluation, of all pictures of a batch.
    pub multiply_adds: u64,
}

impl Need {
    /// The row of a part's own weights.
    pub const WEIGHTS: &str = "weights";
    /// The row of what its network works with.
    pub const MAPS: &str = "maps";

    /// The most bytes at a time.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of a row; 0 where there is none.
    pub fn row(&self, name: &str) -> u64 {
        self.memory.iter().filter(|(row, _)| *row == name).map(|(_, bytes)| bytes).sum()
    }
}

/// The program itself with its code, a tokenizer's tables and the buffers of its kernels.
const PROGRAM: u64 = 160 << 20;

/// The row of the program, which every part has.
pub(super) const PROGRAM_ROW: (&str, u64) = ("program", PROGRAM);
