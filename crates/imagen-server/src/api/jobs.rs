//! Jobs: submit, list, look, cancel, run again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Body, Client, IdempotencyKey, blocking};
use crate::ids;
use crate::problem::{Problem, as_json};
use crate::studio::Studio;
use crate::wire::{JobView, Order};

/// Jobs of a client that are listed.
const LISTED: usize = 50;

/// `POST /api/v1/jobs`
pub(crate) async fn submit(
    State(studio): State<Arc<Studio>>,
    client: Client,
    IdempotencyKey(key): IdempotencyKey,
    Body(order): Body<Order>,
) -> Result<Response, Problem> {
    taken(studio, client, key, order).await
}

/// Takes a job and answers with it, at once.
async fn taken(studio: Arc<Studio>, client: Client, key: Option<String>, order: Order) -> Result<Response, Problem> {
    if key.is_some() && client.0.is_empty() {
        return Err(Problem::invalid("Idempotency-Key", "a key is a client's own: send X-Client too"));
    }
    let job = blocking(move || {
        let id = studio.submit(&client.0, key.as_deref(), order)?;
        Ok(studio.job(&id)?.ok_or_else(|| Problem::not_found("job"))?.0)
    });
    let job = job.await?;
    let place = [(header::LOCATION, format!("/api/v1/jobs/{}", job.id))];
    Ok((StatusCode::ACCEPTED, place, as_json(json!(job).to_string())).into_response())
}

/// `GET /api/v1/jobs`: those of the client that asks, and how the queue stands.
pub(crate) async fn list(State(studio): State<Arc<Studio>>, client: Client) -> Result<Response, Problem> {
    let answer = blocking(move || {
        // who says no name is everybody who says none
        let jobs = if client.0.is_empty() { Vec::new() } else { studio.jobs(&client.0, LISTED)? };
        Ok(json!({ "jobs": jobs, "queue": studio.queue_view() }))
    });
    Ok(as_json(answer.await?.to_string()).into_response())
}

/// A job that somebody knows.
pub(super) fn known(studio: &Studio, id: &str) -> Result<(JobView, String), Problem> {
    let found = if ids::well_formed(id) { studio.job(id)? } else { None };
    found.ok_or_else(|| Problem::not_found("job"))
}

/// `GET /api/v1/jobs/{id}`
pub(crate) async fn look(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (job, _) = blocking(move || known(&studio, &id)).await?;
    Ok(as_json(json!(job).to_string()).into_response())
}

/// `DELETE /api/v1/jobs/{id}`: what is finished of it stays.
pub(crate) async fn cancel(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let job = blocking(move || {
        known(&studio, &id)?;
        studio.cancel(&id)?;
        Ok(known(&studio, &id)?.0)
    });
    Ok((StatusCode::ACCEPTED, as_json(json!(job.await?).to_string())).into_response())
}

/// `POST /api/v1/jobs/{id}/again`: another job that asks for what this one asked for.
pub(crate) async fn again(
    State(studio): State<Arc<Studio>>,
    client: Client,
    IdempotencyKey(key): IdempotencyKey,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let known_to = studio.clone();
    let (job, _) = blocking(move || known(&known_to, &id)).await?;
    taken(studio, client, key, job.request).await
}
