//! Proof by fault: a workload whose right answer is known, nodes that can be started and stopped
//! at will, and the checks that say what must hold.
//!
//! It knows `everstep-actors` only; nothing here names a model or an image.

pub mod ledger;
pub mod local;
