//! The program as a user runs it: the real binary, real processes, images made on the spot.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

mod bad_input;
mod bench_of_runs;
mod chaos;
mod crowd;
mod desk;
mod runs;
mod watched;
