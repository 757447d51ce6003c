//! SwAV: codes by Sinkhorn over the global batch, the swapped prediction loss, the prototypes.
//!
//! Everything here is plain arithmetic on slices, one thread a call, with a fixed order of
//! additions: the same input gives the same bits on any CPU.

pub(crate) mod math;

pub mod loss;
pub mod monitor;
pub mod prototypes;
pub mod sinkhorn;

#[cfg(test)]
pub(crate) mod fixtures;
