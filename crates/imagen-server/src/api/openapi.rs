//! `/openapi.json`: every address with what it takes and gives, for programs; `/api` shows it to people.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use imagen::cascade::StageName;

use crate::limits::Limits;
use crate::problem::as_json;
use crate::studio::Studio;

/// Method, address, what it does, what it takes, the status and the kind of what it gives.
type Row = (&'static str, &'static str, &'static str, Option<&'static str>, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        "post",
        "/api/v1/jobs",
        "Submit a job. With X-Client, an Idempotency-Key makes repeated sending harmless.",
        Some("Order"),
        "202",
        "Job",
    ),
    ("get", "/api/v1/jobs", "Your jobs (X-Client), the newest first, and how the queue stands.", None, "200", "Jobs"),
    ("get", "/api/v1/jobs/{id}", "A job.", None, "200", "Job"),
    ("delete", "/api/v1/jobs/{id}", "Cancel a job; finished pictures stay.", None, "202", "Job"),
    ("post", "/api/v1/jobs/{id}/again", "Submit what this job asked for once more.", None, "202", "Job"),
    (
        "get",
        "/api/v1/jobs/{id}/events",
        "Server-sent events of a job: job, queue, begin, remarks, step (with x̂ as a picture), picture, end.",
        None,
        "200",
        "Events",
    ),
    ("get", "/api/v1/events", "Server-sent events of all jobs of a client (?client=).", None, "200", "Events"),
    ("get", "/api/v1/images", "The gallery: ?search=, ?favourites=true, ?before=, ?limit=.", None, "200", "Pictures"),
    ("get", "/api/v1/images/{id}", "What a picture is and how it was made.", None, "200", "Picture"),
    ("patch", "/api/v1/images/{id}", "Mark a picture as a favourite, or no longer.", Some("Change"), "200", "Picture"),
    ("delete", "/api/v1/images/{id}", "Delete a picture; it can be restored for a day.", None, "204", ""),
    ("post", "/api/v1/images/{id}/restore", "Bring a deleted picture back.", None, "200", "Picture"),
    ("get", "/api/v1/images/{id}/file", "The PNG, with its settings.", None, "200", "image/png"),
    ("get", "/api/v1/images/{id}/small", "A small JPEG.", None, "200", "image/jpeg"),
    ("post", "/api/v1/images/archive", "Several pictures in a zip.", Some("Chosen"), "200", "application/zip"),
    (
        "post",
        "/api/v1/uploads",
        "Send a picture to begin with (base64); its id stands in an order's begin.",
        Some("Sent"),
        "201",
        "Upload",
    ),
    ("get", "/api/v1/uploads/{id}/file", "A picture that was sent, as a PNG.", None, "200", "image/png"),
    ("get", "/api/v1/capabilities", "Models, what can be set, and all limits.", None, "200", "Capabilities"),
    ("get", "/api/v1/models", "The models.", None, "200", "Models"),
    ("get", "/api/v1/runs", "Trainings (--runs), the one that changed last first.", None, "200", "Object"),
    ("get", "/api/v1/runs/{name}", "A training with its curves.", None, "200", "Object"),
    ("post", "/api/v1/runs/{name}/stop", "Ask a training to stop as after Ctrl-C.", None, "202", ""),
    ("get", "/api/v1/runs/{name}/grids/{step}", "A grid of samples.", None, "200", "image/png"),
    ("get", "/api/v1/evals", "Sweeps and studies (--evals).", None, "200", "Object"),
    ("get", "/api/v1/evals/{name}/report", "The report of a sweep or a study, as a page.", None, "200", "text/html"),
    (
        "post",
        "/v1/images/generations",
        "OpenAI Images; seed, steps, guidance, sampler and stages may stand beside its fields.",
        Some("OpenAI"),
        "200",
        "Object",
    ),
    (
        "post",
        "/v1/images/edits",
        "OpenAI's edits: a picture drawn over, where its mask is transparent or everywhere; strength may stand beside its fields.",
        Some("Edit"),
        "200",
        "Object",
    ),
    ("get", "/v1/models", "The models, as OpenAI lists them.", None, "200", "Object"),
    ("get", "/v1/models/{id}", "A model, as OpenAI shows it.", None, "200", "Object"),
    ("post", "/sdapi/v1/txt2img", "AUTOMATIC1111's txt2img.", Some("Object"), "200", "Object"),
    ("post", "/sdapi/v1/img2img", "AUTOMATIC1111's img2img, with its mask.", Some("Object"), "200", "Object"),
    ("get", "/sdapi/v1/progress", "How far the job of /sdapi/v1 is.", None, "200", "Object"),
    ("post", "/sdapi/v1/interrupt", "End the job of /sdapi/v1 that is drawn.", None, "200", "Object"),
    ("get", "/sdapi/v1/options", "The model of /sdapi/v1.", None, "200", "Object"),
    ("post", "/sdapi/v1/options", "Choose the model of /sdapi/v1.", Some("Object"), "200", "Object"),
    ("get", "/sdapi/v1/samplers", "The samplers.", None, "200", "Object"),
    ("get", "/sdapi/v1/sd-models", "The models.", None, "200", "Object"),
    ("post", "/sdapi/v1/png-info", "The settings that a PNG holds.", Some("Object"), "200", "Object"),
    ("get", "/healthz", "Whether the process lives.", None, "200", "text/plain"),
    ("get", "/readyz", "Whether it can draw.", None, "200", "text/plain"),
    ("get", "/metrics", "Prometheus metrics.", None, "200", "text/plain"),
];

/// `GET /openapi.json`
pub(crate) async fn openapi(State(studio): State<Arc<Studio>>) -> Response {
    as_json(document(&studio.limits).to_string()).into_response()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn document(limits: &Limits) -> Value {
    let mut paths = Map::new();
    for (method, path, summary, takes, status, gives) in ROWS {
        let content = match *gives {
            "" => json!({}),
            "Events" => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
            kind if kind.contains('/') => json!({ kind: { "schema": { "type": "string" } } }),
            name => json!({ "application/json": { "schema": reference(name) } }),
        };
        let refusal = json!({ "description": "A problem", "content": { "application/json": { "schema": reference("Problem") } } });
        let mut operation = json!({
            "summary": summary,
            "operationId": format!("{method} {path}").replace(['/', '{', '}', ' ', '.', '-'], "_"),
            "responses": { *status: { "description": summary, "content": content }, "default": refusal },
        });
        if let Some(takes) = takes {
            let kind = if *takes == "Edit" { "multipart/form-data" } else { "application/json" };
            operation["requestBody"] = json!({ "required": true, "content": { kind: { "schema": reference(takes) } } });
        }
        let parameters = parameters(method, path);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        entry[*method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Imagen studio", "version": env!("CARGO_PKG_VERSION"),
            "description": "Pictures from words. Where there is a token, send it as a bearer." },
        "components": { "schemas": schemas(limits), "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
        "paths": paths,
    })
}

/// What a request says beside its body: in its path, its query and its headers.
fn parameters(method: &str, path: &str) -> Vec<Value> {
    let parameter = |place: &str, name: &str, kind: &str| json!({ "name": name, "in": place, "required": place == "path", "schema": { "type": kind } });
    let kind = |name: &str| if name == "step" { "integer" } else { "string" };
    let in_path = path.split('{').skip(1).filter_map(|part| part.split('}').next());
    let mut all: Vec<Value> = in_path.map(|name| parameter("path", name, kind(name))).collect();
    let (query, headers): (&[(&str, &str)], &[&str]) = match (method, path) {
        ("get", "/api/v1/images") => {
            (&[("search", "string"), ("favourites", "boolean"), ("before", "string"), ("limit", "integer")], &[])
        }
        ("get", "/api/v1/events") => (&[("client", "string")], &[]),
        ("get", "/api/v1/jobs") => (&[], &["X-Client"]),
        ("post", "/api/v1/jobs" | "/api/v1/jobs/{id}/again") => (&[], &["X-Client", "Idempotency-Key"]),
        _ => (&[], &[]),
    };
    all.extend(query.iter().map(|(name, kind)| parameter("query", name, kind)));
    all.extend(headers.iter().map(|name| parameter("header", name, "string")));
    all
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

/// A picture to begin with.
fn begin(limits: &Limits) -> Value {
    let text = || json!({ "type": "string" });
    let pixels = || json!({ "type": "integer", "minimum": 0, "maximum": limits.picture_side });
    let room = json!({ "left": pixels(), "right": pixels(), "top": pixels(), "bottom": pixels() });
    object(
        &["picture"],
        json!({
            "picture": text(), "mask": text(), "strength": { "type": "number", "minimum": 0, "maximum": 1 }, "feather": pixels(),
            "resample": { "type": "integer", "minimum": 1, "maximum": limits.resample }, "outside": { "enum": ["noised", "clean"] },
            "extend": object(&[], room),
        }),
    )
}

fn schemas(limits: &Limits) -> Value {
    let text = || json!({ "type": "string" });
    let whole = |most: u64| json!({ "type": "integer", "minimum": 0, "maximum": most });
    let list = |name: &str| json!({ "type": "array", "items": reference(name) });
    let stage = object(
        &[],
        json!({
            "steps": { "type": "integer", "minimum": 1, "maximum": limits.steps }, "guidance": { "type": "number", "minimum": 0, "maximum": limits.guidance },
            "sampler": text(), "thresholding": text(), "guidance_interval": text(), "spacing": text(), "guidance_rescale": { "type": "number", "minimum": 0, "maximum": 1 }, "aug_level": { "type": "number", "minimum": 0, "maximum": 1 }, "timesteps": text(), "precision": text(),
        }),
    );
    json!({
        "Order": object(&["prompt"], json!({
            "prompt": { "type": "string", "maxLength": limits.prompt_characters }, "model": text(), "negative": text(),
            "count": { "type": "integer", "minimum": 1, "maximum": limits.count }, "seed": whole(limits.seed),
            "seeds": { "type": "array", "items": whole(limits.seed), "minItems": 1, "maxItems": limits.count },
            "until": { "enum": StageName::ALL }, "batch": { "type": "integer", "minimum": 1, "maximum": limits.batch },
            "stages": { "type": "object", "additionalProperties": reference("Stage") },
            "sr_seed": whole(limits.seed), "sr_seeds": { "type": "array", "items": whole(limits.seed), "maxItems": limits.count },
            "vary": object(&["seed", "part"], json!({ "seed": whole(limits.seed), "part": { "type": "number", "minimum": 0, "maximum": 1 } })),
            "from": { "enum": StageName::ALL }, "begin": reference("Begin"),
        })),
        "Begin": begin(limits),
        "Stage": stage,
        "Job": object(&["id", "state", "request", "created_ms", "pictures"], json!({
            "id": text(), "state": { "enum": ["queued", "running", "done", "failed", "cancelled", "interrupted"] }, "request": reference("Order"),
            "created_ms": { "type": "integer" }, "begun_ms": { "type": "integer" }, "ended_ms": { "type": "integer" }, "error": text(),
            "position": { "type": "integer" }, "eta_seconds": { "type": "number" }, "remarks": list("Remark"), "pictures": list("Picture"),
        })),
        "Remark": object(&["kind", "text", "message"], json!({
            "kind": { "enum": ["empty", "cut", "unknown", "nothing", "loose", "far"] }, "text": text(), "words": text(),
            "nearest": { "type": "array", "items": text() }, "message": text(),
        })),
        "Jobs": object(&["jobs", "queue"], json!({ "jobs": list("Job"), "queue": { "type": "object" } })),
        "Picture": object(&["id", "job", "prompt", "seed", "url", "command"], json!({
            "id": text(), "job": text(), "index": { "type": "integer" }, "prompt": text(), "seed": whole(limits.seed), "model": text(),
            "until": { "enum": StageName::ALL }, "width": { "type": "integer" }, "height": { "type": "integer" }, "request": reference("Order"),
            "stages": { "type": "object", "additionalProperties": reference("Stage") }, "command": text(), "seconds": { "type": "number" },
            "created_ms": { "type": "integer" }, "favourite": { "type": "boolean" }, "url": text(),
        })),
        "Pictures": object(&["images"], json!({ "images": list("Picture"), "next": { "type": ["string", "null"] } })),
        "Chosen": object(&["ids"], json!({ "ids": { "type": "array", "items": text(), "minItems": 1, "maxItems": limits.archive } })),
        "Sent": object(&["image"], json!({ "image": text() })),
        "Upload": object(&["id", "width", "height", "url"], json!({
            "id": text(), "width": { "type": "integer" }, "height": { "type": "integer" }, "url": text(),
        })),
        "Edit": object(&["image", "prompt"], json!({
            "image": { "type": "string", "format": "binary" }, "mask": { "type": "string", "format": "binary" }, "prompt": text(),
            "n": { "type": "integer" }, "size": text(), "response_format": { "enum": ["url", "b64_json"] }, "strength": { "type": "number" },
        })),
        "Change": object(&["favourite"], json!({ "favourite": { "type": "boolean" } })),
        "Capabilities": object(&["version", "models", "settings", "limits"], json!({
            "version": text(), "models": { "type": "array" }, "settings": { "type": "array" }, "limits": { "type": "object" },
        })),
        "Models": object(&["models"], json!({ "models": { "type": "array" } })),
        "OpenAI": object(&["prompt"], json!({
            "prompt": text(), "model": text(), "n": { "type": "integer" }, "size": text(), "response_format": { "enum": ["url", "b64_json"] },
            "output_format": { "enum": ["png", "jpeg", "webp"] }, "stream": { "type": "boolean" },
            "partial_images": { "type": "integer", "minimum": 0, "maximum": 3 }, "seed": whole(limits.seed), "steps": { "type": "integer" },
            "guidance": { "type": "number" }, "sampler": text(),
        })),
        "Object": { "type": "object" },
        "Problem": object(&["error"], json!({ "error": object(&["message", "type", "code"], json!({
            "message": text(), "type": text(), "param": { "type": ["string", "null"] }, "code": text(),
        })) })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_is_a_parameter() {
        let document = document(&Limits::default());
        for (path, operations) in document["paths"].as_object().unwrap() {
            let parts = path.matches('{').count();
            for operation in operations.as_object().unwrap().values() {
                let declared = operation["parameters"].as_array().into_iter().flatten();
                assert_eq!(
                    declared.filter(|one| one["in"] == "path" && one["required"] == true).count(),
                    parts,
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn every_kind_that_is_named_is_described() {
        let document = document(&Limits::default());
        let text = document.to_string();
        for named in text.split("#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
