//! The commands that look at runs and data. Each prints to stdout and returns what the process ends with.

pub mod checkpoint;
pub mod data;
pub mod digest;
pub mod eval;
pub mod export;
pub mod output;
pub mod plan;
pub mod status;
