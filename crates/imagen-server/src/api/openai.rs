//! OpenAI's Images: `/v1/images/generations`, `/v1/images/edits` and `/v1/models`, for their clients as they are.
//!
//! What differs: pictures are square and of a stage's size, the next larger one where another is asked for (`size` in the answer
//! says which); without `response_format` a picture comes both as an address and as base64. `seed`, `steps`, `guidance`, `sampler`,
//! `negative_prompt` and `stages` may stand beside OpenAI's fields; quality, style, moderation and compression are accepted and change nothing.

mod edits;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use imagen::cascade::StageName;
use imagen::diffusion::Sampler;

use super::Body;
use super::peers::{Format, encoded, stage_of};
use super::wait::{News, Waited};
use crate::problem::{Problem, as_json};
use crate::studio::Studio;
use crate::wire::{ModelView, Order, PictureView, StageOrder};

pub(crate) use self::edits::edit;

/// Whose jobs these are.
const CLIENT: &str = "openai";
/// Beginnings of the names of OpenAI's own models, which stand for the first one here.
const FAMILIES: [&str; 3] = ["dall-e", "gpt-image", "chatgpt-image"];

/// What a client asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generation {
    prompt: String,
    model: Option<String>,
    n: Option<usize>,
    size: Option<String>,
    response_format: Option<Wanted>,
    #[serde(default)]
    output_format: Format,
    background: Option<String>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    partial_images: usize,
    // beside OpenAI's
    seed: Option<u64>,
    #[serde(alias = "num_inference_steps")]
    steps: Option<usize>,
    #[serde(alias = "guidance_scale", alias = "cfg_scale")]
    guidance: Option<f64>,
    sampler: Option<Sampler>,
    #[serde(default)]
    stages: BTreeMap<StageName, StageOrder>,
    negative_prompt: Option<String>,
    // accepted, and without a meaning here
    #[serde(rename = "quality")]
    _quality: Option<Value>,
    #[serde(rename = "style")]
    _style: Option<Value>,
    #[serde(rename = "moderation")]
    _moderation: Option<Value>,
    #[serde(rename = "output_compression")]
    _compression: Option<Value>,
    #[serde(rename = "user")]
    _user: Option<Value>,
    #[serde(rename = "safety_identifier")]
    _safety: Option<Value>,
}

/// How pictures are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    Url,
    B64Json,
}

impl Generation {
    /// The studio's order.
    fn order(&self, models: &[ModelView]) -> Result<Order, Problem> {
        if self.background.as_deref() == Some("transparent") {
            return Err(Problem::invalid("background", "pictures have a background: leave it out, or ask for opaque"));
        }
        if self.stream && (self.n.unwrap_or(1) != 1 || self.partial_images > 3) {
            return Err(Problem::invalid("partial_images", "a stream is of one picture, with at most 3 partial ones"));
        }
        let name = self.model.as_deref().unwrap_or(&models[0].name);
        let own = models.iter().find(|model| model.name == name);
        let theirs = FAMILIES.iter().any(|family| name.starts_with(family));
        let Some(model) = own.or(models.first().filter(|_| theirs)) else {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let message = format!("there is no such model here; there are: {}", names.join(", "));
            return Err(Problem {
                status: StatusCode::NOT_FOUND,
                code: "model_not_found",
                ..Problem::invalid("model", message)
            });
        };
        let until = match self.size.as_deref() {
            None | Some("auto") => model.default_until,
            Some(size) => stage_of(model, side(size)?),
        };
        let mut stages = self.stages.clone();
        let base = stages.entry(model.stages[0].stage).or_default();
        (base.steps, base.guidance, base.sampler) =
            (self.steps.or(base.steps), self.guidance.or(base.guidance), self.sampler.or(base.sampler));
        Ok(Order {
            prompt: self.prompt.clone(),
            negative: self.negative_prompt.clone(),
            model: Some(model.name.clone()),
            count: Some(self.n.unwrap_or(1)),
            seed: self.seed,
            until: Some(until),
            stages,
            ..Order::default()
        })
    }
}

/// The side of a square that is written as `256x256`.
fn side(size: &str) -> Result<usize, Problem> {
    let wrong = || Problem::invalid("size", "pictures are square: ask for auto, or for a size such as 256x256");
    let (width, height) = size.split_once('x').ok_or_else(wrong)?;
    let (width, height): (usize, usize) = (width.parse().map_err(|_| wrong())?, height.parse().map_err(|_| wrong())?);
    if width == height && width > 0 { Ok(width) } else { Err(wrong()) }
}

/// `POST /v1/images/generations`
pub(crate) async fn generate(
    State(studio): State<Arc<Studio>>,
    headers: HeaderMap,
    Body(asked): Body<Generation>,
) -> Result<Response, Problem> {
    let order = asked.order(studio.models()?)?;
    answer(studio, &headers, asked, order, "image_generation").await
}

/// Draws, and answers as was asked; events of a stream begin with `kind`.
async fn answer(
    studio: Arc<Studio>,
    headers: &HeaderMap,
    asked: Generation,
    order: Order,
    kind: &'static str,
) -> Result<Response, Problem> {
    let waited = Waited::submit(studio.clone(), CLIENT, order).await?;
    if asked.stream {
        return Ok(streamed(studio, waited, asked, kind));
    }
    let job = waited.finished().await?;
    // the guard knows the host, and an address that a client can follow has the one that it came by
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let mut data = Vec::new();
    for picture in &job.pictures {
        let mut one = serde_json::Map::new();
        if asked.response_format != Some(Wanted::B64Json) {
            one.insert("url".into(), json!(format!("http://{host}{}", picture.url)));
        }
        if asked.response_format != Some(Wanted::Url) {
            one.insert("b64_json".into(), json!(encoded(&studio, picture, asked.output_format).await?));
        }
        one.insert("seed".into(), json!(picture.seed));
        data.push(Value::from(one));
    }
    let mut answer = json!({ "created": job.created_ms / 1000, "data": data, "background": "opaque" });
    if let Some(picture) = job.pictures.first() {
        answer["size"] = json!(size(picture));
        answer["output_format"] = json!(asked.output_format.as_str());
    }
    Ok(as_json(answer.to_string()).into_response())
}

fn size(picture: &PictureView) -> String {
    format!("{}x{}", picture.width, picture.height)
}

/// x̂ on the way, then the picture.
fn streamed(studio: Arc<Studio>, waited: Waited, asked: Generation, kind: &'static str) -> Response {
    let begun = crate::store::now() / 1000;
    let steps = async move |(mut waited, mut sent): (Waited, usize)| loop {
        match waited.news().await {
            Err(problem) => {
                let error = json!({"type": "error", "error": {"message": problem.message, "code": problem.code}});
                return Some((vec![event("error", &error)], None));
            }
            Ok(News::Step(step)) => {
                let (at, of) = (step["step"].as_u64().unwrap_or(0), step["of"].as_u64().unwrap_or(1));
                // the last estimates of the base, then those of the stages that enlarge it
                let due = at == of
                    || step["stage"] != "base"
                    || at * (asked.partial_images as u64 + 1) >= of * (sent as u64 + 1);
                let (Some(data), true) = (step["preview"]["data"].as_str(), due && sent < asked.partial_images) else {
                    continue;
                };
                let format = if step["preview"]["type"] == "image/png" { "png" } else { "jpeg" };
                let (width, height) = (&step["preview"]["width"], &step["preview"]["height"]);
                let partial = json!({
                    "type": format!("{kind}.partial_image"), "b64_json": data, "partial_image_index": sent, "created_at": begun,
                    "output_format": format, "size": format!("{width}x{height}"), "background": "opaque", "quality": "auto",
                });
                sent += 1;
                return Some((vec![event(&format!("{kind}.partial_image"), &partial)], Some((waited, sent))));
            }
            Ok(News::Over(job)) => {
                let picture = job.pictures.first()?;
                let data = encoded(&studio, picture, asked.output_format).await.unwrap_or_default();
                let tokens = json!({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
                    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}});
                let whole = json!({
                    "type": format!("{kind}.completed"), "b64_json": data, "created_at": begun, "size": size(picture),
                    "output_format": asked.output_format.as_str(), "background": "opaque", "quality": "auto", "usage": tokens,
                });
                return Some((vec![event(&format!("{kind}.completed"), &whole)], None));
            }
        }
    };
    let events = stream::unfold((Some((waited, 0)), steps), async |(state, steps)| {
        let (events, next) = steps(state?).await?;
        Some((stream::iter(events), (next, steps)))
    });
    Sse::new(events.flatten()).keep_alive(KeepAlive::default()).into_response()
}

fn event(name: &str, data: &Value) -> Result<Event, Infallible> {
    Ok(Event::default().event(name).data(data.to_string()))
}

fn model(view: &ModelView) -> Value {
    json!({ "id": view.name, "object": "model", "created": 0, "owned_by": "imagen" })
}

/// `GET /v1/models`
pub(crate) async fn models(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let data: Vec<Value> = studio.models()?.iter().map(model).collect();
    Ok(as_json(json!({ "object": "list", "data": data }).to_string()).into_response())
}

/// `GET /v1/models/{id}`
pub(crate) async fn one_model(
    State(studio): State<Arc<Studio>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    studio.models()?;
    let found = studio.model(&name).ok_or_else(|| Problem::not_found("model"))?;
    Ok(as_json(model(found).to_string()).into_response())
}
