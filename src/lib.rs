//! Everstep trains SwAV on RegNetY on machines that come and go.

pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod eval;
pub mod examine;
pub mod launch;
pub mod model;
pub mod notice;
pub mod optim;
pub mod planning;
pub mod probe;
pub mod report;
pub mod setup;
pub mod swav;
pub mod train;
pub mod weights;
