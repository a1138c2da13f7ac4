//! A drawing as SVG, part by part; colours and strokes come from the style's classes.

use std::fmt;

use super::escaped;

/// What has been drawn so far.
#[derive(Debug)]
pub(crate) struct Svg(String);

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// An empty drawing of this size; `more` are further attributes.
    pub(crate) fn new([width, height]: [f64; 2], label: &str, more: &str) -> Self {
        let label = escaped(label);
        Self(format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\"{more}>"))
    }

    pub(crate) fn path(&mut self, class: &str, d: impl fmt::Display) {
        self.0 += &format!("<path class=\"{class}\" d=\"{d}\"/>");
    }

    pub(crate) fn circle(&mut self, class: &str, [x, y]: [f64; 2], r: f64) {
        self.0 += &format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"/>");
    }

    pub(crate) fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        self.0 +=
            &format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"/>");
    }

    pub(crate) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.0 += &format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    pub(crate) fn polyline(&mut self, class: &str, name: &str, places: &[[f64; 2]]) {
        let points = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        self.0 += &format!("<polyline class=\"{class}\" data-name=\"{}\" points=\"{points}\"/>", escaped(name));
    }

    /// Markup as it is.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.0 += markup;
    }

    pub(crate) fn done(self) -> String {
        self.0 + "</svg>"
    }
}
