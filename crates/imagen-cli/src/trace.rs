//! `--trace`: where the time of a command goes, as a Chrome trace (chrome://tracing, Perfetto).
//!
//! The library marks what it does with spans of `tracing`. Nobody listens to them, and each costs one comparison, until
//! [`Trace::start`]; from then on every span is kept with its thread, begin and end. Spans that are asked about anything
//! but time are not for this module.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::failure::Result;
use crate::output;

/// A recording under way.
#[derive(Debug)]
pub(crate) struct Trace {
    path: PathBuf,
    recorder: Arc<Recorder>,
}

impl Trace {
    /// Records every span from now on, to be written to `path`.
    ///
    /// # Errors
    /// `Runtime` where no file can be made beside `path`.
    pub(crate) fn start(path: &Path) -> Result<Self> {
        output::check_name(path)?;
        output::check_writable(output::folder_of(path))?;
        let recorder = Arc::new(Recorder { start: Instant::now(), spans: Mutex::new(Vec::new()) });
        tracing::subscriber::set_global_default(recorder.clone()).expect("a command records once");
        Ok(Self { path: path.to_owned(), recorder })
    }

    /// Writes the spans that have ended.
    ///
    /// # Errors
    /// `Runtime` where the file cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let text = self.recorder.to_json().to_string();
        output::write_file(&self.path, text.as_bytes())
    }
}

/// Keeps the spans in the order in which they began; a span's id is its place, from 1.
#[derive(Debug)]
struct Recorder {
    start: Instant,
    spans: Mutex<Vec<Span>>,
}

#[derive(Debug)]
struct Span {
    name: &'static str,
    level: Level,
    fields: Fields,
    thread: u64,
    begin: Option<Duration>,
    end: Option<Duration>,
}

#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Recorder {
    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Span)) {
        if let Some(span) = self.spans().get_mut(id.into_u64() as usize - 1) {
            change(span);
        }
    }

    /// The format of Chrome's "Trace Event Format": complete events, times in microseconds.
    fn to_json(&self) -> Value {
        let events: Vec<Value> = self.spans().iter().filter_map(Span::to_json).collect();
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

impl Span {
    fn to_json(&self) -> Option<Value> {
        let microseconds = |time: Duration| time.as_nanos() as f64 / 1e3;
        let (begin, end) = (self.begin?, self.end?);
        Some(json!({
            "name": self.title(),
            "cat": if self.level == Level::TRACE { "operation" } else { "part" },
            "ph": "X",
            "ts": microseconds(begin),
            "dur": microseconds(end.saturating_sub(begin)),
            "pid": 1,
            "tid": self.thread,
            "args": self.fields.0,
        }))
    }

    /// The name, with the stage or level that it speaks of.
    fn title(&self) -> String {
        match self.fields.0.get("stage").or_else(|| self.fields.0.get("level")) {
            Some(Value::String(which)) => format!("{} {which}", self.name),
            Some(which) => format!("{} {which}", self.name),
            None => self.name.to_owned(),
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let (name, level) = (attributes.metadata().name(), *attributes.metadata().level());
        let mut spans = self.spans();
        spans.push(Span { name, level, fields, thread: thread_number(), begin: None, end: None });
        Id::from_u64(spans.len() as u64)
    }

    fn enter(&self, id: &Id) {
        let now = self.start.elapsed();
        self.change(id, |span| _ = span.begin.get_or_insert(now));
    }

    fn exit(&self, id: &Id) {
        let now = self.start.elapsed();
        self.change(id, |span| span.end = Some(now));
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.change(id, |span| values.record(&mut span.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

/// 1 for the first thread that asks, 2 for the next.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{debug_span, trace_span};

    #[test]
    fn a_span_that_has_ended_is_an_event_inside_its_parent() {
        let recorder = Arc::new(Recorder { start: Instant::now(), spans: Mutex::default() });
        let open = tracing::subscriber::with_default(recorder.clone(), || {
            let _outer = debug_span!("down", level = 2usize).entered();
            trace_span!("conv3x3", x = ?[1, 2], silu = true).in_scope(|| std::thread::sleep(Duration::from_millis(1)));
            debug_span!("never ended").entered()
        });
        let json = recorder.to_json();
        let events = json["traceEvents"].as_array().unwrap();
        let names: Vec<&str> = events.iter().map(|e| e["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["down 2", "conv3x3"]);
        let time = |event: &Value, key: &str| event[key].as_f64().unwrap();
        let [outer, inner] = [&events[0], &events[1]];
        assert!(time(outer, "ts") <= time(inner, "ts") && time(inner, "dur") >= 1000.0, "{json}");
        assert!(time(inner, "ts") + time(inner, "dur") <= time(outer, "ts") + time(outer, "dur"), "{json}");
        assert_eq!(inner["args"], json!({ "x": "[1, 2]", "silu": true }));
        assert_eq!([&outer["cat"], &inner["cat"]], ["part", "operation"]);
        drop(open);
    }
}
