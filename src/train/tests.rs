//! Whole steps: lanes, mean gradients, partial norms, the optimizer.

#[cfg(feature = "tch")]
mod half;
mod oracle;
mod queue;
pub(super) mod run;
mod steps;
