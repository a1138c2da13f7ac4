//! What a run says about itself in numbers: `metrics.jsonl`, one JSON object a line.
//!
//! A line of kind `train` is the mean over the steps since the line before; it ends where `train.log_every` or a
//! checkpoint says. So there is a line's end at every saved step, and a run that goes on from there cuts off what lies
//! beyond and neither loses a step nor counts one twice. Lines are appended whole, by one write each; what a killed
//! program or a full disk left half-written is cut off as well.
//!
//! Deliberately not here: what TensorBoard reads (`event_file`), and any drawing of curves.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::report::{LossByTime, ProbeReport, QUARTERS, StepReport};
use crate::error::{Context, Error, Result};
use crate::input;

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MetricsLine {
    /// Means over some steps.
    Train(Interval),
    /// What the captions are worth.
    Probe(ProbeReport),
    /// The averaged weights on pictures that are not trained on.
    Validation(Validated),
}

/// A validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validated {
    /// Steps taken.
    pub step: u64,
    /// Mean loss; null where it was not finite.
    pub loss: Option<f64>,
}

impl MetricsLine {
    /// The step after which it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(interval) => interval.step,
            Self::Probe(probe) => probe.step,
            Self::Validation(validated) => validated.step,
        }
    }
}

/// Means over the steps since the line before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The last of the steps, counted from 1.
    pub step: u64,
    /// How many steps.
    pub steps: u64,
    /// How many of them were skipped because something was not finite; they count in no mean.
    pub skipped: u64,
    /// Mean loss; null, like the other means, where all steps were skipped.
    pub loss: Option<f64>,
    /// Mean loss of the pictures whose t lies in each quarter of [0, 1]; null where none did.
    pub loss_by_t: [Option<f64>; QUARTERS],
    /// Mean cross-entropy of the auxiliary head's names; absent where it is not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming: Option<f64>,
    /// Mean norm of the gradient before clipping.
    pub gradient_norm: Option<f64>,
    /// Mean learning rate.
    pub lr: Option<f64>,
    /// Pictures that the steps learned from.
    pub pictures: u64,
    /// Wall time of the steps, in seconds; checkpoints, samples and probes do not count.
    pub seconds: f64,
    /// `pictures / seconds`.
    pub pictures_per_second: Option<f64>,
    /// The seconds in which ranks summed their gradients; absent with one rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_seconds: Option<f64>,
    /// The seconds in which the first rank waited for the others' gradients; absent with one rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_seconds: Option<f64>,
}

/// Steps whose means make the next line.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    step: u64,
    steps: u64,
    skipped: u64,
    loss: f64,
    by_time: LossByTime,
    naming: Option<f64>,
    gradient_norm: f64,
    lr: f64,
    pictures: u64,
    seconds: f64,
    exchange: f64,
    waiting: f64,
}

impl Window {
    /// Takes a step in.
    pub(super) fn add(&mut self, report: &StepReport) {
        self.step = report.step;
        self.steps += 1;
        self.loss += report.loss;
        self.by_time.merge(&report.loss_by_time);
        if let Some(naming) = report.naming {
            *self.naming.get_or_insert_default() += naming;
        }
        self.gradient_norm += report.gradient_norm;
        self.lr += report.lr;
        self.pictures += report.pictures as u64;
        self.seconds += report.seconds;
        self.exchange += report.exchange_seconds;
        self.waiting += report.waiting_seconds;
    }

    /// A step counts as taken and changed nothing.
    pub(super) fn skip(&mut self, step: u64) {
        self.step = step;
        self.steps += 1;
        self.skipped += 1;
    }

    /// The means, if there was a step; the next window begins.
    pub(super) fn take(&mut self) -> Option<Interval> {
        let window = std::mem::take(self);
        let taken = window.steps - window.skipped;
        let mean = |sum: f64| (taken > 0).then(|| sum / taken as f64);
        let exchanged = window.exchange > 0.0;
        (window.steps > 0).then(|| Interval {
            step: window.step,
            steps: window.steps,
            skipped: window.skipped,
            loss: mean(window.loss),
            loss_by_t: window.by_time.means(),
            naming: window.naming.and_then(mean),
            gradient_norm: mean(window.gradient_norm),
            lr: mean(window.lr),
            pictures: window.pictures,
            seconds: window.seconds,
            pictures_per_second: (taken > 0).then(|| window.pictures as f64 / window.seconds.max(1e-9)),
            exchange_seconds: exchanged.then_some(window.exchange),
            waiting_seconds: exchanged.then_some(window.waiting),
        })
    }
}

/// The file in a run's folder.
pub fn metrics_path(folder: &Path) -> PathBuf {
    folder.join("metrics.jsonl")
}

/// The lines of a run, in order; none where the run has no such file. A line that is not whole ends the reading: it is
/// being written, or its writer was killed.
///
/// # Errors
/// `Io`; `Data`, naming the line, where a whole line is none of ours.
pub fn read_metrics(folder: &Path) -> Result<Vec<MetricsLine>> {
    let path = metrics_path(folder);
    let Some(bytes) = input::read_if_there(&path, u64::MAX)? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate();
    let parse = |(number, line): (usize, &str)| {
        let expected = "expected a JSON object that `train` wrote; move the file away to go without its numbers";
        serde_json::from_str(line)
            .map_err(|e| Error::data(expected).with_source(e))
            .context(|| format!("{}, line {}", path.display(), number + 1))
    };
    whole.map(parse).collect()
}

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub(super) struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    /// Opens the file of a run that goes on from `step`, cuts off what lies beyond, and says what else was cut off.
    pub(super) fn open(folder: &Path, step: u64) -> Result<(Self, Option<String>)> {
        let path = metrics_path(folder);
        let io = |e| Error::io("write", &path, e);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let (kept, damaged) = kept_bytes(&bytes, step);
        if kept < bytes.len() {
            file.set_len(kept as u64).map_err(io)?;
        }
        let warning = damaged.map(|line| format!("{}: cut off at line {line}, which is damaged", path.display()));
        Ok((Self { file, path }, warning))
    }

    /// Appends a line.
    pub(super) fn write(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("a line is plain data");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes what was written outlive the machine's power.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("write", &self.path, e))
    }
}

/// How many bytes are whole lines up to `step`, and the number of the first line that is whole but damaged.
fn kept_bytes(bytes: &[u8], step: u64) -> (usize, Option<usize>) {
    let mut kept = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice::<MetricsLine>(line) {
            Ok(line) if line.step() > step => break,
            Ok(_) => kept += line.len(),
            Err(_) => return (kept, Some(number + 1)),
        }
    }
    (kept, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Time;

    fn report(step: u64, loss: f64, time: f64) -> StepReport {
        let mut loss_by_time = LossByTime::default();
        loss_by_time.add(Time::new(time).unwrap(), loss);
        StepReport {
            step,
            of: 100,
            loss,
            loss_by_time,
            naming: Some(3.0 * loss),
            lr: 1e-3,
            gradient_norm: 2.0 * loss,
            seconds: 0.5,
            exchange_seconds: 0.0,
            waiting_seconds: 0.0,
            pictures: 8,
        }
    }

    fn interval(steps: std::ops::RangeInclusive<u64>) -> MetricsLine {
        let mut window = Window::default();
        steps.for_each(|step| window.add(&report(step, step as f64, 0.1)));
        MetricsLine::Train(window.take().unwrap())
    }

    #[test]
    fn a_line_is_the_mean_over_its_steps_and_each_picture_counts_in_its_quarter() {
        let mut window = Window::default();
        assert_eq!(window.take(), None);
        for (step, loss, time) in [(11, 1.0, 0.0), (12, 3.0, 0.2), (13, 8.0, 0.75), (14, 4.0, 1.0)] {
            window.add(&report(step, loss, time));
        }
        let line = window.take().unwrap();
        assert_eq!((line.step, line.steps, line.pictures, line.seconds), (14, 4, 32, 2.0));
        assert_eq!((line.loss, line.gradient_norm, line.pictures_per_second), (Some(4.0), Some(8.0), Some(16.0)));
        assert_eq!(line.naming, Some(12.0));
        assert_eq!(line.loss_by_t, [Some(2.0), None, None, Some(6.0)]);
        assert!((line.lr.unwrap() - 1e-3).abs() < 1e-15);
        assert_eq!(window.take(), None, "the next window is empty");
    }

    #[test]
    fn a_skipped_step_counts_as_a_step_and_in_no_mean() {
        let mut window = Window::default();
        window.add(&report(1, 3.0, 0.5));
        window.skip(2);
        let line = window.take().unwrap();
        assert_eq!((line.step, line.steps, line.skipped, line.loss, line.pictures), (2, 2, 1, Some(3.0), 8));
        window.skip(3);
        let line = window.take().unwrap();
        assert_eq!((line.step, line.skipped, line.loss, line.pictures_per_second), (3, 1, None, None));
        let text = serde_json::to_string(&MetricsLine::Train(line.clone())).unwrap();
        assert_eq!(serde_json::from_str::<MetricsLine>(&text).unwrap(), MetricsLine::Train(line));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_metrics(folder.path()).unwrap(), []);
        let lines = [interval(1..=10), interval(11..=20)];
        let (mut file, warning) = MetricsFile::open(folder.path(), 0).unwrap();
        lines.iter().for_each(|line| file.write(line).unwrap());
        assert_eq!(warning, None);
        assert_eq!(read_metrics(folder.path()).unwrap(), lines);
    }

    #[test]
    fn a_run_that_goes_on_cuts_off_what_lies_beyond_and_what_is_half_written() {
        let whole = |line: &MetricsLine| format!("{}\n", serde_json::to_string(line).unwrap());
        let lines = [interval(1..=10), interval(11..=15), interval(16..=20)].map(|line| whole(&line));
        let cases = [
            ("beyond", lines.concat(), 15, 2, None),
            ("nothing beyond", lines.concat(), 20, 3, None),
            ("a new run", lines.concat(), 0, 0, None),
            ("half a line", lines.concat()[..lines.concat().len() - 9].to_owned(), 20, 2, None),
            ("a damaged line", [&lines[0], "\0\0\0\n", &lines[1]].concat(), 20, 1, Some("line 2")),
        ];
        for (what, text, step, kept, warned) in cases {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(metrics_path(folder.path()), text).unwrap();
            let (mut file, warning) = MetricsFile::open(folder.path(), step).unwrap();
            assert_eq!(warning.is_some(), warned.is_some(), "{what}");
            assert!(warned.is_none_or(|words| warning.unwrap().contains(words)), "{what}");
            file.write(&interval(21..=30)).unwrap();
            let steps: Vec<u64> = read_metrics(folder.path()).unwrap().iter().map(MetricsLine::step).collect();
            assert_eq!(steps, [&[10, 15, 20][..kept], &[30]].concat(), "{what}");
        }
    }

    #[test]
    fn a_line_of_another_program_is_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(metrics_path(folder.path()), "{\"kind\":\"train\"}\n").unwrap();
        let error = format!("{:#}", read_metrics(folder.path()).unwrap_err());
        assert!(error.contains("metrics.jsonl, line 1") && error.contains("move the file away"), "{error}");
    }
}
