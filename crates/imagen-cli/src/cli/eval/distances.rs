//! The distances of two sets of pictures, each as a number with what it depends on.

use imagen::eval::{self, KidOptions, Summary};

use super::finding::Finding;
use crate::failure::Result;

/// Pictures for each number of a feature vector below which the distance is mostly bias.
const ENOUGH_A_FEATURE: u64 = 10;
/// Pictures below which the interval itself is uncertain.
const ENOUGH_FOR_INTERVAL: u64 = 100;

/// The Fréchet distance; with an interval where features were kept.
pub(super) fn frechet(a: &Summary, b: &Summary) -> Result<Finding> {
    let found = eval::frechet(a, b)?;
    let protocol = a.protocol();
    let (name, key) = if protocol.is_inception() { ("FID", "fid") } else { ("Frechet distance", "frechet_distance") };
    let pictures = a.pictures().into_iter().chain(b.pictures()).min();
    Ok(Finding {
        name,
        key,
        value: found.distance,
        interval: found.interval,
        digits: 2,
        way: "deterministic, no seed".into(),
        note: pictures.and_then(|pictures| too_few(pictures, protocol.features as u64)),
    })
}

/// What to say where the smaller set is small.
fn too_few(pictures: u64, features: u64) -> Option<String> {
    let rank = if pictures <= features {
        format!(" (the covariance has rank {} at most)", pictures.saturating_sub(1))
    } else {
        String::new()
    };
    (pictures < ENOUGH_A_FEATURE * features).then(|| {
        format!(
            "{pictures} pictures are few for {features} features{rank}: the distance is too large by an amount that depends \
             on the number, and only sets of equal sizes can be compared"
        )
    })
}

/// The kernel distance of two sets that have kept their features.
pub(super) fn kernel(a: &Summary, b: &Summary, seed: u64) -> Result<Finding> {
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
        note: (pictures < ENOUGH_FOR_INTERVAL).then(|| {
            format!(
                "{pictures} pictures are few: the interval itself is uncertain, and the estimate, which is unbiased, may be \
                 below 0"
            )
        }),
    })
}

/// The kernel distance as the library has it.
pub(super) fn kid(a: &Summary, b: &Summary, seed: u64) -> Result<eval::Kid> {
    a.protocol().check_same(b.protocol())?;
    let dim = a.protocol().features;
    let [a, b] = [a, b].map(|summary| summary.features().unwrap_or_default());
    Ok(eval::kid(a, b, dim, &KidOptions { seed, ..KidOptions::default() })?)
}
