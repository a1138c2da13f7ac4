//! `/v1/images/edits`: a picture that is drawn over, where its mask is transparent or everywhere. It is the one address that takes
//! `multipart/form-data`, as OpenAI's clients send it; the guard lets no browser's page do so.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use imagen::image::Picture;

use super::{Generation, answer};
use crate::api::extract::{read, turn};
use crate::api::uploads::decoded;
use crate::api::{blocking, peers};
use crate::begin::BeginOrder;
use crate::problem::Problem;
use crate::studio::Studio;

/// Parts of a body.
const PARTS: usize = 64;
/// Bytes of a part that is no picture.
const TEXT: usize = 64 << 10;
/// Names of parts that are no text.
const NUMBERS: [&str; 9] = [
    "n",
    "partial_images",
    "seed",
    "steps",
    "num_inference_steps",
    "guidance",
    "guidance_scale",
    "cfg_scale",
    "stream",
];

/// What came: OpenAI's fields, and the pictures.
#[derive(Default)]
struct Parts {
    fields: Map<String, Value>,
    strength: Option<f64>,
    image: Option<Bytes>,
    mask: Option<Bytes>,
}

/// Takes a body apart that was bounded before.
async fn parts(headers: &HeaderMap, body: Bytes) -> Result<Parts, Problem> {
    let broken = |e: &dyn std::fmt::Display| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_multipart", format!("the body is no multipart/form-data: {e}"))
    };
    let mut request = Request::new(Body::from(body));
    request.headers_mut().clone_from(headers);
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|e| broken(&e))?;
    let mut parts = Parts::default();
    for _ in 0..PARTS {
        let Some(part) = multipart.next_field().await.map_err(|e| broken(&e))? else { return Ok(parts) };
        let name = part.name().unwrap_or_default().to_owned();
        let bytes = part.bytes().await.map_err(|e| broken(&e))?;
        let place = match name.as_str() {
            "image" | "image[]" => &mut parts.image,
            "mask" => &mut parts.mask,
            _ => {
                let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= TEXT);
                let text = text.ok_or_else(|| Problem::invalid(&name, "expected a short text"))?;
                let number = NUMBERS.contains(&name.as_str()) || name == "strength" || name == "stages";
                let value = serde_json::from_str(text).ok().filter(|_| number).unwrap_or_else(|| json!(text));
                match name.as_str() {
                    "strength" => {
                        parts.strength =
                            Some(value.as_f64().ok_or_else(|| Problem::invalid("strength", "expected a number"))?)
                    }
                    // how near OpenAI's models stay to a picture; here strength says it
                    "input_fidelity" => {}
                    _ => drop(parts.fields.insert(name, value)),
                }
                continue;
            }
        };
        if place.replace(bytes).is_some() {
            return Err(Problem::invalid(&name, "one picture is drawn over: send one image, and one mask"));
        }
    }
    Err(Problem::invalid("body", format!("a body of more than {PARTS} parts")))
}

/// What is drawn anew: where a picture is transparent.
fn transparent(picture: &Picture) -> Picture {
    let drawn =
        picture.pixels().chunks_exact(picture.channels()).map(|pixel| 255 - pixel[picture.channels() - 1]).collect();
    Picture::with_channels(picture.width(), picture.height(), 1, drawn).expect("a value for each pixel")
}

/// `POST /v1/images/edits`
pub(crate) async fn edit(
    State(studio): State<Arc<Studio>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let turn = turn(&studio).await?;
    let body = read(request, studio.limits.picture_body_bytes).await?;
    let Parts { fields, strength, image, mask } = parts(&headers, body).await?;
    let asked: Generation = serde_json::from_value(fields.into())
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "invalid_value", format!("the body: {e}")))?;
    let mut order = asked.order(studio.models()?)?;
    let image = image.ok_or_else(|| Problem::invalid("image", "image: expected the picture to draw over"))?;
    let keeper = studio.clone();
    let square = order.model.as_deref().and_then(|name| studio.model(name)).is_some_and(|model| model.square);
    let begin = blocking(move || {
        let picture = decoded(&image, &keeper.limits, "image")?;
        if square && picture.width() != picture.height() {
            let (width, height) = (picture.width(), picture.height());
            return Err(Problem::invalid("image", format!("image: {width}x{height}, and this model draws squares")));
        }
        let mask = mask.map(|bytes| decoded(&bytes, &keeper.limits, "mask")).transpose()?;
        let holes =
            |picture: &Picture| Some(transparent(picture)).filter(|mask| mask.pixels().iter().any(|drawn| *drawn > 0));
        let drawn = match &mask {
            Some(mask) if (mask.width(), mask.height()) != (picture.width(), picture.height()) => {
                return Err(Problem::invalid("mask", "mask: expected the size of the image"));
            }
            Some(mask) => {
                let message = "mask: expected a picture that is transparent where the image is drawn anew";
                Some(holes(mask).ok_or_else(|| Problem::invalid("mask", message))?)
            }
            // a picture with holes is its own mask
            None => holes(&picture),
        };
        let begin = peers::begin(&keeper, &picture, drawn.as_ref())?;
        drop(turn);
        Ok(BeginOrder { strength, ..begin })
    });
    order.begin = Some(begin.await?);
    answer(studio, &headers, asked, order, "image_edit").await
}
