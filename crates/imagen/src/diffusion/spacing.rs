//! Where between noise and picture the steps of sampling lie, and at which of them something holds.

use std::fmt;
use std::str::FromStr;

use super::{LogSnr, NoiseSchedule, Time};
use crate::error::{Error, Result};
use crate::names;

/// How far the levels of sampling are apart. Written `time`, `log-snr`, `rho` or `rho:5`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Spacing {
    /// Equal times t = 1, 1 − 1/N, …, 1/N, as in the paper.
    #[default]
    Time,
    /// Equal distances of the log-SNR, from σ/α = 80 to 0.002 as far as the schedule has them.
    LogSnr,
    /// Equal distances of (σ/α)^(1/ρ), from 80 to 0.002 as far as the schedule has them: the larger ρ, the more steps near the
    /// picture (EDM, Karras et al., arXiv 2206.00364, eq. 5).
    Rho {
        /// ρ, from 1 to 100; 7.
        rho: f64,
    },
}

const RHO: f64 = 7.0;
/// σ/α of the first and the last level of EDM.
const MOST: f64 = 80.0;
const LEAST: f64 = 0.002;

impl Spacing {
    /// Every spacing.
    pub const ALL: [Self; 3] = [Self::Time, Self::LogSnr, Self::Rho { rho: RHO }];

    /// `steps` levels of a schedule, the most noise first.
    pub fn levels(self, schedule: NoiseSchedule, steps: usize) -> Vec<LogSnr> {
        if self == Self::Time {
            let time = |index: usize| Time::new((steps - index) as f64 / steps as f64).expect("in [0, 1]");
            return (0..steps).map(|index| schedule.log_snr(time(index))).collect();
        }
        let [most, least] = [Time::ONE, Time::ZERO].map(|time| schedule.log_snr(time).noise_ratio());
        let (first, last) = (MOST.clamp(least, most), LEAST.clamp(least, most));
        let ratio = |index: usize| {
            let part = index as f64 / (steps - 1).max(1) as f64;
            match self {
                Self::Rho { rho } => (first.powf(1.0 / rho) * (1.0 - part) + last.powf(1.0 / rho) * part).powf(rho),
                _ => (first.ln() * (1.0 - part) + last.ln() * part).exp(),
            }
        };
        (0..steps).map(|index| LogSnr::new(-2.0 * ratio(index).ln())).collect()
    }
}

impl fmt::Display for Spacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Time => f.pad("time"),
            Self::LogSnr => f.pad("log-snr"),
            Self::Rho { rho } => names::write(f, "rho", rho, RHO),
        }
    }
}

impl FromStr for Spacing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, setting) = names::split(text);
        match (names::find("spacing", &Self::ALL, name)?, setting) {
            (spacing, None) => Ok(spacing),
            (Self::Rho { .. }, Some(rho)) => Ok(Self::Rho { rho: names::number("rho", rho, 1.0..=100.0)? }),
            (spacing, Some(setting)) => Err(names::no_setting(spacing, setting)),
        }
    }
}

names::by_text!(Spacing);

/// Levels of noise, by σ/α. Written `0.3-5`; `0-inf` is all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    /// Whether a level lies within: above the lower end, and at most at the upper one.
    pub fn holds(self, level: LogSnr) -> bool {
        let ratio = level.noise_ratio();
        ratio > self.low && ratio <= self.high
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.low, self.high))
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
        let ends = text.split_once('-').and_then(|(low, high)| Some((number(low)?, number(high)?)));
        ends.filter(|(low, high)| low < high).map(|(low, high)| Self { low, high }).ok_or_else(|| {
            Error::usage(format!("interval '{text}': expected two levels of noise sigma/alpha, such as 0.3-5 or 0-inf"))
        })
    }
}

names::by_text!(Interval);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_fall_from_noise_to_picture_within_the_schedule() {
        for spacing in Spacing::ALL {
            for schedule in NoiseSchedule::ALL {
                for steps in [1, 2, 18] {
                    let levels = spacing.levels(schedule, steps);
                    assert_eq!(levels.len(), steps);
                    assert!(levels.windows(2).all(|pair| pair[0].get() < pair[1].get()), "{spacing}, {schedule}");
                    let [first, last] = [Time::ONE, Time::ZERO].map(|time| schedule.log_snr(time).get());
                    assert!(levels.iter().all(|level| (first - 1e-9..=last + 1e-9).contains(&level.get())));
                }
            }
        }
    }

    #[test]
    fn an_interval_is_read_as_it_is_written() {
        let interval: Interval = "0.3-5".parse().unwrap();
        assert_eq!(interval.to_string(), "0.3-5");
        let at = |ratio: f64| interval.holds(LogSnr::new(-2.0 * ratio.ln()));
        assert_eq!([0.29, 0.31, 4.9, 5.1].map(at), [false, true, true, false]);
        assert!("0-inf".parse::<Interval>().unwrap().holds(LogSnr::new(-20.0)));
        for text in ["", "3", "5-0.3", "a-b", "1-1", "-1-2", "nan-1"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
