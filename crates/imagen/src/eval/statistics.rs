//! Mean and covariance of features, in one pass and in f64, in parts that can be put together.
//!
//! A batch is summed up around its own mean and joined to the rest by the recurrence of Chan, Golub and LeVeque (1979),
//! which keeps the sum of products of deviations, never a difference of large sums. Batches are cut by position, so that
//! the result does not depend on how many threads there are.

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};

/// Vectors that are summed up at once.
const BATCH: usize = 32;

/// Count, mean and scatter of feature vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    count: u64,
    /// `[d]`
    mean: Vec<f64>,
    /// Sum of products of deviations, `[d, d]`, symmetric.
    scatter: Vec<f64>,
}

impl Statistics {
    /// Of no vectors yet, each `dim` long.
    pub fn new(dim: usize) -> Self {
        Self { count: 0, mean: vec![0.0; dim], scatter: vec![0.0; dim * dim] }
    }

    /// Of the rows of `[n, dim]`.
    ///
    /// # Errors
    /// As [`Self::add_rows`].
    pub fn of_rows(rows: &[f32], dim: usize) -> Result<Self> {
        let mut statistics = Self::new(dim);
        statistics.add_rows(rows)?;
        Ok(statistics)
    }

    /// Of this mean and covariance, whose number of vectors nobody knows; it counts as two, the fewest that have one.
    pub(super) fn of_moments(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self> {
        Self::from_parts(2, mean, covariance)
    }

    pub(super) fn from_parts(count: u64, mean: Vec<f64>, scatter: Vec<f64>) -> Result<Self> {
        let statistics = Self { count, mean, scatter };
        let numbers = || statistics.mean.iter().chain(&statistics.scatter);
        if let Some(bad) = numbers().find(|x| !x.is_finite()) {
            return Err(Error::new(ErrorKind::Model, format!("the statistics hold {bad}; the file is damaged")));
        }
        Ok(statistics)
    }

    /// Adds vectors, the rows of `[n, d]`. A refused one leaves no trace, nor do those with it.
    ///
    /// # Errors
    /// `Usage` if they have another length, `NonFinite` if one holds a number that is not finite.
    pub fn add_rows(&mut self, rows: &[f32]) -> Result<()> {
        let dim = self.dim();
        if dim == 0 || rows.len() % dim != 0 {
            return Err(Error::usage(format!("{} numbers are not rows of {dim} features", rows.len())));
        }
        if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
            return Err(Error::new(ErrorKind::NonFinite, format!("feature {} is {}", at % dim, rows[at])));
        }
        rows.chunks(BATCH * dim).for_each(|batch| self.add_batch(batch));
        Ok(())
    }

    fn add_batch(&mut self, rows: &[f32]) {
        let dim = self.dim();
        let n = (rows.len() / dim) as f64;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / n);
        }
        let deviations: Vec<f64> = rows
            .chunks_exact(dim)
            .flat_map(|row| row.iter().zip(&mean).map(|(x, mean)| f64::from(*x) - mean))
            .collect();
        self.scatter.par_chunks_mut(dim).enumerate().for_each(|(i, sums)| {
            for row in deviations.chunks_exact(dim) {
                let factor = row[i];
                sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += factor * y);
            }
        });
        self.shift(n, &mean);
    }

    /// Takes in so many vectors around this mean, whose scatter is there already.
    fn shift(&mut self, n: f64, mean: &[f64]) {
        let before = self.count as f64;
        self.count += n as u64;
        let delta: Vec<f64> = mean.iter().zip(&self.mean).map(|(theirs, ours)| theirs - ours).collect();
        self.mean.iter_mut().zip(&delta).for_each(|(mean, delta)| *mean += delta * n / (before + n));
        if before > 0.0 {
            self.add_product(&delta, before * n / (before + n));
        }
    }

    /// Joins the vectors of another part.
    ///
    /// # Errors
    /// `Usage` if they have another length.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if other.dim() != self.dim() {
            return Err(Error::usage(format!("statistics of {} numbers do not join {}", other.dim(), self.dim())));
        }
        if other.count == 0 {
            return Ok(());
        }
        self.scatter.iter_mut().zip(&other.scatter).for_each(|(ours, theirs)| *ours += theirs);
        self.shift(other.count as f64, &other.mean);
        Ok(())
    }

    /// Adds `weight · v vᵀ` to the scatter.
    fn add_product(&mut self, v: &[f64], weight: f64) {
        self.scatter.par_chunks_mut(v.len()).zip(v).for_each(|(row, x)| {
            let factor = weight * x;
            row.iter_mut().zip(v).for_each(|(sum, y)| *sum += factor * y);
        });
    }

    /// How many vectors.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Numbers in a vector.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The mean, `[d]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    pub(super) fn scatter(&self) -> &[f64] {
        &self.scatter
    }

    /// The covariance, `[d, d]`, divided by the count less one.
    ///
    /// # Errors
    /// `Usage` of fewer than two vectors, which have none.
    pub fn covariance(&self) -> Result<Vec<f64>> {
        if self.count < 2 {
            return Err(Error::usage(format!(
                "{} no covariance: give at least two",
                if self.count == 0 { "no pictures have" } else { "one picture has" }
            )));
        }
        let n = (self.count - 1) as f64;
        Ok(self.scatter.iter().map(|sum| sum / n).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn rows(n: usize, dim: usize, offset: f32) -> Vec<f32> {
        Rng::new(3).normal(n * dim).into_iter().map(|x| x + offset).collect()
    }

    /// Largest difference of any mean or scatter.
    fn difference(a: &Statistics, b: &Statistics) -> f64 {
        let numbers = |s: &Statistics| s.mean.iter().chain(&s.scatter).copied().collect::<Vec<_>>();
        numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_pass_agrees_with_the_definition_even_far_from_zero() {
        let (n, dim) = (50, 3);
        let rows = rows(n, dim, 1000.0);
        let statistics = Statistics::of_rows(&rows, dim).unwrap();
        let column = |j: usize| rows.iter().skip(j).step_by(dim).map(|x| f64::from(*x)).collect::<Vec<_>>();
        let mean = |x: &[f64]| x.iter().sum::<f64>() / n as f64;
        for i in 0..dim {
            assert!((statistics.mean()[i] - mean(&column(i))).abs() < 1e-9);
            for j in 0..dim {
                let (a, b) = (column(i), column(j));
                let (ma, mb) = (mean(&a), mean(&b));
                let expected = a.iter().zip(&b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>() / (n - 1) as f64;
                assert!((statistics.covariance().unwrap()[i * dim + j] - expected).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn parts_in_any_cut_join_to_the_whole() {
        let (n, dim) = (40, 4);
        let rows = rows(n, dim, 5.0);
        let whole = Statistics::of_rows(&rows, dim).unwrap();
        for cut in [0, 1, 7, 39, 40] {
            let (a, b) = rows.split_at(cut * dim);
            let mut joined = Statistics::of_rows(a, dim).unwrap();
            joined.merge(&Statistics::of_rows(b, dim).unwrap()).unwrap();
            assert_eq!(joined.count(), n as u64);
            assert!(difference(&joined, &whole) < 1e-11, "cut at {cut}");
        }
    }

    #[test]
    fn what_does_not_fit_or_is_no_number_is_refused() {
        let mut statistics = Statistics::new(2);
        assert_eq!(statistics.add_rows(&[1.0]).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(statistics.add_rows(&[1.0, 2.0, 1.0, f32::NAN]).unwrap_err().kind(), ErrorKind::NonFinite);
        assert_eq!(statistics.count(), 0, "a refused vector leaves no trace");
        statistics.add_rows(&[1.0, 2.0]).unwrap();
        assert!(statistics.covariance().is_err());
        assert!(statistics.merge(&Statistics::new(3)).is_err());
    }
}
