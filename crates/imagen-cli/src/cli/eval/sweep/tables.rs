//! The points as CSV, for other programs, and as Markdown, for people.

use super::grid::Axis;
use super::points::{Measured, Protocol, Score};
use crate::failure::Result;
use crate::output::table::{self, cell};

const COLUMNS: [Axis; 6] =
    [Axis::Model, Axis::Sampler, Axis::Thresholding, Axis::AugLevel, Axis::Steps, Axis::Guidance];

/// One line a point, every number in full.
pub(super) fn csv(measured: &[&Measured]) -> Result<Vec<u8>> {
    let names = [
        "pictures",
        "top_1",
        "top_5",
        "top_5_low",
        "top_5_high",
        "kid",
        "kid_low",
        "kid_high",
        "frechet_distance",
        "clip_score",
    ];
    let header: Vec<String> = COLUMNS.iter().map(|axis| axis.name()).chain(names).map(str::to_owned).collect();
    let rows = measured.iter().map(|m| {
        let numbers = [
            m.top_1.rate,
            m.top_5.rate,
            m.top_5.interval.low,
            m.top_5.interval.high,
            m.kid,
            m.kid_interval.low,
            m.kid_interval.high,
            m.frechet_distance,
        ];
        let settings = COLUMNS.iter().map(|axis| cell(&m.point.value(*axis)));
        let clip = m.clip_score.map(|score| score.value.to_string()).unwrap_or_default();
        settings.chain([m.pictures.to_string()]).chain(numbers.map(|number| number.to_string())).chain([clip]).collect()
    });
    table::csv(std::iter::once(header).chain(rows))
}

/// A table with the protocol below it.
pub(super) fn markdown(measured: &[&Measured], protocol: &Protocol) -> String {
    let header: Vec<&str> = COLUMNS.iter().map(|axis| axis.name()).chain(columns(protocol)).collect();
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for m in measured {
        let settings: Vec<String> = COLUMNS.iter().map(|axis| m.point.value(*axis).replace('|', "\\|")).collect();
        text += &format!("| {} | {} |\n", settings.join(" | "), cells(m).join(" | "));
    }
    text + &format!("\n{}\n", protocol.describe())
}

/// What the numbers are called.
pub(super) fn columns(protocol: &Protocol) -> Vec<&'static str> {
    let distance = if protocol.is_fid() { "FID" } else { "Fréchet distance" };
    let clip = protocol.clip.as_ref().map(|_| "CLIP score (95 %)");
    ["nearest is right", "among five (95 %)", "KID (95 %)", distance].into_iter().chain(clip).collect()
}

/// The numbers as people read them, as many as there are columns.
pub(super) fn cells(m: &Measured) -> Vec<String> {
    let percent = |x: f64| format!("{:.1}", 100.0 * x);
    let (top, kid) = (m.top_5.interval, m.kid_interval);
    let score = |score: Score| match score.interval {
        Some(interval) => format!("{:.2} ({:.2} to {:.2})", score.value, interval.low, interval.high),
        None => format!("{:.2}", score.value),
    };
    let numbers = [
        format!("{} %", percent(m.top_1.rate)),
        format!("{} % ({} to {})", percent(m.top_5.rate), percent(top.low), percent(top.high)),
        format!("{:.2} ({:.2} to {:.2})", m.kid, kid.low, kid.high),
        format!("{:.1}", m.frechet_distance),
    ];
    numbers.into_iter().chain(m.clip_score.map(score)).collect()
}
