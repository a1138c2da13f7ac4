//! `imagen eval fid`: the Fréchet distance of two sets of pictures, which is the FID over Inception's features.

use super::comparison::{Comparison, Keep};
use super::distances::{frechet, kernel};
use crate::failure::Result;

const EXAMPLES: &str = "\
Examples:
  imagen eval fid drawn data/coco/val2014 --inception inception.safetensors
  imagen eval fid drawn reference.safetensors --inception inception.safetensors --resize clean
  imagen eval fid drawn data/cats --split-b validation
  imagen eval fid --samples 256 --data data/cats

The distance grows as sets get smaller: compare only distances of sets of equal sizes. Memory
does not grow with the number of pictures, but for 8 KB a picture with --interval. With --samples
the base of the model draws captions of the set, and is compared with the validation pictures,
beside training pictures (the best that can be expected) and an untrained network (the worst).";

/// Frechet distance of two sets of pictures: FID with --inception, without it a distance over layout-1
///
/// The FID is equal to pytorch-fid's (--resize original). Without --inception the number is called what it is, a Frechet
/// distance over the built-in features, which is no FID.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "frechet", after_help = EXAMPLES)]
pub(super) struct Fid {
    /// Give an interval over Inception's features too, where it takes 20 further distances; always given over layout-1
    #[arg(long)]
    interval: bool,
    #[command(flatten)]
    comparison: Comparison,
}

impl Fid {
    pub(super) fn run(self) -> Result<()> {
        let comparison = &self.comparison;
        if comparison.samples.is_some() {
            let seed = comparison.seed;
            return comparison.run(Keep::Needed, &|a, b| Ok(vec![frechet(a, b)?, kernel(a, b, seed)?]));
        }
        // over layout-1 an interval is cheap
        let keep = if self.interval || !comparison.features.is_inception() { Keep::Welcome } else { Keep::No };
        comparison.run(keep, &|a, b| Ok(vec![frechet(a, b)?]))
    }
}
