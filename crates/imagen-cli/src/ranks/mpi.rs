//! Ranks over the MPI that the system has.
//!
//! A rank that waits sleeps instead of spinning, so that ranks may share cores. A panic ends the whole job: unwinding would
//! run MPI's own end, in which the others wait for ever.

use std::time::{Duration, Instant};

use imagen::error::Error;
use imagen::ranks::Ranks;
use mpi::environment::Universe;
use mpi::request::{LocalScope, Request};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};

use super::place::{Job, Place};
use crate::failure::{Exit, Failure, Result};

/// Bytes of a message at most: MPI counts in 32 bits.
const MESSAGE: usize = 1 << 30;
/// How long a rank looks for a message without pause, and how long it then sleeps between looks.
const LOOKING: Duration = Duration::from_micros(200);
const SLEEP: Duration = Duration::from_micros(50);

/// A process's connection over MPI.
struct Mpi {
    world: SimpleCommunicator,
    name: String,
    program: String,
    // last: dropping it ends MPI
    _universe: Universe,
}

/// Connects this process with all that `mpirun` or `srun` started.
pub(super) fn connect(place: Place) -> Result<Job> {
    let started = mpi::initialize_with_threading(mpi::Threading::Funneled);
    let (universe, _) = started.ok_or_else(|| Failure::new(Exit::Runtime, "MPI is at work already"))?;
    let world = universe.world();
    if world.size() as usize != place.of {
        let failure = Failure::usage(format_args!(
            "{} processes were started together, and this program's MPI sees {}: they were started by the launcher of another MPI",
            place.of,
            world.size()
        ));
        let failure = failure
            .hint("start them with the mpirun of the MPI that the program was built with, or with srun --mpi=pmix");
        return Err(if place.rank == 0 { failure } else { failure.said() });
    }
    let machine = mpi::environment::processor_name().unwrap_or_else(|_| "a machine without a name".to_owned());
    let name = format!("rank {} on {machine}", world.rank());
    let here = world.split_shared(world.rank());
    let (neighbours, at) = (here.size() as usize, here.rank() as usize);
    end_all_on_panic(name.clone());
    Ok(Job { ranks: Box::new(Mpi { world, name, program: program(), _universe: universe }), neighbours, at })
}

/// What must be alike for sums to have the same bits: the program's version, its file, and the instructions that it uses.
fn program() -> String {
    let file = std::env::current_exe().and_then(std::fs::read);
    let digest = file.map_or_else(|_| "unknown".to_owned(), |bytes| format!("{:08x}", crc32fast::hash(&bytes)));
    let isa = imagen_kernels::isa::Isa::current();
    format!("imagen {} ({digest}) with {isa:?}", env!("CARGO_PKG_VERSION"))
}

/// After what a panic prints, ends the job.
fn end_all_on_panic(name: String) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if !imagen::input::behind_wall() {
            eprintln!("{name} ends the job");
            SimpleCommunicator::world().abort(Exit::Bug as i32);
        }
    }));
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn program(&self) -> String {
        self.program.clone()
    }

    /// MPI itself ends the job where a rank is gone.
    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> imagen::Result<()> {
        mpi::request::scope(|scope| {
            let receives = received.chunks_mut(MESSAGE);
            let receives: Vec<_> = receives
                .map(|part| self.world.process_at_rank(from as i32).immediate_receive_into(scope, part))
                .collect();
            let sends = sent.chunks(MESSAGE);
            let sends: Vec<_> =
                sends.map(|part| self.world.process_at_rank(to as i32).immediate_send(scope, part)).collect();
            receives.into_iter().for_each(finish);
            sends.into_iter().for_each(finish);
        });
        Ok(())
    }

    fn abort(&self, why: &Error) {
        let failure = Failure::from(why);
        let exit = failure.exit();
        let _ = Failure::new(exit, format_args!("{}: {}", self.name, failure.message())).report();
        self.world.abort(exit as i32);
    }
}

/// Waits until a message is through.
fn finish<'a, D: ?Sized>(mut request: Request<'a, D, &LocalScope<'a>>) {
    let begun = Instant::now();
    while let Err(open) = request.test() {
        request = open;
        if begun.elapsed() > LOOKING {
            std::thread::sleep(SLEEP);
        }
    }
}
