//! What a run's answers and events mean: pure functions from a [`View`](everstep_actors::desk::view::View) and from what is durable.
//!
//! Nothing here asks, waits or reads a clock, but for `sight`: tests make a view by hand and read the judgement.

pub mod doctor;
pub mod goodput;
pub mod history;
pub mod incidents;
pub(crate) mod layout;
pub mod moment;
pub(crate) mod refer;
pub(crate) mod sight;
pub mod story;
pub(crate) mod telling;
mod timeline;
pub mod wait;
pub mod why;

#[cfg(test)]
pub(crate) mod fixtures;

/// Raised whenever a field of a judgement's JSON is renamed, removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;
