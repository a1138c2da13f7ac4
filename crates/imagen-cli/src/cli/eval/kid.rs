//! `imagen eval kid`: the kernel distance of two sets of pictures, which over Inception's features is the KID as papers
//! report it.

use imagen::eval::{self, KidOptions, Summary};

use super::comparison::{Comparison, Finding, Keep};
use crate::failure::Result;

/// Pictures below which the interval itself is uncertain.
const ENOUGH: u64 = 100;

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
            return self
                .comparison
                .run(Keep::Needed, &|a, b| Ok(vec![measure(a, b, seed)?, super::fid::measure(a, b)?]));
        }
        self.comparison.run(Keep::Needed, &|a, b| Ok(vec![measure(a, b, seed)?]))
    }
}

/// The distance of two sets that have kept their features.
pub(super) fn measure(a: &Summary, b: &Summary, seed: u64) -> Result<Finding> {
    let found = kid(a, b, seed)?;
    let pictures = a.statistics().count().min(b.statistics().count());
    Ok(Finding {
        name: "KID",
        key: "kid",
        value: found.value,
        interval: Some(found.interval),
        digits: 4,
        way: match found.blocks {
            1 => "every picture with every picture, no seed".to_owned(),
            n => format!("mean of {n} disjoint blocks, seed {seed}"),
        },
        note: (pictures < ENOUGH).then(|| format!("{pictures} pictures are few: the interval itself is uncertain")),
    })
}

/// The same as the library has it.
pub(super) fn kid(a: &Summary, b: &Summary, seed: u64) -> Result<eval::Kid> {
    a.protocol().check_same(b.protocol())?;
    let dim = a.protocol().features;
    let [a, b] = [a, b].map(|summary| summary.features().unwrap_or_default());
    Ok(eval::kid(a, b, dim, &KidOptions { seed, ..KidOptions::default() })?)
}
