//! The studio itself: what its handlers and its worker share, and what can be done with a job.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::beginning;
use crate::estimate::Estimate;
use crate::events::Hub;
use crate::ids;
use crate::lender::Evaluations;
use crate::limits::Limits;
use crate::metrics::{Metrics, count};
use crate::problem::Problem;
use crate::queue::{Cancelled, Full, Job, Queue};
use crate::runs::Runs;
use crate::store::Store;
use crate::wire::{JobView, ModelView, Order, State};

/// How long a deleted picture can come back.
pub(crate) const UNDO: Duration = Duration::from_secs(24 * 3600);

/// What is shared.
#[derive(Debug)]
pub(crate) struct Studio {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) hub: Hub,
    pub(crate) limits: Limits,
    /// Trainings that may be looked at.
    pub(crate) runs: Option<Runs>,
    /// Evaluations that may be looked at.
    pub(crate) evals: Option<Box<dyn Evaluations>>,
    /// What keys of studies are made of.
    secret: String,
    pub(crate) metrics: Metrics,
    pub(crate) estimate: Mutex<Estimate>,
    /// Streams of events that are open.
    pub(crate) streams: AtomicUsize,
    /// The last step that was told of.
    pub(crate) last: Mutex<Option<Value>>,
    /// The model that clients of `/sdapi/v1` have chosen.
    pub(crate) checkpoint: Mutex<Option<String>>,
    /// Pictures that may be read at the same time.
    pub(crate) reading: Arc<Semaphore>,
    models: OnceLock<Vec<ModelView>>,
    /// Seconds that the running job still takes.
    remaining: Mutex<f64>,
}

impl Studio {
    pub(crate) fn open(
        folder: &Path,
        limits: Limits,
        (runs, evals): (Option<Runs>, Option<Box<dyn Evaluations>>),
        token: Option<String>,
    ) -> imagen::Result<Self> {
        Ok(Self {
            store: Store::open(folder)?,
            queue: Queue::default(),
            hub: Hub::new(),
            limits,
            runs,
            evals,
            secret: token.unwrap_or_default(),
            metrics: Metrics::default(),
            estimate: Mutex::default(),
            streams: AtomicUsize::new(0),
            last: Mutex::default(),
            checkpoint: Mutex::default(),
            reading: Arc::new(Semaphore::new(limits.pictures_at_once)),
            models: OnceLock::new(),
            remaining: Mutex::new(0.0),
        })
    }

    /// The models are open: from now on there is something to draw with. What waited when the server ended waits again.
    pub(crate) fn ready(&self, models: Vec<ModelView>) -> Result<(), Problem> {
        // set once, by the one worker
        let _ = self.models.set(models);
        self.store.purge(UNDO)?;
        self.store.purge_uploads(UNDO)?;
        for (JobView { id, mut request, .. }, client) in self.store.waiting()? {
            match request.settle(self.models()?, &self.limits).and_then(|()| self.size(&request)) {
                Ok(size) => {
                    let seconds = self.seconds(&request, size);
                    self.queue.push(Job::new(id, client, request, [size, seconds]));
                }
                // the studio was started with other models
                Err(problem) => self.store.end(&id, State::Failed, Some(&problem.message))?,
            }
        }
        Ok(())
    }

    /// By which key a study's raters reach it.
    pub(crate) fn study_key(&self, name: &str) -> String {
        ids::key_of(&self.secret, name)
    }

    /// The models, where they are open.
    pub(crate) fn models(&self) -> Result<&[ModelView], Problem> {
        self.models.get().map(Vec::as_slice).ok_or_else(|| {
            let message = "the models are being opened; try again in a moment";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(2)
        })
    }

    pub(crate) fn model(&self, name: &str) -> Option<&ModelView> {
        self.models.get()?.iter().find(|model| model.name == name)
    }

    /// How much work a settled order is, beside square pictures from noise; refused where the model does not draw it.
    fn size(&self, order: &Order) -> Result<f64, Problem> {
        let model = order.model.as_deref().and_then(|name| self.model(name));
        model.map_or(Ok(1.0), |model| beginning::size(order, model, &self.store, &self.limits))
    }

    /// Seconds that a settled order of this size takes.
    pub(crate) fn seconds(&self, order: &Order, size: f64) -> f64 {
        let model = order.model.as_deref().and_then(|name| self.model(name));
        let estimate = self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        model.map_or(0.0, |model| estimate.order(model, order, size))
    }

    /// Takes a job, or the one that this client sent under this key before.
    pub(crate) fn submit(&self, client: &str, key: Option<&str>, mut order: Order) -> Result<String, Problem> {
        let is_random = order.seed.is_none() && order.seeds.is_none();
        order.settle(self.models()?, &self.limits)?;
        let size = self.size(&order)?;
        let limits = [self.limits.queue, self.limits.queue_per_client];
        if let Err(full) = self.queue.room(client, limits) {
            return Err(self.full(full));
        }
        let id = ids::random();
        if let Some(known) = self.store.add_job(&id, client, key, &order)? {
            let before = self.store.job(&known)?.map(|(job, _)| job.request);
            // seeds that were chosen here are others every time
            if let (true, Some(before)) = (is_random, &before)
                && before.all_seeds().len() == order.all_seeds().len()
            {
                order.seeds.clone_from(&before.seeds);
            }
            if before.is_some_and(|before| before != order) {
                let message = "this key was sent with another order; a new order takes a new key";
                let problem = Problem {
                    param: Some("Idempotency-Key".into()),
                    ..Problem::new(StatusCode::CONFLICT, "key_used", message)
                };
                return Err(problem);
            }
            return Ok(known);
        }
        let seconds = self.seconds(&order, size);
        self.queue.push(Job::new(id.clone(), client.to_owned(), order, [size, seconds]));
        count(&self.metrics.jobs_submitted);
        self.moved();
        Ok(id)
    }

    fn full(&self, full: Full) -> Problem {
        let (_, waiting) = self.queue.snapshot();
        let left = *self.remaining.lock().unwrap_or_else(PoisonError::into_inner);
        // when the next place is free
        let seconds = waiting.first().map_or(left, |job| left.min(job.seconds)).ceil().clamp(1.0, 600.0) as u64;
        let problem = match full {
            Full::Everybody => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", "as many jobs wait as may; try again later")
            }
            Full::Client => {
                let message = "as many of your jobs wait as may; wait for one of them, or cancel it";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_jobs", message)
            }
            Full::Closed => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "closing",
                "the server is about to end; try again when it is back",
            ),
        };
        problem.retry_after(seconds)
    }

    /// Ends a job; what was finished of it is kept. Whether there is one of that id.
    pub(crate) fn cancel(&self, id: &str) -> Result<bool, Problem> {
        match self.queue.cancel(id) {
            // the worker says so when it has stopped
            Cancelled::Running => Ok(true),
            Cancelled::Waiting => {
                self.ended(id, State::Cancelled, None)?;
                Ok(true)
            }
            Cancelled::Unknown => Ok(self.store.job(id)?.is_some()),
        }
    }

    /// A job has ended: in the database first, then for those who listen.
    pub(crate) fn ended(&self, id: &str, state: State, error: Option<&str>) -> Result<(), Problem> {
        self.store.end(id, state, error)?;
        match state {
            State::Done => count(&self.metrics.jobs_done),
            State::Failed => count(&self.metrics.jobs_failed),
            State::Cancelled => count(&self.metrics.jobs_cancelled),
            _ => {}
        }
        if let Some((job, client)) = self.store.job(id)? {
            self.hub.tell(&client, id, "end", &json!(job));
        }
        self.moved();
        Ok(())
    }

    /// A job with its place in the queue, and whose it is.
    pub(crate) fn job(&self, id: &str) -> Result<Option<(JobView, String)>, Problem> {
        let Some((mut job, client)) = self.store.job(id)? else { return Ok(None) };
        self.place(std::slice::from_mut(&mut job));
        Ok(Some((job, client)))
    }

    /// The latest jobs of a client.
    pub(crate) fn jobs(&self, client: &str, limit: usize) -> Result<Vec<JobView>, Problem> {
        let mut jobs = self.store.jobs(client, limit)?;
        self.place(&mut jobs);
        Ok(jobs)
    }

    /// Says of jobs that are not over where they stand, and how long they will take.
    fn place(&self, jobs: &mut [JobView]) {
        if jobs.iter().all(|job| job.state.is_final()) {
            return;
        }
        let places = self.places();
        for job in jobs {
            if let Some((position, seconds)) = places.iter().find(|(id, _)| *id == job.id).map(|(_, place)| *place) {
                (job.position, job.eta_seconds) = (Some(position), Some(seconds));
            }
        }
    }

    /// The place of each job that is not over, 0 being drawn, and the seconds until it is.
    fn places(&self) -> Vec<(String, (usize, f64))> {
        let (running, waiting) = self.queue.snapshot();
        let mut seconds =
            if running.is_some() { *self.remaining.lock().unwrap_or_else(PoisonError::into_inner) } else { 0.0 };
        let mut places: Vec<_> = running.into_iter().map(|job| (job.id, (0, seconds))).collect();
        for (at, job) in waiting.into_iter().enumerate() {
            seconds += job.seconds;
            places.push((job.id, (at + 1, seconds)));
        }
        places
    }

    /// How the queue stands; ids are told to those only who have them.
    pub(crate) fn queue_view(&self) -> Value {
        let places = self.places();
        let (waiting, running) = self.queue.size();
        let seconds = places.last().map_or(0.0, |(_, (_, seconds))| *seconds);
        json!({ "waiting": waiting, "running": running, "seconds": seconds })
    }

    /// Tells everybody that the queue moved.
    pub(crate) fn moved(&self) {
        self.hub.moved(&self.queue_view());
    }

    /// The running job takes so many more seconds.
    pub(crate) fn remains(&self, seconds: f64) {
        *self.remaining.lock().unwrap_or_else(PoisonError::into_inner) = seconds;
    }

    /// One more stream of events, where there is room.
    pub(crate) fn open_stream(&self) -> Result<(), Problem> {
        let most = self.limits.streams;
        let more = |open: usize| (open < most).then_some(open + 1);
        match self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = "as many streams of events are open as may be; try again later";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message).retry_after(10))
            }
        }
    }

    pub(crate) fn close_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
