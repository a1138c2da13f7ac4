//! `/api/v1/uploads`: pictures to begin with. They arrive inline, are bounded before they are decoded, and are kept as pixels
//! alone under a name that is made here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use imagen::image::{DecodeOptions, MAX_CHANNELS, Picture, decode};

use super::{PictureBody, blocking};
use crate::ids;
use crate::limits::Limits;
use crate::problem::{Problem, as_json};
use crate::studio::Studio;

/// The bytes of a picture that came as base64, with or without `data:…,` before it.
pub(super) fn inline(text: &str, param: &str) -> Result<Vec<u8>, Problem> {
    let data = text.split_once(',').filter(|(start, _)| start.starts_with("data:")).map_or(text, |(_, data)| data);
    STANDARD.decode(data.trim()).map_err(|_| {
        Problem::invalid(param, format!("{param}: expected a picture as base64; addresses are not followed"))
    })
}

/// Decodes a picture that a client sent, with its opacity.
pub(super) fn decoded(bytes: &[u8], limits: &Limits, param: &str) -> Result<Picture, Problem> {
    let options = DecodeOptions {
        channels: MAX_CHANNELS,
        max_side: limits.picture_side as u32,
        max_bytes: limits.picture_bytes,
        ..DecodeOptions::default()
    };
    decode::decode(bytes, &options).map_err(|e| Problem::invalid(param, format!("{param}: {e}")))
}

/// A picture as a client sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    image: String,
}

/// `POST /api/v1/uploads`
pub(crate) async fn send(
    State(studio): State<Arc<Studio>>,
    PictureBody(Sent { image }, turn): PictureBody<Sent>,
) -> Result<Response, Problem> {
    let kept = blocking(move || {
        let picture = decoded(&inline(&image, "image")?, &studio.limits, "image")?;
        let kept = studio.store.keep_upload(&picture, studio.limits.kept_bytes);
        drop(turn);
        kept
    });
    let kept = kept.await?;
    let place = [(header::LOCATION, kept.url.clone())];
    Ok((StatusCode::CREATED, place, as_json(json!(kept).to_string())).into_response())
}

/// `GET /api/v1/uploads/{id}/file`
pub(crate) async fn file(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let bytes = blocking(move || {
        let file = if ids::well_formed(&id) { studio.store.file_of(&id)? } else { None };
        let file = file.ok_or_else(|| Problem::not_found("picture"))?;
        imagen::input::read(&file, studio.limits.picture_bytes).map_err(|e| {
            tracing::error!(cause = %format!("{e:#}"), "a picture that was sent cannot be read");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "the picture's file cannot be read")
        })
    });
    let kept = (header::CACHE_CONTROL, "private, max-age=31536000, immutable");
    Ok(([(header::CONTENT_TYPE, "image/png"), kept], bytes.await?).into_response())
}
