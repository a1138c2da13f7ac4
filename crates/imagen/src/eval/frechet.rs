//! The Fréchet distance of two sets of features, each taken as a normal distribution (Dowson and Landau, 1982):
//! |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½.
//!
//! The last trace is the sum of the singular values of Σ₁^½ Σ₂^½, roots taken through symmetric eigendecompositions: a
//! singular value keeps its absolute precision where the square root of an eigenvalue would lose half of its digits, so
//! that sets with fewer pictures than features, whose covariances are singular, are no special case.
//!
//! The estimate is biased upwards: sets of one distribution are further apart the fewer pictures they hold. Numbers of
//! different counts are not comparable.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::{Interval, Layout, Statistics, Summary};
use crate::error::{Error, ErrorKind, Result};

/// Parts of a set that are left out in turn for the interval.
const GROUPS: usize = 10;
/// An eigenvalue below the largest by this factor is rounding.
const NOTHING: f64 = 1e-13;
/// A negative eigenvalue beyond this share of the largest is no rounding.
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
/// As [`frechet_distance`].
pub fn frechet(a: &Summary, b: &Summary) -> Result<Frechet> {
    let (one, two) = (Side::new(a.statistics())?, Side::new(b.statistics())?);
    let distance = one.distance(&two)?;
    let (Some(rows_a), Some(rows_b)) = (a.features(), b.features()) else {
        return Ok(Frechet { distance, interval: None });
    };
    let (without_a, without_b) = (leave_out(rows_a)?, leave_out(rows_b)?);
    if without_a.len() < 2 || without_b.len() < 2 {
        return Ok(Frechet { distance, interval: None });
    }
    let moved = |parts: &[Statistics], fixed: &Side| {
        parts.par_iter().map(|part| Side::new(part)?.distance(fixed)).collect::<Result<Vec<f64>>>()
    };
    let variance = jackknife(&moved(&without_a, &two)?) + jackknife(&moved(&without_b, &one)?);
    let degrees = without_a.len() + without_b.len() - 2;
    Ok(Frechet { distance, interval: Some(Interval::student(distance, variance.sqrt(), degrees)) })
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
fn leave_out(rows: &[f32]) -> Result<Vec<Statistics>> {
    let dim = Layout::DIM;
    let groups = GROUPS.min(rows.len() / dim / 2);
    let mut parts = vec![Statistics::new(dim); groups];
    for (at, row) in rows.chunks_exact(dim).enumerate().filter(|_| groups > 1) {
        parts[at % groups].add(row)?;
    }
    let without = |left: usize| {
        let mut rest = Statistics::new(dim);
        for (_, part) in parts.iter().enumerate().filter(|(at, _)| *at != left) {
            rest.merge(part)?;
        }
        Ok(rest)
    };
    if groups > 1 { (0..groups).map(without).collect() } else { Ok(Vec::new()) }
}

/// One of the two distributions.
struct Side {
    mean: DVector<f64>,
    trace: f64,
    /// The symmetric square root of the covariance.
    root: DMatrix<f64>,
}

impl Side {
    fn new(statistics: &Statistics) -> Result<Self> {
        let dim = statistics.dim();
        let covariance = DMatrix::from_row_slice(dim, dim, &statistics.covariance()?);
        let (mean, trace) = (DVector::from_column_slice(statistics.mean()), covariance.trace());
        Ok(Self { mean, trace, root: square_root(covariance)? })
    }

    fn distance(&self, other: &Self) -> Result<f64> {
        if self.mean.len() != other.mean.len() {
            let (ours, theirs) = (self.mean.len(), other.mean.len());
            return Err(Error::usage(format!("features of {ours} numbers cannot be compared with {theirs}")));
        }
        let overlap = (&self.root * &other.root).singular_values().sum();
        // rounding may leave equal distributions just below 0
        Ok(((&self.mean - &other.mean).norm_squared() + self.trace + other.trace - 2.0 * overlap).max(0.0))
    }
}

/// The symmetric square root of a symmetric, positive semi-definite matrix.
fn square_root(matrix: DMatrix<f64>) -> Result<DMatrix<f64>> {
    let eigen = matrix.symmetric_eigen();
    let largest = eigen.eigenvalues.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    if let Some(bad) = eigen.eigenvalues.iter().find(|x| !x.is_finite() || **x < -NEGATIVE * largest) {
        return Err(Error::new(
            ErrorKind::NonFinite,
            format!("a covariance has the eigenvalue {bad}: expected none below 0; make its statistics anew"),
        ));
    }
    let roots = eigen.eigenvalues.map(|x| if x > NOTHING * largest { x.sqrt() } else { 0.0 });
    Ok(&eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose())
}
