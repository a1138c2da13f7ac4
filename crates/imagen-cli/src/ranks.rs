//! The job that this process is a rank of: found in the environment that `mpirun` and `srun` set, connected over MPI where
//! the program was built with the feature `mpi`.
//!
//! MPI alone knows how processes reach each other; what they say stands in the library's `ranks` and `train`.

#[cfg(feature = "mpi")]
mod mpi;
mod place;

use imagen::ranks::{Alone, Group, Ranks};
use serde::{Deserialize, Serialize};

pub(crate) use self::place::{Job, Place};
use crate::failure::{Exit, Failure, Result};

/// Connects this process with the ranks that it was started with.
///
/// # Errors
/// `Usage` where there are others and MPI is not built in, or knows nothing of them.
pub(crate) fn connect() -> Result<Job> {
    match Place::found() {
        None => Ok(Job { ranks: Box::new(Alone), neighbours: 1, at: 0 }),
        Some(place) => over_mpi(place),
    }
}

#[cfg(feature = "mpi")]
fn over_mpi(place: Place) -> Result<Job> {
    mpi::connect(place)
}

#[cfg(not(feature = "mpi"))]
fn over_mpi(place: Place) -> Result<Job> {
    let failure = Failure::usage(format_args!(
        "{} processes were started together, and this program was built without MPI: each would train by itself",
        place.of
    ));
    let failure = failure.hint("cargo build --release -p imagen-cli --features mpi");
    Err(if place.rank == 0 { failure } else { failure.said() })
}

/// A failure that all ranks have in common, printed by the first of them, now: once ranks begin to end, whoever started them
/// may end the others before they have spoken.
pub(crate) fn said(ranks: &dyn Ranks, failure: Failure) -> Failure {
    if ranks.size() == 1 {
        return failure;
    }
    if ranks.rank() == 0 {
        let _ = failure.report();
    }
    failure.said()
}

/// A failure as it goes from rank to rank.
#[derive(Serialize, Deserialize)]
struct Said {
    exit: u8,
    message: String,
    hint: Option<String>,
}

/// What a rank came to before the library took over, once all have come to something. Where any failed all do, and one of them
/// prints why.
pub(crate) fn agree<T>(ranks: &dyn Ranks, own: Result<T>) -> Result<T> {
    if ranks.size() == 1 {
        return own;
    }
    let own_said = own.as_ref().err().map(|failure| {
        let (exit, hint) = (failure.exit() as u8, failure.hinted().map(str::to_owned));
        Said { exit, message: failure.message().to_owned(), hint }
    });
    let group = Group::new(ranks);
    let heard = group.run(|group| group.hear(Ok(serde_json::to_vec(&own_said).expect("texts are plain data"))))?;
    let heard = heard.iter().map(|said| serde_json::from_slice::<Option<Said>>(said).ok().flatten());
    let heard: Vec<Option<Said>> = heard.collect();
    let Some(first) = heard.iter().position(Option::is_some) else { return own };
    let Said { exit, message, hint } = heard.into_iter().nth(first).flatten().expect("it was found");
    let failure =
        Failure::new(Exit::numbered(exit), if first == 0 { message } else { format!("rank {first}: {message}") });
    let failure = hint.into_iter().fold(failure, |failure, hint| failure.hint(hint));
    Err(said(ranks, failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_rank_fails_before_it_begins_all_fail_alike_and_one_says_it() {
        let ranks = imagen::ranks::in_threads(3);
        let failures: Vec<Failure> = std::thread::scope(|scope| {
            let work = |ranks: imagen::ranks::ThreadRank| {
                let own = match ranks.rank() {
                    1 => Err(Failure::new(Exit::Data, "no recipe").hint("copy it")),
                    _ => Ok(()),
                };
                agree(&ranks, own).unwrap_err()
            };
            let threads: Vec<_> = ranks.into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for failure in &failures {
            assert_eq!(failure.to_string(), "error: rank 1: no recipe\nhint: copy it");
            assert_eq!(failure.exit(), Exit::Data);
        }
    }
}
