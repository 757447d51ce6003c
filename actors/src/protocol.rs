//! The law: what is decided. No I/O, no clock, no randomness of its own; facts come in, effects go out.

pub mod audit;
pub mod coordinator;
pub mod ids;
pub mod membership;
pub mod numbers;
pub mod pace;
pub mod plan;
pub mod record;
pub mod recovery;
pub mod shard;
pub mod shelf;
pub mod step;
pub mod terms;
pub mod tree;
pub mod word;
