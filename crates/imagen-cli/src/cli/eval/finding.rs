//! A number that was measured of pictures, and how it is told.

use serde_json::{Map, Value};

use imagen::eval::{Interval, Protocol, Summary};

use crate::failure::Result;

/// A number.
pub(super) struct Finding {
    /// What it is called, and its key in JSON.
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    /// Digits after the point, for people.
    pub(super) digits: usize,
    /// How it was computed, with the seed.
    pub(super) way: String,
    /// What makes it uncertain.
    pub(super) note: Option<String>,
}

impl Finding {
    pub(super) fn describe(&self) -> String {
        with_interval(self.value, self.interval, self.digits)
    }
}

/// What a verb makes of two sets.
pub(super) type Measure<'a> = dyn Fn(&Summary, &Summary) -> Result<Vec<Finding>> + 'a;

/// `12.3 (95 % interval 11.0 to 13.6)`
pub(super) fn with_interval(value: f64, interval: Option<Interval>, digits: usize) -> String {
    match interval {
        Some(Interval { low, high }) => format!("{value:.digits$} (95 % interval {low:.digits$} to {high:.digits$})"),
        None => format!("{value:.digits$} (no interval: it needs the features of at least four pictures a set)"),
    }
}

/// The keys of a number's protocol.
pub(super) fn protocol_json(protocol: &Protocol) -> Map<String, Value> {
    match serde_json::to_value(protocol).expect("a protocol is plain data") {
        Value::Object(map) => map,
        _ => unreachable!("a protocol is an object"),
    }
}

/// The notes of all numbers, with their names where they differ.
pub(super) fn notes(findings: &[Finding]) -> Option<String> {
    let first = findings.first()?.note.clone();
    if findings.iter().all(|finding| finding.note == first) {
        return first;
    }
    let note = |finding: &Finding| finding.note.as_ref().map(|note| format!("{}: {note}", finding.name));
    Some(findings.iter().filter_map(note).collect::<Vec<_>>().join("; "))
}
