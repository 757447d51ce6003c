//! Whole steps: lanes, mean gradients, partial norms, the optimizer.

mod queue;
pub(super) mod run;
mod steps;
