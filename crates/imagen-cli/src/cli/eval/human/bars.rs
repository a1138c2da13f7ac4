//! Horizontal bars with intervals as inline SVG: one row for each category, as in the paper's figures of DrawBench.
//!
//! Colours come from the page's style, so that light and dark need no second chart.

use imagen::eval::Interval;

use crate::report::escaped;

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
    let (width, height) = (NAMES + WIDTH + NUMBERS, bottom + BOTTOM);
    let at = |share: f64| NAMES + WIDTH * share.clamp(0.0, 1.0);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", escaped(title));
    for percent in [0, 25, 50, 75, 100] {
        let x = at(f64::from(percent) / 100.0);
        svg += &format!("<path class=\"rule\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        svg += &format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{percent} %</text>", bottom + 16.0);
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let line = y + 17.0;
        svg += &format!(
            "<text class=\"row\" x=\"{}\" y=\"{line:.1}\" text-anchor=\"end\">{}</text>",
            NAMES - 8.0,
            escaped(&bar.name)
        );
        let mut from = 0.0;
        for (class, share) in &bar.pieces {
            let (x, piece) = (at(from), WIDTH * share);
            svg += &format!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{piece:.1}\" height=\"16\"/>",
                y + 5.0
            );
            from += share;
        }
        if let Some(Interval { low, high }) = bar.interval {
            let (a, b, y) = (at(low), at(high), y + 13.0);
            let ends = format!("M{a:.1} {:.1}v8M{b:.1} {:.1}v8", y - 4.0, y - 4.0);
            svg += &format!(
                "<path class=\"halo\" d=\"M{a:.1} {y:.1}H{b:.1}{ends}\"/><path class=\"whisker\" d=\"M{a:.1} {y:.1}H{b:.1}{ends}\"/>"
            );
        }
        svg += &format!("<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"/>", at(bar.value), y + 13.0);
        let class = if bar.strong { "loud" } else { "calm" };
        svg += &format!(
            "<text class=\"{class}\" x=\"{}\" y=\"{line:.1}\">{}</text>",
            NAMES + WIDTH + 10.0,
            escaped(&bar.text)
        );
    }
    if middle {
        let x = at(0.5);
        svg += &format!("<path class=\"half\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
    }
    svg + "</svg>"
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
