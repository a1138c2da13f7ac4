//! A chart: lines over an axis of steps or of another number, thinned to what the eye can tell apart.
//!
//! Within a page it is a figure whose colours come from the page's style, so that light and dark need no second chart; the
//! script of a run's page reads the ends of the axes from the element and the points from the lines, to say what lies under
//! the pointer. As a file of its own it carries the style's light colours.

use super::axis::{Axis, short};
use super::escaped;
use super::svg::{Anchor, Svg};

/// Colours, light and dark; every page of the program has them.
pub(crate) const PALETTE: &str = include_str!("palette.css");
/// How charts look.
pub(super) const STYLE: &str = include_str!("chart.css");
/// How many colours the style has for lines.
pub(crate) const COLOURS: usize = 8;

/// A drawing's margins, in its own units; text is 11 units high.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;
/// Of a file's title and legend: height of a line, width of a letter and of a line's key.
const LINE: f64 = 16.0;
const LETTER: f64 = 6.0;
const KEY: f64 = 28.0;
/// Places along the axis that a line is thinned to.
const PLACES: usize = 300;
/// Up to so many points are marked one by one.
const MARKED: usize = 40;

/// One line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Which of the style's colours.
    pub(crate) colour: usize,
    pub(crate) look: Look,
    /// In the order in which they are joined.
    pub(crate) points: Vec<(f64, f64)>,
    /// What stands beside each point; nothing where there are none.
    pub(crate) labels: Vec<String>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The line that is read.
    Plain,
    /// Noise behind it: extremes survive thinning, outliers do not widen the axis.
    Faint,
    /// A mark to compare with.
    Dashed,
}

/// How the axes are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// The vertical one by powers where the numbers span more than one.
    Automatic,
    /// Linear.
    Linear,
    /// Linear, and zero is always shown: how far from it the numbers are is what counts.
    WithZero,
    /// Linear, with room on every side, also along the horizontal one.
    Roomy,
}

/// Lines with a title.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// One sentence below the title.
    pub(crate) note: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) scale: Scale,
    /// Whether each name has its line's last number beside it.
    pub(crate) latest: bool,
    /// Width and height.
    pub(crate) size: [f64; 2],
    pub(crate) series: Vec<Series>,
}

/// Both axes on their places in a drawing.
struct Frame {
    x: Axis,
    y: Axis,
    right: f64,
    bottom: f64,
}

impl Frame {
    /// The place of a point; what lies above or below the axis stops at its edge.
    fn place(&self, (x, y): (f64, f64)) -> [f64; 2] {
        let up = self.y.place(y).clamp(0.0, 1.0);
        [LEFT + self.x.place(x) * (self.right - LEFT), TOP + (1.0 - up) * (self.bottom - TOP)]
    }
}

impl Chart {
    /// The size of a chart among others.
    pub(crate) const SMALL: [f64; 2] = [440.0, 230.0];
    /// The size of a chart that stands alone.
    pub(crate) const LARGE: [f64; 2] = [880.0, 480.0];

    /// The chart as an HTML figure.
    pub(crate) fn render(&self) -> String {
        let unit = if self.y.is_empty() { String::new() } else { format!(" <small>{}</small>", escaped(&self.y)) };
        format!(
            "<figure class=\"chart\"><h3>{}{unit}</h3>\n<p class=\"note\">{}</p>\n<ul class=\"legend\">{}</ul>\n{}</figure>\n",
            escaped(&self.title),
            escaped(&self.note),
            self.series.iter().map(|series| series.legend(self.latest)).collect::<String>(),
            self.drawing()
        )
    }

    /// The chart as an SVG file with title, legend and note, in the colours of the light style.
    pub(crate) fn file(&self) -> String {
        let [width, height] = self.size;
        let (mut x, mut y) = (LEFT, 2.75 * LINE);
        let mut legend = Vec::new();
        for series in &self.series {
            let wide = KEY + LETTER * (series.name.chars().count() + 2) as f64;
            if x > LEFT && x + wide > width {
                (x, y) = (LEFT, y + LINE);
            }
            legend.push((series, [x, y]));
            x += wide;
        }
        let above = y + 2.0 * LINE;
        let whole = above + height;
        let more = format!(
            " xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{whole}\" \
             font-family=\"system-ui, DejaVu Sans, sans-serif\""
        );
        let mut svg = Svg::new([width, whole], &self.title, &more);
        svg.raw(&format!("\n<style>\n{}</style>\n", in_light(STYLE)));
        svg.rect("paper", [0.0; 2], [width, whole]);
        svg.text("title", [LEFT, 1.5 * LINE], Anchor::Start, &self.title);
        for (series, [x, y]) in legend {
            svg.polyline(&series.class(), &series.name, &[[x, y - 4.0], [x + 0.75 * KEY, y - 4.0]]);
            svg.text("name", [x + KEY, y], Anchor::Start, &series.name);
        }
        let about = if self.note.is_empty() { self.y.clone() } else { format!("{} · {}", self.y, self.note) };
        svg.text("name", [LEFT, above - 0.5 * LINE], Anchor::Start, &about);
        let place = format!("<svg y=\"{above}\" width=\"{width}\" height=\"{height}\"");
        svg.raw(&self.drawing().replacen("<svg", &place, 1));
        svg.done() + "\n"
    }

    fn drawing(&self) -> String {
        let [right, bottom] = [self.size[0] - RIGHT, self.size[1] - BOTTOM];
        let across = || self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        let shown: Vec<f64> = self.series.iter().flat_map(Series::range).collect();
        let x = if self.scale == Scale::Roomy { Axis::linear(across()) } else { Axis::exact(across()) };
        let y = match self.scale {
            Scale::Automatic => Axis::automatic(shown.iter().copied()),
            Scale::Linear | Scale::Roomy => Axis::linear(shown.iter().copied()),
            Scale::WithZero => Axis::linear(shown.iter().copied().chain([0.0])),
        };
        let more = format!(
            " data-x=\"{} {}\" data-y=\"{} {} {}\" data-plot=\"{LEFT} {TOP} {right} {bottom}\"",
            x.from,
            x.to,
            y.from,
            y.to,
            u8::from(y.log)
        );
        let mut svg = Svg::new(self.size, &self.title, &more);
        let frame = Frame { x, y, right, bottom };
        for (value, label) in frame.y.ticks(5) {
            let [_, at] = frame.place((frame.x.from, value));
            svg.path("rule", format_args!("M{LEFT} {at:.1}H{right}"));
            svg.text("tick", [LEFT - 6.0, at + 3.8], Anchor::End, &label);
        }
        svg.path("axis", format_args!("M{LEFT} {bottom}H{right}"));
        for (value, label) in frame.x.ticks(5) {
            let [at, _] = frame.place((value, frame.y.from));
            svg.path("axis", format_args!("M{at:.1} {bottom}v4"));
            svg.text("tick", [at, bottom + 16.0], Anchor::Middle, &label);
        }
        svg.text("name", [(LEFT + right) / 2.0, self.size[1] - 4.0], Anchor::Middle, &self.x);
        for series in &self.series {
            series.draw(&frame, &mut svg);
        }
        svg.raw("<path class=\"cursor\" hidden=\"\"/>");
        svg.done()
    }
}

/// A style with the light palette's colours in place of their names, for programs that know no variables.
fn in_light(style: &str) -> String {
    let light = PALETTE.split('}').next().unwrap_or_default();
    let colours = light.split([';', '{']).filter_map(|pair| pair.trim().strip_prefix("--")?.split_once(": "));
    colours.fold(style.to_owned(), |style, (name, colour)| style.replace(&format!("var(--{name})"), colour))
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

    fn draw(&self, frame: &Frame, svg: &mut Svg) {
        let thin = match self.look {
            Look::Faint => thinned_by_extremes(&self.points),
            _ => thinned(&self.points),
        };
        let places: Vec<[f64; 2]> = thin.iter().map(|point| frame.place(*point)).collect();
        let class = self.class();
        svg.polyline(&class, &self.name, &places);
        if self.look == Look::Plain && self.points.len() <= MARKED {
            places.iter().for_each(|place| svg.circle(&class, *place, 2.4));
        }
        for ([x, y], label) in places.iter().zip(&self.labels) {
            svg.text(&class, [x + 5.0, y - 5.0], Anchor::Start, label);
        }
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
        let series = series.map(|(name, look, points)| Series {
            name: name.into(),
            colour: 1,
            look,
            points,
            labels: Vec::new(),
        });
        let [title, note, x, y] = ["Loss", "", "step", ""].map(str::to_owned);
        let (scale, size, series) = (Scale::Automatic, Chart::SMALL, series.into());
        Chart { title, note, x, y, scale, latest: true, size, series }.render()
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
                    assert!(
                        (LEFT..=Chart::SMALL[0]).contains(&x) && (TOP..=Chart::SMALL[1] - BOTTOM + 0.1).contains(&y),
                        "{n}: {pair}"
                    );
                }
            }
            assert_eq!(svg.contains("<circle"), (1..=MARKED).contains(&n), "{n}");
        }
    }

    #[test]
    fn a_chart_as_a_file_has_every_colour_and_stands_alone() {
        let line = |colour: usize| Series {
            name: format!("guidance {colour}"),
            colour,
            look: Look::Plain,
            points: vec![(30.0, 12.0), (31.0 + colour as f64, 11.0)],
            labels: vec!["1".into(), "1 & 2".into()],
        };
        let [title, note, x, y] = ["Curves", "", "CLIP score", "FID"].map(str::to_owned);
        let (scale, size, series) = (Scale::Roomy, Chart::LARGE, (0..COLOURS).map(line).collect());
        let file = Chart { title, note, x, y, scale, latest: false, size, series }.file();
        assert!(!file.contains("var(") && file.contains(".c7 { stroke: #"), "{file}");
        for words in ["Curves", "guidance 7", "CLIP score", "FID", "1 &amp; 2", "xmlns="] {
            assert!(file.contains(words), "{words}: {file}");
        }
        assert_eq!(file.matches("<svg").count(), file.matches("</svg>").count());
    }
}
