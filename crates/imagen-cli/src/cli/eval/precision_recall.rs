//! `imagen eval precision-recall`: how much of the drawn pictures lies among real ones, and of the real among drawn ones.

use imagen::eval::{Covered, NEIGHBOURS, Summary, precision_recall};

use super::comparison::{Comparison, Keep};
use super::finding::Finding;
use crate::failure::Result;

/// The number of pictures that papers take.
const ENOUGH: u64 = 10_000;

const EXAMPLES: &str = "\
Examples:
  imagen eval precision-recall drawn data/coco/val2014 --inception inception.safetensors
  imagen eval precision-recall --samples 256 --data data/cats

Both depend on the number of pictures: compare only sets of equal sizes. The paper of the measure
looks at VGG-16's features; over Inception's the numbers are others.";

/// Improved precision and recall (k = 3): A are drawn pictures, B real ones
///
/// A picture counts as covered where it is within the distance of the third nearest neighbour of some picture of the other set.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PrecisionRecall {
    #[command(flatten)]
    comparison: Comparison,
}

impl PrecisionRecall {
    pub(super) fn run(self) -> Result<()> {
        self.comparison.run(Keep::Needed, &measure)
    }
}

/// Both shares, of sets that have kept their features.
fn measure(drawn: &Summary, real: &Summary) -> Result<Vec<Finding>> {
    let dim = drawn.protocol().features;
    let pictures = drawn.statistics().count().min(real.statistics().count());
    let [drawn, real] = [drawn, real].map(|summary| summary.features().unwrap_or_default());
    let found = precision_recall(drawn, real, dim, NEIGHBOURS)?;
    let finding = |name, key, covered: Covered| Finding {
        name,
        key,
        value: covered.rate,
        interval: Some(covered.interval),
        digits: 3,
        way: format!("{NEIGHBOURS} neighbours; deterministic, no seed"),
        note: (pictures < ENOUGH)
            .then(|| format!("{pictures} pictures; papers take {ENOUGH}, and fewer give other numbers")),
    };
    Ok(vec![finding("precision", "precision", found.precision), finding("recall", "recall", found.recall)])
}
