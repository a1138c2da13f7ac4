//! The Fréchet distance of two sets of features, each taken as a normal distribution (Dowson and Landau, 1982):
//! |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½.
//!
//! The last trace is the sum of the singular values of L₁ᵀL₂ for any factors Σ = L Lᵀ; they come from Cholesky's algorithm
//! with pivots, which gives as many columns as the covariance has rank, so that sets with fewer pictures than features are no
//! special case but a cheaper one. A singular value keeps its absolute precision where the square root of an eigenvalue
//! would lose half of its digits.
//!
//! The estimate is biased upwards: sets of one distribution are further apart the fewer pictures they hold. Numbers of
//! different counts are not comparable.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::{Interval, Statistics, Summary};
use crate::error::{Error, ErrorKind, Result};

/// Parts of a set that are left out in turn for the interval.
const GROUPS: usize = 10;
/// A variance that is left below the largest by this factor is rounding.
const NOTHING: f64 = 1e-14;
/// A negative variance beyond this share of the largest is no rounding.
const NEGATIVE: f64 = 1e-6;

/// A distance, and how far another draw of pictures would have moved it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frechet {
    /// The distance (squared, as the FID is).
    pub distance: f64,
    /// Where other pictures of the same two distributions, as many, would have put it, in 95 of 100 cases. It does not
    /// take the bias into account. Needs the features of both sets.
    pub interval: Option<Interval>,
}

/// The distance of two sets, with an interval where both have kept their features.
///
/// The interval is a jackknife over ten parts of each set, and takes the pictures for independent.
///
/// # Errors
/// As [`frechet_distance`]; `Usage` where the sets are under different protocols.
pub fn frechet(a: &Summary, b: &Summary) -> Result<Frechet> {
    a.protocol().check_same(b.protocol())?;
    let (one, two) = (Side::new(a.statistics())?, Side::new(b.statistics())?);
    let distance = one.distance(&two)?;
    let (Some(rows_a), Some(rows_b)) = (a.features(), b.features()) else {
        return Ok(Frechet { distance, interval: None });
    };
    let dim = a.protocol().features;
    let (without_a, without_b) = (leave_out(rows_a, dim)?, leave_out(rows_b, dim)?);
    if without_a.len() < 2 || without_b.len() < 2 {
        return Ok(Frechet { distance, interval: None });
    }
    let moved = |parts: &[Statistics], fixed: &Side| {
        parts.par_iter().map(|part| Side::new(part)?.distance(fixed)).collect::<Result<Vec<f64>>>()
    };
    let variance = jackknife(&moved(&without_a, &two)?) + jackknife(&moved(&without_b, &one)?);
    let degrees = without_a.len() + without_b.len() - 2;
    let interval = Interval::student(distance, variance.sqrt(), degrees);
    // no distance is below 0
    let interval = Interval { low: interval.low.max(0.0), ..interval };
    Ok(Frechet { distance, interval: Some(interval) })
}

/// The distance of two normal distributions with these moments.
///
/// # Errors
/// `Usage` where the vectors have different lengths or a set has fewer than two; `NonFinite` where a covariance is none.
pub fn frechet_distance(a: &Statistics, b: &Statistics) -> Result<f64> {
    Side::new(a)?.distance(&Side::new(b)?)
}

/// The variance of an estimate from its values without one part each.
fn jackknife(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() * (n - 1.0) / n
}

/// The statistics without each of up to ten parts in turn; every part-th picture is of one part. Empty for sets of fewer
/// than four pictures.
fn leave_out(rows: &[f32], dim: usize) -> Result<Vec<Statistics>> {
    let groups = GROUPS.min(rows.len() / dim / 2);
    if groups < 2 {
        return Ok(Vec::new());
    }
    let part = |of: usize| {
        let rows: Vec<f32> = rows.chunks_exact(dim).skip(of).step_by(groups).flatten().copied().collect();
        Statistics::of_rows(&rows, dim)
    };
    let parts: Vec<Statistics> = (0..groups).map(part).collect::<Result<_>>()?;
    let without = |left: usize| {
        let mut rest = Statistics::new(dim);
        for (_, part) in parts.iter().enumerate().filter(|(at, _)| *at != left) {
            rest.merge(part)?;
        }
        Ok(rest)
    };
    (0..groups).map(without).collect()
}

/// One of the two distributions.
struct Side {
    mean: DVector<f64>,
    trace: f64,
    /// L with L Lᵀ the covariance, `[d, rank]`.
    factor: DMatrix<f64>,
}

impl Side {
    fn new(statistics: &Statistics) -> Result<Self> {
        let (dim, covariance) = (statistics.dim(), statistics.covariance()?);
        let trace = covariance.iter().step_by(dim + 1).sum();
        Ok(Self { mean: DVector::from_column_slice(statistics.mean()), trace, factor: factor(&covariance, dim)? })
    }

    fn distance(&self, other: &Self) -> Result<f64> {
        if self.mean.len() != other.mean.len() {
            let (ours, theirs) = (self.mean.len(), other.mean.len());
            return Err(Error::usage(format!("features of {ours} numbers cannot be compared with {theirs}")));
        }
        let overlap = match self.factor.ncols().min(other.factor.ncols()) {
            0 => 0.0,
            _ => (self.factor.transpose() * &other.factor).singular_values().sum(),
        };
        // rounding may leave equal distributions just below 0
        Ok(((&self.mean - &other.mean).norm_squared() + self.trace + other.trace - 2.0 * overlap).max(0.0))
    }
}

/// L `[d, rank]` with L Lᵀ this symmetric, positive semi-definite matrix `[d, d]`: Cholesky's algorithm, each column for
/// the largest variance that is left (Higham, "Analysis of the Cholesky decomposition of a semi-definite matrix", 1990).
fn factor(matrix: &[f64], dim: usize) -> Result<DMatrix<f64>> {
    let mut left: Vec<f64> = matrix.iter().step_by(dim + 1).copied().collect();
    let largest = left.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    // rows, each with room for all columns
    let (mut rows, mut rank) = (vec![0.0; dim * dim], 0);
    while rank < dim {
        let pivot = (0..dim).max_by(|a, b| left[*a].total_cmp(&left[*b])).expect("there is a row");
        if left[pivot].is_nan() || left[pivot] <= NOTHING * largest {
            break;
        }
        let (root, of_pivot) = (left[pivot].sqrt(), rows[pivot * dim..][..rank].to_vec());
        rows.par_chunks_mut(dim).zip(&mut left).enumerate().with_min_len(64).for_each(|(i, (row, left))| {
            let known: f64 = dot(&row[..rank], &of_pivot);
            row[rank] = (matrix[pivot * dim + i] - known) / root;
            *left -= row[rank] * row[rank];
        });
        left[pivot] = 0.0;
        rank += 1;
    }
    if let Some(bad) = left.iter().find(|x| !x.is_finite() || **x < -NEGATIVE * largest) {
        return Err(Error::new(
            ErrorKind::NonFinite,
            format!("a covariance leaves the variance {bad}: expected none below 0; make its statistics anew"),
        ));
    }
    Ok(DMatrix::from_fn(dim, rank, |i, j| rows[i * dim + j]))
}

/// The inner product, in sums that the compiler can keep in vector registers.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (x8, y8) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in x8.0.iter().zip(y8.0) {
        (0..8).for_each(|i| sums[i] += x[i] * y[i]);
    }
    sums.iter().sum::<f64>() + x8.1.iter().zip(y8.1).map(|(x, y)| x * y).sum::<f64>()
}
