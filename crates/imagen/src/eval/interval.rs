//! Intervals of 95 %: of a rate, and of an estimate whose standard error is known.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The normal distribution's quantile of 0.975.
const Z: f64 = 1.959_963_984_540_054;

/// An interval that holds the true value in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Around an estimate with this standard error, which itself was estimated with so many degrees of freedom.
    pub(super) fn student(estimate: f64, standard_error: f64, degrees: usize) -> Self {
        Self::simultaneous(estimate, standard_error, degrees, 1)
    }

    /// Wide enough that of so many intervals all hold their values in 95 of 100 cases (Bonferroni's inequality).
    pub(super) fn simultaneous(estimate: f64, standard_error: f64, degrees: usize, intervals: usize) -> Self {
        let reach = student_quantile(degrees, 1.0 - 0.025 / intervals.max(1) as f64) * standard_error;
        Self { low: estimate - reach, high: estimate + reach }
    }

    /// Whether a value lies inside.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The mean of independent values and its interval; none of fewer than two.
pub fn mean(values: &[f64]) -> (f64, Option<Interval>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let interval = (values.len() > 1).then(|| Interval::student(mean, (variance / n).sqrt(), values.len() - 1));
    (mean, interval)
}

/// The interval of a rate of which `hits` in `of` were seen (Wilson, 1927); everything where nothing was seen.
pub fn wilson(hits: usize, of: usize) -> Interval {
    if of == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, p, z2) = (of as f64, hits as f64 / of as f64, Z * Z);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let reach = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // rounding must not push the ends of 0 % and 100 % outside
    Interval { low: (centre - reach).max(0.0).min(p), high: (centre + reach).min(1.0).max(p) }
}

/// The quantile `p` of Student's distribution; infinite without degrees of freedom.
fn student_quantile(degrees: usize, p: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees as f64).map_or(f64::INFINITY, |student| student.inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_gives_the_published_intervals() {
        // values of statsmodels' proportion_confint(method="wilson")
        for (hits, of, low, high) in [
            (0, 10, 0.0, 0.277_533),
            (10, 10, 0.722_467, 1.0),
            (38, 40, 0.834_966, 0.986_181),
            (1, 2, 0.094_531, 0.905_469),
        ] {
            let interval = wilson(hits, of);
            let close = |a: f64, b: f64| (a - b).abs() < 2e-5;
            assert!(close(interval.low, low) && close(interval.high, high), "{hits} of {of}: {interval:?}");
        }
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        let (value, interval) = mean(&[1.0, 2.0, 3.0, 4.0]);
        // 3.182 · √(5/3 / 4)
        let reach = interval.unwrap().high - value;
        assert!((value - 2.5).abs() < 1e-12 && (reach - 2.054_260).abs() < 1e-5, "{value} {reach}");
        assert_eq!(mean(&[7.0]), (7.0, None));
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (degrees, p, expected) in [
            (1, 0.975, 12.706),
            (5, 0.975, 2.571),
            (30, 0.975, 2.042),
            (1_000_000, 0.975, 1.960),
            (4, 0.995, 4.604),
            (60, 0.9995, 3.460),
        ] {
            let found = student_quantile(degrees, p);
            assert!((found - expected).abs() < 6e-4, "{degrees} at {p}: {found}, expected {expected}");
        }
        assert_eq!(student_quantile(0, 0.975), f64::INFINITY);
    }
}
