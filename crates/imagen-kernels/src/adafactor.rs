//! One step of Adafactor (Shazeer and Stern 2018, algorithms 4 to 6): second moments of a matrix kept as the means of its
//! rows and columns, an update whose root mean square is bounded, optionally a rate relative to the weights.
//!
//! Bound by memory: three passes over the gradient, one over the weights. Rows are worked on in blocks that depend on the
//! shape alone, and every sum over blocks is taken in their order.

use std::sync::{Mutex, PoisonError};

use crate::expect_count;
use crate::optimizer::sum_of_squares;
use crate::pool::for_each;

/// Added to every squared gradient (the paper's ε₁).
const EPS: f32 = 1e-30;
/// The smallest root mean square that weights are taken to have under a relative rate (ε₂).
const SMALLEST_WEIGHT: f64 = 1e-3;
/// Numbers in one block of rows.
const BLOCK: usize = 16 * 1024;

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    /// Learning rate; a share of the weights' root mean square where `relative`.
    pub lr: f32,
    /// Decay of the first moment, which is that of the updates; not read where none is kept.
    pub beta1: f32,
    /// Decay of the second moment in this step.
    pub beta2: f32,
    /// Largest root mean square of an update before the rate (d).
    pub clip: f32,
    /// Decoupled weight decay; 0 = none.
    pub weight_decay: f32,
    /// Whether the rate is relative to the weights.
    pub relative: bool,
    /// Factor of the gradient.
    pub scale: f32,
}

/// What is kept of the squared gradients.
#[derive(Debug)]
pub enum SecondMoment<'a> {
    /// Means of the rows and columns of each matrix of `[n, rows, columns]`.
    Factored {
        /// Rows of a matrix.
        rows: usize,
        /// Columns of a matrix.
        columns: usize,
        /// `[n, rows]`
        row: &'a mut [f32],
        /// `[n, columns]`
        column: &'a mut [f32],
    },
    /// Each of them.
    Whole(&'a mut [f32]),
}

impl Adafactor {
    /// Updates the weights `w`, the second moment and, where one is kept, the first moment `m` from the gradient `g`.
    ///
    /// # Panics
    /// If lengths contradict each other.
    pub fn step(&self, w: &mut [f32], g: &[f32], second: SecondMoment<'_>, m: Option<&mut [f32]>) {
        expect_count("g", g.len(), w.len());
        if let Some(m) = &m {
            expect_count("m", m.len(), w.len());
        }
        if w.is_empty() {
            return;
        }
        let direction = match second {
            SecondMoment::Whole(v) => {
                expect_count("v", v.len(), w.len());
                for (v, g) in v.iter_mut().zip(g) {
                    *v = self.mixed(*v, self.square(*g));
                }
                Direction { columns: w.len(), rows: vec![self.scale], by: By::Each(v) }
            }
            SecondMoment::Factored { rows, columns, row, column } => {
                let n = w.len() / (rows * columns).max(1);
                expect_count("w", w.len(), n * rows * columns);
                expect_count("row", row.len(), n * rows);
                expect_count("column", column.len(), n * columns);
                let (mut by_row, mut by_column) = (Vec::new(), Vec::new());
                for (i, g) in g.chunks(rows * columns).enumerate() {
                    let (row, column) = (&mut row[i * rows..][..rows], &mut column[i * columns..][..columns]);
                    self.means(g, row, column);
                    let mean = row.iter().map(|r| f64::from(*r)).sum::<f64>() / rows as f64;
                    by_row.extend(row.iter().map(|r| self.scale * (mean / f64::from(*r)).sqrt() as f32));
                    by_column.extend(column.iter().map(|c| (1.0 / f64::from(*c).sqrt()) as f32));
                }
                Direction { columns, rows: by_row, by: By::Column { factors: by_column, rows } }
            }
        };
        let mean_square = direction.sum_of_squares(g) / w.len() as f64;
        let bound = (mean_square.sqrt() / f64::from(self.clip)).max(1.0);
        let size = if self.relative { (sum_of_squares(w) / w.len() as f64).sqrt().max(SMALLEST_WEIGHT) } else { 1.0 };
        let rate = (f64::from(self.lr) * size / bound) as f32;
        let keep = (1.0 - f64::from(self.lr) * f64::from(self.weight_decay)) as f32;
        direction.apply(g, w, m, [rate, keep, self.beta1]);
    }

    fn square(&self, g: f32) -> f32 {
        let g = g * self.scale;
        g * g + EPS
    }

    fn mixed(&self, old: f32, new: f32) -> f32 {
        old + (1.0 - self.beta2) * (new - old)
    }

    /// The moving means of the squares of one matrix's rows and columns.
    fn means(&self, g: &[f32], row: &mut [f32], column: &mut [f32]) {
        let columns = column.len();
        let rows = row.len();
        let per_block = (BLOCK / columns).max(1);
        let blocks: Vec<Mutex<MeansBlock<'_>>> = row
            .chunks_mut(per_block)
            .zip(g.chunks(per_block * columns))
            .map(|(row, g)| Mutex::new((row, g, vec![0.0; columns])))
            .collect();
        for_each(blocks.len(), |i| {
            let mut block = blocks[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (row, g, sums) = &mut *block;
            for (mean, g) in row.iter_mut().zip(g.chunks(columns)) {
                let mut total = 0.0;
                for (sum, g) in sums.iter_mut().zip(g) {
                    let square = self.square(*g);
                    *sum += square;
                    total += f64::from(square);
                }
                *mean = self.mixed(*mean, (total / columns as f64) as f32);
            }
        });
        let mut totals = vec![0.0f64; columns];
        for block in blocks {
            let (_, _, sums) = block.into_inner().unwrap_or_else(PoisonError::into_inner);
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
        }
        for (mean, total) in column.iter_mut().zip(totals) {
            *mean = self.mixed(*mean, (total / rows as f64) as f32);
        }
    }
}

/// Some rows of a matrix: their means, their gradients, the sums of the columns over them.
type MeansBlock<'a> = (&'a mut [f32], &'a [f32], Vec<f32>);

/// Some rows of the weights and of the first moment.
type UpdateBlock<'a> = (&'a mut [f32], Option<&'a mut [f32]>);

/// The update before it is bounded: the gradient over the root of its second moment, row by row.
struct Direction<'a> {
    columns: usize,
    /// A factor for each row.
    rows: Vec<f32>,
    by: By<'a>,
}

enum By<'a> {
    /// One over the root of each.
    Each(&'a [f32]),
    /// A factor for each column of each matrix.
    Column { factors: Vec<f32>, rows: usize },
}

impl Direction<'_> {
    /// The update of row `i` into `out`.
    fn row(&self, i: usize, g: &[f32], out: &mut [f32]) {
        let factor = self.rows[i];
        match &self.by {
            By::Each(v) => {
                for ((out, g), v) in out.iter_mut().zip(g).zip(*v) {
                    *out = factor * g / v.sqrt();
                }
            }
            By::Column { factors, rows } => {
                let factors = &factors[i / rows * self.columns..][..self.columns];
                for ((out, g), column) in out.iter_mut().zip(g).zip(factors) {
                    *out = factor * g * column;
                }
            }
        }
    }

    fn rows_per_block(&self) -> usize {
        (BLOCK / self.columns).max(1)
    }

    fn sum_of_squares(&self, g: &[f32]) -> f64 {
        let (columns, per_block) = (self.columns, self.rows_per_block());
        let sums: Vec<Mutex<f64>> = (0..self.rows.len().div_ceil(per_block)).map(|_| Mutex::default()).collect();
        for_each(sums.len(), |block| {
            let mut update = vec![0.0; columns];
            let mut sum = 0.0;
            for i in block * per_block..self.rows.len().min((block + 1) * per_block) {
                self.row(i, &g[i * columns..][..columns], &mut update);
                sum += update.iter().map(|u| f64::from(*u) * f64::from(*u)).sum::<f64>();
            }
            *sums[block].lock().unwrap_or_else(PoisonError::into_inner) = sum;
        });
        sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner)).sum()
    }

    /// `w = keep·w − rate·update`, or `m = β₁·m + (1 − β₁)·rate·update; w = keep·w − m`.
    fn apply(&self, g: &[f32], w: &mut [f32], m: Option<&mut [f32]>, [rate, keep, beta1]: [f32; 3]) {
        let (columns, per_block) = (self.columns, self.rows_per_block());
        let mut moments = m.map(|m| m.chunks_mut(per_block * columns));
        let blocks: Vec<Mutex<UpdateBlock<'_>>> = w
            .chunks_mut(per_block * columns)
            .map(|w| Mutex::new((w, moments.as_mut().and_then(Iterator::next))))
            .collect();
        for_each(blocks.len(), |block| {
            let mut parts = blocks[block].lock().unwrap_or_else(PoisonError::into_inner);
            let (w, m) = &mut *parts;
            let mut update = vec![0.0; columns];
            for (k, w) in w.chunks_mut(columns).enumerate() {
                let i = block * per_block + k;
                self.row(i, &g[i * columns..][..columns], &mut update);
                update.iter_mut().for_each(|u| *u *= rate);
                if let Some(m) = m {
                    for (m, u) in m[k * columns..].iter_mut().zip(&mut update) {
                        *m = beta1 * *m + (1.0 - beta1) * *u;
                        *u = *m;
                    }
                }
                for (w, u) in w.iter_mut().zip(&update) {
                    *w = keep * *w - u;
                }
            }
        });
    }
}
