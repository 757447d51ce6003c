//! Whole steps: lanes, mean gradients, partial norms, the optimizer.

mod oracle;
mod queue;
pub(super) mod run;
mod steps;
