//! What a run writes down on its way, apart from its state: `metrics.jsonl` and an event file for TensorBoard.
//!
//! [`train`](super::train()) tells it what happened; this is the one place that decides what becomes a line and what a
//! curve is called. Both files hold the same numbers. Nothing is computed here but means.

use std::ops::ControlFlow;
use std::path::Path;

use super::event_file::EventFile;
use super::metrics::{Interval, MetricsFile, MetricsLine, Validated, Window};
use super::report::{ProbeReport, QUARTERS, StepReport};
use super::run::{Run, TrainEvent};
use crate::error::{Error, Result};
use crate::image::{DecodeOptions, decode};

/// The names of the loss by quarter of t, in TensorBoard.
const LOSS_BY_T: [&str; QUARTERS] =
    ["loss by t/0.00 to 0.25", "loss by t/0.25 to 0.50", "loss by t/0.50 to 0.75", "loss by t/0.75 to 1.00"];

/// The two files, and the steps that are not in them yet.
#[derive(Debug)]
pub(super) struct RunLog {
    every: u64,
    window: Window,
    metrics: MetricsFile,
    events: EventFile,
}

impl RunLog {
    /// The log of a run that goes on from `step`; lines beyond are cut off.
    pub(super) fn open(run: &Run, step: u64, observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>) -> Result<Self> {
        let (metrics, warning) = MetricsFile::open(&run.folder, step)?;
        if let Some(warning) = warning {
            // as with captions, an observer that wants to stop is heard at the first step
            let _ = observe(&TrainEvent::Warning(warning));
        }
        let events = EventFile::create(&run.folder, step + 1)?;
        Ok(Self { every: run.recipe.train.log_every, window: Window::default(), metrics, events })
    }

    /// A step was taken.
    pub(super) fn step(&mut self, report: &StepReport) -> Result<()> {
        self.window.add(report);
        self.flush_at(report.step)
    }

    /// A step was skipped.
    pub(super) fn skipped(&mut self, step: u64) -> Result<()> {
        self.window.skip(step);
        self.flush_at(step)
    }

    /// The state is about to be saved: a run that goes on from it begins with a new line.
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        self.flush()?;
        self.metrics.sync()
    }

    /// What the captions are worth was measured.
    pub(super) fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        self.metrics.write(&MetricsLine::Probe(*report))?;
        let scalars = [
            ("probe/right caption", report.right_caption),
            ("probe/shuffled captions", report.shuffled_captions),
            ("probe/no caption", report.no_caption),
        ];
        self.events.scalars(report.step, &scalars)
    }

    /// The averaged weights were tried on pictures that are not trained on.
    pub(super) fn validated(&mut self, step: u64, loss: f64) -> Result<()> {
        let loss = loss.is_finite().then_some(loss);
        self.metrics.write(&MetricsLine::Validation(Validated { step, loss }))?;
        loss.map_or(Ok(()), |loss| self.events.scalars(step, &[("validation/loss", loss)]))
    }

    /// A grid of samples was drawn.
    pub(super) fn samples(&mut self, step: u64, path: &Path) -> Result<()> {
        let png = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let picture = decode::decode(&png, &DecodeOptions::default())?;
        let size = [picture.width() as u32, picture.height() as u32];
        self.events.picture(step, "samples/grid", size, &png)
    }

    fn flush_at(&mut self, step: u64) -> Result<()> {
        if step % self.every == 0 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(interval) = self.window.take() else { return Ok(()) };
        self.events.scalars(interval.step, &scalars(&interval))?;
        self.metrics.write(&MetricsLine::Train(interval))
    }
}

/// The numbers of a line with their names in TensorBoard.
fn scalars(interval: &Interval) -> Vec<(&'static str, f64)> {
    let train = [
        ("train/loss", interval.loss),
        ("train/naming", interval.naming),
        ("train/gradient norm", interval.gradient_norm),
        ("train/learning rate", interval.lr),
        ("train/pictures per second", interval.pictures_per_second),
        ("train/skipped steps", Some(interval.skipped as f64)),
    ];
    let quarters = LOSS_BY_T.into_iter().zip(interval.loss_by_t);
    train.into_iter().chain(quarters).filter_map(|(name, number)| Some((name, number?))).collect()
}
