//! The commands that look at runs and data. Each prints to stdout and returns what the process ends with.

pub mod audit;
pub mod chaos;
pub mod checkpoint;
pub mod data;
pub mod digest;
pub mod drain;
pub mod eval;
pub mod export;
pub mod fork;
pub mod output;
pub mod plan;
pub mod status;
