//! What a person sees while waiting, all on stderr: bars with the time left on a terminal, a plain line every few seconds
//! elsewhere, nothing when asked to be quiet.
//!
//! A bar counts steps of one phase (a stage of sampling, a training run). Notes are lines that stay.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use imagen::error::{shown, shown_lines};
use imagen::said;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Off a terminal, at most one progress line in this time; a long phase waits a twentieth of its age, up to a minute.
const LINE_EVERY: Duration = Duration::from_secs(5);
const LINE_EVERY_AT_MOST: Duration = Duration::from_secs(60);

/// The one progress display of a command.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    phase: Option<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bars,
    Lines,
    Quiet,
}

#[derive(Debug)]
struct Phase {
    title: String,
    bar: ProgressBar,
    started: Instant,
    first: u64,
    last_line: Instant,
}

impl Progress {
    /// Bars where stderr is a terminal, lines where it is not, nothing where `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let style = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Bars,
            (false, false) => Style::Lines,
        };
        Self { style, phase: None }
    }

    /// The phase `title` has done `done` of `of` steps; a new title ends the phase before it.
    pub(crate) fn step(&mut self, title: &str, done: u64, of: u64, detail: impl fmt::Display) {
        if self.phase.as_ref().is_none_or(|phase| phase.title != title) {
            self.finish();
            self.phase = Some(Phase::start(self.style, title, done, of));
        }
        let Some(phase) = &mut self.phase else { return };
        match self.style {
            Style::Quiet => {}
            Style::Bars => {
                phase.bar.set_position(done);
                phase.bar.set_message(shown(&detail.to_string()).into_owned());
            }
            Style::Lines if phase.last_line.elapsed() >= phase.line_every() => {
                phase.last_line = Instant::now();
                let left = phase.time_left(done, of).map(|t| format!(", {t} left")).unwrap_or_default();
                note(format_args!("{title}: {done}/{of}{left}{}", separated(&detail.to_string())));
            }
            Style::Lines => {}
        }
    }

    /// Prints a line that stays, above the bar if there is one.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        match (self.style, &self.phase) {
            (Style::Quiet, _) => {}
            (Style::Bars, Some(phase)) => phase.bar.suspend(|| note(line)),
            _ => note(line),
        }
    }

    /// Runs `print` with no bar in the way, so that a result on stdout gets a line of its own.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.phase {
            Some(phase) => phase.bar.suspend(print),
            None => print(),
        }
    }

    /// Ends the phase and removes its bar.
    pub(crate) fn finish(&mut self) {
        if let Some(phase) = self.phase.take() {
            phase.bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Phase {
    fn start(style: Style, title: &str, done: u64, of: u64) -> Self {
        let bar = match style {
            Style::Bars => ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr()),
            _ => ProgressBar::hidden(),
        };
        let template = "{prefix:>8} {bar:24} {pos}/{len}{left}  {wide_msg}";
        let look = ProgressStyle::with_template(template).expect("a fixed template").progress_chars("━╸─");
        let left = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // before the first step nothing is known
            if state.pos() > done {
                let _ = write!(out, "  {} left", said::duration(state.eta().as_secs_f64()));
            }
        };
        bar.set_style(look.with_key("left", left));
        bar.set_prefix(title.to_owned());
        bar.set_position(done);
        bar.reset_eta();
        if style == Style::Bars {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        let now = Instant::now();
        Self { title: title.to_owned(), bar, started: now, first: done, last_line: now }
    }

    fn line_every(&self) -> Duration {
        (self.started.elapsed() / 20).clamp(LINE_EVERY, LINE_EVERY_AT_MOST)
    }

    /// Time until `of`, from the mean time of a step so far.
    fn time_left(&self, done: u64, of: u64) -> Option<String> {
        let steps = done.checked_sub(self.first).filter(|&steps| steps > 0)?;
        let each = self.started.elapsed().as_secs_f64() / steps as f64;
        Some(said::duration(each * of.saturating_sub(done) as f64))
    }
}

fn separated(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(", {detail}") }
}

fn note(line: impl fmt::Display) {
    // Progress is a courtesy: a closed stderr must not stop the work.
    let _ = writeln!(std::io::stderr(), "{}", shown_lines(&line.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_steps_of_this_run_alone() {
        let mut phase = Phase::start(Style::Quiet, "train", 900, 1000);
        assert_eq!(phase.time_left(900, 1000), None);
        phase.started -= Duration::from_secs(100);
        assert_eq!(phase.time_left(910, 1000).as_deref(), Some("15 min 0 s"));
    }
}
