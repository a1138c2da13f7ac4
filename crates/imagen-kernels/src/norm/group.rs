//! Group normalization (Wu and He 2018) with FiLM (Perez et al. 2018) and SiLU, on `[n, hw, c]`.
//!
//! With x̂ the normalized input, `y = act(x̂ p + q)`, `p = gamma (1 + scale)`, `q = beta (1 + scale) + shift`;
//! as `x̂ = (x - mean) rstd`, one multiply-add per number with `a = p rstd` and `b = q - a mean` is all that is left.
//! Sums are taken about the first pixel of each channel, so that a large mean does not cancel the variance.

use crate::isa::{Isa, Kernel};
use crate::math;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use crate::{expect_len, scratch};

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
    /// Whether SiLU follows.
    pub silu: bool,
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
        let Self { n, hw, c, .. } = *self;
        self.check(x, gamma, beta, film);
        expect_len("y", y, n * hw * c);
        let isa = Isa::current();
        let stats = self.statistics(isa, x, gamma, beta, film);
        let to = Shared::new(y);
        let (chunk, chunks) = self.chunks();
        for_each(n * chunks, |i| {
            let (image, first) = (i / chunks, i % chunks * chunk);
            let offset = (image * hw + first) * c;
            // SAFETY: pixels of this chunk; chunks do not overlap.
            unsafe {
                isa.run(Apply {
                    x: x.as_ptr().add(offset),
                    y: to.get().add(offset),
                    pixels: chunk.min(hw - first),
                    c,
                    a: &stats.a[image * c..][..c],
                    b: &stats.b[image * c..][..c],
                    silu: self.silu,
                });
            }
        });
        stats
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
        let isa = Isa::current();
        let (chunk, chunks) = self.chunks();
        // First pass: dz in place of dy, and per channel the sums of dz and of dz (x - mean).
        let mut parts = scratch::take(n * chunks * 2 * c);
        let mut centres = scratch::take(n * c);
        let per_group = c / groups.max(1);
        for image in 0..n {
            for q in 0..c {
                centres[image * c + q] = stats.mean[image * groups + q / per_group];
            }
        }
        let (grad, to) = (Shared::new(dy_to_dx), Shared::new(&mut parts));
        for_each(n * chunks, |i| {
            let (image, first) = (i / chunks, i % chunks * chunk);
            let offset = (image * hw + first) * c;
            // SAFETY: pixels of this chunk; chunks do not overlap, and each has its own part.
            unsafe {
                isa.run(BackwardSums {
                    x: x.as_ptr().add(offset),
                    dy: grad.get().add(offset),
                    pixels: chunk.min(hw - first),
                    c,
                    a: &stats.a[image * c..][..c],
                    b: &stats.b[image * c..][..c],
                    centre: &centres[image * c..][..c],
                    sums: to.get().add(i * 2 * c),
                    silu: self.silu,
                });
            }
        });
        // Per channel: gradients of p and q; per group: the two means that keep dx orthogonal to 1 and x̂.
        ggamma.fill(0.0);
        gbeta.fill(0.0);
        let mut gfilm = gfilm;
        if let Some(gfilm) = gfilm.as_deref() {
            assert!(film.is_some(), "gfilm without film");
            expect_len("gfilm", gfilm, n * 2 * c);
        }
        // dx = a dz + slope x + offset
        let mut slope = scratch::take(n * c);
        let mut offset = scratch::take(n * c);
        for image in 0..n {
            for group in 0..groups {
                let mean = f64::from(stats.mean[image * groups + group]);
                let rstd = f64::from(stats.rstd[image * groups + group]);
                let channels = group * per_group..(group + 1) * per_group;
                let (mut m1, mut m2) = (0.0, 0.0);
                for q in channels.clone() {
                    let sum = |which: usize| -> f64 {
                        (0..chunks).map(|i| f64::from(parts[((image * chunks + i) * 2 + which) * c + q])).sum()
                    };
                    let (dq, dp) = (sum(0), sum(1) * rstd);
                    let scale = film.map_or(1.0, |film| 1.0 + f64::from(film[image * 2 * c + q]));
                    ggamma[q] += (dp * scale) as f32;
                    gbeta[q] += (dq * scale) as f32;
                    if let Some(gfilm) = gfilm.as_deref_mut() {
                        gfilm[image * 2 * c + q] = (dp * f64::from(gamma[q]) + dq * f64::from(beta[q])) as f32;
                        gfilm[image * 2 * c + c + q] = dq as f32;
                    }
                    let p = f64::from(gamma[q]) * scale;
                    m1 += p * dq;
                    m2 += p * dp;
                }
                let count = (per_group * hw) as f64;
                let (m1, m2) = (m1 / count, m2 / count);
                for q in channels {
                    slope[image * c + q] = (-rstd * rstd * m2) as f32;
                    offset[image * c + q] = (rstd * (mean * rstd * m2 - m1)) as f32;
                }
            }
        }
        // Second pass.
        for_each(n * chunks, |i| {
            let (image, first) = (i / chunks, i % chunks * chunk);
            let start = (image * hw + first) * c;
            // SAFETY: pixels of this chunk; chunks do not overlap.
            unsafe {
                isa.run(BackwardApply {
                    x: x.as_ptr().add(start),
                    dz: grad.get().add(start),
                    pixels: chunk.min(hw - first),
                    c,
                    a: &stats.a[image * c..][..c],
                    slope: &slope[image * c..][..c],
                    offset: &offset[image * c..][..c],
                });
            }
        });
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

    fn statistics(&self, isa: Isa, x: &[f32], gamma: &[f32], beta: &[f32], film: Option<&[f32]>) -> GroupStats {
        let Self { n, hw, c, groups, .. } = *self;
        let (chunk, chunks) = self.chunks();
        let mut parts = scratch::take(n * chunks * 2 * c);
        let to = Shared::new(&mut parts);
        for_each(n * chunks, |i| {
            let (image, first) = (i / chunks, i % chunks * chunk);
            let pivot = &x[image * hw * c..][..c];
            // SAFETY: pixels of this chunk; each chunk has its own part.
            unsafe {
                isa.run(Sums {
                    x: x.as_ptr().add((image * hw + first) * c),
                    pixels: chunk.min(hw - first),
                    c,
                    pivot,
                    sums: to.get().add(i * 2 * c),
                });
            }
        });
        let mut stats = GroupStats {
            mean: vec![0.0; n * groups],
            rstd: vec![0.0; n * groups],
            a: vec![0.0; n * c],
            b: vec![0.0; n * c],
        };
        if hw == 0 {
            return stats;
        }
        let per_group = c / groups;
        let mut means = vec![0.0f64; per_group];
        for image in 0..n {
            for group in 0..groups {
                let channels = group * per_group..(group + 1) * per_group;
                // Means of the channels, then the variance about the mean of those.
                let mut within = 0.0;
                for (mean, q) in means.iter_mut().zip(channels.clone()) {
                    let sum = |which: usize| -> f64 {
                        (0..chunks).map(|i| f64::from(parts[((image * chunks + i) * 2 + which) * c + q])).sum()
                    };
                    let from_pivot = sum(0) / hw as f64;
                    *mean = f64::from(x[image * hw * c + q]) + from_pivot;
                    within += (sum(1) / hw as f64 - from_pivot * from_pivot).max(0.0);
                }
                let mean = means.iter().sum::<f64>() / per_group as f64;
                let between: f64 = means.iter().map(|m| (m - mean) * (m - mean)).sum();
                let variance = (within + between) / per_group as f64;
                let rstd = 1.0 / (variance + f64::from(self.eps)).sqrt();
                stats.mean[image * groups + group] = mean as f32;
                stats.rstd[image * groups + group] = rstd as f32;
                for q in channels {
                    let (mut p, mut shift) = (f64::from(gamma[q]), f64::from(beta[q]));
                    if let Some(film) = film {
                        let scale = 1.0 + f64::from(film[image * 2 * c + q]);
                        p *= scale;
                        shift = shift * scale + f64::from(film[image * 2 * c + c + q]);
                    }
                    stats.a[image * c + q] = (p * rstd) as f32;
                    stats.b[image * c + q] = (shift - p * rstd * mean) as f32;
                }
            }
        }
        stats
    }
}

/// Per channel, the sums of `x - pivot` and of its square over `pixels`, into `sums[2][c]`.
struct Sums<'a> {
    x: *const f32,
    pixels: usize,
    c: usize,
    pivot: &'a [f32],
    sums: *mut f32,
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.c {
            let n = self.c - q;
            // SAFETY: channels q.. of every pixel.
            unsafe {
                let pivot = V::load_up_to(self.pivot.as_ptr().add(q), n);
                let (mut sum, mut squares) = (V::splat(0.0), V::splat(0.0));
                for i in 0..self.pixels {
                    let x = V::load_up_to(self.x.add(i * self.c + q), n) - pivot;
                    sum = sum + x;
                    squares = x.mul_add(x, squares);
                }
                sum.store_up_to(self.sums.add(q), n);
                squares.store_up_to(self.sums.add(self.c + q), n);
            }
            q += V::LANES;
        }
    }
}

/// `y = act(a x + b)`.
struct Apply<'a> {
    x: *const f32,
    y: *mut f32,
    pixels: usize,
    c: usize,
    a: &'a [f32],
    b: &'a [f32],
    silu: bool,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for i in 0..self.pixels {
            let mut q = 0;
            while q < self.c {
                let n = self.c - q;
                // SAFETY: channels q.. of pixel i.
                unsafe {
                    let x = V::load_up_to(self.x.add(i * self.c + q), n);
                    let (a, b) = (V::load_up_to(self.a.as_ptr().add(q), n), V::load_up_to(self.b.as_ptr().add(q), n));
                    let z = x.mul_add(a, b);
                    let y = if self.silu { math::silu(z) } else { z };
                    y.store_up_to(self.y.add(i * self.c + q), n);
                }
                q += V::LANES;
            }
        }
    }
}

/// dz in place of dy, and per channel the sums of dz and of dz (x - centre), into `sums[2][c]`.
struct BackwardSums<'a> {
    x: *const f32,
    dy: *mut f32,
    pixels: usize,
    c: usize,
    a: &'a [f32],
    b: &'a [f32],
    centre: &'a [f32],
    sums: *mut f32,
    silu: bool,
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut q = 0;
        while q < self.c {
            let n = self.c - q;
            // SAFETY: channels q.. of every pixel.
            unsafe {
                let (a, b) = (V::load_up_to(self.a.as_ptr().add(q), n), V::load_up_to(self.b.as_ptr().add(q), n));
                let centre = V::load_up_to(self.centre.as_ptr().add(q), n);
                let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
                for i in 0..self.pixels {
                    let at = i * self.c + q;
                    let x = V::load_up_to(self.x.add(at), n);
                    let mut dz = V::load_up_to(self.dy.add(at), n);
                    if self.silu {
                        dz = dz * math::silu_slope(x.mul_add(a, b));
                        dz.store_up_to(self.dy.add(at), n);
                    }
                    sum = sum + dz;
                    product = dz.mul_add(x - centre, product);
                }
                sum.store_up_to(self.sums.add(q), n);
                product.store_up_to(self.sums.add(self.c + q), n);
            }
            q += V::LANES;
        }
    }
}

/// `dx = a dz + slope x + offset`, in place of dz.
struct BackwardApply<'a> {
    x: *const f32,
    dz: *mut f32,
    pixels: usize,
    c: usize,
    a: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
}

impl Kernel for BackwardApply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        for i in 0..self.pixels {
            let mut q = 0;
            while q < self.c {
                let (n, at) = (self.c - q, i * self.c + q);
                // SAFETY: channels q.. of pixel i.
                unsafe {
                    let a = V::load_up_to(self.a.as_ptr().add(q), n);
                    let slope = V::load_up_to(self.slope.as_ptr().add(q), n);
                    let offset = V::load_up_to(self.offset.as_ptr().add(q), n);
                    let x = V::load_up_to(self.x.add(at), n);
                    let dz = V::load_up_to(self.dz.add(at), n);
                    dz.mul_add(a, x.mul_add(slope, offset)).store_up_to(self.dz.add(at), n);
                }
                q += V::LANES;
            }
        }
    }
}
