//! What handlers take out of a request, each checked once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::Problem;
use crate::studio::Studio;

/// Characters of a client's name and of an idempotency key.
const NAME: usize = 128;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);

/// A body of JSON, up to the studio's limit.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Studio>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, studio: &Arc<Studio>) -> Result<Self, Problem> {
        json(request, studio.limits.body_bytes).await.map(Self)
    }
}

/// A body of JSON that holds a picture. So many are read at once, so that many large ones fill no memory.
#[derive(Debug)]
pub(crate) struct PictureBody<T>(pub(crate) T, pub(crate) Turn);

/// A turn at reading pictures, given back with it.
pub(crate) type Turn = OwnedSemaphorePermit;

/// Waits for a turn, before the body is read.
pub(crate) async fn turn(studio: &Arc<Studio>) -> Result<Turn, Problem> {
    let turn = tokio::time::timeout(ARRIVAL, studio.reading.clone().acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let message = "as many pictures are read as may be; try again later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_pictures", message).retry_after(5)
    })
}

impl<T: DeserializeOwned> FromRequest<Arc<Studio>> for PictureBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, studio: &Arc<Studio>) -> Result<Self, Problem> {
        let turn = turn(studio).await?;
        Ok(Self(json(request, studio.limits.picture_body_bytes).await?, turn))
    }
}

/// Reads a body of JSON.
async fn json<T: DeserializeOwned>(request: Request, most: usize) -> Result<T, Problem> {
    let bytes = read(request, most).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body: {e}")))
}

/// Reads a body of at most so many bytes, in at most so much time.
pub(crate) async fn read(request: Request, most: usize) -> Result<Bytes, Problem> {
    let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time; try again");
    tokio::time::timeout(ARRIVAL, to_bytes(request.into_body(), most)).await.map_err(slow)?.map_err(|_| {
        let message = format!("the body is longer than the {most} bytes that are read, or ended early");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })
}

/// Who asks: a name that the client chose, by which its jobs are found again. It is no secret and opens nothing.
#[derive(Clone, Debug)]
pub(crate) struct Client(pub(crate) String);

impl Client {
    pub(crate) fn named(name: &str) -> Result<Self, Problem> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() <= NAME && name.chars().all(known) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Problem::invalid("X-Client", "a client's name is up to 128 letters, digits, -, _ and ."))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::named(header(&parts.headers, "x-client")?.unwrap_or_default())
    }
}

/// A key under which a job is taken once, however often it is sent.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match header(&parts.headers, "idempotency-key")? {
            Some(key) if key.len() > NAME => {
                Err(Problem::invalid("Idempotency-Key", "a key has at most 128 characters"))
            }
            key => Ok(Self(key.map(str::to_owned))),
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let text = headers.get(name).map(|value| value.to_str().map_err(|_| Problem::invalid(name, "expected plain text")));
    text.transpose()
}

/// The parameters of an address, with an error of the form of all others.
#[derive(Debug)]
pub(crate) struct Sought<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Sought<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(e) => Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_query", e.body_text())),
        }
    }
}

/// Does what waits for the disk away from the thread that listens.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let panicked =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "internal error; this is a bug, please report it");
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
