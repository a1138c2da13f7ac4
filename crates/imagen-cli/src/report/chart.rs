//! A chart as inline SVG: lines over an axis of steps, thinned to what the eye can tell apart.
//!
//! Colours come from the page's style, so that light and dark need no second chart. The script of the page reads the
//! ends of the axes from the element and the points from the lines, to say what lies under the pointer.

use std::fmt::Write;

use super::axis::{Axis, short};
use super::escaped;

/// The drawing's size and margins, in its own units; text is 11 units high.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;
/// Places along the axis that a line is thinned to.
const PLACES: usize = 300;
/// Up to so many points are marked one by one.
const MARKED: usize = 40;

/// One line.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// Which of the style's colours.
    pub(super) colour: usize,
    pub(super) look: Look,
    /// In the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The line that is read.
    Plain,
    /// Noise behind it: extremes survive thinning, outliers do not widen the axis.
    Faint,
    /// A mark to compare with.
    Dashed,
}

/// How the vertical axis is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// By powers where the numbers span more than one.
    Automatic,
    /// Linear.
    Linear,
    /// Linear, and zero is always shown: how far from it the numbers are is what counts.
    WithZero,
}

/// Lines with a title.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// One sentence below the title.
    pub(super) note: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) scale: Scale,
    /// Whether each name has its line's last number beside it.
    pub(super) latest: bool,
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// The chart as an HTML figure.
    pub(super) fn render(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::exact(all().map(|point| point.0));
        let shown: Vec<f64> = self.series.iter().flat_map(Series::range).collect();
        let y = match self.scale {
            Scale::Automatic => Axis::automatic(shown.iter().copied()),
            Scale::Linear => Axis::linear(shown.iter().copied()),
            Scale::WithZero => Axis::linear(shown.iter().copied().chain([0.0])),
        };
        let mut svg = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-x=\"{} {}\" data-y=\"{} {} {}\" \
             data-plot=\"{LEFT} {TOP} {right} {bottom}\">",
            escaped(self.title),
            x.from,
            x.to,
            y.from,
            y.to,
            u8::from(y.log)
        )
        .expect("writing to a string");
        for (value, label) in y.ticks(5) {
            let at = down(y.place(value));
            svg += &format!("<path class=\"rule\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            svg += &format!(
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 3.8
            );
        }
        svg += &format!("<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>");
        for (value, label) in x.ticks(5) {
            let at = across(x.place(value));
            svg += &format!("<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>");
            let (y, anchor) = (bottom + 16.0, "text-anchor=\"middle\"");
            svg += &format!("<text class=\"tick\" x=\"{at:.1}\" y=\"{y:.1}\" {anchor}>{label}</text>");
        }
        let middle = (LEFT + right) / 2.0;
        svg += &format!(
            "<text class=\"name\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 4.0,
            escaped(self.x)
        );
        for series in &self.series {
            svg += &series.render(&x, &y);
        }
        svg += "<path class=\"cursor\" hidden=\"\"/></svg>";
        let unit = if self.y.is_empty() { String::new() } else { format!(" <small>{}</small>", escaped(self.y)) };
        format!(
            "<figure class=\"chart\"><h3>{}{unit}</h3>\n<p class=\"note\">{}</p>\n<ul class=\"legend\">{}</ul>\n{svg}</figure>\n",
            escaped(self.title),
            escaped(self.note),
            self.series.iter().map(|series| series.legend(self.latest)).collect::<String>(),
        )
    }
}

fn across(place: f64) -> f64 {
    LEFT + place * (WIDTH - LEFT - RIGHT)
}

/// A place on the vertical axis; what lies outside stops at the edge.
fn down(place: f64) -> f64 {
    TOP + (1.0 - place.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
}

impl Series {
    /// The numbers that the axis has to show.
    fn range(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.points.iter().map(|point| point.1).collect();
        if self.look == Look::Faint && values.len() > MARKED {
            values.sort_by(f64::total_cmp);
            let cut = values.len() / 1000;
            values = values[cut..values.len() - cut].to_vec();
        }
        values
    }

    fn class(&self) -> String {
        let look = match self.look {
            Look::Plain => "plain",
            Look::Faint => "faint",
            Look::Dashed => "dashed",
        };
        format!("{look} c{}", self.colour)
    }

    fn render(&self, x: &Axis, y: &Axis) -> String {
        let thin = match self.look {
            Look::Faint => thinned_by_extremes(&self.points),
            _ => thinned(&self.points),
        };
        let places: Vec<(f64, f64)> = thin.iter().map(|(px, py)| (across(x.place(*px)), down(y.place(*py)))).collect();
        let points = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let mut svg =
            format!("<polyline class=\"{}\" data-name=\"{}\" points=\"{points}\"/>", self.class(), escaped(&self.name));
        if self.look == Look::Plain && self.points.len() <= MARKED {
            for (x, y) in places {
                svg += &format!("<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>", self.class());
            }
        }
        svg
    }

    /// Its name, with its last number where that is wanted.
    fn legend(&self, latest: bool) -> String {
        let last = self.points.last().filter(|_| latest && self.look != Look::Faint);
        let last = last.map(|(_, y)| format!(" <b>{}</b>", short(*y))).unwrap_or_default();
        format!("<li class=\"{}\"><i></i>{}{last}</li>", self.class(), escaped(&self.name))
    }
}

/// At most [`PLACES`] of the points, the first and the last among them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= PLACES {
        return points.to_vec();
    }
    let last = points.len() - 1;
    (0..PLACES).map(|i| points[i * last / (PLACES - 1)]).collect()
}

/// The lowest and the highest of the points at each place, so that noise stays as wide as it is.
fn thinned_by_extremes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * PLACES {
        return points.to_vec();
    }
    let bucket = points.len().div_ceil(PLACES);
    let extremes = |bucket: &[(f64, f64)]| {
        let by = |(_, a): &(usize, &(f64, f64)), (_, b): &(usize, &(f64, f64))| a.1.total_cmp(&b.1);
        let low = bucket.iter().enumerate().min_by(by).expect("chunks are not empty").0;
        let high = bucket.iter().enumerate().max_by(by).expect("chunks are not empty").0;
        [bucket[low.min(high)], bucket[low.max(high)]]
    };
    points.chunks(bucket).flat_map(extremes).collect()
}

/// A smooth line through the points: each is replaced by a straight line through its neighbours, a sixtieth of all points
/// to each side, as far as there are any. In the middle that is their mean; at the ends it neither lags nor sticks to
/// the last point's noise.
pub(super) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let n = points.len();
    let reach = n / 60;
    if reach == 0 {
        return points.to_vec();
    }
    // sums of y and of i · y before each point, so that a window costs two differences
    let (mut sums, mut moments) = (vec![0.0], vec![0.0]);
    for (i, (_, y)) in points.iter().enumerate() {
        sums.push(sums[i] + y);
        moments.push(moments[i] + i as f64 * y);
    }
    let fit = |i: usize| {
        let (first, last) = (i.saturating_sub(reach), (i + reach).min(n - 1));
        let count = (last - first + 1) as f64;
        let middle = (first + last) as f64 / 2.0;
        let mean = (sums[last + 1] - sums[first]) / count;
        let moment = moments[last + 1] - moments[first] - middle * mean * count;
        let spread = count * (count * count - 1.0) / 12.0;
        mean + moment / spread * (i as f64 - middle)
    };
    points.iter().enumerate().map(|(i, (x, _))| (*x, fit(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (i as f64, 1.0 + f64::from(u8::from(i % 2 == 0)) + i as f64 / n as f64)).collect()
    }

    fn chart(points: Vec<(f64, f64)>) -> String {
        let smooth = smoothed(&points);
        let series = [("raw <1>", Look::Faint, points), ("smooth", Look::Plain, smooth)];
        let series = series.map(|(name, look, points)| Series { name: name.into(), colour: 1, look, points });
        let (title, note, x, y) = ("Loss", "", "step", "");
        Chart { title, note, x, y, scale: Scale::Automatic, latest: true, series: series.into() }.render()
    }

    #[test]
    fn smoothing_keeps_the_line_and_takes_the_noise() {
        let smooth = smoothed(&noisy(1200));
        let off = |(i, point): (usize, &(f64, f64))| (point.1 - 1.5 - i as f64 / 1200.0).abs();
        assert!(smooth.iter().enumerate().map(off).all(|off| off < 0.1), "the ends follow the line, not the noise");
        assert!(smooth.iter().enumerate().skip(20).take(1160).map(off).all(|off| off < 0.02));
        assert_eq!(smoothed(&noisy(5)), noisy(5), "few points are what they are");
        assert_eq!(smoothed(&[]), []);
    }

    #[test]
    fn thinning_bounds_the_drawing_and_keeps_ends_and_extremes() {
        let mut points = noisy(50_000);
        points[12_345].1 = 40.0;
        let (plain, faint) = (thinned(&points), thinned_by_extremes(&points));
        assert!(plain.len() <= PLACES && faint.len() <= 2 * PLACES);
        assert_eq!((plain[0], plain[plain.len() - 1]), (points[0], points[49_999]));
        assert!(faint.contains(&points[12_345]), "the spike is still there");
        assert!(faint.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(chart(points).len() < 40_000);
    }

    #[test]
    fn a_chart_of_any_length_lies_within_its_frame_and_escapes_its_names() {
        for n in [0, 1, 2, 5, 50_000] {
            let svg = chart(noisy(n));
            assert!(svg.contains("raw &lt;1&gt;") && !svg.contains("NaN") && !svg.contains("inf"), "{n}: {svg}");
            for points in svg.split("points=\"").skip(1) {
                let points = points.split('"').next().unwrap();
                for pair in points.split_whitespace() {
                    let (x, y) = pair.split_once(',').unwrap();
                    let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                    assert!((LEFT..=WIDTH).contains(&x) && (TOP..=HEIGHT - BOTTOM + 0.1).contains(&y), "{n}: {pair}");
                }
            }
            assert_eq!(svg.contains("<circle"), (1..=MARKED).contains(&n), "{n}");
        }
    }
}
