//! The program as a user runs it: the real binary, real processes, images made on the spot.

mod bad_input;
mod bench_of_runs;
mod runs;
