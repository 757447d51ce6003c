//! What a run will take, before it takes it: memory, traffic, time. Pure arithmetic on shapes.

pub mod footprint;
pub mod forecast;
pub mod placement;
pub mod recompute;
