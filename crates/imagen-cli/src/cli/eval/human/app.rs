//! The study over HTTP: which page a rater sees next, and where votes and pictures go. [`app`] is the whole service as a
//! value, so that tests need no socket.
//!
//! Addresses hold the rater's name and a token of the trial, never a model. Only known host names are answered (a foreign page
//! cannot reach the study through a name of its own), and a form from another origin is refused.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use imagen::eval::human::{Answer, Mode, PlanOptions, Question, RaterPlan, Study, Trial, Vote};
use imagen_server::Guard;

use super::pages::{self, Place, TrialPage};
use super::pictures::Pictures;
use super::store::{Answered, Ballot, Store};
use crate::failure::Result;
use crate::report::PALETTE;

/// Pages of plans that are kept, some tens of megabytes; other plans are made again.
const PAGES: usize = 50_000;
/// How often a rater may answer every page anew.
const CORRECTIONS: u64 = 10;
/// Bytes of a form.
const FORM: usize = 16 << 10;
/// Longest name of a rater.
const LONGEST_NAME: usize = 40;
/// Nothing but what this server sends.
const POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is served.
#[derive(Debug)]
pub(super) struct App {
    folder: PathBuf,
    study: Study,
    mode: Mode,
    options: PlanOptions,
    store: Store,
    pictures: Pictures,
    hosts: Vec<String>,
    /// Below which address the pages stand; nothing where they are all that is served.
    base: String,
    plans: Mutex<HashMap<String, Arc<Plan>>>,
}

/// A rater's plan with the names by which the browser knows its trials.
#[derive(Debug)]
struct Plan {
    trials: Vec<(String, Trial)>,
    /// Where each batch ends.
    ends: Vec<usize>,
}

impl App {
    pub(super) fn new(
        folder: PathBuf,
        study: Study,
        mode: Mode,
        options: PlanOptions,
        store: Store,
        hosts: Vec<String>,
    ) -> Self {
        let (pictures, base, plans) = (Pictures::default(), String::new(), Mutex::default());
        Self { folder, study, mode, options, store, pictures, hosts, base, plans }
    }

    /// The pages below another address.
    pub(super) fn below(self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self }
    }

    /// Another page by GET.
    fn see(&self, path: &str) -> Response {
        Redirect::to(&format!("{}{path}", self.base)).into_response()
    }

    /// Picture `k` of a prompt of the only set.
    fn shown(&self, prompt: usize, k: usize) -> Result<Response> {
        let set = self.study.contenders().next().filter(|_| is_gallery(&self.study, self.mode));
        let Some(file) = set.and_then(|set| set.files.get(prompt)?.get(k)) else {
            return Ok(refusal(StatusCode::NOT_FOUND, "there is no such picture"));
        };
        self.png(file, false)
    }

    fn png(&self, file: &str, spoilt: bool) -> Result<Response> {
        let png = self.pictures.get(&self.folder, file, spoilt)?;
        let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=3600")];
        Ok((headers, png.to_vec()).into_response())
    }

    fn plan(&self, rater: &str) -> Result<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(rater) {
            return Ok(plan.clone());
        }
        let plan = RaterPlan::of(&self.study, self.mode, rater, &self.options)?;
        let mut ends = Vec::new();
        for batch in &plan.batches {
            ends.push(ends.last().copied().unwrap_or(0) + batch.len());
        }
        let named = |trial: Trial| (token(self.study.seed, rater, &trial), trial);
        let trials = plan.batches.into_iter().flatten().map(named).collect();
        let plan = Arc::new(Plan { trials, ends });
        if plans.values().map(|plan| plan.trials.len()).sum::<usize>() + plan.trials.len() > PAGES {
            plans.clear();
        }
        plans.insert(rater.to_owned(), plan.clone());
        Ok(plan)
    }

    /// What becomes of the answers of a form: the page that follows.
    fn vote(&self, rater: &str, form: &BTreeMap<String, String>) -> Result<Response> {
        let plan = self.plan(rater)?;
        let field = |name: &str| form.get(name).map(String::as_str);
        // an open page of before another plan was served: nothing is written down under a wrong name
        let Some(at) = field("trial").and_then(|token| plan.find(token)) else {
            return Ok(self.see(&format!("/rate/{rater}")));
        };
        let trial = &plan.trials[at].1;
        let mut answers: Vec<(Question, Answer)> = Vec::new();
        for question in self.mode.questions() {
            match field(question.name()).map(str::parse::<Answer>) {
                Some(Ok(answer)) if question.answers().contains(&answer) => answers.push((*question, answer)),
                _ => return Ok(refusal(StatusCode::BAD_REQUEST, "every question takes one of its answers")),
            }
        }
        let most = CORRECTIONS * (plan.trials.len() * self.mode.questions().len()) as u64;
        if self.store.count(rater, self.mode)? >= most {
            return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "these pages were answered too often under this name"));
        }
        let before = plan.done(&self.store.answered(rater, self.mode)?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
        let spent = field("spent").and_then(|ms| ms.parse().ok()).filter(|ms| (0..86_400_000).contains(ms));
        let ballot = |(question, answer)| Ballot {
            vote: Vote { rater: rater.to_owned(), trial: trial.clone(), question, answer },
            at_ms: now,
            spent_ms: spent,
        };
        self.store.add(&answers.into_iter().map(ballot).collect::<Vec<_>>())?;
        let first = plan.done(&self.store.answered(rater, self.mode)?);
        let rest = |done: &usize| plan.ends.contains(done) && *done < plan.trials.len();
        let next = if rest(&first) && first > before { format!("/rest/{rater}") } else { format!("/rate/{rater}") };
        Ok(self.see(&next))
    }

    /// The page of a trial: the one that was asked for, or the first that is not answered.
    fn trial(&self, rater: &str, wanted: Option<&str>) -> Result<Response> {
        let plan = self.plan(rater)?;
        let answered = self.store.answered(rater, self.mode)?;
        let first = plan.done(&answered);
        let at = match wanted.and_then(|token| plan.find(token)) {
            Some(at) if at <= first => at,
            _ => first,
        };
        let Some((token, trial)) = plan.trials.get(at) else { return Ok(self.see(&format!("/done/{rater}"))) };
        let urls = |(token, trial): &(String, Trial)| -> Vec<Vec<String>> {
            let files = |panel: usize| self.files(trial, panel).len();
            let url = |panel: usize, k: usize| format!("{}/picture/{rater}/{token}/{panel}/{k}", self.base);
            let panels = 0..trial.panels.len();
            panels.map(|panel| (0..files(panel)).map(|k| url(panel, k)).collect()).collect()
        };
        let page = TrialPage {
            base: &self.base,
            rater,
            mode: self.mode,
            caption: &self.study.prompts[trial.prompt].text,
            panels: urls(&plan.trials[at]),
            given: answered.get(&trial.id()).cloned().unwrap_or_default(),
            token,
            previous: at.checked_sub(1).map(|before| plan.trials[before].0.as_str()),
            place: plan.place(at),
            next: plan.trials.get(at + 1).map(urls).unwrap_or_default().concat(),
        };
        Ok(html(page.render()))
    }

    /// The files of one panel.
    fn files(&self, trial: &Trial, panel: usize) -> &[String] {
        let panel = trial.panels.get(panel);
        let files = panel.and_then(|panel| self.study.set(&panel.set)?.files.get(panel.prompt));
        files.map_or(&[], |files| files)
    }

    fn picture(&self, rater: &str, token: &str, panel: usize, k: usize) -> Result<Response> {
        let plan = self.plan(rater)?;
        let trial = plan.find(token).map(|at| &plan.trials[at].1);
        let Some((trial, file)) = trial.and_then(|trial| Some((trial, self.files(trial, panel).get(k)?))) else {
            return Ok(refusal(StatusCode::NOT_FOUND, "there is no such picture"));
        };
        self.png(file, trial.panels[panel].spoilt)
    }
}

/// Whether there is nothing to compare, so that the pictures are shown and nothing is asked.
pub(super) fn is_gallery(study: &Study, mode: Mode) -> bool {
    mode == Mode::DrawBench && study.contenders().count() == 1
}

impl Plan {
    fn find(&self, token: &str) -> Option<usize> {
        self.trials.iter().position(|(own, _)| own == token)
    }

    /// The first trial that is not answered; all of them where none is left.
    fn done(&self, answered: &Answered) -> usize {
        let open = self.trials.iter().position(|(_, trial)| {
            let given = answered.get(&trial.id());
            !trial.mode.questions().iter().all(|question| given.is_some_and(|given| given.contains_key(question)))
        });
        open.unwrap_or(self.trials.len())
    }

    /// Where a trial stands in its batch.
    fn place(&self, at: usize) -> Place {
        let batch = self.ends.iter().position(|end| at < *end).unwrap_or(self.ends.len().saturating_sub(1));
        let start = if batch == 0 { 0 } else { self.ends[batch - 1] };
        let end = self.ends.get(batch).copied().unwrap_or(0);
        Place { page: at - start + 1, pages: end - start, batch: batch + 1, batches: self.ends.len() }
    }
}

/// The name by which a rater's browser knows a trial; it says nothing about it.
fn token(seed: u64, rater: &str, trial: &Trial) -> String {
    let digest = Sha256::digest(format!("{seed}\n{rater}\n{}", trial.id()));
    digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

/// A rater's name as it is kept: lower case, hyphens for spaces; none where it is unusable.
pub(super) fn rater_name(entered: &str) -> Option<String> {
    let name = entered.trim().to_lowercase().split_whitespace().collect::<Vec<_>>().join("-");
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fits) && !name.starts_with('.')).then_some(name)
}

/// The service.
pub(super) fn app(state: Arc<App>) -> Router {
    let guard = Guard {
        hosts: state.hosts.clone(),
        token: None,
        forms: true,
        parts: &[],
        keyed: None,
        policy: POLICY,
        referrer: "same-origin",
        patient: &[],
        refuse: |status, _, message| refusal(status, message),
    };
    guard.before(pages_of(state))
}

/// The pages alone, for a service that has a guard of its own.
pub(super) fn pages_of(state: Arc<App>) -> Router {
    Router::new()
        .route("/", get(start).post(enter))
        .route("/rate/{rater}", get(rate).post(vote))
        .route("/rest/{rater}", get(rest))
        .route("/done/{rater}", get(done))
        .route("/picture/{rater}/{token}/{panel}/{k}", get(picture))
        .route("/shown/{prompt}/{k}", get(shown))
        .route("/style.css", get(async || text("text/css", [PALETTE, pages::STYLE].concat())))
        .route("/script.js", get(async || text("text/javascript", pages::SCRIPT.to_owned())))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "there is no such page"))
        .layer(DefaultBodyLimit::max(FORM))
        .with_state(state)
}

async fn start(State(state): State<Arc<App>>) -> Response {
    blocking(move || {
        if is_gallery(&state.study, state.mode) {
            return Ok(html(pages::gallery(&state.base, &state.study)));
        }
        let plan = state.plan("")?;
        let first = plan.ends.first().copied().unwrap_or(0);
        Ok(html(pages::start(&state.base, state.mode, first, plan.ends.len(), None)))
    })
    .await
}

async fn enter(State(state): State<Arc<App>>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    blocking(move || {
        let entered = form.get("rater").map_or("", String::as_str);
        if let Some(name) = rater_name(entered) {
            return Ok(state.see(&format!("/rate/{name}")));
        }
        let plan = state.plan("")?;
        let first = plan.ends.first().copied().unwrap_or(0);
        Ok((
            StatusCode::BAD_REQUEST,
            html(pages::start(&state.base, state.mode, first, plan.ends.len(), Some(entered))),
        )
            .into_response())
    })
    .await
}

/// Does `f` with a rater's name as it is kept.
async fn with_rater(
    state: Arc<App>,
    rater: String,
    f: impl FnOnce(Arc<App>, String) -> Result<Response> + Send + 'static,
) -> Response {
    match rater_name(&rater) {
        Some(name) if name == rater => blocking(move || f(state, name)).await,
        _ => state.see("/"),
    }
}

async fn rate(
    State(state): State<Arc<App>>,
    Path(rater): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    with_rater(state, rater, move |state, rater| state.trial(&rater, query.get("trial").map(String::as_str))).await
}

async fn vote(
    State(state): State<Arc<App>>,
    Path(rater): Path<String>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    with_rater(state, rater, move |state, rater| state.vote(&rater, &form)).await
}

async fn rest(State(state): State<Arc<App>>, Path(rater): Path<String>) -> Response {
    with_rater(state, rater, move |state, rater| {
        let plan = state.plan(&rater)?;
        let done = plan.done(&state.store.answered(&rater, state.mode)?);
        let batches = plan.ends.iter().filter(|end| **end <= done).count();
        Ok(html(pages::rest(&state.base, &rater, batches, plan.ends.len())))
    })
    .await
}

async fn done(State(state): State<Arc<App>>, Path(rater): Path<String>) -> Response {
    with_rater(state, rater, move |state, rater| {
        let plan = state.plan(&rater)?;
        match plan.done(&state.store.answered(&rater, state.mode)?) {
            done if done < plan.trials.len() => Ok(state.see(&format!("/rate/{rater}"))),
            done => Ok(html(pages::done(&state.base, &rater, done))),
        }
    })
    .await
}

async fn picture(
    State(state): State<Arc<App>>,
    Path((rater, token, panel, k)): Path<(String, String, usize, usize)>,
) -> Response {
    with_rater(state, rater, move |state, rater| state.picture(&rater, &token, panel, k)).await
}

async fn shown(State(state): State<Arc<App>>, Path((prompt, k)): Path<(usize, usize)>) -> Response {
    blocking(move || state.shown(prompt, k)).await
}

/// Files and votes are read away from the thread that listens. What fails is told on the terminal: its words may name a
/// file, and with it a model.
async fn blocking(work: impl FnOnce() -> Result<Response> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(response)) => return response,
        Ok(Err(failure)) => drop(writeln!(std::io::stderr(), "{failure}")),
        Err(_) => {} // a panic has said where
    }
    let message = "something could not be read or kept; the terminal of the one who serves this says what";
    refusal(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn html(page: String) -> Response {
    text("text/html", page)
}

fn text(kind: &str, body: String) -> Response {
    ([(header::CONTENT_TYPE, format!("{kind}; charset=utf-8"))], body).into_response()
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, html(pages::message(message))).into_response()
}

#[cfg(test)]
mod tests;
