//! Proof by fault: a workload whose right answer is known, nodes that can be started and stopped
//! at will, and the checks that say what must hold.
//!
//! It knows `everstep-actors` only; nothing here names a model or an image.

pub mod checks;
pub mod command;
pub mod error;
pub mod fault;
pub mod history;
pub mod ledger;
pub mod local;
pub mod process;
pub mod report;
pub mod scenario;
pub mod shrink;
pub mod sim;
mod stage;
pub mod tier;
