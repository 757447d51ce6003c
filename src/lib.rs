//! Everstep trains SwAV on RegNetY on machines that come and go.

#![cfg_attr(feature = "tch", allow(deprecated, reason = "Burn 0.22 is the last that has the libtorch backend, and says so at every use"))]

pub mod cli;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod data;
pub mod desk;
pub mod eval;
pub mod examine;
pub mod heap;
pub mod judge;
pub mod launch;
#[cfg(feature = "tch")]
pub mod libtorch;
pub mod log;
pub mod metrics;
pub mod model;
pub mod notice;
pub mod optim;
pub mod planning;
pub mod probe;
pub mod report;
pub mod setup;
mod simd;
pub mod swav;
#[cfg(feature = "otel")]
pub mod traces;
pub mod train;
pub mod tui;
pub mod views;
pub mod weights;
