//! How things are spelled between nodes: rkyv frames, capped and checked.

pub mod frame;
pub mod message;
pub mod narrow;
