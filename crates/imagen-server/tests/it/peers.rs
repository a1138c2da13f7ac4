//! The interfaces that clients of others know. `tools/studio/clients.py` sends the clients themselves.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};

use crate::served::{Reply, Served};

fn picture(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().unwrap()).unwrap()
}

fn generate(served: &Served, body: &Value) -> Reply {
    served.post("/v1/images/generations", &body.to_string())
}

#[test]
fn openai_gets_pictures_as_addresses_and_as_base64() {
    let served = Served::new();
    let reply = generate(&served, &json!({"prompt": "a cat", "model": "dall-e-2", "n": 2, "size": "16x16", "seed": 5}));
    let answer = reply.json();
    assert_eq!((reply.status, answer["size"].as_str()), (StatusCode::OK, Some("16x16")), "{answer}");
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.iter().map(|one| one["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    for one in data {
        let path = one["url"].as_str().unwrap().strip_prefix("http://localhost:7860").unwrap();
        assert!(served.get(path).body == picture(&one["b64_json"]), "one picture, two ways");
    }
    for (format, start) in [("jpeg", &b"\xff\xd8"[..]), ("webp", b"RIFF"), ("png", b"\x89PNG")] {
        let asked = json!({"prompt": "a", "size": "16x16", "output_format": format, "response_format": "b64_json"});
        let answer = generate(&served, &asked).json();
        assert!(picture(&answer["data"][0]["b64_json"]).starts_with(start) && answer["data"][0]["url"].is_null());
    }
    let models = served.get("/v1/models").json();
    assert_eq!((models["data"][0]["id"].as_str(), models["data"][0]["object"].as_str()), (Some("tiny"), Some("model")));
    assert_eq!(served.get("/v1/models/other").json()["id"], "other");
}

#[test]
fn openai_extras_stand_beside_its_own_fields() {
    let served = Served::new();
    let asked = json!({"prompt": "a", "size": "16x16", "num_inference_steps": 2, "guidance_scale": 1.5, "sampler": "ddim", "negative_prompt": "dogs", "quality": "high"});
    assert_eq!(generate(&served, &asked).status, StatusCode::OK);
    let drawn = served.get("/api/v1/images").json()["images"][0]["stages"]["base"].clone();
    assert_eq!(served.get("/api/v1/images").json()["images"][0]["request"]["negative"], "dogs");
    assert_eq!([&drawn["steps"], &drawn["guidance"], &drawn["sampler"]], [&json!(2), &json!(1.5), &json!("ddim")]);
}

#[test]
fn openai_errors_have_its_form() {
    let served = Served::new();
    for (asked, status, param) in [
        (json!({"prompt": "a", "model": "nonsense"}), StatusCode::NOT_FOUND, "model"),
        (json!({"prompt": "a", "size": "1536x1024"}), StatusCode::BAD_REQUEST, "size"),
        (json!({"prompt": "a", "size": "x"}), StatusCode::BAD_REQUEST, "size"),
        (json!({"prompt": "a", "n": 0}), StatusCode::BAD_REQUEST, "count"),
        (json!({"prompt": "a", "n": 65}), StatusCode::BAD_REQUEST, "count"),
        (json!({"prompt": "a", "background": "transparent"}), StatusCode::BAD_REQUEST, "background"),
    ] {
        let reply = generate(&served, &asked);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, error["param"].as_str()), (status, Some(param)), "{asked}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let failed = generate(&served, &json!({"prompt": "panic"}));
    assert_eq!((failed.status, &*failed.code()), (StatusCode::INTERNAL_SERVER_ERROR, "drawing_failed"));
}

#[test]
fn openai_streams_estimates_and_then_the_picture() {
    let served = Served::new();
    let asked = json!({"prompt": "a cat", "size": "32x32", "stream": true, "partial_images": 2, "seed": 1});
    let text = generate(&served, &asked).text();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let partial = "image_generation.partial_image";
    assert_eq!(kinds, [partial, partial, "image_generation.completed"], "{text}");
    assert_eq!([&events[0]["partial_image_index"], &events[1]["partial_image_index"]], [&json!(0), &json!(1)]);
    let whole = decode::decode(&picture(&events[2]["b64_json"]), &DecodeOptions::default()).unwrap();
    assert_eq!((whole.width(), events[2]["size"].as_str()), (32, Some("32x32")));
}

#[test]
fn a1111_gets_pictures_with_infotext_and_info_as_text() {
    let served = Served::new();
    let asked = json!({"prompt": "a cat", "negative_prompt": "dogs", "seed": 9, "steps": 2, "cfg_scale": 2.0, "width": 16, "height": 16,
        "sampler_name": "Euler a", "batch_size": 2, "n_iter": 1, "alwayson_scripts": {}, "override_settings": {"sd_model_checkpoint": "other"}});
    let reply = served.post("/sdapi/v1/txt2img", &asked.to_string());
    let answer = reply.json();
    assert_eq!(reply.status, StatusCode::OK, "{answer}");
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&info["all_seeds"], &info["steps"], &info["sd_model_name"]),
        (&json!([9, 10]), &json!(2), &json!("other"))
    );
    assert_eq!(info["extra_generation_params"]["Ignored"], json!(["sampler_name"]));
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    let text = png::read_text(&picture(&images[0]), &DecodeOptions::default()).unwrap().parameters.unwrap();
    assert_eq!(info["infotexts"][0], text.as_str());
    let sent = json!({"image": format!("data:image/png;base64,{}", images[0].as_str().unwrap())});
    assert_eq!(served.post("/sdapi/v1/png-info", &sent.to_string()).json()["info"], text.as_str());
}

#[test]
fn a1111_lists_what_there_is_and_chooses_a_model() {
    let served = Served::new();
    assert_eq!(served.get("/sdapi/v1/sd-models").json()[1]["title"], "other");
    assert_eq!(served.get("/sdapi/v1/samplers").json()[0]["name"], "ddpm");
    assert_eq!(served.get("/sdapi/v1/options").json()["sd_model_checkpoint"], "tiny");
    assert_eq!(served.post("/sdapi/v1/options", r#"{"sd_model_checkpoint": "other", "x": 1}"#).status, StatusCode::OK);
    assert_eq!(served.get("/sdapi/v1/options").json()["sd_model_checkpoint"], "other");
    assert_eq!(served.post("/sdapi/v1/options", r#"{"sd_model_checkpoint": "/etc"}"#).status, StatusCode::NOT_FOUND);
    assert_eq!(served.get("/sdapi/v1/scripts").json()["txt2img"], json!([]));
    assert_eq!(served.get("/sdapi/v1/progress").json()["progress"], 0.0);
    assert_eq!(served.get("/sdapi/v1/nonsense").status, StatusCode::NOT_FOUND);
}

#[test]
fn a1111_interrupts_nothing_of_anybody_else() {
    let served = Served::new();
    let id = served.submit(r#"{"prompt": "slow", "count": 4, "batch": 1, "until": "base"}"#);
    served.wait(&id, &["running"]);
    assert_eq!(served.request(Method::POST, "/sdapi/v1/interrupt", &[], "").status, StatusCode::OK);
    assert_eq!(served.get("/sdapi/v1/progress").json()["progress"], 0.0, "nor does it see it");
    assert_eq!(served.wait(&id, &["done", "cancelled"])["state"], "done");
}

#[test]
fn no_address_that_a_client_names_is_followed_and_no_bomb_is_unpacked() {
    let served = Served::new();
    for image in ["http://127.0.0.1:1/a.png", "file:///etc/passwd", "/etc/passwd", "data:image/png;base64,AAAA", ""] {
        let reply = served.post("/sdapi/v1/png-info", &json!({"image": image}).to_string());
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{image}: {}", reply.text());
    }
    // a few bytes that claim ten thousand million pixels
    let mut bomb = png::encode(&Picture::filled(1, 1, [0, 0, 0]), &PngText::default()).unwrap();
    bomb[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let checksum = crc32fast::hash(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&checksum);
    let reply = served.post("/sdapi/v1/png-info", &json!({"image": STANDARD.encode(bomb)}).to_string());
    assert!(!reply.status.is_server_error(), "{}", reply.text());
    let large = json!({"image": "A".repeat(33 << 20)}).to_string();
    assert_eq!(served.post("/sdapi/v1/png-info", &large).status, StatusCode::PAYLOAD_TOO_LARGE);
}
