//! A job that somebody waits for: interfaces of others answer when the pictures are there. Whoever hangs up ends the job.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::blocking;
use super::jobs::known;
use crate::events::Message;
use crate::problem::Problem;
use crate::studio::Studio;
use crate::wire::{JobView, Order, State};

/// A job under way, ended with this where it is not over.
pub(super) struct Waited {
    studio: Arc<Studio>,
    receiver: Receiver<Arc<Message>>,
    pub(super) id: String,
    over: bool,
}

/// What happens to it.
pub(super) enum News {
    Step(Value),
    Over(Box<JobView>),
}

impl Waited {
    pub(super) async fn submit(studio: Arc<Studio>, client: &'static str, order: Order) -> Result<Self, Problem> {
        let receiver = studio.hub.listen();
        let id = blocking({
            let studio = studio.clone();
            move || studio.submit(client, None, order)
        });
        Ok(Self { id: id.await?, studio, receiver, over: false })
    }

    /// Waits for what comes next; a job that did not succeed is a problem.
    pub(super) async fn news(&mut self) -> Result<News, Problem> {
        loop {
            match self.receiver.recv().await {
                Ok(message) if message.job.as_ref() == Some(&self.id) && message.name == "step" => {
                    return Ok(News::Step(serde_json::from_str(&message.data).unwrap_or_default()));
                }
                Ok(message) if message.job.as_ref() == Some(&self.id) && message.name == "end" => {}
                Ok(_) if !self.studio.queue.is_closed() => continue,
                // what was missed may have been the end
                Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            }
            let (studio, id) = (self.studio.clone(), self.id.clone());
            let (job, _) = blocking(move || known(&studio, &id)).await?;
            match job.state {
                State::Done => {
                    self.over = true;
                    return Ok(News::Over(Box::new(job)));
                }
                state if state.is_final() => {
                    self.over = true;
                    return Err(failed(&job));
                }
                _ if self.studio.queue.is_closed() => return Err(failed(&job)),
                _ => {}
            }
        }
    }

    /// Waits until the pictures are there.
    pub(super) async fn finished(mut self) -> Result<JobView, Problem> {
        loop {
            if let News::Over(job) = self.news().await? {
                return Ok(*job);
            }
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (studio, id) = (self.studio.clone(), std::mem::take(&mut self.id));
        // the database may keep one waiting; a server that is gone has nothing to end
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            std::mem::drop(runtime.spawn_blocking(move || studio.cancel(&id)));
        }
    }
}

fn failed(job: &JobView) -> Problem {
    use axum::http::StatusCode;
    match job.state {
        State::Cancelled => Problem::new(StatusCode::CONFLICT, "cancelled", "somebody ended this while it was drawn"),
        State::Failed => {
            let message = job.error.clone().unwrap_or_else(|| "the drawing failed".into());
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "drawing_failed", message)
        }
        _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closing", "the server ends; try again when it is back")
            .retry_after(5),
    }
}
