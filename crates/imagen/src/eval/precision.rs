//! Improved precision and recall (Kynkäänniemi et al., "Improved precision and recall metric for assessing generative
//! models", 2019): the share of drawn pictures that lie among real ones, and of real ones that lie among drawn ones.
//!
//! A set's region is the union of balls around its vectors, each as far as the k-th nearest other vector of the set. The
//! region grows with the set, so that only sets of equal sizes can be compared.

use rayon::prelude::*;

use super::{Interval, wilson};
use crate::error::{Error, Result};

/// The paper's number of neighbours.
pub const NEIGHBOURS: usize = 3;

/// A share of vectors that lie within the other set's region.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Covered {
    /// How many lie within.
    pub hits: usize,
    /// The share.
    pub rate: f64,
    /// Where the share of further vectors would be in 95 of 100 cases, with the other set as it is.
    pub interval: Interval,
}

/// Both shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Of the drawn vectors within the region of the real ones.
    pub precision: Covered,
    /// Of the real vectors within the region of the drawn ones.
    pub recall: Covered,
}

/// Precision and recall of `drawn [n, dim]` against `real [m, dim]`, with balls up to the `neighbours`-th other vector.
///
/// Memory beyond the sets is a number for each vector.
///
/// # Errors
/// `Usage` if a set has no more vectors than `neighbours`, or these are not `dim` long.
pub fn precision_recall(drawn: &[f32], real: &[f32], dim: usize, neighbours: usize) -> Result<PrecisionRecall> {
    for set in [drawn, real] {
        if dim == 0 || neighbours == 0 || set.len() % dim != 0 || set.len() / dim <= neighbours {
            let count = set.len() / dim.max(1);
            return Err(Error::usage(format!(
                "precision and recall by {neighbours} neighbours need at least {} pictures a set, with {dim} features each; \
                 found {count}",
                neighbours + 1
            )));
        }
    }
    let (of_drawn, of_real) = (radii(drawn, dim, neighbours), radii(real, dim, neighbours));
    Ok(PrecisionRecall { precision: covered(drawn, real, &of_real, dim), recall: covered(real, drawn, &of_drawn, dim) })
}

/// The squared distance of each vector to the k-th nearest other one.
fn radii(rows: &[f32], dim: usize, k: usize) -> Vec<f64> {
    let radius = |(at, row): (usize, &[f32])| {
        // in ascending order
        let mut nearest = vec![f64::INFINITY; k];
        for (_, other) in rows.chunks_exact(dim).enumerate().filter(|(other, _)| *other != at) {
            let distance = distance(row, other);
            if distance < nearest[k - 1] {
                let place = nearest.partition_point(|x| *x <= distance);
                nearest[place..].rotate_right(1);
                nearest[place] = distance;
            }
        }
        nearest[k - 1]
    };
    rows.par_chunks_exact(dim).enumerate().map(radius).collect()
}

/// How many of these vectors lie in a ball around one of the others.
fn covered(rows: &[f32], around: &[f32], radii: &[f64], dim: usize) -> Covered {
    let within = |row: &&[f32]| around.chunks_exact(dim).zip(radii).any(|(centre, r)| distance(row, centre) <= *r);
    let (hits, of) = (rows.par_chunks_exact(dim).filter(within).count(), rows.len() / dim);
    Covered { hits, rate: hits as f64 / of as f64, interval: wilson(hits, of) }
}

/// The squared distance.
fn distance(x: &[f32], y: &[f32]) -> f64 {
    // eight sums, for the compiler to keep in vector registers
    let mut sums = [0.0f64; 8];
    let (x8, y8) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in x8.0.iter().zip(y8.0) {
        (0..8).for_each(|i| {
            let difference = f64::from(x[i] - y[i]);
            sums[i] += difference * difference;
        });
    }
    let rest: f64 = x8.1.iter().zip(y8.1).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balls_reach_to_the_k_th_other_vector_and_what_lies_on_their_edge_is_within() {
        // real: 0, 1, 2, 10 on a line; with one neighbour the radii are 1, 1, 1, 8
        let real = [0.0, 1.0, 2.0, 10.0];
        assert_eq!(radii(&real, 1, 1), [1.0, 1.0, 1.0, 64.0]);
        assert_eq!(radii(&real, 1, 3), [100.0, 81.0, 64.0, 100.0]);
        let drawn = [-1.0, -1.5, 3.5, 18.5];
        // −1 lies on the edge of the ball around 0, −1.5 outside, 3.5 in the ball around 10, 18.5 outside
        let found = precision_recall(&drawn, &real, 1, 1).unwrap();
        assert_eq!((found.precision.hits, found.precision.rate), (2, 0.5));
        // radii of the drawn: 0.5, 0.5, 4.5, 15: the last reaches from 3.5 on, the third from −1 to 8
        assert_eq!(found.recall.hits, 4);
        assert!(precision_recall(&drawn[..3], &real, 1, 3).is_err());
    }

    #[test]
    fn a_set_covers_itself_and_far_sets_do_not_cover_each_other() {
        let set: Vec<f32> = (0..60).map(|i| (i * i % 17) as f32).collect();
        let far: Vec<f32> = set.iter().map(|x| x + 1000.0).collect();
        let rates = |a: &[f32], b: &[f32]| {
            let found = precision_recall(a, b, 3, NEIGHBOURS).unwrap();
            (found.precision.rate, found.recall.rate)
        };
        assert_eq!((rates(&set, &set), rates(&set, &far)), ((1.0, 1.0), (0.0, 0.0)));
        assert_eq!(rates(&far[..30], &set).0, 0.0);
    }
}
