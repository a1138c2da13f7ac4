//! `/api/v1/runs`: trainings while they go on.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::blocking;
use crate::problem::{Problem, as_json};
use crate::runs::Runs;
use crate::studio::Studio;

fn runs(studio: &Studio) -> Result<&Runs, Problem> {
    studio.runs.as_ref().ok_or_else(|| Problem::not_found("run: the server was started without --runs"))
}

/// `GET /api/v1/runs`
pub(crate) async fn list(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let list = blocking(move || Ok(runs(&studio)?.list())).await?;
    Ok(as_json(json!({ "runs": list }).to_string()).into_response())
}

/// `GET /api/v1/runs/{name}`
pub(crate) async fn look(State(studio): State<Arc<Studio>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let run =
        blocking(move || runs(&studio)?.look(&name).map_err(unreadable)?.ok_or_else(|| Problem::not_found("run")));
    Ok(as_json(run.await?.to_string()).into_response())
}

/// `POST /api/v1/runs/{name}/stop`: it finishes its step, saves and ends.
pub(crate) async fn stop(State(studio): State<Arc<Studio>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    blocking(move || match runs(&studio)?.stop(&name).map_err(unreadable)? {
        Some(true) => Ok(StatusCode::ACCEPTED),
        Some(false) => Err(Problem::new(StatusCode::CONFLICT, "not_running", "this training does not go on")),
        None => Err(Problem::not_found("run")),
    })
    .await
}

/// `GET /api/v1/runs/{name}/grids/{step}`
pub(crate) async fn grid(
    State(studio): State<Arc<Studio>>,
    Path((name, step)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let step = step.parse().map_err(|_| Problem::not_found("grid"))?;
    let grid = blocking(move || {
        runs(&studio)?.grid(&name, step).map_err(unreadable)?.ok_or_else(|| Problem::not_found("grid"))
    });
    let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=3600")];
    Ok((headers, grid.await?).into_response())
}

/// What is said of a run that cannot be read: its words may name a path.
fn unreadable(error: imagen::Error) -> Problem {
    tracing::error!(cause = %format!("{error:#}"), "a run cannot be read");
    Problem::invalid("name", "this run cannot be read; the server's log says why")
}
