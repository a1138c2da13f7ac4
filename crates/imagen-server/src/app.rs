//! The service as a value: [`Server::open`] starts the worker, [`Server::app`] is the router with its guard in front.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use imagen::{Error, ErrorKind};

use crate::api::{about, evals, images, jobs, openai, openapi, sdapi, streams, trainings, uploads};
use crate::guard::{Guard, Keyed};
use crate::lender::Lender;
use crate::limits::Limits;
use crate::page;
use crate::problem::Problem;
use crate::record::record;
use crate::runs::Runs;
use crate::studio::Studio;
use crate::worker;

/// Pages load nothing but what this server sends, stand in no other page and send forms nowhere else.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// Addresses whose answers wait for pictures.
const PATIENT: &[&str] = &["/v1/images/", "/sdapi/v1/txt2img", "/sdapi/v1/img2img"];

/// Addresses whose bodies come in parts.
const PARTS: &[&str] = &["/v1/images/edits"];

/// How a studio is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where jobs and pictures are kept.
    pub data: PathBuf,
    /// Names and addresses by which this machine is called, beside those of the loopback.
    pub hosts: Vec<String>,
    /// What everybody has to know.
    pub token: Option<String>,
    /// A folder whose run folders may be looked at.
    pub runs: Option<PathBuf>,
    /// How much may be asked for.
    pub limits: Limits,
}

/// A studio with its worker.
#[derive(Debug)]
pub struct Server {
    studio: Arc<Studio>,
    options: Options,
    worker: JoinHandle<()>,
}

impl Server {
    /// Opens the studio's folder and the models.
    ///
    /// # Errors
    /// What opening a model may say; `Io` or `Data` where the folder cannot be used; `Usage` where another server uses it.
    pub fn open(options: Options, mut lender: Lender) -> imagen::Result<Self> {
        let pace = lender.pace.take();
        let runs = options.runs.clone().map(|folder| Runs::new(folder, pace));
        let lent = (runs, lender.evals.take());
        let studio = Arc::new(Studio::open(&options.data, options.limits, lent, options.token.clone())?);
        let (tell, opened) = channel();
        let told = move |result| drop(tell.send(result));
        let worker = worker::start(studio.clone(), lender, told)
            .map_err(|e| Error::new(ErrorKind::Io, "the worker cannot be started").with_source(e))?;
        opened.recv().map_err(|_| Error::model("a model could not be opened: internal error"))??;
        Ok(Self { studio, options, worker })
    }

    /// The service.
    pub fn app(&self) -> Router {
        let router = Router::new()
            .route("/api/v1/jobs", post(jobs::submit).get(jobs::list))
            .route("/api/v1/jobs/{id}", get(jobs::look).delete(jobs::cancel))
            .route("/api/v1/jobs/{id}/again", post(jobs::again))
            .route("/api/v1/jobs/{id}/events", get(streams::of_job))
            .route("/api/v1/events", get(streams::of_client))
            .route("/api/v1/images", get(images::list))
            .route("/api/v1/images/{id}", get(images::look).patch(images::change).delete(images::delete))
            .route("/api/v1/images/{id}/restore", post(images::restore))
            .route("/api/v1/images/{id}/file", get(images::file))
            .route("/api/v1/images/{id}/small", get(images::small))
            .route("/api/v1/images/archive", post(images::archive))
            .route("/api/v1/uploads", post(uploads::send))
            .route("/api/v1/uploads/{id}/file", get(uploads::file))
            .route("/api/v1/capabilities", get(about::capabilities))
            .route("/api/v1/models", get(about::models))
            .route("/api/v1/runs", get(trainings::list))
            .route("/api/v1/runs/{name}", get(trainings::look))
            .route("/api/v1/runs/{name}/grids/{step}", get(trainings::grid))
            .route("/api/v1/runs/{name}/stop", post(trainings::stop))
            .route("/api/v1/evals", get(evals::list))
            .route("/api/v1/evals/{name}/report", get(evals::report))
            .route("/studies/{key}/", any(evals::study))
            .route("/studies/{key}/{*rest}", any(evals::study))
            .route("/v1/images/generations", post(openai::generate))
            .route("/v1/images/edits", post(openai::edit).layer(DefaultBodyLimit::disable()))
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{id}", get(openai::one_model))
            .route("/sdapi/v1/txt2img", post(sdapi::txt2img))
            .route("/sdapi/v1/img2img", post(sdapi::img2img))
            .route("/sdapi/v1/progress", get(sdapi::progress))
            .route("/sdapi/v1/interrupt", post(sdapi::interrupt))
            .route("/sdapi/v1/skip", post(sdapi::interrupt))
            .route("/sdapi/v1/options", get(sdapi::options).post(sdapi::set_options))
            .route("/sdapi/v1/samplers", get(sdapi::samplers))
            .route("/sdapi/v1/sd-models", get(sdapi::models))
            .route("/sdapi/v1/png-info", post(sdapi::png_info))
            .route("/sdapi/v1/{what}", get(sdapi::nothing))
            .route("/openapi.json", get(openapi::openapi))
            .route("/healthz", get(about::healthz))
            .route("/readyz", get(about::readyz))
            .route("/metrics", get(about::metrics));
        let router = page::add(router)
            .fallback(async || Problem::not_found("address"))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address takes other methods")
            })
            .with_state(self.studio.clone());
        let guard = Guard {
            hosts: self.options.hosts.clone(),
            token: self.options.token.clone(),
            forms: false,
            parts: PARTS,
            keyed: Some(Keyed(Arc::new({
                let studio = self.studio.clone();
                move |path: &str| evals::is_keyed(&studio, path)
            }))),
            policy: POLICY,
            referrer: "no-referrer",
            patient: PATIENT,
            refuse,
        };
        guard.before(router).layer(from_fn_with_state(self.studio.clone(), record))
    }

    /// From now on no job is taken, the one that is drawn stops after its step and can be run again, and streams end.
    pub fn stop(&self) {
        self.studio.queue.close();
        // those who listen are to see that it is over
        self.studio.moved();
    }

    /// Ends, and waits until the last step is done.
    pub fn close(self) {
        self.stop();
        if self.worker.join().is_err() {
            tracing::error!("the worker ended with a panic");
        }
    }
}

/// A refusal in the form of all problems; at the door of the page, a page.
fn refuse(status: StatusCode, code: &'static str, message: &str) -> Response {
    match status {
        StatusCode::UNAUTHORIZED => (status, page::door()).into_response(),
        _ => Problem::new(status, code, message).into_response(),
    }
}
