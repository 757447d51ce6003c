//! Proof by fault: scenarios of faults, histories of what happened, and the checks that say what must hold; a simulation of
//! hundreds of nodes; a workload whose right answer is known, and nodes that can be started and stopped at will.
//!
//! It knows `everstep-actors` only; nothing here names a model or an image.

pub mod checks;
pub mod fault;
pub mod history;
pub mod checks;
pub mod fault;
pub mod history;
pub mod ledger;
pub mod local;
pub mod scenario;
pub mod sim;
pub mod scenario;
pub mod sim;
