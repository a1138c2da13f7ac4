//! The thread that owns the models and draws, one job after the other.
//!
//! Nothing that a job does can end it: an error fails the job, a panic fails the job and the model is opened again. Each step is
//! told with its x̂; each picture is on disk, whole and synced, before it is told of. Cancelling, the job's time and the end of the
//! server are looked at between two evaluations of a network, so that none of them waits longer than one step.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::json;

use imagen::cascade::deepfloyd::Verdict;
use imagen::cascade::{Event, Request, StageName, StageOptions, StageSettings};
use imagen::error::Context;
use imagen::image::{Picture, png};
use imagen::{Error, ErrorKind};

use crate::beginning;
use crate::ids;
use crate::lender::{Began, Finished, Lender, Model};
use crate::metrics::{count, resident};
use crate::preview;
use crate::problem::{Problem, unkept};
use crate::queue::Job;
use crate::store::now;
use crate::studio::Studio;
use crate::wire::{ModelView, PictureView, RemarkView, State};

/// Stack of the thread: as much as a program's main thread has.
const STACK: usize = 8 << 20;

/// How a job ended.
enum End {
    Done,
    Cancelled,
    /// The server ends; the job can be run again.
    Interrupted,
}

/// Starts the thread; `opened` hears whether all models could be opened.
pub(crate) fn start(
    studio: Arc<Studio>,
    lender: Lender,
    opened: impl FnOnce(imagen::Result<()>) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let work = move || {
        let mut worker = Worker { studio, lender, open: None };
        let begun = worker.look();
        let failed = begun.is_err();
        opened(begun);
        if !failed {
            worker.work();
        }
    };
    thread::Builder::new().name("worker".into()).stack_size(STACK).spawn(work)
}

struct Worker {
    studio: Arc<Studio>,
    lender: Lender,
    /// The model that drew last; one at a time is in memory.
    open: Option<(String, Model)>,
}

impl Worker {
    /// Opens every model once, to see what it is; the first stays open.
    fn look(&mut self) -> imagen::Result<()> {
        let mut views = Vec::new();
        for name in self.lender.names.iter().rev() {
            let model = (self.lender.open)(name)?;
            views.push(ModelView::of(name, &model)?);
            self.open = Some((name.clone(), model));
        }
        views.reverse();
        self.studio.ready(views).map_err(|problem| Error::new(ErrorKind::Io, problem.message))
    }

    /// Builds the networks of the first model while nobody waits, so that the first picture begins at once. What fails is the
    /// first job's to tell.
    fn warm_up(&self) {
        let Some((_, model)) = &self.open else { return };
        if model.imagen.one_network_at_a_time() {
            return;
        }
        let short = StageOptions { steps: Some(1), ..StageOptions::default() };
        let stages = model.imagen.stages().into_iter().map(|info| info.stage);
        let until = model.imagen.default_until();
        let options = stages.filter(|stage| *stage <= until).map(|stage| (stage, short.clone())).collect();
        let request = Request { options, ..Request::new(vec!["a".into()], 1, 0) };
        for _ in model.imagen.sample(&request).into_iter().flatten() {
            if self.studio.queue.is_wanted() {
                return;
            }
        }
    }

    fn work(&mut self) {
        // a panic here is the model's, and the first job meets it again
        let _ = catch_unwind(AssertUnwindSafe(|| self.warm_up()));
        while let Some(job) = self.studio.queue.next() {
            let begun = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run(&job)));
            self.studio.queue.finished();
            self.studio.remains(0.0);
            let (state, error) = match outcome {
                Ok(Ok(End::Done)) => (State::Done, None),
                Ok(Ok(End::Cancelled)) => (State::Cancelled, None),
                Ok(Ok(End::Interrupted)) => {
                    (State::Interrupted, Some("the server ended while this was drawn; run it again".into()))
                }
                Ok(Err(problem)) => (State::Failed, Some(problem.message)),
                Err(panic) => {
                    // whatever it was in the middle of is not to be trusted
                    self.open = None;
                    (State::Failed, Some(format!("internal error: {}; this is a bug, please report it", said(&*panic))))
                }
            };
            let spent = begun.elapsed().as_millis() as u64;
            self.studio.metrics.drawing_ms.fetch_add(spent, Ordering::Relaxed);
            // whoever knows an id may end its job: its beginning is enough to tell it from others
            let known = &job.id[..8.min(job.id.len())];
            tracing::info!(job = known, state = state.as_str(), ms = spent, "job");
            if let Err(problem) = self.studio.ended(&job.id, state, error.as_deref()) {
                tracing::error!(job = known, code = problem.code, "the end of a job could not be kept");
            }
        }
    }

    fn run(&mut self, job: &Job) -> Result<End, Problem> {
        self.studio.store.begin(&job.id)?;
        self.studio.remains(job.seconds);
        self.studio.hub.tell(&job.client, &job.id, "begin", &json!({ "id": job.id, "eta_seconds": job.seconds }));
        self.studio.moved();
        let name = job.order.model.clone().unwrap_or_default();
        if self.open.as_ref().is_none_or(|(open, _)| *open != name) {
            // the old model goes before the new one comes
            self.open = None;
            self.open = Some((name.clone(), (self.lender.open)(&name)?));
        }
        let (_, model) = self.open.as_ref().expect("just opened");
        let view = self.studio.model(&name).ok_or_else(|| Problem::not_found("model"))?;
        let mut request = job.order.request();
        let began = match &job.order.begin {
            Some(begin) => {
                let (start, began) = beginning::read(begin, &self.studio.store)?;
                request.start = Some(start);
                Some(began)
            }
            None => None,
        };
        let stages = model.imagen.resolve(&request)?;
        self.check_memory(model, &request)?;
        self.remark(job, model, &request)?;
        Draw { studio: &self.studio, job, model, view, request, began, stages, begun: Instant::now(), done: 0.0 }.run()
    }

    /// Says what the pictures will not follow.
    fn remark(&self, job: &Job, model: &Model, request: &Request) -> Result<(), Problem> {
        let remarks = model.remarks.of(&model.imagen, request)?;
        if remarks.is_empty() {
            return Ok(());
        }
        let remarks: Vec<_> = remarks.iter().map(RemarkView::from).collect();
        self.studio.store.remark(&job.id, &remarks)?;
        self.studio.hub.tell(&job.client, &job.id, "remarks", &json!({ "id": job.id, "remarks": remarks }));
        Ok(())
    }

    /// Refuses what does not fit, before the system ends the server without a word.
    fn check_memory(&self, model: &Model, request: &Request) -> Result<(), Problem> {
        let Some(limit) = self.lender.memory else { return Ok(()) };
        let needs = model.imagen.needs(request)?;
        let Some(largest) = needs.iter().max_by_key(|need| need.bytes()).filter(|need| need.bytes() > limit) else {
            return Ok(());
        };
        let gigabytes = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let (what, needed, there) = (&largest.what, gigabytes(largest.bytes()), gigabytes(limit));
        Err(Problem::invalid(
            "until",
            format!(
                "drawing this (its {what}) takes about {needed:.1} GiB, and there are {there:.1}: end at an earlier stage, or draw fewer together"
            ),
        ))
    }
}

/// A job under way.
struct Draw<'a> {
    studio: &'a Studio,
    job: &'a Job,
    model: &'a Model,
    view: &'a ModelView,
    request: Request,
    began: Option<Began>,
    stages: Vec<(StageName, StageSettings)>,
    begun: Instant,
    /// Estimated seconds of the steps that were done.
    done: f64,
}

impl Draw<'_> {
    fn run(mut self) -> Result<End, Problem> {
        let mut step_begun = Instant::now();
        for event in self.model.imagen.sample(&self.request)? {
            match event? {
                Event::Step { stage, index, of, pictures, x_hat } => {
                    let took = step_begun.elapsed();
                    let step = {
                        let mut estimate = self.studio.estimate.lock().unwrap_or_else(PoisonError::into_inner);
                        // the first evaluation prepares weights and is no measure
                        if index > 0 {
                            estimate.learn(self.view, stage, pictures.len() as f64 * self.job.size, took);
                        }
                        estimate.step(self.view, stage)
                    };
                    self.done += step * pictures.len() as f64 * self.job.size;
                    count(&self.studio.metrics.steps);
                    self.tell_step(stage, [index, of], [pictures.start, pictures.end], &x_hat)?;
                }
                Event::Image { last: true, index, picture, verdict, .. } => self.keep(index, &picture, verdict)?,
                Event::Image { .. } => {}
            }
            if self.job.is_cancelled() {
                return Ok(End::Cancelled);
            }
            if self.studio.queue.is_closed() {
                return Ok(End::Interrupted);
            }
            let most = self.studio.limits.job_seconds;
            if self.begun.elapsed() > self.studio.limits.job_time() {
                let message = format!(
                    "this job took longer than the {most} seconds that one may take; ask for fewer pictures or steps"
                );
                return Err(Problem::invalid("count", message));
            }
            step_begun = Instant::now();
        }
        Ok(End::Done)
    }

    /// Tells of a step, with what the pictures look like now.
    fn tell_step(
        &self,
        stage: StageName,
        [step, of]: [usize; 2],
        pictures: [usize; 2],
        x_hat: &burn::tensor::Tensor<4>,
    ) -> Result<(), Problem> {
        let whole = self.studio.seconds(&self.job.order, self.job.size);
        let remaining = (whole - self.done).max(0.0);
        self.studio.remains(remaining);
        if self.studio.hub.listeners() == 0 {
            return Ok(());
        }
        // what a safety checker has not seen is shown to nobody
        let preview = if self.view.checked { None } else { Some(preview::of(x_hat)?) };
        let event = json!({
            "id": self.job.id, "stage": stage, "step": step + 1, "of": of, "pictures": pictures,
            "elapsed_seconds": self.begun.elapsed().as_secs_f64(), "eta_seconds": remaining,
            "memory": resident(), "preview": preview,
        });
        self.studio.hub.tell(&self.job.client, &self.job.id, "step", &event);
        *self.studio.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        Ok(())
    }

    /// Keeps a finished picture: the file, then its row, then the news.
    fn keep(&self, index: usize, picture: &Picture, verdict: Option<Verdict>) -> Result<(), Problem> {
        let began = self.began.as_ref();
        let finished = Finished { request: &self.request, stages: &self.stages, index, picture, verdict, began };
        let description = (self.model.describe)(&self.model.imagen, &finished);
        let id = ids::random();
        let file = self.studio.store.file(&id);
        let written =
            png::write(&file, picture, &description.text).context(|| "the picture could not be kept".to_owned());
        written.map_err(|e| unkept(&e))?;
        let (prompt, seed) = self.request.subject(index);
        let stages: serde_json::Map<_, _> =
            self.stages.iter().map(|(stage, settings)| (stage.to_string(), json!(settings))).collect();
        let view = PictureView {
            url: format!("/api/v1/images/{id}/file"),
            id,
            job: self.job.id.clone(),
            index,
            prompt: prompt.to_owned(),
            seed,
            model: self.view.name.clone(),
            until: self.stages.last().map_or(self.view.default_until, |(stage, _)| *stage),
            width: picture.width(),
            height: picture.height(),
            request: self.job.order.only(index),
            stages: stages.into(),
            command: description.command,
            seconds: self.begun.elapsed().as_secs_f64(),
            created_ms: now(),
            favourite: false,
        };
        self.studio.store.add_picture(&view)?;
        count(&self.studio.metrics.pictures);
        self.studio.hub.tell(&self.job.client, &self.job.id, "picture", &json!(view));
        Ok(())
    }
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
