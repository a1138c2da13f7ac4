//! The page itself: what stands where. The curves are in `curves`.
//!
//! Style and script are files beside this one. Every text that comes from a run goes through [`escaped`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use imagen::models::unet::cost;
use imagen::said::{self, duration};
use imagen::train::{MetricsLine, grid_columns};

use super::axis::short;
use super::chart::{self, Chart, Look, PALETTE, Scale, Series};
use super::{RunFacts, escaped};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Lines at the end from which the time that is left is told.
const LATEST: usize = 50;

/// A page that needs nothing but itself: an escaped title, more style, and what stands in `main` and behind it.
pub(crate) fn document(title: &str, style: &str, rest: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{PALETTE}{}{STYLE}{style}</style>\n</head>\n<body>\n<main>\n{rest}</body>\n</html>\n",
        chart::STYLE
    )
}

impl RunFacts {
    /// The page.
    pub(crate) fn page(&self) -> String {
        let stage = self.recipe.stage.stage;
        let title = escaped(&format!("{stage} · {}", self.name));
        let sections = [
            self.header(),
            self.facts(),
            self.charts(),
            self.samples(),
            self.enlargement(),
            format!(
                "<section><details><summary>The whole recipe</summary><pre>{}</pre></details></section>\n",
                escaped(&self.recipe.to_toml())
            ),
        ];
        document(&title, "", &format!("{}</main>\n<script>\n{SCRIPT}</script>\n", sections.concat()))
    }

    /// Steps taken as far as the folder knows.
    fn steps_taken(&self) -> u64 {
        let logged = self.metrics.last().map_or(0, MetricsLine::step);
        logged.max(self.saved.unwrap_or(0))
    }

    fn header(&self) -> String {
        let taken = self.steps_taken();
        // a run that was told to go further than its recipe says
        let of = self.recipe.train.steps.max(taken);
        let (class, status) = match self.saved {
            Some(saved) if saved >= of => ("done", "finished".to_owned()),
            _ if taken == 0 => ("begun", "no step logged yet".to_owned()),
            _ => ("begun", format!("{:.0} % done", 100.0 * taken as f64 / of as f64)),
        };
        let left = match (class, self.time_left()) {
            ("begun", Some(left)) => format!(" · about {left} left at its latest pace"),
            _ => String::new(),
        };
        let time: f64 = self.intervals().iter().map(|line| line.seconds).sum();
        let spent = if time > 0.0 { format!(" · {} of steps", duration(time)) } else { String::new() };
        let skipped = match self.intervals().iter().map(|line| line.skipped).sum::<u64>() {
            0 => String::new(),
            skipped => format!(" · {} skipped, something in them was not finite", grouped(skipped)),
        };
        format!(
            "<header><h1>{} <span class=\"status {class}\">{status}</span></h1>\n<p class=\"run\">{}</p>\n\
             <p>step {} of {}{spent}{left}{skipped}</p></header>\n",
            escaped(self.name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(&self.name)),
            escaped(&format!("{} · {}", self.recipe.stage.stage, self.name)),
            grouped(taken),
            grouped(of),
        )
    }

    fn time_left(&self) -> Option<String> {
        let lines = self.intervals();
        let latest = &lines[lines.len().saturating_sub(LATEST)..];
        let (steps, seconds) = latest.iter().fold((0, 0.0), |(n, s), line| (n + line.steps, s + line.seconds));
        let left = self.recipe.train.steps.checked_sub(self.steps_taken()).filter(|left| *left > 0 && steps > 0)?;
        Some(duration(left as f64 * seconds / steps as f64))
    }

    /// What was trained, on what, how: a list of names and values.
    fn facts(&self) -> String {
        let (stage, train, data) = (&self.recipe.stage, &self.recipe.train, &self.recipe.data);
        let parameters: u64 = cost(&stage.unet, stage.size).iter().map(|level| level.parameters).sum();
        let pictures = match stage.low_size {
            None => format!("{0} × {0} pixels", stage.size),
            Some(low) => format!("{low} → {} pixels", stage.size),
        };
        let widths: Vec<String> = stage.unet.levels.iter().map(|level| level.channels.to_string()).collect();
        let batch = match train.micro_batch {
            None => train.batch.to_string(),
            Some(part) => format!("{} in parts of {part}", train.batch),
        };
        let rate = format!(
            "{}, {} steps of warm-up{}",
            short(train.lr),
            train.warmup,
            if train.cosine_decay { ", then half a cosine" } else { "" }
        );
        let optimizer = match train.clip_norm {
            Some(norm) => format!("{}, gradients up to {}", train.optimizer, short(norm)),
            None => train.optimizer.to_string(),
        };
        let decay = train.ema_decay.map(|decay| format!("decay {decay}"));
        let half_lives = train.ema_half_lives.iter().map(|n| format!("half-life of {} pictures", grouped(*n)));
        let averages: Vec<String> = decay.into_iter().chain(half_lives).collect();
        let mut facts = vec![
            ("Pictures", pictures),
            ("Parameters", said::count(parameters)),
            ("Widths", widths.join(" · ")),
            ("Predicts", format!("{}, {} noise", stage.parameterization, stage.schedule)),
            ("Data", data.folder.display().to_string()),
            ("Pictures a step", batch),
            ("Learning rate", rate),
            ("Optimizer", optimizer),
            ("Average of weights", averages.join(", ")),
            ("Loss weights", train.loss_weight.to_string()),
            ("Text dropped", format!("{} %", short(100.0 * train.text_drop_prob))),
        ];
        if let Some(crop) = data.crop {
            facts.insert(5, ("Windows", format!("{crop} × {crop} pixels")));
        }
        let items =
            facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value)));
        format!("<section><dl class=\"facts\">\n{}</dl></section>\n", items.collect::<String>())
    }

    fn charts(&self) -> String {
        let charts: String = self.curves().iter().map(Chart::render).collect();
        if charts.is_empty() {
            return "<section><p class=\"empty note\">No curves: the run has logged no step yet.</p></section>\n"
                .to_owned();
        }
        format!("<section><h2>Curves</h2>\n<div class=\"charts\">\n{charts}</div></section>\n")
    }

    fn samples(&self) -> String {
        if self.grids.is_empty() {
            return String::new();
        }
        let figures = self.grids.iter().map(|grid| {
            let (step, png) = (grouped(grid.step), STANDARD.encode(&grid.png));
            format!(
                "<figure><img alt=\"samples after step {step}\" src=\"data:image/png;base64,{png}\"><figcaption>step {step}\
                 </figcaption></figure>\n"
            )
        });
        let figures: String = figures.collect();
        let shown = match self.grids.len() {
            n if n < self.grids_in_all => format!(" <small>{n} of {}</small>", self.grids_in_all),
            _ => String::new(),
        };
        let what = match self.recipe.stage.low_size {
            Some(_) => "<p class=\"note\">Each row: low resolution, result, original.</p>\n".to_owned(),
            None => {
                // in rows as long as the grid's, so that a caption stands where its picture does
                let prompts = &self.recipe.train.sample_prompts;
                let columns = grid_columns(prompts.len());
                let cells = prompts.iter().map(|p| format!("<li>{}</li>", escaped(p)));
                format!(
                    "<p class=\"note\">What each picture of a grid was asked to be:</p>\n<ol class=\"prompts\" \
                     style=\"--columns: {columns}\">{}</ol>\n",
                    cells.collect::<String>()
                )
            }
        };
        let pixels = if self.recipe.stage.size <= 64 { " pixels" } else { "" };
        format!(
            "<section><h2>Samples{shown}</h2>\n<div class=\"viewer\" hidden><img class=\"large{pixels}\" alt=\"\"><label>\
             <input type=\"range\" min=\"0\" step=\"1\"><output></output></label></div>\n\
             <div class=\"grids{pixels}\">\n{figures}</div>\n{what}</section>\n"
        )
    }

    fn enlargement(&self) -> String {
        let Some(report) = &self.enlargement else { return String::new() };
        let row = |class: &str, name: &str, truth: f64, input: f64| {
            format!("<tr{class}><th scope=\"row\">{name}</th><td>{truth:.2}</td><td>{input:.2}</td></tr>\n")
        };
        let mut rows = String::new();
        for level in &report.levels {
            let fidelity = level.fidelity;
            rows += &row("", &format!("augmentation {}", level.aug_level), fidelity.psnr_truth, fidelity.psnr_input);
        }
        rows += &row(" class=\"peer\"", "bicubic", report.bicubic.psnr_truth, report.bicubic.psnr_input);
        let line = |name: &str, colour, look, value: &dyn Fn(usize) -> f64| Series {
            name: name.to_owned(),
            colour,
            look,
            points: report.levels.iter().enumerate().map(|(i, l)| (l.aug_level.get(), value(i))).collect(),
            labels: Vec::new(),
        };
        let chart = Chart {
            title: "Fidelity".into(),
            note: "Averaged over the pictures; higher is nearer.".into(),
            x: "augmentation level".into(),
            y: "dB".into(),
            scale: Scale::Linear,
            latest: false,
            size: Chart::SMALL,
            series: vec![
                line("to the truth", 0, Look::Plain, &|i| report.levels[i].fidelity.psnr_truth),
                line("bicubic to the truth", 0, Look::Dashed, &|_| report.bicubic.psnr_truth),
                line("to its input", 1, Look::Plain, &|i| report.levels[i].fidelity.psnr_input),
                line("bicubic to its input", 1, Look::Dashed, &|_| report.bicubic.psnr_input),
            ],
        };
        let note = format!(
            "PSNR in dB over {} held-out pictures, {1} × {1} pixels from {2} × {2}, after step {3}; {4}, {5} steps, guidance {6}. \
             The second column reduces the result again and holds it against what was enlarged.",
            report.pictures,
            report.side,
            report.low_side,
            grouped(report.step),
            report.sampling.sampler,
            report.sampling.steps,
            report.sampling.guidance,
        );
        format!(
            "<section><h2>Super-resolution</h2>\n<p class=\"note\">{note}</p>\n<div class=\"charts\"><table><thead><tr><th></th>\
             <th scope=\"col\">to the truth</th><th scope=\"col\">to its input</th></tr></thead>\n<tbody>{rows}</tbody></table>\n{}\
             </div></section>\n",
            chart.render()
        )
    }
}

/// A number with its thousands apart: `12,500`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")];
        for (n, text) in cases {
            assert_eq!(grouped(n), text);
        }
    }
}
