//! Everstep trains SwAV on RegNetY on machines that come and go.

pub mod cli;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod data;
pub mod desk;
pub mod eval;
pub mod examine;
pub mod judge;
pub mod launch;
pub mod log;
pub mod metrics;
pub mod model;
pub mod notice;
pub mod optim;
pub mod planning;
pub mod probe;
pub mod report;
pub mod setup;
pub mod swav;
#[cfg(feature = "otel")]
pub mod traces;
pub mod train;
pub mod tui;
pub mod views;
pub mod weights;
