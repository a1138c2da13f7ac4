//! A sweep within the studio (`imagen serve`): its points as curves, read while it may still go on.

use std::path::Path;

use serde_json::{Value, json};

use super::grid::Axis;
use super::points::{Measured, look};
use crate::failure::Result;

/// The settings that points may differ in, the one that runs along curves first.
const AXES: [Axis; 6] = [Axis::Guidance, Axis::Steps, Axis::AugLevel, Axis::Thresholding, Axis::Sampler, Axis::Model];

/// A curve: its name, its points, and what each is called.
struct Curve {
    name: String,
    points: Vec<[f64; 2]>,
    labels: Vec<String>,
}

/// The curves of a sweep; nothing where the folder holds none.
pub(in crate::cli) fn sweep(folder: &Path) -> Option<Result<Value>> {
    Some(look(folder)?.map(|(protocol, measured)| {
        let differs = |axis: &Axis| measured.iter().any(|m| m.point.value(*axis) != measured[0].point.value(*axis));
        let varied: Vec<Axis> = AXES.into_iter().filter(differs).collect();
        let (along, others) = varied.split_first().map_or((Axis::Guidance, &[][..]), |(first, rest)| (*first, rest));
        let mut curves: Vec<Curve> = Vec::new();
        for m in &measured {
            let agreement = m.clip_score.map_or(100.0 * m.top_5.rate, |score| score.value);
            let distance = if protocol.is_fid() { m.frechet_distance } else { m.kid };
            let name = named(m, others);
            let at = curves.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
                curves.push(Curve { name, points: Vec::new(), labels: Vec::new() });
                curves.len() - 1
            });
            curves[at].points.push([agreement, distance]);
            curves[at].labels.push(m.point.value(along));
        }
        let curves: Vec<Value> =
            curves.iter().map(|curve| json!({ "label": curve.name, "points": curve.points, "labels": curve.labels })).collect();
        json!({
            "title": "agreement against fidelity", "axes": protocol.axes(), "about": protocol.describe(), "curves": curves,
            "note": format!("Beside each point: its {}.", along.name()), "report": report(folder).is_some(),
        })
    }))
}

/// What a curve is called: the settings that it has to itself.
fn named(m: &Measured, others: &[Axis]) -> String {
    match others {
        [] => m.point.model.clone(),
        _ => {
            others.iter().map(|axis| format!("{} {}", axis.name(), m.point.value(*axis))).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The page that the sweep wrote when it was done.
pub(in crate::cli) fn report(folder: &Path) -> Option<String> {
    let bytes = imagen::input::read(&folder.join("report.html"), imagen::input::MOST_TEXT).ok()?;
    String::from_utf8(bytes).ok()
}
