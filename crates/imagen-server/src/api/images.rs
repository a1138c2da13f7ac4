//! Pictures: the gallery, a picture's words, its file by its id alone.

use std::io::{Cursor, Write};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use imagen::image::{DecodeOptions, Filter, decode, export};

use super::extract::turn;
use super::{Body, Sought, blocking};
use crate::ids;
use crate::problem::{Problem, as_json};
use crate::store::Wanted;
use crate::studio::Studio;
use crate::wire::PictureView;

/// Pictures of a page of the gallery.
const PAGE: usize = 60;
/// Bytes of the pictures of an archive.
const ARCHIVE: usize = 256 << 20;
/// Side of a small picture.
const SMALL: usize = 320;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    #[serde(default)]
    search: String,
    #[serde(default)]
    favourites: bool,
    before: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/images`
pub(crate) async fn list(State(studio): State<Arc<Studio>>, Sought(query): Sought<Query>) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let wanted = Wanted { search: query.search, favourites: query.favourites, before: query.before, limit };
    let pictures = blocking(move || Ok(studio.store.gallery(&wanted)?)).await?;
    let more = (pictures.len() == limit).then(|| pictures.last().map(|picture| picture.id.clone())).flatten();
    Ok(as_json(json!({ "images": pictures, "next": more }).to_string()).into_response())
}

fn known(studio: &Studio, id: &str) -> Result<PictureView, Problem> {
    let found = if ids::well_formed(id) { studio.store.picture(id)? } else { None };
    found.ok_or_else(|| Problem::not_found("picture"))
}

/// `GET /api/v1/images/{id}`
pub(crate) async fn look(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let picture = blocking(move || known(&studio, &id)).await?;
    Ok(as_json(json!(picture).to_string()).into_response())
}

/// What a picture's file never does: change.
const KEPT: (HeaderName, &str) = (header::CACHE_CONTROL, "private, max-age=31536000, immutable");

/// `GET /api/v1/images/{id}/file`: the PNG with its settings.
pub(crate) async fn file(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (picture, bytes) = read(studio, id).await?;
    let name = format!("inline; filename=\"{}\"", file_name(&picture));
    let headers = [(header::CONTENT_TYPE, "image/png".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok(([KEPT], headers, bytes).into_response())
}

/// `GET /api/v1/images/{id}/small`: a small JPEG without any words, for lists.
pub(crate) async fn small(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (_, bytes) = read(studio, id).await?;
    let bytes = blocking(move || {
        let picture = decode::decode(&bytes, &DecodeOptions::default())?;
        let side = picture.width().max(picture.height());
        let scaled = |length: usize| (length * SMALL / side).max(1);
        let picture = if side > SMALL {
            picture.resize(scaled(picture.width()), scaled(picture.height()), Filter::Area)?
        } else {
            picture
        };
        Ok(export::jpeg(&picture)?)
    });
    Ok(([KEPT], [(header::CONTENT_TYPE, "image/jpeg")], bytes.await?).into_response())
}

/// A picture with the bytes of its file.
async fn read(studio: Arc<Studio>, id: String) -> Result<(PictureView, Vec<u8>), Problem> {
    blocking(move || {
        let picture = known(&studio, &id)?;
        let bytes = file_bytes(&studio, &picture)?;
        Ok((picture, bytes))
    })
    .await
}

fn file_bytes(studio: &Studio, picture: &PictureView) -> Result<Vec<u8>, Problem> {
    imagen::input::read(&studio.store.file(&picture.id), DecodeOptions::default().max_bytes).map_err(|e| {
        tracing::error!(cause = %format!("{e:#}"), "a picture of the gallery cannot be read");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "the picture's file cannot be read")
    })
}

/// What a browser calls a picture that it keeps: letters and digits of its prompt, and its seed.
fn file_name(picture: &PictureView) -> String {
    let words: String =
        picture.prompt.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    let words: Vec<&str> = words.split_whitespace().take(8).collect();
    let name = if words.is_empty() { "picture".to_owned() } else { words.join("-") };
    format!("{}-{}.png", name.chars().take(60).collect::<String>(), picture.seed)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    favourite: bool,
}

/// `PATCH /api/v1/images/{id}`
pub(crate) async fn change(
    State(studio): State<Arc<Studio>>,
    Path(id): Path<String>,
    Body(Change { favourite }): Body<Change>,
) -> Result<Response, Problem> {
    let picture = blocking(move || {
        known(&studio, &id)?;
        studio.store.set_favourite(&id, favourite)?;
        known(&studio, &id)
    });
    Ok(as_json(json!(picture.await?).to_string()).into_response())
}

/// `DELETE /api/v1/images/{id}`: it can come back for a day.
pub(crate) async fn delete(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    blocking(move || {
        known(&studio, &id)?;
        studio.store.delete(&id)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// `POST /api/v1/images/{id}/restore`
pub(crate) async fn restore(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let picture = blocking(move || {
        if !ids::well_formed(&id) || !studio.store.restore(&id)? {
            return Err(Problem::not_found("deleted picture"));
        }
        known(&studio, &id)
    });
    Ok(as_json(json!(picture.await?).to_string()).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    ids: Vec<String>,
}

/// `POST /api/v1/images/archive`: several pictures in a zip, with a line on how each was made.
pub(crate) async fn archive(
    State(studio): State<Arc<Studio>>,
    Body(Chosen { ids }): Body<Chosen>,
) -> Result<Response, Problem> {
    let most = studio.limits.archive;
    if !(1..=most).contains(&ids.len()) {
        return Err(Problem::invalid("ids", format!("ids: expected 1 to {most} pictures")));
    }
    let turn = turn(&studio).await?;
    let bytes = blocking(move || {
        let packed = packed(&studio, &ids);
        drop(turn);
        packed
    });
    let name = "attachment; filename=\"imagen.zip\"";
    Ok(([(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, name)], bytes.await?).into_response())
}

/// The bytes of the archive. PNGs are packed already, so that they are stored as they are.
fn packed(studio: &Studio, ids: &[String]) -> Result<Vec<u8>, Problem> {
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| archive.start_file(name, options).map(|()| archive.write_all(bytes));
    let broken = |e: &dyn std::fmt::Display| {
        tracing::error!(cause = %e, "an archive could not be made");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "archive", "the archive could not be made")
    };
    let (mut words, mut bytes) = (String::new(), 0);
    for (k, id) in ids.iter().enumerate() {
        let picture = known(studio, id)?;
        let file = file_bytes(studio, &picture)?;
        bytes += file.len();
        if bytes > ARCHIVE {
            return Err(Problem::invalid("ids", "these pictures are too many bytes for one archive: choose fewer"));
        }
        let name = format!("{:03}-{}", k + 1, file_name(&picture));
        add(&name, &file).map_err(|e| broken(&e))?.map_err(|e| broken(&e))?;
        let line = json!({ "file": name, "prompt": picture.prompt, "seed": picture.seed, "command": picture.command, "request": picture.request });
        words += &format!("{line}\n");
    }
    add("pictures.jsonl", words.as_bytes()).map_err(|e| broken(&e))?.map_err(|e| broken(&e))?;
    Ok(archive.finish().map_err(|e| broken(&e))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_holds_nothing_of_a_prompt_that_a_header_or_a_shell_would_mind() {
        let named = |prompt: &str| {
            let json = json!({"prompt": prompt}).to_string();
            let request = serde_json::from_str(&json).unwrap();
            let view = PictureView {
                id: String::new(),
                job: String::new(),
                index: 0,
                prompt: prompt.into(),
                seed: 7,
                model: String::new(),
                until: imagen::cascade::StageName::Base,
                width: 1,
                height: 1,
                request,
                stages: json!({}),
                command: String::new(),
                seconds: 0.0,
                created_ms: 0,
                favourite: false,
                url: String::new(),
            };
            file_name(&view)
        };
        assert_eq!(named("A red \"apple\"\r\nSet-Cookie: x"), "a-red-apple-set-cookie-x-7.png");
        assert_eq!(named("../../etc/passwd"), "etc-passwd-7.png");
        assert_eq!(named("猫"), "picture-7.png");
    }
}
