//! `imagen eval fid`: the Fréchet distance of two sets of pictures, which is the FID over Inception's features.

use imagen::eval::{Summary, frechet};

use super::comparison::{Comparison, Finding, Keep};
use crate::failure::Result;

/// Pictures for each number of a feature vector below which the distance is mostly bias.
const ENOUGH: u64 = 10;

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
            return comparison.run(Keep::Needed, &|a, b| Ok(vec![measure(a, b)?, super::kid::measure(a, b, seed)?]));
        }
        // over layout-1 an interval is cheap
        let keep = if self.interval || !comparison.features.is_inception() { Keep::Welcome } else { Keep::No };
        comparison.run(keep, &|a, b| Ok(vec![measure(a, b)?]))
    }
}

/// The distance; with an interval where features were kept.
pub(super) fn measure(a: &Summary, b: &Summary) -> Result<Finding> {
    let found = frechet(a, b)?;
    let protocol = a.protocol();
    let (name, key) = if protocol.is_inception() { ("FID", "fid") } else { ("Frechet distance", "frechet_distance") };
    let pictures = a.statistics().count().min(b.statistics().count());
    Ok(Finding {
        name,
        key,
        value: found.distance,
        interval: found.interval,
        digits: 2,
        way: "deterministic, no seed".into(),
        note: too_few(pictures, protocol.features as u64),
    })
}

/// What to say where the smaller set is small.
fn too_few(pictures: u64, features: u64) -> Option<String> {
    let rank = match pictures <= features {
        true => format!(" (the covariance has rank {} at most)", pictures.saturating_sub(1)),
        false => String::new(),
    };
    (pictures < ENOUGH * features).then(|| {
        format!(
            "{pictures} pictures are few for {features} features{rank}: the distance is too large by an amount that depends \
             on the number, and only sets of equal sizes can be compared"
        )
    })
}
