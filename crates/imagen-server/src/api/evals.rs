//! `/api/v1/evals`: sweeps and studies that the program lends, and below `/studies` the pages of a study's raters.
//!
//! A study is reached by a key of its own. Where there is a token the key stands in for it, so that raters can be let in without the
//! studio: it is made of the token and the study's name, and opens nothing else.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tower::ServiceExt;

use super::blocking;
use crate::ids;
use crate::lender::Evaluations;
use crate::problem::{Problem, as_json};
use crate::studio::Studio;

/// Where the pages of raters are.
pub(crate) const STUDIES: &str = "/studies";
/// A report has its own style and its pictures within, runs nothing and loads nothing.
const REPORT: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'";

fn evals(studio: &Studio) -> Result<&dyn Evaluations, Problem> {
    studio.evals.as_deref().ok_or_else(|| Problem::not_found("evaluation: the server was started without --evals"))
}

/// `GET /api/v1/evals`
pub(crate) async fn list(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let answer = blocking(move || {
        let mut found = evals(&studio)?.list().map_err(unreadable)?;
        for study in found["studies"].as_array_mut().into_iter().flatten() {
            if let Some(name) = study["name"].as_str().filter(|_| study["rated"] == true) {
                study["raters_url"] = Value::from(format!("{STUDIES}/{}/", studio.study_key(name)));
            }
        }
        Ok(found)
    });
    Ok(as_json(answer.await?.to_string()).into_response())
}

/// `GET /api/v1/evals/{name}/report`
pub(crate) async fn report(State(studio): State<Arc<Studio>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let page = blocking(move || {
        evals(&studio)?.report(&name).map_err(unreadable)?.ok_or_else(|| Problem::not_found("report"))
    });
    let policy = (header::CONTENT_SECURITY_POLICY, REPORT);
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8"), policy], page.await?).into_response())
}

/// The key of the study that an address is about.
fn key_of(path: &str) -> Option<&str> {
    path.strip_prefix(STUDIES)?.strip_prefix('/')?.split('/').next()
}

/// Whether an address is one of a study's raters: its key was made here.
pub(crate) fn is_keyed(studio: &Studio, path: &str) -> bool {
    let names = || studio.evals.as_ref().map(|evals| evals.studies()).unwrap_or_default();
    key_of(path)
        .filter(|key| ids::well_formed(key))
        .is_some_and(|key| names().iter().any(|name| ids::same_secret(&studio.study_key(name), key)))
}

/// `/studies/{key}/…`: the pages of a study, which the program makes.
pub(crate) async fn study(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Problem> {
    let path = request.uri().path().to_owned();
    let key = key_of(&path).unwrap_or_default().to_owned();
    let base = format!("{STUDIES}/{key}");
    let pages = blocking({
        let base = base.clone();
        move || {
            let evals = evals(&studio)?;
            let names = evals.studies();
            let name = names.iter().find(|name| ids::same_secret(&studio.study_key(name), &key));
            let name = name.ok_or_else(|| Problem::not_found("study"))?;
            evals.pages(name, &base).map_err(unreadable)?.ok_or_else(|| Problem::not_found("study"))
        }
    });
    let pages = pages.await?;
    let (mut parts, body) = request.into_parts();
    // what this service found in the address is none of theirs
    parts.extensions.clear();
    let rest = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let rest = rest.strip_prefix(&base).filter(|rest| rest.starts_with('/')).unwrap_or("/");
    parts.uri = rest.parse::<Uri>().map_err(|_| Problem::not_found("page"))?;
    let answered = pages.oneshot(Request::from_parts(parts, Body::new(body))).await;
    let mut response = answered.unwrap_or_else(|never| match never {});
    // its forms send the page that they stand on
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    Ok(response)
}

/// What is said of what cannot be read: its words may name a path.
fn unreadable(error: imagen::Error) -> Problem {
    tracing::error!(cause = %format!("{error:#}"), "an evaluation cannot be read");
    Problem::invalid("name", "this evaluation cannot be read; the server's log says why")
}
