//! The thread pool: one `for_each` with dynamic chunks, cheap enough to be called for 20 microseconds of work.
//!
//! Helpers spin for about 50 microseconds after their last job, then park. The caller always works too, and takes
//! back offers that no helper has picked up yet, so that a helper which the system is slow to wake costs nothing.
//! One job runs at a time: a caller that finds the pool busy, or is itself part of a job, does its work alone.
//! There are no task queues, no stealing, no priorities.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
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
        Ok(mut pool) => Job::new(n, &f).run(&mut pool, helpers),
        Err(TryLockError::Poisoned(pool)) => Job::new(n, &f).run(&mut pool.into_inner(), helpers),
        Err(TryLockError::WouldBlock) => (0..n).for_each(f),
    }
}

/// One call of `for_each`; lives on the caller's stack until every helper has left it.
struct Job<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    next: AtomicUsize,
    n: usize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Job<'a> {
    fn new(n: usize, f: &'a (dyn Fn(usize) + Sync)) -> Self {
        Self { f, next: AtomicUsize::new(0), n, panic: Mutex::new(None) }
    }

    fn run(self, pool: &mut Vec<Helper>, helpers: usize) {
        while pool.len() < helpers {
            match Helper::start() {
                Some(helper) => pool.push(helper),
                None => break, // the system refuses more threads; fewer are slower, not wrong
            }
        }
        let pool = &pool[..helpers.min(pool.len())];
        let this = (&raw const self).cast::<()>().cast_mut();
        for helper in pool {
            helper.offer(this);
        }
        self.work();
        for helper in pool {
            helper.finish(this);
        }
        let panic = self.panic.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Takes numbers until there are none left; keeps the first panic.
    fn work(&self) {
        let outside = INSIDE.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= self.n {
                    break;
                }
                (self.f)(i);
            }
        }));
        INSIDE.set(outside);
        if let Err(payload) = result {
            self.next.store(self.n, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(payload);
        }
    }
}

/// What a helper and the callers share: an offered job, `busy()` while it runs, null when idle.
struct Slot {
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
    fn start() -> Option<Self> {
        let slot = Arc::new(Slot { job: AtomicPtr::new(ptr::null_mut()), parked: AtomicBool::new(false) });
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
                unsafe { &*job.cast::<Job<'_>>() }.work();
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
            for_each(2000, |_| {
                if thread::current().id() != caller {
                    helped.store(true, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(20));
            });
            assert!(helped.load(Ordering::Relaxed));
        }
        set_threads(0);
    }
}
