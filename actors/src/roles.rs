//! Who does it: the actors of a node, one file each.

pub mod aggregator;
pub mod coordinator;
pub mod desk;
pub mod exchange;
pub mod finding;
pub mod lease;
pub mod loader;
pub mod node;
pub mod rank;
