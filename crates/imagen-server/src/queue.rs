//! Who is next: jobs that wait, and the one that is drawn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::wire::Order;

/// A job that waits or is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) order: Order,
    /// How much work it is, beside a square picture from noise.
    pub(crate) size: f64,
    /// Seconds that it takes, as far as could be told when it came.
    pub(crate) seconds: f64,
    /// Whether somebody ended it.
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Job {
    pub(crate) fn new(id: String, client: String, order: Order, [size, seconds]: [f64; 2]) -> Self {
        Self { id, client, order, size, seconds, cancelled: Arc::default() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many wait as may.
    Everybody,
    /// As many of this client's wait as may.
    Client,
    /// The server is about to end.
    Closed,
}

/// What became of a wish to end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It waited, and is gone.
    Waiting,
    /// It is drawn, and ends after its step.
    Running,
    /// It is neither.
    Unknown,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Job>,
    running: Option<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may come.
    pub(crate) fn room(&self, client: &str, [all, each]: [usize; 2]) -> Result<(), Full> {
        let inner = self.lock();
        match () {
            () if inner.closed => Err(Full::Closed),
            () if inner.waiting.len() >= all => Err(Full::Everybody),
            () if inner.waiting.iter().filter(|job| job.client == client).count() >= each => Err(Full::Client),
            () => Ok(()),
        }
    }

    pub(crate) fn push(&self, job: Job) {
        self.lock().waiting.push_back(job);
        self.moved.notify_all();
    }

    /// Waits for the next job, which is then the one that is drawn; nothing when the queue is closed.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(job) = inner.waiting.pop_front() {
                inner.running = Some(job.clone());
                return Some(job);
            }
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The job that was drawn has ended.
    pub(crate) fn finished(&self) {
        self.lock().running = None;
    }

    pub(crate) fn cancel(&self, id: &str) -> Cancelled {
        let mut inner = self.lock();
        if let Some(at) = inner.waiting.iter().position(|job| job.id == id) {
            inner.waiting.remove(at);
            return Cancelled::Waiting;
        }
        match &inner.running {
            Some(job) if job.id == id => {
                job.cancelled.store(true, Ordering::Relaxed);
                Cancelled::Running
            }
            _ => Cancelled::Unknown,
        }
    }

    /// No further job is taken or begun.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether anybody waits, or the server is about to end.
    pub(crate) fn is_wanted(&self) -> bool {
        let inner = self.lock();
        inner.closed || !inner.waiting.is_empty()
    }

    /// The job that is drawn, and those that wait.
    pub(crate) fn snapshot(&self) -> (Option<Job>, Vec<Job>) {
        let inner = self.lock();
        (inner.running.clone(), inner.waiting.iter().cloned().collect())
    }

    /// How many wait, and whether one is drawn.
    pub(crate) fn size(&self) -> (usize, bool) {
        let inner = self.lock();
        (inner.waiting.len(), inner.running.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, client: &str) -> Job {
        Job::new(id.into(), client.into(), Order::default(), [1.0; 2])
    }

    #[test]
    fn the_first_that_comes_is_the_first_that_is_drawn() {
        let queue = Queue::default();
        ["a", "b", "c"].into_iter().for_each(|id| queue.push(job(id, "x")));
        assert_eq!(queue.next().unwrap().id, "a");
        assert_eq!(queue.cancel("b"), Cancelled::Waiting);
        assert_eq!(queue.cancel("a"), Cancelled::Running);
        assert_eq!(queue.cancel("b"), Cancelled::Unknown);
        queue.finished();
        assert_eq!(queue.cancel("a"), Cancelled::Unknown);
        assert_eq!(queue.next().unwrap().id, "c");
        queue.close();
        assert!(queue.next().is_none());
        assert_eq!(queue.room("x", [9, 9]), Err(Full::Closed));
    }

    #[test]
    fn it_is_bounded_for_all_and_for_each() {
        let queue = Queue::default();
        ["a", "b"].into_iter().for_each(|id| queue.push(job(id, "x")));
        assert_eq!(queue.room("x", [9, 2]), Err(Full::Client));
        assert_eq!(queue.room("y", [9, 2]), Ok(()));
        assert_eq!(queue.room("y", [2, 2]), Err(Full::Everybody));
    }
}
