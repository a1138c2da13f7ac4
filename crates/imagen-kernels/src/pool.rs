//! The thread pool: one `for_each` with dynamic chunks, cheap enough to be called for 20 microseconds of work.
//!
//! Every thread has a stretch of the numbers, the same part in each call, and takes from its front; who is done takes from
//! the end of another's. Calls that go through the same data in the same order so find it in their own core's cache, and
//! hardly write to what another core's cache has read, which is ten times slower than any other write to a cache.
//!
//! Helpers spin for about 50 microseconds after their last job, then park. The caller always works too, and takes
//! back offers that no helper has picked up yet, so that a helper which the system is slow to wake costs nothing.
//! One job runs at a time: a caller that finds the pool busy, or is itself part of a job, does its work alone.
//! There are no task queues and no priorities.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long an idle helper keeps looking for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Threads asked for by [`set_threads`]; 0 = all cores.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// The helpers started so far; locked by the caller whose job is running.
static HELPERS: Mutex<Vec<Helper>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is inside a job.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Sets how many threads a call may use, the caller included; 0 = all cores. Takes effect with the next call.
pub fn set_threads(n: usize) {
    THREADS.store(n, Ordering::Relaxed);
}

/// How many threads a call may use, the caller included.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            static CORES: AtomicUsize = AtomicUsize::new(0);
            match CORES.load(Ordering::Relaxed) {
                0 => {
                    let cores = thread::available_parallelism().map_or(1, |n| n.get());
                    CORES.store(cores, Ordering::Relaxed);
                    cores
                }
                cores => cores,
            }
        }
        n => n,
    }
}

/// Calls `f` with every number in `0..n`, each once, in any order, on up to [`threads`] threads, and returns when
/// all are done.
///
/// May be called from several threads at once (whoever finds the pool busy works alone) and from inside `f` (the
/// inner call runs serially). A panic in `f` is passed on to the caller after the others have stopped.
pub fn for_each(n: usize, f: impl Fn(usize) + Sync) {
    let helpers = threads().min(n).saturating_sub(1);
    if helpers == 0 || INSIDE.get() {
        return (0..n).for_each(f);
    }
    match HELPERS.try_lock() {
        Ok(mut pool) => Job::run(n, &f, &mut pool, helpers),
        Err(TryLockError::Poisoned(pool)) => Job::run(n, &f, &mut pool.into_inner(), helpers),
        Err(TryLockError::WouldBlock) => (0..n).for_each(f),
    }
}

/// Numbers that are still to be visited: the first in the lower half, the one after the last in the upper. A cache line each.
#[repr(align(64))]
struct Stretch(AtomicU64);

impl Stretch {
    /// The parts of `0..n` for so many threads.
    fn parts(n: usize, threads: usize) -> Vec<Self> {
        let n = u64::from(u32::try_from(n).expect("fewer than 2^32 pieces of work"));
        let bound = |thread: usize| n * thread as u64 / threads as u64;
        (0..threads).map(|thread| Self(AtomicU64::new(bound(thread + 1) << 32 | bound(thread)))).collect()
    }

    fn take(&self, split: impl Fn(u32, u32) -> (u32, u32, u32)) -> Option<usize> {
        let mut taken = 0;
        let took = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |both| {
            let (first, end) = (both as u32, (both >> 32) as u32);
            (first < end).then(|| {
                let (first, end, number) = split(first, end);
                taken = number;
                u64::from(end) << 32 | u64::from(first)
            })
        });
        took.is_ok().then_some(taken as usize)
    }

    fn first(&self) -> Option<usize> {
        self.take(|first, end| (first + 1, end, first))
    }

    fn last(&self) -> Option<usize> {
        self.take(|first, end| (first, end - 1, end - 1))
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One call of `for_each`; lives on the caller's stack until every helper has left it.
struct Job<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    /// Of the caller, then of the helpers.
    stretches: Vec<Stretch>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Job<'a> {
    fn run(n: usize, f: &'a (dyn Fn(usize) + Sync), pool: &mut Vec<Helper>, helpers: usize) {
        while pool.len() < helpers {
            match Helper::start(pool.len() + 1) {
                Some(helper) => pool.push(helper),
                None => break, // the system refuses more threads; fewer are slower, not wrong
            }
        }
        let pool = &pool[..helpers.min(pool.len())];
        let job = Job { f, stretches: Stretch::parts(n, pool.len() + 1), panic: Mutex::new(None) };
        let this = (&raw const job).cast::<()>().cast_mut();
        for helper in pool {
            helper.offer(this);
        }
        job.work(0);
        for helper in pool {
            helper.finish(this);
        }
        let panic = job.panic.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Takes numbers until there are none left, those of stretch number `own` first; keeps the first panic.
    fn work(&self, own: usize) {
        let outside = INSIDE.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let (before, after) = self.stretches.split_at(own);
            while let Some(i) = after[0].first() {
                (self.f)(i);
            }
            for other in after[1..].iter().chain(before) {
                while let Some(i) = other.last() {
                    (self.f)(i);
                }
            }
        }));
        INSIDE.set(outside);
        if let Err(payload) = result {
            self.stretches.iter().for_each(Stretch::clear);
            self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(payload);
        }
    }
}

/// What a helper and the callers share: an offered job, `busy()` while it runs, null when idle.
struct Slot {
    /// Number of this helper's stretch in every job.
    stretch: usize,
    job: AtomicPtr<()>,
    parked: AtomicBool,
}

/// The address that marks a slot as busy; never a job.
fn busy() -> *mut () {
    ptr::without_provenance_mut(1)
}

struct Helper {
    slot: Arc<Slot>,
    thread: Thread,
}

impl Helper {
    fn start(stretch: usize) -> Option<Self> {
        let slot = Arc::new(Slot { stretch, job: AtomicPtr::new(ptr::null_mut()), parked: AtomicBool::new(false) });
        let its = slot.clone();
        let handle = thread::Builder::new().name("imagen-kernels".into()).spawn(move || its.serve()).ok()?;
        Some(Self { slot, thread: handle.thread().clone() })
    }

    fn offer(&self, job: *mut ()) {
        self.slot.job.store(job, Ordering::SeqCst);
        if self.slot.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Takes the offer back, or waits until the helper that took it is done.
    fn finish(&self, job: *mut ()) {
        if self.slot.job.compare_exchange(job, ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
        let mut spins = 0u32;
        while !self.slot.job.load(Ordering::Acquire).is_null() {
            spins += 1;
            if spins.is_multiple_of(4096) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Slot {
    fn serve(&self) {
        loop {
            let job = self.wait();
            if self.job.compare_exchange(job, busy(), Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // SAFETY: the slot is busy, so the caller stays in `finish` and the job alive until the store
                // below; the pointer was made from a `Job` in `Job::run`.
                unsafe { &*job.cast::<Job<'_>>() }.work(self.stretch);
                self.job.store(ptr::null_mut(), Ordering::Release);
            }
        }
    }

    fn wait(&self) -> *mut () {
        loop {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                for _ in 0..64 {
                    let job = self.job.load(Ordering::Acquire);
                    if !job.is_null() {
                        return job;
                    }
                    std::hint::spin_loop();
                }
            }
            self.parked.store(true, Ordering::SeqCst);
            if self.job.load(Ordering::SeqCst).is_null() {
                thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
        }
    }
}

/// A pointer that chunks of one job may share; each use says why its accesses do not collide.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: a plain address; every dereference is in an unsafe block of its own.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The start of a slice that chunks will write to, each a part of its own.
    pub(crate) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The address (a method, so that closures capture the whole wrapper).
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests that change the number of threads take turns.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn every_number_is_visited_once() {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for threads in [1, 2, 5] {
            set_threads(threads);
            for n in [0, 1, 2, 7, 1000] {
                let seen: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                for_each(n, |i| {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1), "{threads} threads, n = {n}");
            }
        }
        set_threads(0);
    }

    #[test]
    fn nested_and_concurrent_calls_all_finish() {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        set_threads(3);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        for_each(5, |i| {
                            for_each(3, |j| {
                                sum.fetch_add(i * j, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        set_threads(0);
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 200 * 10 * 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        set_threads(2);
        let caught = catch_unwind(|| for_each(100, |i| assert!(i != 37, "thirty-seven")));
        let message = *caught.unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(message, "thirty-seven");
        let count = AtomicUsize::new(0);
        for_each(10, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        set_threads(0);
        assert_eq!(count.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn a_parked_helper_wakes_up() {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        set_threads(2);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(2));
            let helped = AtomicBool::new(false);
            let caller = thread::current().id();
            // a busy machine may keep the helper from running for a while, and the pool may be another test's
            let patience = Instant::now() + Duration::from_secs(60);
            while !helped.load(Ordering::Relaxed) && Instant::now() < patience {
                let attempt = Instant::now() + Duration::from_millis(200);
                for_each(2000, |_| {
                    if thread::current().id() != caller {
                        helped.store(true, Ordering::Relaxed);
                    }
                    while !helped.load(Ordering::Relaxed) && Instant::now() < attempt {
                        thread::sleep(Duration::from_micros(20));
                    }
                });
            }
            assert!(helped.load(Ordering::Relaxed));
        }
        set_threads(0);
    }
}
