//! Numbers about the server in Prometheus' text form. None of them names a prompt, a client or a picture.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) jobs_submitted: AtomicU64,
    pub(crate) jobs_done: AtomicU64,
    pub(crate) jobs_failed: AtomicU64,
    pub(crate) jobs_cancelled: AtomicU64,
    pub(crate) pictures: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) drawing_ms: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// The page of `/metrics`.
    pub(crate) fn page(&self, queued: usize, running: bool, streams: usize) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let rows = [
            ("imagen_http_requests_total", "counter", "Requests", read(&self.requests)),
            (
                "imagen_http_refusals_total",
                "counter",
                "Requests that were answered with an error",
                read(&self.refusals),
            ),
            ("imagen_jobs_submitted_total", "counter", "Jobs that were taken", read(&self.jobs_submitted)),
            ("imagen_jobs_done_total", "counter", "Jobs that were finished", read(&self.jobs_done)),
            ("imagen_jobs_failed_total", "counter", "Jobs that failed", read(&self.jobs_failed)),
            ("imagen_jobs_cancelled_total", "counter", "Jobs that were cancelled", read(&self.jobs_cancelled)),
            ("imagen_pictures_total", "counter", "Pictures that were finished", read(&self.pictures)),
            ("imagen_steps_total", "counter", "Evaluations of a network", read(&self.steps)),
            ("imagen_drawing_seconds_total", "counter", "Seconds spent drawing", read(&self.drawing_ms) / 1000.0),
            ("imagen_jobs_queued", "gauge", "Jobs that wait", queued as f64),
            ("imagen_jobs_running", "gauge", "Jobs that are drawn now", f64::from(u8::from(running))),
            ("imagen_event_streams", "gauge", "Streams of events that are open", streams as f64),
            ("process_resident_memory_bytes", "gauge", "Memory of this process", resident().unwrap_or(0) as f64),
        ];
        rows.into_iter().fold(String::new(), |mut page, (name, kind, help, value)| {
            writeln!(page, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}").expect("writing to a string");
            page
        })
    }
}

/// Bytes of memory that this process holds now, where the system tells it.
pub(crate) fn resident() -> Option<u64> {
    // asked at every step, and much quicker than the same number in /proc/self/status
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    pages.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * rustix::param::page_size() as u64)
}
