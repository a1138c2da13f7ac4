//! What `imagen serve` writes down while it serves: to stderr, a line an event, as text or as JSON. What a line holds is the server's
//! to say (ids, states, times, causes); prompts and tokens are not among it.

use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Whose events are written down.
const SERVER: &str = "imagen_server";

/// How much is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// Nothing.
    None,
    /// What went wrong.
    Problems,
    /// Every job's end and every request, too.
    All,
}

impl Log {
    /// The words for it.
    pub(super) const NAMES: [&'static str; 3] = ["none", "problems", "all"];
}

impl FromStr for Log {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            "problems" => Ok(Self::Problems),
            "all" => Ok(Self::All),
            _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

/// Writes events down from now on; a process does so once.
pub(super) fn start(log: Log, json: bool) {
    let level = match log {
        Log::None => return,
        Log::Problems => Level::WARN,
        Log::All => Level::INFO,
    };
    let events = Targets::new().with_target(SERVER, level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    // a recorder of spans that is there already has the first word
    let _ = tracing_subscriber::registry().with(lines.with_filter(events)).try_init();
}
