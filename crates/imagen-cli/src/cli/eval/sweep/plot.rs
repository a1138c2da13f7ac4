//! Curves of agreement (across) against fidelity (down: less is better), as SVG and as PNG; a mark on a curve is a point,
//! with the setting that runs along the curve beside it.

use plotters::coord::Shift;
use plotters::prelude::*;

use imagen::image::{Picture, PngText, png as file};

use super::grid::{Axis, Resolved};
use super::points::{Measured, Protocol};
use crate::failure::{Exit, Failure, Result};
use crate::output::labels::{self, FONT};

const SIZE: (u32, u32) = (960, 640);
/// Colours that can be told apart, also by most who see colours differently.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x25, 0x63, 0xeb),
    RGBColor(0xd9, 0x73, 0x0d),
    RGBColor(0x0f, 0x8a, 0x5f),
    RGBColor(0xa1, 0x35, 0x9e),
    RGBColor(0xb9, 0x1c, 0x1c),
    RGBColor(0x0e, 0x74, 0x90),
    RGBColor(0x6b, 0x4f, 0x2a),
    RGBColor(0x55, 0x55, 0x55),
];

/// Points that differ in the first axis alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    name: String,
    /// Agreement, distance, and what the point is called.
    points: Vec<(f64, f64, String)>,
}

/// The points as curves, in the order of the grid.
pub(super) fn curves(measured: &[&Measured], axes: &Resolved, protocol: &Protocol) -> Vec<Curve> {
    let varied = axes.varied();
    let (along, others) = varied.split_first().expect("a grid has an axis");
    let mut curves: Vec<Curve> = Vec::new();
    for m in measured {
        let name: Vec<String> = others.iter().map(|axis| name(m, *axis, others.len())).collect();
        let name = if name.is_empty() { m.point.model.clone() } else { name.join(", ") };
        let agreement = m.clip_score.map_or(100.0 * m.top_5.rate, |score| score.value);
        let distance = if protocol.is_fid() { m.frechet_distance } else { m.kid };
        let point = (agreement, distance, m.point.value(*along));
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name, points: vec![point] }),
        }
    }
    curves
}

/// A value for the legend; its axis is named where the value does not say it.
fn name(m: &Measured, axis: Axis, axes: usize) -> String {
    match axis {
        Axis::Steps | Axis::AugLevel | Axis::Guidance => format!("{} {}", axis.name(), m.point.value(axis)),
        Axis::Model | Axis::Thresholding | Axis::Sampler if axes <= 3 => m.point.value(axis),
        _ => format!("{} {}", axis.name(), m.point.value(axis)),
    }
}

/// As SVG.
pub(super) fn svg(curves: &[Curve], axes: &Resolved, names: &[String; 2]) -> Result<String> {
    let mut text = String::new();
    draw(curves, axes, names, &SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
    Ok(text)
}

/// As PNG.
pub(super) fn png(curves: &[Curve], axes: &Resolved, names: &[String; 2]) -> Result<Vec<u8>> {
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(curves, axes, names, &BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area())?;
    Ok(file::encode(&Picture::new(SIZE.0 as usize, SIZE.1 as usize, pixels)?, &PngText::default())?)
}

fn draw<B: DrawingBackend>(
    curves: &[Curve],
    axes: &Resolved,
    names: &[String; 2],
    area: &DrawingArea<B, Shift>,
) -> Result<()> {
    labels::register();
    draw_chart(curves, axes, names, area)
        .map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot draw the curves: {e}")))
}

fn draw_chart<B: DrawingBackend>(
    curves: &[Curve],
    axes: &Resolved,
    names: &[String; 2],
    area: &DrawingArea<B, Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let (x, y) = (range(points().map(|p| p.0), 0.1), range(points().map(|p| p.1), 0.1));
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, (FONT, 24))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_desc(&names[0])
        .y_desc(&names[1])
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .draw()?;
    let along = axes.varied()[0];
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let line = || curve.points.iter().map(|p| (p.0, p.1));
        chart
            .draw_series(LineSeries::new(line(), colour.stroke_width(2)))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
        chart.draw_series(line().map(|at| Circle::new(at, 4, colour.filled())))?;
        let style = || (FONT, 13).into_font().color(&colour);
        chart.draw_series(
            curve
                .points
                .iter()
                .map(|(x, y, label)| EmptyElement::at((*x, *y)) + Text::new(label.clone(), (7, -14), style())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 16))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.draw(&Text::new(
        format!("points: {}", along.name()),
        (SIZE.0 as i32 - 200, 18),
        (FONT, 14).into_font().color(&BLACK.mix(0.6)),
    ))?;
    area.present()
}

/// All of the numbers with some room on both sides.
fn range(values: impl Iterator<Item = f64>, least: f64) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let room = (0.08 * (high - low)).max(least);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_room_and_survives_one_number_or_none() {
        assert_eq!(range([1.0, 3.0].into_iter(), 0.1), 0.84..3.16);
        assert_eq!(range([2.0].into_iter(), 0.5), 1.5..2.5);
        let empty = range(std::iter::empty(), 0.1);
        assert!(empty.start < empty.end && empty.start.is_finite());
    }
}
