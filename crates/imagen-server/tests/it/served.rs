//! A studio for tests: its folder, its models, and requests to it.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::Device;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use imagen::cascade::{Imagen, ModelFiles, Remarks};
use imagen::image::{DecodeOptions, Picture, PngText, decode};
use imagen_server::{Description, Finished, Lender, Limits, Model, Options, Server};

use crate::tiny::{self, Trained};

/// How long anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A studio.
pub(crate) struct Served {
    pub(crate) folder: TempDir,
    pub(crate) server: Option<Server>,
    app: Router,
    runtime: Runtime,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("").to_owned()
    }
}

/// The models of the tests. A prompt with `panic` in it ends in one when its picture is finished, one with `slow` takes its time.
fn lender(folder: &Path) -> Lender {
    let folder = folder.join("model");
    let open = move |name: &str| {
        assert!(["tiny", "other"].contains(&name), "only configured models are opened");
        let files = ModelFiles::Folder(folder.clone());
        let imagen = Imagen::open(&files, &Device::flex())?;
        let describe = |_: &Imagen, finished: &Finished<'_>| {
            let (prompt, seed) = finished.request.subject(finished.index);
            assert!(!prompt.contains("panic"), "a model that panics");
            if prompt.contains("slow") {
                std::thread::sleep(Duration::from_millis(300));
            }
            let text = PngText { parameters: Some(format!("{prompt}\nSeed: {seed}")), imagen: None };
            Description { text, command: format!("imagen sample --seed {seed} '{prompt}'") }
        };
        let remarks = Remarks::open(&imagen, Some(&files))?;
        Ok(Model { imagen, describe: Box::new(describe), remarks, examples: vec!["a cat".into()] })
    };
    Lender {
        names: vec!["tiny".into(), "other".into()],
        open: Box::new(open),
        memory: None,
        pace: Some(Box::new(|| 1e9)),
        evals: None,
    }
}

fn begin(folder: &TempDir, limits: Limits, token: Option<&str>) -> (Server, Router) {
    let data = folder.path().join("data");
    let (hosts, token) = (vec!["studio.example".to_owned()], token.map(str::to_owned));
    let options = Options { data, hosts, token, runs: Some(folder.path().join("runs")), limits };
    let server = Server::open(options, lender(folder.path())).unwrap();
    let app = server.app();
    (server, app)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), None)
    }

    pub(crate) fn with(limits: Limits, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::model(&folder.path().join("model"), &Trained::BOTH);
        Self::open(folder, limits, token)
    }

    fn open(folder: TempDir, limits: Limits, token: Option<&str>) -> Self {
        let (server, app) = begin(&folder, limits, token);
        Self { app, server: Some(server), folder, runtime: runtime() }
    }

    /// Ends the server and begins another one in the same folder.
    pub(crate) fn restart(&mut self) {
        self.server.take().unwrap().close();
        // whatever still holds the old one goes first
        (self.app, self.runtime) = (Router::new(), runtime());
        let (server, app) = begin(&self.folder, Limits::default(), None);
        (self.server, self.app) = (Some(server), app);
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Reply {
        self.runtime.block_on(async {
            let response = self.app.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
            Reply { status, headers, body }
        })
    }

    pub(crate) fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        let given = |name: &str| headers.iter().any(|(known, _)| *known == name);
        if !given("host") {
            request = request.header("host", "localhost:7860");
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
            if !given("content-type") {
                request = request.header("content-type", "application/json");
            }
        }
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Body::from(body.to_owned())).unwrap())
    }

    /// Sends a body of any bytes and kind.
    pub(crate) fn raw(&self, path: &str, headers: &[(&str, &str)], kind: &str, body: Vec<u8>) -> Reply {
        let request = Request::post(path).header("host", "localhost:7860").header("content-type", kind);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.header("content-length", body.len()).body(Body::from(body)).unwrap())
    }

    /// Sends a picture; its id.
    pub(crate) fn upload(&self, png: &[u8]) -> String {
        let reply = self.post("/api/v1/uploads", &serde_json::json!({ "image": STANDARD.encode(png) }).to_string());
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// The finished pictures of an order, in their order.
    pub(crate) fn drawn(&self, order: &Value) -> Vec<Picture> {
        let job = self.wait(&self.submit(&order.to_string()), &["done", "failed"]);
        assert_eq!(job["state"], "done", "{job}");
        let file = |picture: &Value| self.get(picture["url"].as_str().unwrap()).body;
        let decoded = |bytes: Vec<u8>| decode::decode(&bytes, &DecodeOptions::default()).unwrap();
        job["pictures"].as_array().unwrap().iter().map(|picture| decoded(file(picture))).collect()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.request(Method::POST, path, &[("x-client", "me")], body)
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path, &[], "")
    }

    /// Submits a job; its id.
    pub(crate) fn submit(&self, body: &str) -> String {
        let reply = self.post("/api/v1/jobs", body);
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// Submits a job while the runtime listens to a stream; its id.
    pub(crate) fn submit_meanwhile(&self, body: &str) -> String {
        let request = Request::post("/api/v1/jobs").header("host", "localhost:7860").header("x-client", "me");
        let request = request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap();
        // the router is a value: another thread with a runtime of its own is another connection
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let response = self.app.clone().oneshot(request).await.unwrap();
                    to_bytes(response.into_body(), usize::MAX).await.unwrap()
                })
            });
            let job: Value = serde_json::from_slice(&sent.join().unwrap()).unwrap();
            job["id"].as_str().unwrap().to_owned()
        })
    }

    pub(crate) fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).json()
    }

    /// Waits until a job is in one of these states; the job.
    pub(crate) fn wait(&self, id: &str, states: &[&str]) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.job(id);
            if states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "{job}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A stream of events until it ends, or one of this name came: names and data.
    pub(crate) fn listen(&self, path: &str, until: &str, meanwhile: impl FnOnce()) -> Vec<(String, Value)> {
        self.runtime.block_on(async {
            let request = Request::get(path).header("host", "localhost:7860").body(Body::empty()).unwrap();
            let response = self.app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let (mut body, mut text, mut events) = (response.into_body(), String::new(), Vec::new());
            meanwhile();
            while let Some(frame) = body.frame().await {
                text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let line = |start: &str| event.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
                    if let (Some(name), Some(data)) = (line("event: "), line("data: ")) {
                        events.push((name, serde_json::from_str(&data).unwrap()));
                    }
                    text = rest.to_owned();
                }
                if events.iter().any(|(name, _): &(String, Value)| name == until) {
                    break;
                }
            }
            events
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // the worker is not to outlive its folder
        if let Some(server) = self.server.take() {
            server.close();
        }
    }
}
