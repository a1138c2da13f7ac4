//! The curves of a run: which numbers become which chart, and what it is called.

use imagen::train::{Interval, MetricsLine, ProbeReport, QUARTERS};

use super::RunFacts;
use super::chart::{Chart, Look, Scale, Series, smoothed};

/// Numbers over steps.
type Points = Vec<(f64, f64)>;

impl RunFacts {
    /// Every chart that there are numbers for.
    pub(super) fn curves(&self) -> Vec<Chart> {
        let mut charts = Vec::new();
        if !self.intervals().is_empty() {
            charts.extend([self.loss(), self.loss_by_time()]);
        }
        if !self.probes().is_empty() {
            charts.extend([self.probe(), self.worth_of_captions()]);
        }
        if !self.intervals().is_empty() {
            charts.extend([self.gradient_norm(), self.learning_rate(), self.speed()]);
        }
        charts
    }

    /// The lines about steps.
    pub(super) fn intervals(&self) -> Vec<&Interval> {
        self.metrics.iter().filter_map(|line| if let MetricsLine::Train(it) = line { Some(it) } else { None }).collect()
    }

    fn probes(&self) -> Vec<&ProbeReport> {
        self.metrics.iter().filter_map(|line| if let MetricsLine::Probe(it) = line { Some(it) } else { None }).collect()
    }

    fn loss(&self) -> Chart {
        let mut series = measured("loss", self.of_steps(|line| line.loss));
        let validation = |line: &MetricsLine| match line {
            MetricsLine::Validation(it) => Some((it.step as f64, it.loss?)),
            _ => None,
        };
        let validations: Points = self.metrics.iter().filter_map(validation).collect();
        let mut note = "Mean over the pictures of the steps.";
        if !validations.is_empty() {
            note = "Mean over the pictures of the steps; validation is of the averaged weights under fixed noise.";
            series.push(line("validation", 1, validations));
        }
        chart("Loss", note, "", Scale::Automatic, series)
    }

    fn loss_by_time(&self) -> Chart {
        let quarter = |q: usize| {
            let (from, to) = (q as f64 / QUARTERS as f64, (q + 1) as f64 / QUARTERS as f64);
            line(&format!("t {from:.2}–{to:.2}"), q, smoothed(&self.of_steps(|line| line.loss_by_t[q])))
        };
        let note = "t = 0 is the clean picture, t = 1 only noise.";
        chart("Loss by time", note, "", Scale::Automatic, (0..QUARTERS).map(quarter).collect())
    }

    fn probe(&self) -> Chart {
        let series = vec![
            line("right caption", 0, self.of_probes(|probe| probe.right_caption)),
            line("another's caption", 1, self.of_probes(|probe| probe.shuffled_captions)),
            line("no caption", 2, self.of_probes(|probe| probe.no_caption)),
        ];
        let note = "The same held-out pictures under the same noise, averaged weights.";
        chart("Conditioning probe", note, "loss", Scale::Automatic, series)
    }

    fn worth_of_captions(&self) -> Chart {
        let growth = |other: f64, right: f64| 100.0 * (other - right) / right.max(f64::MIN_POSITIVE);
        let series = vec![
            line("another's caption", 1, self.of_probes(|it| growth(it.shuffled_captions, it.right_caption))),
            line("no caption", 2, self.of_probes(|it| growth(it.no_caption, it.right_caption))),
        ];
        let note = "How much the loss grows without the right caption: what the text is worth.";
        chart("Worth of the caption", note, "%", Scale::WithZero, series)
    }

    fn gradient_norm(&self) -> Chart {
        let note = match self.recipe.train.clip_norm {
            Some(_) => "Before clipping.",
            None => "Gradients are not clipped.",
        };
        chart("Gradient norm", note, "", Scale::Automatic, measured("norm", self.of_steps(|line| line.gradient_norm)))
    }

    fn learning_rate(&self) -> Chart {
        let series = vec![line("learning rate", 0, self.of_steps(|line| line.lr))];
        chart("Learning rate", "As the optimizer got it.", "", Scale::Linear, series)
    }

    fn speed(&self) -> Chart {
        let series = measured("pictures per second", self.of_steps(|line| line.pictures_per_second));
        let note = "Steps alone, without checkpoints, samples and probes.";
        chart("Speed", note, "pictures/s", Scale::WithZero, series)
    }

    fn of_steps(&self, value: impl Fn(&Interval) -> Option<f64>) -> Points {
        self.intervals().into_iter().filter_map(|line| Some((line.step as f64, value(line)?))).collect()
    }

    fn of_probes(&self, value: impl Fn(&ProbeReport) -> f64) -> Points {
        self.probes().into_iter().map(|probe| (probe.step as f64, value(probe))).collect()
    }
}

fn chart(title: &str, note: &str, y: &str, scale: Scale, series: Vec<Series>) -> Chart {
    let [title, note, x, y] = [title, note, "step", y].map(str::to_owned);
    Chart { title, note, x, y, scale, latest: true, size: Chart::SMALL, series }
}

fn line(name: &str, colour: usize, points: Points) -> Series {
    Series { name: name.to_owned(), colour, look: Look::Plain, points, labels: Vec::new() }
}

/// What was measured, and a smooth line through it where there are points enough.
fn measured(name: &str, points: Points) -> Vec<Series> {
    let smooth = smoothed(&points);
    if smooth == points {
        return vec![line(name, 0, points)];
    }
    vec![Series { look: Look::Faint, ..line("as measured", 0, points) }, line(name, 0, smooth)]
}
