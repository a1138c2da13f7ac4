//! What there is, and how the server is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use imagen::diffusion::{Sampler, Spacing, Thresholding};
use imagen::nn::Precision;

use super::blocking;
use crate::problem::{Problem, as_json};
use crate::studio::{Studio, UNDO};

/// `GET /api/v1/capabilities`: models, what can be set and within which limits. The page's form is built from it, so that no
/// setting is missing.
pub(crate) async fn capabilities(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let answer = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models": studio.models()?,
        "settings": settings(&studio),
        "limits": studio.limits,
        "runs": studio.runs.is_some(),
        "evals": studio.evals.is_some(),
        "undo_seconds": UNDO.as_secs(),
    });
    Ok(as_json(answer.to_string()).into_response())
}

/// What can be set of a stage.
fn settings(studio: &Studio) -> Value {
    let names = |names: Vec<String>| json!(names);
    json!([
        { "name": "steps", "kind": "integer", "least": 1, "most": studio.limits.steps },
        { "name": "guidance", "kind": "number", "least": 0, "most": studio.limits.guidance, "step": 0.1 },
        { "name": "sampler", "kind": "choice", "choices": names(Sampler::ALL.iter().map(Sampler::to_string).collect()) },
        { "name": "thresholding", "kind": "choice",
          "choices": names(Thresholding::ALL.iter().map(Thresholding::to_string).collect()) },
        { "name": "guidance_interval", "kind": "text", "standard": "0-inf" },
        { "name": "guidance_rescale", "kind": "number", "least": 0, "most": 1, "step": 0.1, "standard": 0 },
        { "name": "spacing", "kind": "choice", "standard": Spacing::default(),
          "choices": names(Spacing::ALL.iter().map(Spacing::to_string).collect()) },
        { "name": "precision", "kind": "choice", "standard": Precision::default().to_string(),
          "choices": names(Precision::ALL.iter().map(Precision::to_string).collect()) },
        { "name": "aug_level", "kind": "number", "least": 0, "most": 1, "step": 0.01, "enlarging": true },
    ])
}

/// `GET /api/v1/models`
pub(crate) async fn models(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    Ok(as_json(json!({ "models": studio.models()? }).to_string()).into_response())
}

/// `GET /healthz`: the process lives.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it can draw.
pub(crate) async fn readyz(State(studio): State<Arc<Studio>>) -> Result<&'static str, Problem> {
    studio.models()?;
    let answers = blocking(move || Ok(studio.store.answers() && !studio.queue.is_closed()));
    if answers.await? {
        Ok("ready\n")
    } else {
        let message = "the database does not answer, or the server is about to end";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(5))
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(studio): State<Arc<Studio>>) -> Response {
    let (waiting, running) = studio.queue.size();
    let page = studio.metrics.page(waiting, running, studio.streams.load(Ordering::Relaxed));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}
