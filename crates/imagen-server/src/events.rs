//! What happens, told to whoever listens: one stream of messages for all, from which each listener takes its own.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Messages that are kept for a listener who is slow; beyond them it misses some, and is told where things stand.
const KEPT: usize = 64;

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Message {
    /// The job that it is about; nothing where it is about the queue.
    pub(crate) job: Option<String>,
    /// Whose job it is.
    pub(crate) client: String,
    /// Its name.
    pub(crate) name: &'static str,
    /// JSON.
    pub(crate) data: String,
}

/// Where everything is told.
#[derive(Debug)]
pub(crate) struct Hub(Sender<Arc<Message>>);

impl Hub {
    pub(crate) fn new() -> Self {
        Self(channel(KEPT).0)
    }

    pub(crate) fn listen(&self) -> Receiver<Arc<Message>> {
        self.0.subscribe()
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Tells of a job, to those who know it.
    pub(crate) fn tell(&self, client: &str, job: &str, name: &'static str, data: &Value) {
        self.send(Message { job: Some(job.to_owned()), client: client.to_owned(), name, data: data.to_string() });
    }

    /// Tells that the queue is another one.
    pub(crate) fn moved(&self, data: &Value) {
        self.send(Message { job: None, client: String::new(), name: "queue", data: data.to_string() });
    }

    fn send(&self, message: Message) {
        // nobody listens: nobody is told
        let _ = self.0.send(Arc::new(message));
    }
}
