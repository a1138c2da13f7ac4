//! Linear inverse problems with the prior that is in a denoiser: a picture of which M x was measured.
//!
//! Two ways, both with nothing but the denoiser's x̂: the stochastic ascent of Kadkhodaie & Simoncelli (arXiv 2007.13640,
//! algorithm 2), coarse to fine, with the partial projection onto what was measured; and ΠGDM (Song et al., ICLR 2023,
//! algorithm 1), a guided DDIM whose guidance is the denoiser's own Jacobian times what is missing.
//!
//! Pictures are `[height, width, channels]`, row-major, in [-1, 1], one at a time.

mod ascent;
mod guided;
mod operator;

pub use ascent::{Ascent, DenoiseAt, ascend};
pub use guided::{Denoise, Differentiated, guide};
pub use operator::{BlockMeans, Frequencies, Grey, Operator, Pixels};

/// A step of a restoration.
#[derive(Clone, Debug)]
pub struct InverseStep {
    /// Steps so far, this one included.
    pub step: usize,
    /// Standard deviation of the noise that was in the picture before the step.
    pub sigma: f64,
    /// The denoiser's estimate of the picture.
    pub x_hat: Vec<f32>,
}

/// A restored picture.
#[derive(Clone, Debug)]
pub struct Inverse {
    /// Its values.
    pub picture: Vec<f32>,
    /// Steps that were taken.
    pub steps: usize,
    /// Root mean square of M x − y: how far what would be measured of it is from what was.
    pub residual: f64,
}

impl Inverse {
    fn of(picture: Vec<f32>, steps: usize, operator: &dyn Operator, measured: &[f32]) -> Self {
        let residual = root_mean_square(difference(&operator.measure(&picture), measured));
        Self { picture, steps, residual }
    }
}

fn difference<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    a.iter().zip(b).map(|(a, b)| a - b)
}

fn root_mean_square(values: impl Iterator<Item = f32>) -> f64 {
    let (mut sum, mut count) = (0.0, 0u64);
    for value in values {
        sum += f64::from(value) * f64::from(value);
        count += 1;
    }
    (sum / count.max(1) as f64).sqrt()
}

/// The part of a picture that is missing from what was measured: M†(y − M x).
fn missing(operator: &dyn Operator, measured: &[f32], x: &[f32]) -> Vec<f32> {
    operator.pseudo_inverse(&difference(measured, &operator.measure(x)).collect::<Vec<f32>>())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::diffusion::{LogSnr, NoiseSchedule};
    use crate::rng::Rng;

    /// Pictures of one row whose neighbours are alike: normal, with the covariance 0.3² · 0.9^|i − j|.
    const N: usize = 12;

    fn covariance() -> Vec<Vec<f64>> {
        let entry = |i: usize, j: usize| 0.09 * 0.9f64.powi(i.abs_diff(j) as i32);
        (0..N).map(|i| (0..N).map(|j| entry(i, j)).collect()).collect()
    }

    /// The solution of A x = b, by elimination.
    fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        let n = b.len();
        for i in 0..n {
            for k in i + 1..n {
                let factor = a[k][i] / a[i][i];
                let above = a[i].clone();
                a[k].iter_mut().zip(&above).skip(i).for_each(|(below, above)| *below -= factor * above);
                b[k] -= factor * b[i];
            }
        }
        for i in (0..n).rev() {
            b[i] = (b[i] - (i + 1..n).map(|j| a[i][j] * b[j]).sum::<f64>()) / a[i][i];
        }
        b
    }

    /// The best estimate of a picture behind x + σ ε: C (C + σ²)⁻¹ y.
    fn denoised(y: &[f32], sigma: f64) -> Vec<f32> {
        let c = covariance();
        let mut noisy = c.clone();
        (0..N).for_each(|i| noisy[i][i] += sigma * sigma);
        let inner = solve(noisy, y.iter().map(|y| f64::from(*y)).collect());
        (0..N).map(|i| (0..N).map(|j| c[i][j] * inner[j]).sum::<f64>() as f32).collect()
    }

    /// What the rest must be on average where the pixels 0 to 3 and 9 are known.
    fn posterior(known: &[usize], values: &[f32]) -> Vec<f64> {
        let c = covariance();
        let among = known.iter().map(|i| known.iter().map(|j| c[*i][*j]).collect()).collect();
        let weights = solve(among, values.iter().map(|value| f64::from(*value)).collect());
        (0..N).map(|i| known.iter().zip(&weights).map(|(j, weight)| c[i][*j] * weight).sum()).collect()
    }

    /// The mean of pictures that are restored from seeds, and the largest residual.
    fn mean_of(restore: impl Fn(u64) -> Inverse) -> (Vec<f64>, f64) {
        const SEEDS: u64 = 300;
        let (mut mean, mut residual) = (vec![0.0; N], 0.0f64);
        for seed in 0..SEEDS {
            let found = restore(seed);
            residual = residual.max(found.residual);
            mean.iter_mut().zip(&found.picture).for_each(|(mean, x)| *mean += f64::from(*x) / SEEDS as f64);
        }
        (mean, residual)
    }

    const KNOWN: [usize; 5] = [0, 1, 2, 3, 9];
    const VALUES: [f32; 5] = [0.5, 0.45, 0.3, 0.4, -0.3];

    fn operator() -> Pixels {
        Pixels::new([1, N, 1], &(0..N).map(|i| KNOWN.contains(&i)).collect::<Vec<bool>>()).unwrap()
    }

    fn assert_near_posterior(found: &(Vec<f64>, f64), tolerance: f64) {
        let (mean, residual) = found;
        assert!(*residual < 1e-6, "what was measured is in the picture: {residual}");
        for (i, (found, expected)) in mean.iter().zip(posterior(&KNOWN, &VALUES)).enumerate() {
            assert!((found - expected).abs() < tolerance, "{i}: {found} and {expected}");
        }
    }

    #[test]
    fn the_ascent_of_a_normal_prior_is_the_posterior_mean_on_average() {
        // the less noise goes at a step, the nearer
        let ascent = Ascent { first: 0.02, noise: 0.02, ..Ascent::default() };
        let found = mean_of(|seed| {
            let mut denoise = |y: &[f32], sigma| Ok(denoised(y, sigma));
            ascend(&operator(), &VALUES, &ascent, Rng::new(seed), &mut denoise, &mut |_| ControlFlow::Continue(()))
                .unwrap()
        });
        assert_near_posterior(&found, 0.03);
    }

    #[test]
    fn guidance_by_the_jacobian_is_the_posterior_mean_on_average() {
        let schedule = NoiseSchedule::Cosine;
        let found = mean_of(|seed| {
            let mut denoise = |z: &[f32], level: LogSnr, missing: &mut dyn FnMut(&[f32]) -> Vec<f32>| {
                let (alpha, sigma) = (level.alpha(), level.sigma() / level.alpha());
                let y: Vec<f32> = z.iter().map(|z| (f64::from(*z) / alpha) as f32).collect();
                let x_hat = denoised(&y, sigma);
                // the denoiser is linear and symmetric: its Jacobian by z is itself over α
                let gradient = denoised(&missing(&x_hat), sigma).into_iter().map(|g| (f64::from(g) / alpha) as f32);
                Ok(Differentiated { gradient: gradient.collect(), x_hat })
            };
            guide(&operator(), &VALUES, schedule, 60, Rng::new(seed), &mut denoise, &mut |_| ControlFlow::Continue(()))
                .unwrap()
        });
        assert_near_posterior(&found, 0.06);
    }

    #[test]
    fn whoever_watches_can_stop() {
        let mut seen = 0;
        let mut denoise = |y: &[f32], sigma| Ok(denoised(y, sigma));
        let found = ascend(&operator(), &VALUES, &Ascent::default(), Rng::new(1), &mut denoise, &mut |step| {
            seen = step.step;
            if step.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((seen, found.unwrap().steps), (3, 3));
        let ascent = Ascent::default();
        let mut go_on = |_: &InverseStep| ControlFlow::Continue(());
        let whole = ascend(&operator(), &VALUES, &ascent, Rng::new(1), &mut denoise, &mut go_on).unwrap();
        assert_eq!(whole.steps, ascent.steps(), "how many steps there are is known before");
    }
}
