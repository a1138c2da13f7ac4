//! Axes of a chart: which range is shown, linear or by powers, and where its ticks stand.
//!
//! Ticks are numbers that people like (1, 2 or 5 times a power of ten) and are written as short as they can be.

/// The range that is shown on one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) log: bool,
}

/// Above this ratio of the largest number to the smallest, powers show more than a linear scale.
const LOG_FROM: f64 = 10.0;

impl Axis {
    /// An axis whose ends are the outermost numbers, or that begins at zero where zero is not far.
    pub(super) fn exact(values: impl Iterator<Item = f64>) -> Self {
        let (from, to) = ends(values);
        let from = if from >= 0.0 && from < 0.5 * to { 0.0 } else { from };
        let (from, to) = if from < to { (from, to) } else { (from - 0.5, to + 0.5) };
        Self { from, to, log: false }
    }

    /// A linear axis with some room; it begins at zero where zero is not far.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        let room = if high > low { 0.06 * (high - low) } else { 0.5 * high.abs().max(1e-9) };
        let from = if low >= 0.0 && low < 0.5 * high { 0.0 } else { low - room };
        Self { from, to: high + room, log: false }
    }

    /// An axis by powers where the numbers are positive and span more than a power, otherwise linear.
    pub(super) fn automatic(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = ends(values.clone());
        if low <= 0.0 || high / low < LOG_FROM {
            return Self::linear(values);
        }
        let room = (high / low).powf(0.04);
        Self { from: low / room, to: high * room, log: true }
    }

    /// Where a number lies: 0 at the beginning, 1 at the end; beyond them where it is outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let scale = |x: f64| if self.log { x.max(f64::MIN_POSITIVE).ln() } else { x };
        (scale(value) - scale(self.from)) / (scale(self.to) - scale(self.from))
    }

    /// The ticks within the range, about `wanted` of them, each with its label.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let values = if self.log { self.log_ticks(wanted) } else { self.linear_ticks(wanted) };
        values.into_iter().map(|value| (value, short(value))).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.to - self.from) / wanted as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.from / step - 1e-9).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let of = |multiples: &[f64]| -> Vec<f64> {
            let all = (first..=last).flat_map(|e| multiples.iter().map(move |m| m * 10f64.powi(e)));
            all.filter(|value| (self.from..=self.to).contains(value)).collect()
        };
        let finest = of(&[1.0, 2.0, 5.0]);
        let candidates = [finest, of(&[1.0, 3.0]), of(&[1.0])];
        let fits = candidates.iter().find(|ticks| ticks.len() <= wanted + 1);
        match fits {
            Some(ticks) => ticks.clone(),
            None => {
                let [_, _, powers] = candidates;
                let every = powers.len().div_ceil(wanted);
                powers.into_iter().step_by(every).collect()
            }
        }
    }
}

/// The smallest and the largest number; 0 and 1 where there is none.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if range.0 <= range.1 { range } else { (0.0, 1.0) }
}

/// A number as short as four digits allow: `0`, `0.05`, `2e-5`, `1500`, `25k`, `1.2M`.
pub(super) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    let trimmed = |x: f64, digits: usize| {
        let text = format!("{x:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match magnitude {
        0.0..0.0001 => {
            let exponent = magnitude.log10().floor() as i32;
            format!("{}e{exponent}", trimmed(value / 10f64.powi(exponent), 2))
        }
        0.0001..1.0 => trimmed(value, (3 - magnitude.log10().floor() as i32) as usize),
        1.0..10.0 => trimmed(value, 3),
        10.0..100.0 => trimmed(value, 2),
        100.0..10_000.0 => trimmed(value, 1),
        10_000.0..1e6 => format!("{}k", trimmed(value / 1e3, 1)),
        _ => format!("{}M", trimmed(value / 1e6, 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short() {
        let cases = [
            (0.0, "0"),
            (0.05, "0.05"),
            (0.012346, "0.01235"),
            (0.00002, "2e-5"),
            (0.000125, "0.000125"),
            (0.0000125, "1.25e-5"),
            (1.0, "1"),
            (3.25, "3.25"),
            (12.5, "12.5"),
            (-0.5, "-0.5"),
            (1500.0, "1500"),
            (25_000.0, "25k"),
            (1_250_000.0, "1.25M"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        let cases: [(Axis, &[f64]); 5] = [
            (Axis { from: 0.0, to: 2000.0, log: false }, &[0.0, 500.0, 1000.0, 1500.0, 2000.0]),
            (Axis { from: 0.9, to: 1.31, log: false }, &[0.9, 1.0, 1.1, 1.2, 1.3]),
            (Axis { from: -1.0, to: 1.0, log: false }, &[-1.0, -0.5, 0.0, 0.5, 1.0]),
            (Axis { from: 0.04, to: 1.2, log: true }, &[0.05, 0.1, 0.2, 0.5, 1.0]),
            (Axis { from: 0.9e-4, to: 2.0, log: true }, &[1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        ];
        for (axis, expected) in cases {
            let ticks: Vec<f64> = axis.ticks(5).into_iter().map(|(value, _)| value).collect();
            let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
            assert!(ticks.len() == expected.len() && ticks.iter().zip(expected).all(same), "{axis:?}: {ticks:?}");
        }
    }

    #[test]
    fn any_numbers_make_an_axis_with_ticks() {
        let cases: [&[f64]; 6] = [&[], &[0.0], &[3.0, 3.0], &[-2.0, 5.0], &[1e-9, 1e9], &[0.98, 0.99]];
        for values in cases {
            for axis in [
                Axis::exact(values.iter().copied()),
                Axis::linear(values.iter().copied()),
                Axis::automatic(values.iter().copied()),
            ] {
                let ticks = axis.ticks(5);
                assert!((1..12).contains(&ticks.len()), "{values:?}: {axis:?} {ticks:?}");
                assert!(ticks.iter().all(|(value, _)| (-0.01..1.01).contains(&axis.place(*value))), "{axis:?}");
                assert!(values.iter().all(|value| (0.0..=1.0).contains(&axis.place(*value))), "{values:?} {axis:?}");
            }
        }
    }
}
