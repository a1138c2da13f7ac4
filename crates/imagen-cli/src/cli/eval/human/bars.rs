//! Horizontal bars with intervals as inline SVG: one row for each category, as in the paper's figures of DrawBench.
//!
//! Colours come from the page's style, so that light and dark need no second chart.

use imagen::eval::Interval;

use crate::report::{Anchor, Svg};

/// Units of the drawing: the column of names, the bars, the column of numbers, and a row.
const NAMES: f64 = 150.0;
const WIDTH: f64 = 420.0;
const NUMBERS: f64 = 170.0;
const ROW: f64 = 26.0;
const TOP: f64 = 6.0;
const BOTTOM: f64 = 24.0;

/// One row, in shares of 1.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    /// Pieces from the left with their class.
    pub(super) pieces: Vec<(&'static str, f64)>,
    /// The number that the interval is about.
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    /// What stands on the right.
    pub(super) text: String,
    /// Whether that is said loudly.
    pub(super) strong: bool,
}

/// The rows as a drawing; `middle` marks one half.
pub(super) fn draw(title: &str, bars: &[Bar], middle: bool) -> String {
    let bottom = TOP + ROW * bars.len() as f64;
    let at = |share: f64| NAMES + WIDTH * share.clamp(0.0, 1.0);
    let mut svg = Svg::new([NAMES + WIDTH + NUMBERS, bottom + BOTTOM], title, "");
    for percent in [0, 25, 50, 75, 100] {
        let x = at(f64::from(percent) / 100.0);
        svg.path("rule", format_args!("M{x:.1} {TOP}V{bottom}"));
        svg.text("tick", [x, bottom + 16.0], Anchor::Middle, &format!("{percent} %"));
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (line, middle) = (y + 17.0, y + 13.0);
        svg.text("row", [NAMES - 8.0, line], Anchor::End, &bar.name);
        let mut from = 0.0;
        for (class, share) in &bar.pieces {
            svg.rect(class, [at(from), y + 5.0], [WIDTH * share, 16.0]);
            from += share;
        }
        if let Some(Interval { low, high }) = bar.interval {
            let (a, b, top) = (at(low), at(high), middle - 4.0);
            let whisker = format!("M{a:.1} {middle:.1}H{b:.1}M{a:.1} {top:.1}v8M{b:.1} {top:.1}v8");
            svg.path("halo", &whisker);
            svg.path("whisker", &whisker);
        }
        svg.circle("dot", [at(bar.value), middle], 3.2);
        let class = if bar.strong { "loud" } else { "calm" };
        svg.text(class, [NAMES + WIDTH + 10.0, line], Anchor::Start, &bar.text);
    }
    if middle {
        svg.path("half", format_args!("M{:.1} {TOP}V{bottom}", at(0.5)));
    }
    svg.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_the_width_and_names_are_escaped() {
        let bar = Bar {
            name: "<b>".into(),
            pieces: vec![("c0", 0.5), ("none", 0.25), ("c1", 0.25)],
            value: 0.625,
            interval: Some(Interval { low: 0.5, high: 1.0 }),
            text: "62 %".into(),
            strong: true,
        };
        let svg = draw("t", &[bar], true);
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        let widths = svg.split("<rect").skip(1).map(|rect| {
            let width = rect.split("width=\"").nth(1).unwrap();
            width.split('"').next().unwrap().parse::<f64>().unwrap()
        });
        assert!((widths.sum::<f64>() - WIDTH).abs() < 0.3);
        assert!(svg.contains(&format!("H{:.1}", NAMES + WIDTH)), "the interval ends at 100 %");
    }
}
