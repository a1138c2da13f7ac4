//! Jobs from order to picture, and everything that can happen to them on the way.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use imagen::image::{DecodeOptions, decode, png};
use imagen_server::Limits;

use crate::served::Served;

#[test]
fn a_job_is_drawn_with_previews_of_every_step_and_its_pictures_are_kept() {
    let served = Served::new();
    let mut id = String::new();
    let stream = "/api/v1/events?client=me";
    let events = served.listen(stream, "end", || {
        id = served.submit_meanwhile(r#"{"prompt": "a cat", "seed": 7, "count": 2, "until": "sr256"}"#);
    });
    let named =
        |wanted: &str| events.iter().filter(|(name, _)| name == wanted).map(|(_, data)| data).collect::<Vec<_>>();
    let steps = named("step");
    // three steps of each stage for a batch of two
    assert_eq!(steps.len(), 6, "{events:?}");
    for (k, step) in steps.iter().enumerate() {
        assert_eq!((step["step"].as_u64(), step["of"].as_u64()), (Some(k as u64 % 3 + 1), Some(3)));
        let side = if k < 3 { 16 } else { 32 };
        assert_eq!(step["pictures"], json!([0, 2]));
        let preview = STANDARD.decode(step["preview"]["data"].as_str().unwrap()).unwrap();
        let preview = decode::decode(&preview, &DecodeOptions::default()).unwrap();
        assert_eq!((preview.width(), preview.height()), (side, 2 * side), "two pictures below each other");
    }
    assert_eq!(named("picture").len(), 2);
    assert_eq!(named("end")[0]["state"], "done");
    let job = served.job(&id);
    let pictures = job["pictures"].as_array().unwrap();
    assert_eq!(pictures.iter().map(|picture| picture["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [7, 8]);
    for picture in pictures {
        let file = served.get(picture["url"].as_str().unwrap());
        assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, "image/png"));
        let text = png::read_text(&file.body, &DecodeOptions::default()).unwrap();
        assert!(text.parameters.unwrap().starts_with("a cat\nSeed: "), "the file says how it was drawn");
    }
    // the last estimate is the picture
    let last = STANDARD.decode(steps[5]["preview"]["data"].as_str().unwrap()).unwrap();
    let last = decode::decode(&last, &DecodeOptions::default()).unwrap();
    let file = served.get(pictures[0]["url"].as_str().unwrap()).body;
    let file = decode::decode(&file, &DecodeOptions::default()).unwrap();
    assert!(last.crop(0, 0, 32, 32).unwrap() == file, "a preview below 65 pixels loses nothing");
}

#[test]
fn what_a_picture_will_not_follow_is_said_and_remembered() {
    let mut served = Served::new();
    let prompt = "a cat ".repeat(40);
    let mut id = String::new();
    let events = served.listen("/api/v1/events?client=me", "end", || {
        let order = json!({ "prompt": prompt, "negative": "dogs \u{1F436}", "until": "base" });
        id = served.submit_meanwhile(&order.to_string());
    });
    let told = &events.iter().find(|(name, _)| name == "remarks").expect("before it is drawn").1;
    assert_eq!(told["id"], json!(id));
    let remarks = told["remarks"].as_array().unwrap();
    let cut = &remarks[0];
    assert_eq!((cut["kind"].as_str(), cut["text"].as_str()), (Some("cut"), Some(prompt.trim())));
    assert!(prompt.ends_with(&format!("{} ", cut["words"].as_str().unwrap())), "{cut}");
    assert!(cut["message"].as_str().unwrap().contains("tokens of a prompt; not read: \""), "{cut}");
    served.restart();
    assert_eq!(served.job(&id)["remarks"], told["remarks"]);
    let plain = served.submit(r#"{"prompt": "a cat", "until": "base"}"#);
    assert!(served.wait(&plain, &["done"]).get("remarks").is_none(), "nothing to say of a prompt that is read");
}

#[test]
fn a_picture_is_the_same_as_without_the_server() {
    let served = Served::new();
    let id = served.submit(
        r#"{"prompt": "a cat", "seed": 3, "stages": {"base": {"steps": 2, "sampler": "ddim"}}, "until": "base"}"#,
    );
    let job = served.wait(&id, &["done", "failed"]);
    let file = served.get(job["pictures"][0]["url"].as_str().unwrap()).body;
    let files = imagen::cascade::ModelFiles::Folder(served.folder.path().join("model"));
    let imagen = imagen::cascade::Imagen::open(&files, &burn::tensor::Device::flex()).unwrap();
    let mut request = imagen::cascade::Request::new(vec!["a cat".into()], 1, 3);
    request.until = Some(imagen::cascade::StageName::Base);
    let options =
        imagen::cascade::StageOptions { steps: Some(2), sampler: Some("ddim".parse().unwrap()), ..Default::default() };
    request.options.insert(imagen::cascade::StageName::Base, options);
    let drawn = imagen.sample(&request).unwrap().find_map(|event| match event.unwrap() {
        imagen::cascade::Event::Image { picture, .. } => Some(picture),
        imagen::cascade::Event::Step { .. } => None,
    });
    assert!(decode::decode(&file, &DecodeOptions::default()).unwrap() == drawn.unwrap());
}

#[test]
fn an_id_is_needed_to_see_or_end_a_job_and_is_told_to_its_client_alone() {
    let served = Served::new();
    let id = served.submit(r#"{"prompt": "slow", "count": 9, "batch": 1, "until": "base"}"#);
    let of = |client: &str| served.request(Method::GET, "/api/v1/jobs", &[("x-client", client)], "").json();
    assert_eq!(of("me")["jobs"][0]["id"], id.as_str());
    let others = of("you");
    assert!(!of("").to_string().contains(&id));
    assert!(others["jobs"].as_array().unwrap().is_empty() && !others.to_string().contains(&id), "{others}");
    for guess in ["0", "../../data/studio.sqlite", "%2e%2e%2f", &"0".repeat(32), &id.to_uppercase()] {
        let path = format!("/api/v1/jobs/{}", guess.replace('/', "%2F"));
        assert_eq!(served.get(&path).status, StatusCode::NOT_FOUND, "{guess}");
        assert_eq!(served.delete(&path).status, StatusCode::NOT_FOUND, "{guess}");
    }
    assert_eq!(served.delete(&format!("/api/v1/jobs/{id}")).status, StatusCode::ACCEPTED);
    let job = served.wait(&id, &["cancelled"]);
    let drawn = job["pictures"].as_array().unwrap().len();
    assert!(drawn < 9, "it went on after it was cancelled");
}

#[test]
fn a_job_that_waits_is_cancelled_at_once_and_the_queue_says_where_each_stands() {
    let served = Served::new();
    let first = served.submit(r#"{"prompt": "slow", "count": 20, "batch": 1, "until": "base"}"#);
    let second = served.submit(r#"{"prompt": "a", "until": "base"}"#);
    let third = served.submit(r#"{"prompt": "b", "until": "base"}"#);
    served.wait(&first, &["running"]);
    assert_eq!([&first, &second, &third].map(|id| served.job(id)["position"].as_u64()), [Some(0), Some(1), Some(2)]);
    served.delete(&format!("/api/v1/jobs/{second}"));
    assert_eq!(served.job(&second)["state"], "cancelled");
    assert_eq!(served.job(&third)["position"], 1);
    served.delete(&format!("/api/v1/jobs/{first}"));
    assert_eq!(served.wait(&third, &["done"])["pictures"].as_array().unwrap().len(), 1);
}

#[test]
fn a_panic_fails_its_job_alone() {
    let served = Served::new();
    let bad = served.submit(r#"{"prompt": "panic", "until": "base"}"#);
    let good = served.submit(r#"{"prompt": "a cat", "until": "base"}"#);
    let job = served.wait(&bad, &["failed"]);
    assert!(job["error"].as_str().unwrap().contains("a model that panics"), "{job}");
    assert_eq!(served.wait(&good, &["done", "failed"])["state"], "done");
    assert_eq!(served.get("/readyz").status, StatusCode::OK);
}

#[test]
fn a_full_queue_says_so_and_when_to_come_back() {
    let mut served = Served::with(Limits { queue: 3, queue_per_client: 2, ..Limits::default() }, None);
    let order = r#"{"prompt": "slow", "count": 20, "batch": 1, "until": "base"}"#;
    let running = served.submit(order);
    served.wait(&running, &["running"]);
    served.submit(order);
    served.submit(order);
    let mine = served.post("/api/v1/jobs", order);
    assert_eq!((mine.status, &*mine.code()), (StatusCode::TOO_MANY_REQUESTS, "too_many_jobs"));
    let from = |client: &str| served.request(Method::POST, "/api/v1/jobs", &[("x-client", client)], order);
    assert_eq!(from("you").status, StatusCode::ACCEPTED);
    let all = from("they");
    assert_eq!((all.status, &*all.code()), (StatusCode::SERVICE_UNAVAILABLE, "queue_full"));
    for reply in [&mine, &all] {
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        assert!((1..=600).contains(&seconds));
    }
    served.restart();
    assert_eq!(served.job(&running)["state"], "interrupted");
}

#[test]
fn a_restart_marks_what_was_drawn_goes_on_with_what_waited_and_keeps_every_picture() {
    let mut served = Served::new();
    let first = served.submit(r#"{"prompt": "slow", "count": 30, "batch": 1, "until": "base"}"#);
    let second = served.submit(r#"{"prompt": "a cat", "until": "base"}"#);
    while served.job(&first)["pictures"].as_array().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    served.restart();
    let job = served.job(&first);
    assert_eq!(job["state"], "interrupted", "{job}");
    let pictures = job["pictures"].as_array().unwrap();
    assert!(!pictures.is_empty());
    for picture in pictures {
        assert_eq!(served.get(picture["url"].as_str().unwrap()).status, StatusCode::OK);
    }
    assert_eq!(served.wait(&second, &["done", "failed"])["state"], "done");
    let again = served.post(&format!("/api/v1/jobs/{first}/again"), "");
    assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.text());
    assert_eq!(again.json()["request"], job["request"]);
    assert_ne!(again.json()["id"], first.as_str());
}

#[test]
fn a_job_has_its_time() {
    let served = Served::with(Limits { job_seconds: 1, ..Limits::default() }, None);
    let id = served.submit(r#"{"prompt": "slow", "count": 60, "batch": 1, "until": "base"}"#);
    let job = served.wait(&id, &["failed", "done"]);
    assert!(job["error"].as_str().is_some_and(|error| error.contains("longer than the 1 seconds")), "{job}");
    assert!(!job["pictures"].as_array().unwrap().is_empty(), "what was finished in time stays");
}

#[test]
fn an_order_sent_twice_under_one_key_is_one_job() {
    let served = Served::new();
    let sent = |key: &str, order: &str| {
        let headers = [("x-client", "me"), ("idempotency-key", key)];
        served.request(Method::POST, "/api/v1/jobs", &headers, order)
    };
    let send = |key: &str| sent(key, r#"{"prompt": "a", "until": "base"}"#).json()["id"].clone();
    assert_eq!(send("one"), send("one"), "though each chooses a seed");
    assert_ne!(send("one"), send("two"));
    for other in [
        r#"{"prompt": "b", "until": "base"}"#,
        r#"{"prompt": "a", "until": "base", "count": 2}"#,
        r#"{"prompt": "a", "until": "base", "stages": {"base": {"steps": 2}}}"#,
    ] {
        let refused = sent("one", other);
        assert_eq!((refused.status, &*refused.code()), (StatusCode::CONFLICT, "key_used"), "{other}");
    }
    let nobody = served.request(Method::POST, "/api/v1/jobs", &[("idempotency-key", "one")], r#"{"prompt": "a"}"#);
    assert_eq!(nobody.status, StatusCode::BAD_REQUEST);
}

#[test]
fn nonsense_is_refused_in_one_form() {
    let served = Served::with(Limits { body_bytes: 2000, ..Limits::default() }, None);
    for (body, status) in [
        ("{", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        ("null", StatusCode::BAD_REQUEST),
        (r#"{"prompt": 3}"#, StatusCode::BAD_REQUEST),
        (r#"{"prompt": "a", "path": "/etc/passwd"}"#, StatusCode::BAD_REQUEST),
        (r#"{"prompt": "a", "count": -1}"#, StatusCode::BAD_REQUEST),
        (r#"{"prompt": "a", "model": "/etc"}"#, StatusCode::BAD_REQUEST),
        (r#"{"prompt": "a", "stages": {"base": {"sampler": "eulers"}}}"#, StatusCode::BAD_REQUEST),
        (&format!(r#"{{"prompt": "{}"}}"#, "a".repeat(3000)), StatusCode::PAYLOAD_TOO_LARGE),
        (&"[".repeat(1999), StatusCode::BAD_REQUEST),
    ] {
        let reply = served.post("/api/v1/jobs", body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        let error = &reply.json()["error"];
        assert!(
            error["message"].is_string() && error["code"].is_string() && error["type"] == "invalid_request_error",
            "{error}"
        );
    }
    assert_eq!(served.request(Method::PUT, "/api/v1/jobs", &[], "{}").status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(served.get("/api/v1/images?limit=x").status, StatusCode::BAD_REQUEST);
    let client = served.request(Method::GET, "/api/v1/jobs", &[("x-client", "a b")], "");
    assert_eq!(client.status, StatusCode::BAD_REQUEST);
}

#[test]
fn streams_are_bounded_and_end_with_the_server() {
    let served = Served::with(Limits { streams: 0, ..Limits::default() }, None);
    let reply = served.get("/api/v1/events");
    assert_eq!((reply.status, &*reply.code()), (StatusCode::SERVICE_UNAVAILABLE, "too_many_streams"));
    let served = Served::new();
    let events = served.listen("/api/v1/events", "never", || served.server.as_ref().unwrap().stop());
    assert_eq!(events[0].0, "queue", "a stream begins with where things stand");
    let page = served.get("/metrics").text();
    assert!(page.contains("imagen_event_streams 0\n"), "{page}");
}

#[test]
fn models_are_those_that_were_configured_and_may_take_turns() {
    let served = Served::new();
    let capabilities = served.get("/api/v1/capabilities").json();
    let names: Vec<&str> =
        capabilities["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "other"]);
    let settings: Vec<&str> =
        capabilities["settings"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    let defaults = capabilities["models"][0]["stages"][0]["defaults"].as_object().unwrap();
    assert!(defaults.keys().all(|key| settings.contains(&key.as_str())), "every setting can be set: {defaults:?}");
    for model in ["other", "tiny", "other"] {
        let id = served.submit(&format!(r#"{{"prompt": "a", "model": "{model}", "until": "base"}}"#));
        assert_eq!(served.wait(&id, &["done", "failed"])["pictures"][0]["model"], model);
    }
}

#[test]
fn neither_metrics_nor_errors_tell_what_was_asked_for() {
    let served = Served::new();
    let id = served.submit(r#"{"prompt": "my secret wish", "until": "base"}"#);
    served.wait(&id, &["done"]);
    let page = served.get("/metrics").text();
    assert!(page.contains("imagen_pictures_total 1\n") && !page.contains("secret") && !page.contains(&id), "{page}");
}
