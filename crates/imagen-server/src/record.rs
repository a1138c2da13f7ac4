//! What is written down of a request: an id that its answer has too, the method, the pattern of its address, the status, the time.
//! Nothing that a client sent is among it, neither the address itself with its ids and its token, nor a header, nor a body.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::ids;
use crate::metrics::count;
use crate::studio::Studio;

/// Where an answer says its id.
const ID: HeaderName = HeaderName::from_static("x-request-id");
/// Digits of it: enough to find a line in a log.
const DIGITS: usize = 12;

/// Counts what is asked and what is refused, and tells the log.
pub(crate) async fn record(State(studio): State<Arc<Studio>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    count(&studio.metrics.requests);
    let id = ids::random()[..DIGITS].to_owned();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        count(&studio.metrics.refusals);
    }
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    // other methods are words of a client
    let method = if KNOWN.contains(&method.as_str()) { method.as_str() } else { "other" };
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    tracing::info!(id, method, route, status = status.as_u16(), ms, "request");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(ID, id);
    }
    response
}

/// Methods that have a name of their own in a log.
const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
