//! The mean of answers that come in clusters, of a prompt and of a rater, with the bootstrap's standard error.
//!
//! Whole clusters are drawn again with putting back, so that answers about one prompt may be as alike as they are, and those
//! of one rater too: the variances of both ways add up, less the one of independent answers that both contain (Cameron,
//! Gelbach and Miller, 2011), with Satterthwaite's degrees of freedom, which are few where few raters answered. The
//! standard error is widened as for few clusters (√(m/(m−1)) and Student's quantile): five prompts alone would make it too
//! small. Neither it nor the interval is below that of independent answers with two added for each side (Agresti and Coull,
//! 1998), so that unanimity is not mistaken for certainty.

use crate::eval::Interval;
use crate::rng::Rng;

/// Sets the drawing of raters apart from that of prompts.
const RATERS: u64 = 0x7261_7465;
/// Times that the clusters are drawn again.
pub(super) const REPLICATES: usize = 2000;

/// Answers about one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cluster {
    count: f64,
    sum: f64,
    squares: f64,
}

/// A mean within [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    /// Standard errors with their degrees of freedom, clustered and independent; none for fewer than two clusters.
    errors: Option<[(f64, usize); 2]>,
}

impl Estimate {
    /// The larger of the two errors.
    pub(super) fn standard_error(&self) -> Option<f64> {
        self.errors.map(|[clustered, independent]| clustered.0.max(independent.0))
    }

    /// Of 95 %, within [0, 1].
    pub(super) fn interval(&self) -> Option<Interval> {
        self.interval_among(1)
    }

    /// Of 95 % for so many intervals together, within [0, 1].
    pub(super) fn interval_among(&self, intervals: usize) -> Option<Interval> {
        let of = |(error, degrees)| Interval::simultaneous(self.mean, error, degrees, intervals);
        self.errors.map(|errors| {
            let [a, b] = errors.map(of);
            Interval { low: a.low.min(b.low).max(0.0), high: a.high.max(b.high).min(1.0) }
        })
    }
}

impl Cluster {
    /// Adds an answer, a number within [0, 1].
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }
}

/// The mean of all answers; `None` without any. The same key draws the same clusters.
pub(super) fn estimate(clusters: &[Cluster], rng: Rng) -> Option<Estimate> {
    let mut all = Cluster::default();
    for cluster in clusters {
        all.count += cluster.count;
        all.sum += cluster.sum;
        all.squares += cluster.squares;
    }
    if all.count == 0.0 {
        return None;
    }
    let (m, mean) = (clusters.len(), all.sum / all.count);
    if m < 2 {
        return Some(Estimate { mean, errors: None });
    }
    let few = (m as f64 / (m as f64 - 1.0)).sqrt();
    let errors = [(few * spread(clusters, rng), m - 1), (independent(all), all.count as usize - 1)];
    Some(Estimate { mean, errors: Some(errors) })
}

/// The mean of answers that lie in clusters two ways, as an answer has both a prompt and a rater; `None` without any. One
/// rater says nothing of others: then prompts alone are drawn again.
pub(super) fn crossed(prompts: &[Cluster], raters: &[Cluster], rng: Rng) -> Option<Estimate> {
    let Estimate { mean, errors } = estimate(prompts, rng)?;
    let by_rater = if raters.len() < 2 { None } else { estimate(raters, rng.fold(RATERS))?.errors };
    let (Some([(prompt, of_prompts), independent]), Some([(rater, of_raters), _])) = (errors, by_rater) else {
        return Some(Estimate { mean, errors });
    };
    let count: f64 = prompts.iter().map(|cluster| cluster.count).sum();
    let squares: f64 = prompts.iter().map(|cluster| cluster.squares).sum();
    let (prompt, rater, both) = (prompt.powi(2), rater.powi(2), (squares / count - mean * mean) / count);
    let variance = (prompt + rater - both).max(prompt).max(rater);
    // clusters that never differ leave nothing to divide by; the independent error stands for them
    let of = |variance: f64, degrees: usize| variance * variance / degrees as f64;
    let parts = of(prompt, of_prompts) + of(rater, of_raters);
    let degrees = if parts > 0.0 { (variance * variance / parts) as usize } else { of_prompts.min(of_raters) };
    Some(Estimate { mean, errors: Some([(variance.sqrt(), degrees.max(1)), independent]) })
}

/// The standard deviation of the mean over the replicates.
fn spread(clusters: &[Cluster], rng: Rng) -> f64 {
    let m = clusters.len();
    let replicate = |replicate: usize| {
        let (mut count, mut sum) = (0.0, 0.0);
        for u in rng.fold(replicate as u64).uniform(m) {
            let cluster = &clusters[((f64::from(u) * m as f64) as usize).min(m - 1)];
            count += cluster.count;
            sum += cluster.sum;
        }
        sum / count
    };
    let means: Vec<f64> = (0..REPLICATES).map(replicate).collect();
    let mean = means.iter().sum::<f64>() / REPLICATES as f64;
    (means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (REPLICATES - 1) as f64).sqrt()
}

/// The standard error as if every answer stood for itself, with two answers added for each side.
fn independent(all: Cluster) -> f64 {
    let (n, sum, squares) = (all.count + 4.0, all.sum + 2.0, all.squares + 2.0);
    ((squares / n - (sum / n).powi(2)) / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of `raters` about each of `prompts`, whose rates lie `spread` around `rate`: 1, ½ or 0.
    fn simulate(rng: Rng, prompts: u64, raters: u64, rate: f64, spread: f64, indifferent: f64) -> Vec<Cluster> {
        let cluster = |prompt: u64| {
            let rng = rng.fold(prompt);
            let rate = rate + spread * (2.0 * rng.fold(0).unit() - 1.0);
            let mut cluster = Cluster::default();
            for rater in 1..=raters {
                let rng = rng.fold(rater);
                let side = f64::from(u8::from(rng.fold(1).unit() < rate));
                // whoever is indifferent has the same expectation only where it is mixed in around one half
                let value = if rng.fold(0).unit() < indifferent { 0.5 } else { side };
                cluster.add(value);
            }
            cluster
        };
        (0..prompts).map(cluster).collect()
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        // prompts, raters, rate, how far prompts differ, share of the indifferent
        let cases = [
            (5, 25, 0.5, 0.0, 0.2),
            (5, 25, 0.6, 0.3, 0.0),
            (10, 5, 0.5, 0.4, 0.3),
            (20, 25, 0.7, 0.25, 0.1),
            (55, 25, 0.5, 0.1, 0.2),
            (200, 3, 0.8, 0.15, 0.0),
        ];
        for (case, (prompts, raters, rate, spread, indifferent)) in cases.into_iter().enumerate() {
            let truth = indifferent * 0.5 + (1.0 - indifferent) * rate;
            let rounds = 600;
            let held = (0..rounds).filter(|round| {
                let rng = Rng::new(*round).fold(case as u64);
                let clusters = simulate(rng.fold(0), prompts, raters, rate, spread, indifferent);
                let estimate = estimate(&clusters, rng.fold(1)).unwrap();
                estimate.interval().unwrap().contains(truth)
            });
            let held = held.count() as f64 / rounds as f64;
            // 95 % within three standard errors of 600 rounds; the wider of two intervals holds a little more
            assert!((0.92..=0.992).contains(&held), "case {case}: {held}");
        }
    }

    /// Answers of each of `raters` about each of `prompts`, both of which lean to a side: clusters of prompts, and of raters.
    fn simulate_both(rng: Rng, [prompts, raters]: [u64; 2], rate: f64, spread: [f64; 2]) -> [Vec<Cluster>; 2] {
        let mut by = [vec![Cluster::default(); prompts as usize], vec![Cluster::default(); raters as usize]];
        let lean = |way: u64, k: u64| spread[way as usize] * (2.0 * rng.fold(way).fold(k).unit() - 1.0);
        for prompt in 0..prompts {
            for rater in 0..raters {
                let rate = rate + lean(0, prompt) + lean(1, rater);
                let value = f64::from(u8::from(rng.fold(2).fold(prompt).fold(rater).unit() < rate));
                by[0][prompt as usize].add(value);
                by[1][rater as usize].add(value);
            }
        }
        by
    }

    #[test]
    fn intervals_hold_with_few_raters_who_differ() {
        for (case, (size, rate, spread, drawn_by_prompts_alone)) in [
            ([50, 3], 0.6, [0.2, 0.2], 0.75),
            ([50, 8], 0.6, [0.2, 0.2], 0.85),
            ([50, 25], 0.6, [0.2, 0.2], 0.95),
            ([200, 3], 0.5, [0.1, 0.3], 0.5),
            ([200, 25], 0.5, [0.1, 0.3], 0.75),
            ([20, 8], 0.7, [0.25, 0.0], 1.0),
        ]
        .into_iter()
        .enumerate()
        {
            let rounds = 300;
            let (mut held, mut alone) = (0, 0);
            for round in 0..rounds {
                let rng = Rng::new(round).fold(100 + case as u64);
                let [prompts, raters] = simulate_both(rng.fold(0), size, rate, spread);
                let holds = |estimate: Estimate| estimate.interval().unwrap().contains(rate);
                held += u32::from(holds(crossed(&prompts, &raters, rng.fold(1)).unwrap()));
                alone += u32::from(holds(estimate(&prompts, rng.fold(1)).unwrap()));
            }
            let [held, alone] = [held, alone].map(|held| f64::from(held) / rounds as f64);
            println!("{size:?}, spread {spread:?}: {held:.3}, by prompts alone {alone:.3}");
            assert!(held >= 0.91, "case {case}: {held}");
            assert!(alone <= drawn_by_prompts_alone, "case {case}: {alone} by prompts alone");
        }
    }

    #[test]
    fn clusters_that_differ_widen_the_interval_and_independent_answers_give_the_closed_form() {
        let alike = |k: usize| {
            let mut cluster = Cluster::default();
            (0..20).for_each(|answer| cluster.add(f64::from(u8::from((answer + k) % 2 == 0))));
            cluster
        };
        let apart = |k: usize| {
            let mut cluster = Cluster::default();
            (0..20).for_each(|_| cluster.add(f64::from(u8::from(k % 2 == 0))));
            cluster
        };
        let of =
            |make: &dyn Fn(usize) -> Cluster| estimate(&(0..50).map(make).collect::<Vec<_>>(), Rng::new(3)).unwrap();
        let (alike, apart) = (of(&alike), of(&apart));
        assert_eq!((alike.mean, apart.mean), (0.5, 0.5));
        // √(¼ / 1000) where every answer is its own, √(¼ / 49) where a prompt's answers are one
        assert!((alike.standard_error().unwrap() - (0.25f64 / 1004.0).sqrt()).abs() < 1e-4, "{alike:?}");
        assert!((apart.standard_error().unwrap() - (0.25f64 / 49.0).sqrt()).abs() < 3e-3, "{apart:?}");
    }

    #[test]
    fn unanimity_is_not_certainty_and_one_prompt_has_no_interval() {
        let mut all = Cluster::default();
        (0..25).for_each(|_| all.add(1.0));
        let unanimous = estimate(&[all; 5], Rng::new(0)).unwrap();
        let interval = unanimous.interval().unwrap();
        assert!(unanimous.mean == 1.0 && interval.high == 1.0 && (0.9..0.99).contains(&interval.low), "{interval:?}");
        assert_eq!(estimate(&[all], Rng::new(0)).unwrap().interval(), None);
        assert_eq!(estimate(&[], Rng::new(0)), None);
    }
}
