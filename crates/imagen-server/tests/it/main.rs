//! The studio without a socket: the whole service as a value, with tiny models of random weights.

#[allow(dead_code, reason = "the program's tests use more of it")]
#[path = "../../../imagen-cli/tests/it/tiny.rs"]
mod tiny;

mod begin;
mod guard;
mod jobs;
mod peers;
mod pictures;
mod reports;
mod runs;
mod served;
