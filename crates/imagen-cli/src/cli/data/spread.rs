//! Quantiles of whole numbers.

/// Quantiles of whole numbers.
#[derive(serde::Serialize)]
pub(super) struct Spread {
    pub(super) min: usize,
    pub(super) tenth: usize,
    pub(super) median: usize,
    pub(super) ninetieth: usize,
    pub(super) max: usize,
    pub(super) mean: f64,
}

impl Spread {
    /// Of these numbers; none without any.
    pub(super) fn of(mut numbers: Vec<usize>) -> Option<Self> {
        numbers.sort_unstable();
        let last = numbers.len().checked_sub(1)?;
        let at = |part: f64| numbers[(last as f64 * part).round() as usize];
        let mean = numbers.iter().map(|&n| n as f64).sum::<f64>() / numbers.len() as f64;
        Some(Self { min: numbers[0], tenth: at(0.1), median: at(0.5), ninetieth: at(0.9), max: numbers[last], mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_knows_its_ends_and_its_middle() {
        let spread = Spread::of((0..=100).rev().collect()).unwrap();
        assert_eq!([spread.min, spread.tenth, spread.median, spread.ninetieth, spread.max], [0, 10, 50, 90, 100]);
        assert!((spread.mean - 50.0).abs() < 1e-9);
        assert_eq!(Spread::of(vec![7]).unwrap().median, 7);
        assert!(Spread::of(Vec::new()).is_none());
    }
}
