//! The API of AUTOMATIC1111's web UI, `/sdapi/v1`, over this studio's jobs.
//!
//! What differs: pictures are square and of a stage's size; samplers that are not known here and everything of latent models
//! change nothing, and `info` names what was ignored; `progress` and `interrupt` see the jobs of this interface
//! alone, so that nobody ends what another interface draws.

mod img2img;

use std::sync::Arc;
use std::sync::PoisonError;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use imagen::diffusion::Sampler;
use imagen::image::{DecodeOptions, png};

use super::peers::{Format, encoded, stage_of};
use super::uploads::inline;
use super::wait::Waited;
use super::{Body, PictureBody, blocking};
use crate::problem::{Problem, as_json};
use crate::studio::Studio;
use crate::wire::{Order, StageOrder};

pub(crate) use self::img2img::img2img;

/// Whose jobs these are.
pub(crate) const CLIENT: &str = "sdapi";

/// Lists of what there is none of here.
const NONE: [&str; 9] = [
    "upscalers",
    "latent-upscale-modes",
    "sd-vae",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "loras",
    "schedulers",
];

/// What clients send, as far as it means something here; they send much more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Txt2Img {
    prompt: String,
    negative_prompt: String,
    seed: Option<i64>,
    steps: Option<usize>,
    cfg_scale: Option<f64>,
    sampler_name: Option<String>,
    sampler_index: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    batch_size: Option<usize>,
    n_iter: Option<usize>,
    override_settings: Map<String, Value>,
    enable_hr: bool,
    restore_faces: bool,
    tiling: bool,
    send_images: Option<bool>,
}

/// The sampler of a name of theirs.
fn sampler(name: &str) -> Option<Sampler> {
    let plain = name.to_lowercase();
    match plain.as_str() {
        "ddim" => "ddim".parse().ok(),
        "ddpm" => "ddpm".parse().ok(),
        _ if plain.starts_with("dpm++ 2m") && !plain.contains("sde") => "dpm++2m".parse().ok(),
        _ => plain.parse().ok(),
    }
}

impl Txt2Img {
    /// The studio's order, and what of this one it does not heed.
    fn order(&self, studio: &Studio) -> Result<(Order, Vec<&'static str>), Problem> {
        let mut ignored = Vec::new();
        let models = studio.models()?;
        let named = self.override_settings.get("sd_model_checkpoint").and_then(Value::as_str).map(str::to_owned);
        let chosen = named.or_else(|| checkpoint(studio));
        let model = chosen.as_deref().map_or(Ok(&models[0]), |name| {
            studio
                .model(name)
                .ok_or_else(|| Problem::invalid("sd_model_checkpoint", format!("there is no model {name:?}")))
        })?;
        let side = self.width.unwrap_or(512).max(self.height.unwrap_or(512));
        if self.width != self.height {
            ignored.push("the smaller of width and height: pictures are square");
        }
        let name = self.sampler_name.as_ref().or(self.sampler_index.as_ref()).filter(|name| !name.is_empty());
        let known = name.and_then(|name| sampler(name));
        for (given, what) in [
            (name.is_some() && known.is_none(), "sampler_name"),
            (self.enable_hr, "enable_hr"),
            (self.restore_faces, "restore_faces"),
            (self.tiling, "tiling"),
        ] {
            ignored.extend(given.then_some(what));
        }
        let base = StageOrder { steps: self.steps, guidance: self.cfg_scale, sampler: known, ..StageOrder::default() };
        let batch = self.batch_size.unwrap_or(1);
        let order = Order {
            prompt: self.prompt.clone(),
            negative: Some(self.negative_prompt.clone()),
            model: Some(model.name.clone()),
            count: Some(batch.saturating_mul(self.n_iter.unwrap_or(1))),
            seed: self.seed.and_then(|seed| u64::try_from(seed).ok()),
            until: Some(stage_of(model, side)),
            stages: [(model.stages[0].stage, base)].into(),
            batch: Some(batch),
            ..Order::default()
        };
        Ok((order, ignored))
    }
}

/// The model that was chosen by `options`.
fn checkpoint(studio: &Studio) -> Option<String> {
    studio.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// `POST /sdapi/v1/txt2img`
pub(crate) async fn txt2img(
    State(studio): State<Arc<Studio>>,
    Body(asked): Body<Txt2Img>,
) -> Result<Response, Problem> {
    let (order, ignored) = asked.order(&studio)?;
    answer(studio, &asked, order, ignored).await
}

/// Draws, and answers as A1111 does.
async fn answer(
    studio: Arc<Studio>,
    asked: &Txt2Img,
    order: Order,
    ignored: Vec<&'static str>,
) -> Result<Response, Problem> {
    let job = Waited::submit(studio.clone(), CLIENT, order.clone()).await?.finished().await?;
    let (mut images, mut infotexts) = (Vec::new(), Vec::new());
    for picture in &job.pictures {
        let file = studio.store.file(&picture.id);
        infotexts.push(
            blocking(move || Ok(infotext(&imagen::input::read(&file, DecodeOptions::default().max_bytes)?))).await?,
        );
        images.push(encoded(&studio, picture, Format::Png).await?);
    }
    let Some(first) = job.pictures.first() else { return Err(Problem::not_found("picture")) };
    let base = first.stages.as_object().and_then(|stages| stages.values().next()).cloned().unwrap_or_default();
    let seeds: Vec<u64> = job.pictures.iter().map(|picture| picture.seed).collect();
    let info = json!({
        "prompt": first.prompt, "all_prompts": vec![&first.prompt; images.len()], "negative_prompt": asked.negative_prompt,
        "all_negative_prompts": vec![&asked.negative_prompt; images.len()], "seed": first.seed, "all_seeds": seeds, "subseed": -1,
        "all_subseeds": vec![-1; images.len()], "subseed_strength": 0, "width": first.width, "height": first.height,
        "sampler_name": base["sampler"], "cfg_scale": base["guidance"], "steps": base["steps"],
        "batch_size": asked.batch_size.unwrap_or(1), "restore_faces": false, "sd_model_name": first.model, "sd_model_hash": null,
        "index_of_first_image": 0, "infotexts": infotexts, "job_timestamp": job.created_ms.to_string(),
        "extra_generation_params": { "Ignored": ignored }, "version": concat!("imagen ", env!("CARGO_PKG_VERSION")),
    });
    let parameters = json!({
        "prompt": order.prompt, "seed": asked.seed.unwrap_or(-1), "steps": base["steps"], "cfg_scale": base["guidance"],
        "width": first.width, "height": first.height, "batch_size": asked.batch_size.unwrap_or(1), "n_iter": asked.n_iter.unwrap_or(1),
        "sampler_name": base["sampler"],
    });
    let images = if asked.send_images == Some(false) { Vec::new() } else { images };
    let answer = json!({ "images": images, "parameters": parameters, "info": info.to_string() });
    Ok(as_json(answer.to_string()).into_response())
}

/// The line format that a PNG holds.
fn infotext(bytes: &[u8]) -> String {
    png::read_text(bytes, &DecodeOptions::default()).ok().and_then(|text| text.parameters).unwrap_or_default()
}

/// The job of this interface that is drawn now.
fn running(studio: &Studio) -> Option<String> {
    studio.queue.snapshot().0.filter(|job| job.client == CLIENT).map(|job| job.id)
}

/// `GET /sdapi/v1/progress`
pub(crate) async fn progress(State(studio): State<Arc<Studio>>) -> Response {
    let last = studio.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let step = running(&studio).and_then(|id| last.filter(|step| step["id"] == id.as_str()));
    let (gone, left) = step.as_ref().map_or((0.0, 0.0), |step| {
        (step["elapsed_seconds"].as_f64().unwrap_or(0.0), step["eta_seconds"].as_f64().unwrap_or(0.0))
    });
    let field = |name: &str| step.as_ref().map_or(json!(0), |step| step[name].clone());
    let answer = json!({
        "progress": if gone > 0.0 { gone / (gone + left) } else { 0.0 }, "eta_relative": left,
        "state": { "skipped": false, "interrupted": false, "stopping_generation": false, "job": field("stage"),
            "job_count": u8::from(step.is_some()), "job_timestamp": "0", "job_no": 0, "sampling_step": field("step"),
            "sampling_steps": field("of") },
        "current_image": step.as_ref().map(|step| step["preview"]["data"].clone()), "textinfo": null,
    });
    as_json(answer.to_string()).into_response()
}

/// `POST /sdapi/v1/interrupt` and `skip`: what this interface draws, and nothing else.
pub(crate) async fn interrupt(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    blocking(move || running(&studio).map_or(Ok(true), |id| studio.cancel(&id))).await?;
    Ok(as_json("null".to_owned()).into_response())
}

/// `GET /sdapi/v1/options`
pub(crate) async fn options(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let chosen = checkpoint(&studio).map_or_else(|| studio.models().map(|models| models[0].name.clone()), Ok)?;
    Ok(as_json(json!({ "sd_model_checkpoint": chosen, "samples_format": "png" }).to_string()).into_response())
}

/// `POST /sdapi/v1/options`: the model of what follows; everything else has no meaning here.
pub(crate) async fn set_options(
    State(studio): State<Arc<Studio>>,
    Body(given): Body<Map<String, Value>>,
) -> Result<Response, Problem> {
    if let Some(name) = given.get("sd_model_checkpoint").and_then(Value::as_str) {
        studio.models()?;
        let known = studio.model(name).ok_or_else(|| Problem::not_found("model"))?;
        *studio.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.name.clone());
    }
    Ok(as_json("null".to_owned()).into_response())
}

/// `GET /sdapi/v1/samplers`
pub(crate) async fn samplers() -> Response {
    let all: Vec<Value> =
        Sampler::ALL.iter().map(|s| json!({ "name": s.to_string(), "aliases": [], "options": {} })).collect();
    as_json(json!(all).to_string()).into_response()
}

/// `GET /sdapi/v1/sd-models`
pub(crate) async fn models(State(studio): State<Arc<Studio>>) -> Result<Response, Problem> {
    let one = |name: &str| json!({ "title": name, "model_name": name, "hash": null, "sha256": null, "filename": name, "config": null });
    let all: Vec<Value> = studio.models()?.iter().map(|model| one(&model.name)).collect();
    Ok(as_json(json!(all).to_string()).into_response())
}

/// A picture as clients send it.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    image: String,
}

/// `POST /sdapi/v1/png-info`: what a PNG says about itself; its pixels are not decoded, and no address is followed.
pub(crate) async fn png_info(PictureBody(Sent { image }, _turn): PictureBody<Sent>) -> Result<Response, Problem> {
    let text = png::read_text(&inline(&image, "image")?, &DecodeOptions::default())?;
    let info = text.parameters.unwrap_or_default();
    let answer = json!({ "info": info, "items": { "parameters": info, "imagen": text.imagen }, "parameters": {} });
    Ok(as_json(answer.to_string()).into_response())
}

/// `GET /sdapi/v1/{what}`: lists of what there is none of.
pub(crate) async fn nothing(Path(what): Path<String>) -> Result<Response, Problem> {
    let answer = match what.as_str() {
        _ if NONE.contains(&what.as_str()) => json!([]),
        "scripts" => json!({ "txt2img": [], "img2img": [] }),
        "embeddings" => json!({ "loaded": {}, "skipped": {} }),
        "cmd-flags" | "memory" => json!({}),
        _ => return Err(Problem::not_found("address")),
    };
    Ok(as_json(answer.to_string()).into_response())
}
