//! Group normalization (Wu and He 2018) with FiLM (Perez et al. 2018) and an activation, on `[n, hw, c]`.
//!
//! With x̂ the normalized input, `y = act(x̂ p + q)`, `p = gamma (1 + scale)`, `q = beta (1 + scale) + shift`;
//! as `x̂ = (x - mean) rstd`, one multiply-add per number with `a = p rstd` and `b = q - a mean` is all that is left.
//! Sums are taken about the first pixel of each channel, so that a large mean does not cancel the variance.

mod passes;

use super::Activation;
use crate::isa::Isa;
use crate::pool::{Shared, for_each, threads};
use crate::{expect_len, scratch};
use passes::{Apply, BackwardApply, BackwardSums, Sums};

/// A group normalization over `[n, hw, c]`.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    /// Pictures in the batch.
    pub n: usize,
    /// Pixels of a picture.
    pub hw: usize,
    /// Channels; a multiple of `groups`.
    pub c: usize,
    /// Groups of neighbouring channels that share mean and variance.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// What follows.
    pub activation: Activation,
}

/// What [`GroupNorm::forward`] found and [`GroupNorm::backward`] needs.
#[derive(Clone, Debug)]
pub struct GroupStats {
    /// `[n, groups]`
    mean: Vec<f32>,
    /// `[n, groups]`
    rstd: Vec<f32>,
    /// `[n, c]`: `z = a x + b` is the input of the activation.
    a: Vec<f32>,
    /// `[n, c]`
    b: Vec<f32>,
}

impl GroupNorm {
    /// `y = act((gn(x) gamma + beta) (1 + film[.., :c]) + film[.., c:])`; x and y `[n, hw, c]`, gamma and beta
    /// `[c]`, film `[n, 2c]`.
    ///
    /// # Panics
    /// If c is not a multiple of groups, or a slice does not have the length of its shape.
    pub fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32], film: Option<&[f32]>, y: &mut [f32]) -> GroupStats {
        let Self { n, hw, c, groups, .. } = *self;
        self.check(x, gamma, beta, film);
        expect_len("y", y, n * hw * c);
        let isa = Isa::current();
        let mut stats = GroupStats {
            mean: vec![0.0; n * groups],
            rstd: vec![0.0; n * groups],
            a: vec![0.0; n * c],
            b: vec![0.0; n * c],
        };
        if hw == 0 {
            return stats;
        }
        let (chunk, chunks) = self.chunks();
        let mut parts = scratch::take(n * chunks * 2 * c);
        let (parts, to) = (Shared::new(&mut parts), Shared::new(y));
        let of_stats = [&mut stats.mean, &mut stats.rstd, &mut stats.a, &mut stats.b].map(|v| Shared::new(v));
        let [mean, rstd, a, b] = of_stats;
        let sums = |image: usize, i: usize| {
            let first = i * chunk;
            // SAFETY: pixels of this chunk; each chunk has its own part.
            unsafe {
                isa.run(Sums {
                    x: x.as_ptr().add((image * hw + first) * c),
                    pixels: chunk.min(hw - first),
                    c,
                    pivot: &x[image * hw * c..][..c],
                    sums: parts.get().add((image * chunks + i) * 2 * c),
                });
            }
        };
        let fold = |image: usize| {
            // SAFETY: the parts of this image are complete, and its statistics are written by nobody else.
            unsafe {
                self.fold(
                    &x[image * hw * c..][..c],
                    std::slice::from_raw_parts(parts.get().add(image * chunks * 2 * c), chunks * 2 * c),
                    (gamma, beta, film.map(|film| &film[image * 2 * c..][..2 * c])),
                    std::slice::from_raw_parts_mut(mean.get().add(image * groups), groups),
                    std::slice::from_raw_parts_mut(rstd.get().add(image * groups), groups),
                    std::slice::from_raw_parts_mut(a.get().add(image * c), c),
                    std::slice::from_raw_parts_mut(b.get().add(image * c), c),
                );
            }
        };
        // SAFETY: chunks do not overlap; a and b of this image are complete.
        let apply = |image: usize, i: usize| unsafe {
            self.apply(isa, image, i, x, (a.get().cast_const(), b.get().cast_const()), to);
        };
        self.two_passes(sums, fold, apply);
        stats
    }

    /// The output of [`GroupNorm::forward`] a second time, from what that returned: one pass over x instead of two.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape, or `stats` is of another shape.
    pub fn forward_again(&self, stats: &GroupStats, x: &[f32], y: &mut [f32]) {
        let Self { n, hw, c, .. } = *self;
        expect_len("x", x, n * hw * c);
        expect_len("y", y, n * hw * c);
        expect_len("stats", &stats.a, n * c);
        if hw == 0 {
            return;
        }
        let (isa, to, chunks) = (Isa::current(), Shared::new(y), self.chunks().1);
        // SAFETY: chunks do not overlap; the statistics have the length of their shape.
        for_each(n * chunks, |job| unsafe {
            self.apply(isa, job / chunks, job % chunks, x, (stats.a.as_ptr(), stats.b.as_ptr()), to);
        });
    }

    /// `y = act(a x + b)` on the i-th chunk of an image.
    ///
    /// # Safety
    /// `x` and what `to` points to are `[n, hw, c]`, a and b `[n, c]`; nobody else writes this chunk of y meanwhile.
    unsafe fn apply(&self, isa: Isa, image: usize, i: usize, x: &[f32], (a, b): (*const f32, *const f32), to: Shared) {
        let Self { hw, c, .. } = *self;
        let chunk = self.chunks().0;
        let first = i * chunk;
        let offset = (image * hw + first) * c;
        // SAFETY: the chunk lies within the image.
        unsafe {
            isa.run(Apply {
                x: x.as_ptr().add(offset),
                y: to.get().add(offset),
                pixels: chunk.min(hw - first),
                c,
                a: a.add(image * c),
                b: b.add(image * c),
                activation: self.activation,
            });
        }
    }

    /// The gradients; `dy_to_dx` holds that of y and is replaced by that of x. `ggamma` and `gbeta` are `[c]`,
    /// `gfilm` `[n, 2c]`; the other arguments are those of [`GroupNorm::forward`] and what it returned.
    ///
    /// # Panics
    /// As [`GroupNorm::forward`]; or if `stats` is of another shape, or there is `gfilm` without `film`.
    pub fn backward(
        &self,
        stats: &GroupStats,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        film: Option<&[f32]>,
        dy_to_dx: &mut [f32],
        ggamma: &mut [f32],
        gbeta: &mut [f32],
        gfilm: Option<&mut [f32]>,
    ) {
        let Self { n, hw, c, groups, .. } = *self;
        self.check(x, gamma, beta, film);
        expect_len("dy_to_dx", dy_to_dx, n * hw * c);
        expect_len("ggamma", ggamma, c);
        expect_len("gbeta", gbeta, c);
        assert!(
            stats.a.len() == n * c && stats.mean.len() == n * groups,
            "stats are not those of this normalization's forward pass"
        );
        if let Some(gfilm) = gfilm.as_deref() {
            assert!(film.is_some(), "gfilm without film");
            expect_len("gfilm", gfilm, n * 2 * c);
        }
        let isa = Isa::current();
        let (chunk, chunks) = self.chunks();
        let mut parts = scratch::take(n * chunks * 2 * c);
        // Per image and channel: gradients of p and q; then `dx = a dz + slope x + offset`.
        let [mut dp, mut dq, mut slope, mut offset] = [(); 4].map(|()| scratch::take(n * c));
        let [parts, dp_to, dq_to, slope_to, offset_to] =
            [&mut parts, &mut dp, &mut dq, &mut slope, &mut offset].map(|buffer| Shared::new(buffer));
        let grad = Shared::new(dy_to_dx);
        // dz in place of dy, and per channel the sums of dz and of dz x.
        let sums = |image: usize, i: usize| {
            let first = i * chunk;
            let at = (image * hw + first) * c;
            // SAFETY: pixels of this chunk, which do not overlap; each chunk has its own part.
            unsafe {
                isa.run(BackwardSums {
                    x: x.as_ptr().add(at),
                    dy: grad.get().add(at),
                    pixels: chunk.min(hw - first),
                    c,
                    a: &stats.a[image * c..][..c],
                    b: &stats.b[image * c..][..c],
                    pivot: &x[image * hw * c..][..c],
                    sums: parts.get().add((image * chunks + i) * 2 * c),
                    activation: self.activation,
                });
            }
        };
        let fold = |image: usize| {
            // SAFETY: the parts of this image are complete, and its results are written by nobody else.
            let (parts, [dp, dq, slope, offset]) = unsafe {
                (
                    std::slice::from_raw_parts(parts.get().add(image * chunks * 2 * c), chunks * 2 * c),
                    [dp_to, dq_to, slope_to, offset_to]
                        .map(|to| std::slice::from_raw_parts_mut(to.get().add(image * c), c)),
                )
            };
            let per_group = c / groups;
            for group in 0..groups {
                let mean = f64::from(stats.mean[image * groups + group]);
                let rstd = f64::from(stats.rstd[image * groups + group]);
                let channels = group * per_group..(group + 1) * per_group;
                // The two means that keep dx orthogonal to 1 and to the normalized input.
                let (mut m1, mut m2) = (0.0, 0.0);
                for q in channels.clone() {
                    let [sum, product] = sum_parts(parts, c, q);
                    let pivot = f64::from(x[image * hw * c + q]);
                    let along = (product + (pivot - mean) * sum) * rstd;
                    (dq[q], dp[q]) = (sum as f32, along as f32);
                    let p = f64::from(gamma[q]) * film.map_or(1.0, |f| 1.0 + f64::from(f[image * 2 * c + q]));
                    m1 += p * sum;
                    m2 += p * along;
                }
                let count = (per_group * hw) as f64;
                let (m1, m2) = (m1 / count, m2 / count);
                slope[channels.clone()].fill((-rstd * rstd * m2) as f32);
                offset[channels].fill((rstd * (mean * rstd * m2 - m1)) as f32);
            }
        };
        let apply = |image: usize, i: usize| {
            let first = i * chunk;
            let start = (image * hw + first) * c;
            // SAFETY: pixels of this chunk, which do not overlap; the rows of this image are complete.
            unsafe {
                isa.run(BackwardApply {
                    x: x.as_ptr().add(start),
                    dz: grad.get().add(start),
                    pixels: chunk.min(hw - first),
                    c,
                    a: stats.a[image * c..].as_ptr(),
                    slope: slope_to.get().add(image * c),
                    offset: offset_to.get().add(image * c),
                });
            }
        };
        if hw > 0 {
            self.two_passes(sums, fold, apply);
        } else {
            dp.fill(0.0);
            dq.fill(0.0);
        }
        let mut gfilm = gfilm;
        ggamma.fill(0.0);
        gbeta.fill(0.0);
        for image in 0..n {
            for q in 0..c {
                let (dp, dq) = (dp[image * c + q], dq[image * c + q]);
                let scale = film.map_or(1.0, |film| 1.0 + film[image * 2 * c + q]);
                ggamma[q] += dp * scale;
                gbeta[q] += dq * scale;
                if let Some(gfilm) = gfilm.as_deref_mut() {
                    gfilm[image * 2 * c + q] = dp * gamma[q] + dq * beta[q];
                    gfilm[image * 2 * c + c + q] = dq;
                }
            }
        }
    }

    #[track_caller]
    fn check(&self, x: &[f32], gamma: &[f32], beta: &[f32], film: Option<&[f32]>) {
        let Self { n, hw, c, groups, .. } = *self;
        assert!(groups > 0 && c.is_multiple_of(groups), "{c} channels cannot be cut into {groups} groups");
        expect_len("x", x, n * hw * c);
        expect_len("gamma", gamma, c);
        expect_len("beta", beta, c);
        if let Some(film) = film {
            expect_len("film", film, n * 2 * c);
        }
    }

    /// Pixels of a chunk of work and chunks of a picture, by shape alone.
    fn chunks(&self) -> (usize, usize) {
        let chunk = self.hw.div_ceil(16).max(32);
        (chunk, self.hw.div_ceil(chunk))
    }

    /// Runs `first` for every chunk of an image, `fold` for the image, then `second` for every chunk.
    ///
    /// Where there are enough images for all threads, one thread does all of an image, which then is still in its
    /// cache when `second` comes; the results are the same.
    fn two_passes(
        &self,
        first: impl Fn(usize, usize) + Sync,
        fold: impl Fn(usize) + Sync,
        second: impl Fn(usize, usize) + Sync,
    ) {
        let (n, (_, chunks)) = (self.n, self.chunks());
        if n.is_multiple_of(threads()) || n > 4 * threads() {
            for_each(n, |image| {
                (0..chunks).for_each(|i| first(image, i));
                fold(image);
                (0..chunks).for_each(|i| second(image, i));
            });
        } else {
            for_each(n * chunks, |i| first(i / chunks, i % chunks));
            for_each(n, fold);
            for_each(n * chunks, |i| second(i / chunks, i % chunks));
        }
    }

    /// Mean and reciprocal standard deviation of an image's groups, and a and b of its channels, from the sums about
    /// the first pixel.
    fn fold(
        &self,
        pivot: &[f32],
        parts: &[f32],
        (gamma, beta, film): (&[f32], &[f32], Option<&[f32]>),
        mean_to: &mut [f32],
        rstd_to: &mut [f32],
        a: &mut [f32],
        b: &mut [f32],
    ) {
        let Self { hw, c, groups, .. } = *self;
        let per_group = c / groups;
        for group in 0..groups {
            let channels = group * per_group..(group + 1) * per_group;
            // The group's mean first; then each channel's squares about its own mean, moved to the group's.
            let mut total = 0.0;
            for q in channels.clone() {
                total += f64::from(pivot[q]) + sum_parts(parts, c, q)[0] / hw as f64;
            }
            let mean = total / per_group as f64;
            let mut variance = 0.0;
            for q in channels.clone() {
                let [sum, squares] = sum_parts(parts, c, q);
                let from_pivot = sum / hw as f64;
                let from_mean = f64::from(pivot[q]) + from_pivot - mean;
                variance += (squares / hw as f64 - from_pivot * from_pivot).max(0.0) + from_mean * from_mean;
            }
            let rstd = 1.0 / (variance / per_group as f64 + f64::from(self.eps)).sqrt();
            mean_to[group] = mean as f32;
            rstd_to[group] = rstd as f32;
            for q in channels {
                let (mut p, mut shift) = (f64::from(gamma[q]), f64::from(beta[q]));
                if let Some(film) = film {
                    let scale = 1.0 + f64::from(film[q]);
                    p *= scale;
                    shift = shift * scale + f64::from(film[c + q]);
                }
                a[q] = (p * rstd) as f32;
                b[q] = (shift - p * rstd * mean) as f32;
            }
        }
    }
}

/// Both sums of channel q over all parts `[part][2][c]`.
fn sum_parts(parts: &[f32], c: usize, q: usize) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for part in parts.chunks_exact(2 * c) {
        sums[0] += f64::from(part[q]);
        sums[1] += f64::from(part[c + q]);
    }
    sums
}
