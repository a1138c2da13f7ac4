//! `imagen eval kid`: the kernel distance of two sets of pictures, which over Inception's features is the KID as papers
//! report it.

use super::comparison::{Comparison, Keep};
use super::distances::{frechet, kernel};
use crate::failure::Result;

const EXAMPLES: &str = "\
Examples:
  imagen eval kid drawn data/coco/val2014 --inception inception.safetensors
  imagen eval kid drawn data/cats --split-b validation
  imagen eval kid --samples 256 --data data/cats

The estimate is unbiased at any number of pictures and may be negative. With --samples the base of
the model draws captions of the set, and is compared with the validation pictures, beside training
pictures (the best that can be expected) and an untrained network (the worst).";

/// Kernel distance of two sets of pictures; without --inception over layout-1: not as papers report it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Kid {
    #[command(flatten)]
    comparison: Comparison,
}

impl Kid {
    pub(super) fn run(self) -> Result<()> {
        let seed = self.comparison.seed;
        if self.comparison.samples.is_some() {
            return self.comparison.run(Keep::Needed, &|a, b| Ok(vec![kernel(a, b, seed)?, frechet(a, b)?]));
        }
        self.comparison.run(Keep::Needed, &|a, b| Ok(vec![kernel(a, b, seed)?]))
    }
}
