//! The sweep as a chart: curves of agreement (across) against fidelity (upwards; less is better). A mark on a curve is a
//! point, with the setting that runs along the curve beside it.

use super::grid::{Axis, Resolved};
use super::points::{Measured, Protocol};
use crate::report::{COLOURS, Chart, Look, Scale, Series};

/// The points as curves, in the order of the grid; those of a curve differ in the first axis alone.
pub(super) fn chart(measured: &[&Measured], axes: &Resolved, protocol: &Protocol) -> Chart {
    let varied = axes.varied();
    let (along, others) = varied.split_first().expect("a grid has an axis");
    let mut series: Vec<Series> = Vec::new();
    for m in measured {
        let name: Vec<String> = others.iter().map(|axis| name(m, *axis, others.len())).collect();
        let name = if name.is_empty() { m.point.model.clone() } else { name.join(", ") };
        let agreement = m.clip_score.map_or(100.0 * m.top_5.rate, |score| score.value);
        let distance = if protocol.is_fid() { m.frechet_distance } else { m.kid };
        let at = series.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            let colour = series.len() % COLOURS;
            series.push(Series { name, colour, look: Look::Plain, points: Vec::new(), labels: Vec::new() });
            series.len() - 1
        });
        series[at].points.push((agreement, distance));
        series[at].labels.push(m.point.value(*along));
    }
    let [x, y] = protocol.axes();
    Chart {
        title: axes.title.to_owned(),
        note: format!("Beside each point: its {}.", along.name()),
        x,
        y,
        scale: Scale::Roomy,
        latest: false,
        size: Chart::LARGE,
        series,
    }
}

/// A value for the legend; its axis is named where the value does not say it.
fn name(m: &Measured, axis: Axis, axes: usize) -> String {
    match axis {
        Axis::Steps | Axis::AugLevel | Axis::Guidance => format!("{} {}", axis.name(), m.point.value(axis)),
        Axis::Model | Axis::Thresholding | Axis::Sampler if axes <= 3 => m.point.value(axis),
        _ => format!("{} {}", axis.name(), m.point.value(axis)),
    }
}
