//! Server-sent events: a job's, or all of a client's jobs. A stream begins with where things stand, beats while nothing happens,
//! so that no proxy takes it for dead, and ends with its job.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::jobs::known;
use super::{Client, Sought, blocking};
use crate::events::Message;
use crate::problem::Problem;
use crate::studio::Studio;

/// How often a stream beats.
const BEAT: Duration = Duration::from_secs(10);

/// What a stream is about.
#[derive(Clone, Debug)]
enum About {
    Job(String),
    Client(String),
}

impl About {
    fn takes(&self, message: &Message) -> bool {
        match (self, &message.job) {
            (_, None) => true,
            (Self::Job(id), Some(job)) => id == job,
            // who says no name is everybody who says none
            (Self::Client(client), Some(_)) => !client.is_empty() && *client == message.client,
        }
    }
}

/// A place among the open streams, given back with it.
struct Place(Arc<Studio>);

impl Place {
    fn take(studio: &Arc<Studio>) -> Result<Self, Problem> {
        studio.open_stream().map(|()| Self(studio.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.close_stream();
    }
}

/// `GET /api/v1/jobs/{id}/events`
pub(crate) async fn of_job(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    // first listen, then look: nothing falls between
    let (place, receiver) = (Place::take(&studio)?, studio.hub.listen());
    let about = About::Job(id.clone());
    let (job, _) = blocking({
        let studio = studio.clone();
        move || known(&studio, &id)
    })
    .await?;
    let over = job.state.is_final();
    let first = event("job", &json!(job));
    if over {
        return Ok(answer(stream::once(async move { Ok(first) })));
    }
    Ok(answer(follow(place, receiver, about, first)))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Listener {
    #[serde(default)]
    client: String,
}

/// `GET /api/v1/events?client=…`
pub(crate) async fn of_client(
    State(studio): State<Arc<Studio>>,
    Sought(Listener { client }): Sought<Listener>,
) -> Result<Response, Problem> {
    let Client(client) = Client::named(&client)?;
    let (place, receiver) = (Place::take(&studio)?, studio.hub.listen());
    let first = event("queue", &studio.queue_view());
    Ok(answer(follow(place, receiver, About::Client(client), first)))
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// The messages that are about this, until its job has ended or the server does.
fn follow(
    place: Place,
    receiver: Receiver<Arc<Message>>,
    about: About,
    first: Event,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let rest = stream::unfold((place, receiver, about, false), async |(place, mut receiver, about, over)| {
        loop {
            if over || place.0.queue.is_closed() {
                return None;
            }
            match receiver.recv().await {
                Ok(message) if about.takes(&message) => {
                    let last = message.name == "end" && matches!(about, About::Job(_));
                    let told = Event::default().event(message.name).data(&message.data);
                    return Some((Ok(told), (place, receiver, about, last)));
                }
                Ok(_) => {}
                // some were missed; where things stand now makes up for them
                Err(RecvError::Lagged(missed)) => {
                    let told = event("missed", &json!({ "messages": missed }));
                    return Some((Ok(told), (place, receiver, about, over)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    });
    stream::once(async move { Ok(first) }).chain(rest)
}

fn answer(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let beating = KeepAlive::new().interval(BEAT).text("beat");
    // what is in between is not to gather events
    let through = [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
    (through, Sse::new(stream).keep_alive(beating)).into_response()
}
