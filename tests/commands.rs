//! The commands that look at runs and data, on a small run made by hand.

// Helpers of tests are not seen as tests.
#![allow(clippy::unwrap_used)]

#[path = "commands/data.rs"]
mod data;
#[path = "commands/eval.rs"]
mod eval;
#[path = "commands/fixture.rs"]
mod fixture;
#[path = "commands/state.rs"]
mod state;
